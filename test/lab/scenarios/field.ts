/**
 * The most frequent disasters on clusters with a real network plugin: `calico` and `calico-system` differ
 * from the usual cluster in that alone, `field` and `ha-field` in all that field.ts of machine/ has.
 */
import { type CalicoNamespace, calico } from "../machine/calico.ts";
import { field } from "../machine/field.ts";
import { USUAL } from "../machine/profile.ts";
import { drilled } from "../scene/drilled.ts";
import { earlierKey, fieldLife, offWorker } from "../scene/field-life.ts";
import { followRunbook } from "../scene/follow.ts";
import { byHand, byRepair, followRepair } from "../scene/follow-repair.ts";
import { operatorsFiles } from "../scene/operators-files.ts";
import type { Scenario, Scene } from "../scene/scene.ts";
import { allLost, everythingDeleted, TAGS as LOST } from "./all-lost.ts";
import { aYearPasses, TAGS as EXPIRED, expired, HA_TAGS as HA_EXPIRED } from "./expired.ts";
import { certificatesDeleted, pkiLostAlive, TAGS as SALVAGE } from "./keys-in-memory.ts";
import { TAGS as HA_LOST } from "./several-control-planes.ts";

type Lines = Scenario["lines"];

const BASES: [suffix: string, scenario: Scenario][] = [
  ["", allLost],
  ["-pki-lost-alive", pkiLostAlive],
  ["-expired", expired],
];

function withCalico(name: string, namespace: CalicoNamespace): Scenario[] {
  const profile = () => ({ ...USUAL, podNetwork: calico(namespace), pings: true });
  return BASES.map(([suffix, scenario]) => ({
    ...scenario,
    name: `${name}${suffix}`,
    title: `With Calico and its Typha in ${namespace}: ${scenario.title}`,
    profile,
  }));
}

interface Disaster {
  /** Follows the cluster's name in the scenario's. */
  suffix: string;
  base: Scenario;
  /** Which of the runbook's blocks are meant: with one control plane node, and with several. */
  tags: [one: string[], several: string[]];
  lines(
    files: ReturnType<typeof operatorsFiles>,
    drill: ReturnType<typeof drilled>,
  ): { before: (goesOff: Lines[number]) => Lines; after: Lines };
}

const DISASTERS: Disaster[] = [
  {
    suffix: "",
    base: allLost,
    tags: [LOST, HA_LOST],
    lines: (files, drill) => ({
      before: (goesOff) => [drill.before, goesOff, ...everythingDeleted],
      after: [files.asBefore, drill.outcome],
    }),
  },
  {
    suffix: "-pki-lost-alive",
    base: pkiLostAlive,
    tags: [SALVAGE, [...SALVAGE, "several-control-planes"]],
    lines: (files) => ({ before: (goesOff) => [goesOff, certificatesDeleted], after: [files.asBefore] }),
  },
  {
    suffix: "-expired",
    base: expired,
    tags: [EXPIRED, HA_EXPIRED],
    lines: (files) => ({ before: (goesOff) => [goesOff, aYearPasses], after: [files.asBefore] }),
  },
];

interface Size {
  name: string;
  controlPlanes: number;
  workers: number;
  namespace: CalicoNamespace;
}

/** The last worker is switched off before the disaster, and gets its line when it is back. */
function inTheField({ name, controlPlanes, workers, namespace }: Size): Scenario[] {
  const off = `w${workers}`;
  const profile = () => field({ controlPlanes, earlierKey: earlierKey(), namespace, idle: [off] });
  return DISASTERS.map(({ suffix, base, tags, lines }) => {
    const files = operatorsFiles(profile);
    const { before, after } = lines(files, drilled());
    const { off: goesOff, on: comesBack } = offWorker(off);
    const follow = (scene: Scene, parts: number[], who: { away?: string[]; workers?: string[] } = {}) =>
      followRunbook(scene, tags[controlPlanes > 1 ? 1 : 0], { parts, ...who });
    const filesBack = [files.named, files.putBack];
    const ways = [new RegExp(`^${off} is away for now`)];
    const repaired: Lines[number] = {
      title: `The operator follows RUNBOOK.md without ${off}, and brings back the files that only he has`,
      async run(scene) {
        await follow(scene, [0], { away: [off] });
        for (const line of filesBack) await line.run(scene);
        await follow(scene, [1, 2, 3, 4], { away: [off] });
      },
    };
    const repairedAgain: Lines[number] = {
      title: `The operator follows it again, for ${off}`,
      async run(scene) {
        if (scene.guide === "repair") return await followRepair(scene, {});
        await follow(scene, [3], { workers: [off] });
        await follow(scene, [4, 5]);
      },
    };
    return {
      ...base,
      ...{ name: `${name}${suffix}`, controlPlanes, workers, profile },
      title: `A cluster as companies have it, and a worker that is switched off meanwhile: ${base.title}`,
      lines: [
        ...[fieldLife.tokenOfEarlierKey, fieldLife.certificateBefore, files.keep],
        ...before(goesOff),
        ...[byHand(repaired), byRepair(filesBack, { ways }), comesBack, repairedAgain],
        ...[fieldLife.tokenIsValid, fieldLife.certificateAfter, ...after],
      ],
    };
  });
}

export const fieldScenarios: Scenario[] = [
  ...withCalico("calico", "kube-system"),
  ...withCalico("calico-system", "calico-system"),
  ...inTheField({ name: "field", controlPlanes: 1, workers: 3, namespace: "kube-system" }),
  ...inTheField({ name: "ha-field", controlPlanes: 3, workers: 3, namespace: "calico-system" }),
];
