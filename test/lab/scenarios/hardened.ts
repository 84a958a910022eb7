/**
 * A hardened cluster in three disasters. Some of its files only the operator has: the encryption
 * configuration, the audit policy, the files of authentication, authorization and admission, the kubelets'
 * drop-ins.
 */
import { hardened } from "../machine/hardened.ts";
import { drilled } from "../scene/drilled.ts";
import { followRunbook } from "../scene/follow.ts";
import { byHand, byRepair, followRepair } from "../scene/follow-repair.ts";
import { flagsToDrop } from "../scene/given-up.ts";
import { operatorsFiles } from "../scene/operators-files.ts";
import type { Scenario, Scene } from "../scene/scene.ts";
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

/** What the operator does with the files that only he has. */
const ASKED = ["named", "refusedWithout", "putBack"] as const;

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
      ...ASKED.map((one) => byHand(files[one])),
      follow([1, 2, 3, 4, 5]),
      byRepair(
        ASKED.map((one) => files[one]),
        { ways: [/^I have \S+\/encryption\.yaml: type its path/], textOf: files.textOf },
      ),
      files.asBefore,
      drill.outcome,
    ],
  },
  {
    suffix: "-folder",
    words:
      "/etc/kubernetes is deleted on every node; the operator has a folder with the files that only he has, and types its path once",
    tags: [LOST, HA_LOST],
    lines: (files) => [
      files.keep,
      ...everythingDeleted,
      files.putBackOnWorkers,
      {
        title: "The operator types repair with --files and his folder",
        run: (scene) => followRepair(scene, { ownFiles: files.folder }),
      },
      files.asBefore,
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
    lines: (files, follow) => [
      files.keep,
      certificatesDeleted,
      follow([0, 1, 2, 3, 4, 5]),
      byRepair([]),
      files.asBefore,
    ],
  },
  {
    suffix: "-expired",
    words:
      "no certificate is renewed for a year, then every machine restarts; the operator follows RUNBOOK.md",
    tags: [EXPIRED, HA_EXPIRED],
    more: { machinesFail: true },
    lines: (files, follow) => [
      files.keep,
      aYearPasses,
      follow([0, 1, 2, 3, 4, 5]),
      byRepair([]),
      files.asBefore,
    ],
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
      (parts) => {
        const title = `The operator follows RUNBOOK.md, ${parts.length > 1 ? `parts ${parts[0]} to ${parts.at(-1)}` : `part ${parts[0]}`}`;
        const line = { title, run: (scene: Scene) => followRunbook(scene, tags[size], { parts }) };
        // what the scripts say between the parts is judged there
        return suffix === "-files-lost" ? line : byHand(line);
      },
      drilled(),
    ),
  }));
}

export const hardenedScenarios: Scenario[] = [
  ...scenarios(allLost, "hardened", 0),
  ...scenarios(haAllLost, "ha-hardened", 1),
];
