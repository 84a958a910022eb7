import { followRunbook } from "../scene/follow.ts";
import type { Scenario } from "../scene/scene.ts";
import { allLost, everythingDeleted, TAGS } from "./all-lost.ts";
import { secondRun } from "./repaired-twice.ts";

/**
 * Seconds after which each writing script is killed, once; the shortest of them takes about twice as long.
 */
const KILL_AFTER = 1;

/**
 * Each writing script is killed in its middle and run again: the end must be the same, and a second run of
 * the runbook changes nothing.
 */
export const interrupted: Scenario = {
  ...allLost,
  name: "interrupted",
  title:
    "/etc/kubernetes is deleted on every node; the operator follows RUNBOOK.md, each writing script is killed once and run again; then a second time",
  lines: [
    ...everythingDeleted,
    {
      title: "The operator follows RUNBOOK.md, each writing script is killed once",
      run: (scene) => followRunbook(scene, TAGS, { killAfter: KILL_AFTER }),
    },
    ...secondRun,
  ],
};
