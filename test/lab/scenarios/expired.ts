import { expireAll } from "../scene/expire.ts";
import { followGuide } from "../scene/follow-plan.ts";
import { cutPower, nodesOn, powerOn } from "../scene/power.ts";
import { note, type Scenario, type Scene, startClock } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";

export const TAGS = ["old-cas", "join"];
export const HA_TAGS = [...TAGS, "same-keys"];

export const aYearPasses: Scenario["lines"][number] = {
  title: "Every certificate but the CAs' expires, every machine restarts",
  run: yearWithout,
};

/**
 * Nobody renews anything for a year, then the machines restart: every certificate but the CAs' has expired,
 * and every key is there.
 */
export const expired: Scenario = {
  ...allLost,
  name: "expired",
  title: "No certificate is renewed for a year, then every machine restarts; the operator follows RUNBOOK.md",
  machinesFail: true,
  lines: [
    aYearPasses,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, TAGS) },
  ],
};

/**
 * The same on three control plane nodes and two workers: each of them has all shared keys, so none are handed
 * over.
 */
export const haExpired: Scenario = {
  ...expired,
  name: "ha-expired",
  title: "As expired, on three control plane nodes and two workers; the operator follows RUNBOOK.md",
  controlPlanes: 3,
  workers: 2,
  lines: [
    aYearPasses,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, HA_TAGS) },
  ],
};

async function yearWithout(scene: Scene) {
  startClock(scene);
  await cutPower(scene, nodesOn(scene));
  await expireAll(scene.lab);
  note(scene, "every certificate expired yesterday");
  await powerOn(scene, nodesOn(scene));
}
