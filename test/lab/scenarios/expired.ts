import { expireAll } from "../scene/expire.ts";
import { followRunbook } from "../scene/follow.ts";
import { cutPower, note, powerOn, type Scenario, type Scene } from "../scene/scene.ts";
import { allLost } from "./all-lost.ts";

/** Nobody renewed anything for a year, then the machines were restarted: every certificate has ended, the keys are all there. */
export const expired: Scenario = {
  ...allLost,
  name: "expired",
  title: "every certificate but the authorities' has ended, on all nodes, and the machines were restarted; then RUNBOOK.md",
  machinesFail: true,
  lines: [
    { title: "A year passes", run: aYearPasses },
    { title: "Follow RUNBOOK.md", run: (scene) => followRunbook(scene, ["expired"]) },
  ],
};

async function aYearPasses(scene: Scene) {
  scene.zero = Date.now();
  await cutPower(scene, scene.lab.nodes);
  await expireAll(scene.lab);
  note(scene, "every certificate ended yesterday");
  await powerOn(scene, scene.lab.nodes);
}
