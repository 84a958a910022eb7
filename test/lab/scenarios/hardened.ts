/**
 * A hardened cluster in three disasters. Some of its files only the operator has: the encryption
 * configuration, the audit policy, the files of authentication, authorization and admission, the kubelets'
 * drop-ins.
 */
import { hardened } from "../machine/hardened.ts";
import { drilled } from "../scene/drilled.ts";
import { followRunbook } from "../scene/follow.ts";
import { flagsToDrop } from "../scene/given-up.ts";
import { operatorsFiles } from "../scene/operators-files.ts";
import type { Scenario } from "../scene/scene.ts";
import { allLost, everythingDeleted, TAGS as LOST } from "./all-lost.ts";
import { aYearPasses, TAGS as EXPIRED, HA_TAGS as HA_EXPIRED } from "./expired.ts";
import { certificatesDeleted, TAGS as SALVAGE } from "./keys-in-memory.ts";
import { TAGS as HA_LOST, haAllLost } from "./several-control-planes.ts";

type Lines = Scenario["lines"];

interface Disaster {
  /** Follows "hardened" in the scenario's name. */
  suffix: string;
  words: string;
  /** Which of the runbook's blocks are meant: with one control plane node, and with several. */
  tags: [one: string[], several: string[]];
  more?: Partial<Scenario>;
  lines(
    files: ReturnType<typeof operatorsFiles>,
    follow: (parts: number[]) => Lines[number],
    drill: ReturnType<typeof drilled>,
  ): Lines;
}

const DISASTERS: Disaster[] = [
  {
    suffix: "",
    words:
      "/etc/kubernetes is deleted on every node; the operator has kept the files that only he has, and is asked for them",
    tags: [LOST, HA_LOST],
    lines: (files, follow, drill) => [
      files.keep,
      drill.before,
      ...everythingDeleted,
      follow([0]),
      files.named,
      files.refusedWithout,
      files.putBack,
      follow([1, 2, 3, 4, 5]),
      files.asBefore,
      drill.outcome,
    ],
  },
  {
    suffix: "-files-lost",
    words:
      "/etc/kubernetes is deleted on every node; nobody has the files of audit, authentication, authorization and admission any more",
    tags: [LOST, HA_LOST],
    lines: (files, follow) => [
      files.keep,
      ...everythingDeleted,
      flagsToDrop.nobodyHasRead,
      follow([0]),
      files.putBackWhatOpens,
      follow([1]),
      flagsToDrop.startWithout,
      follow([3, 4, 5]),
      flagsToDrop.isWithout,
      files.rulesAsBefore,
    ],
  },
  {
    suffix: "-pki-lost-alive",
    words:
      "the folder of certificates is deleted on every control plane node while everything runs; RUNBOOK.md with the keys from memory",
    tags: [SALVAGE, [...SALVAGE, "several-control-planes"]],
    more: { oldKeys: true },
    lines: (files, follow) => [files.keep, certificatesDeleted, follow([0, 1, 2, 3, 4, 5]), files.asBefore],
  },
  {
    suffix: "-expired",
    words:
      "no certificate is renewed for a year, then every machine restarts; the operator follows RUNBOOK.md",
    tags: [EXPIRED, HA_EXPIRED],
    more: { machinesFail: true },
    lines: (files, follow) => [files.keep, aYearPasses, follow([0, 1, 2, 3, 4, 5]), files.asBefore],
  },
];

function scenarios(base: Scenario, name: string, size: 0 | 1): Scenario[] {
  return DISASTERS.map(({ suffix, words, tags, more, lines }) => ({
    ...base,
    ...more,
    name: `${name}${suffix}`,
    title: `A cluster as hardening guides want it: ${words}`,
    profile: hardened,
    lines: lines(
      operatorsFiles(hardened),
      (parts) => ({
        title: `The operator follows RUNBOOK.md, ${parts.length > 1 ? `parts ${parts[0]} to ${parts.at(-1)}` : `part ${parts[0]}`}`,
        run: (scene) => followRunbook(scene, tags[size], { parts }),
      }),
      drilled(),
    ),
  }));
}

export const hardenedScenarios: Scenario[] = [
  ...scenarios(allLost, "hardened", 0),
  ...scenarios(haAllLost, "ha-hardened", 1),
];
