import { followRunbook } from "../scene/follow.ts";
import type { Scenario } from "../scene/scene.ts";
import { allLost, incident, TAGS } from "./all-lost.ts";

/** Seconds after which each writing script is killed, once; the shortest of them takes about twice as long. */
const KILL_AFTER = 1;

/** Each writing script is killed in its middle and run again: the end must be the same as without. */
export const interrupted: Scenario = {
  ...allLost,
  name: "interrupted",
  title: "rm -rf /etc/kubernetes on every node; then RUNBOOK.md, each writing script killed once and run again",
  lines: [
    ...incident,
    { title: "Follow RUNBOOK.md, and be interrupted", run: (scene) => followRunbook(scene, TAGS, { killAfter: KILL_AFTER }) },
  ],
};
