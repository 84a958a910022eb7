import { followRunbook } from "../scene/follow.ts";
import { note, type Scenario, type Scene } from "../scene/scene.ts";
import { allLost, everythingDeleted, TAGS } from "./all-lost.ts";
import { repairControlPlane, repairEtcd } from "./article.ts";

/**
 * The most likely case in real life: somebody begins with the article and kubeadm's defaults, and stops when
 * things look worse.
 */
export const halfRepaired: Scenario = {
  ...allLost,
  name: "half-repaired",
  title:
    "/etc/kubernetes is deleted on every node; somebody follows half of the article with kubeadm's defaults; then RUNBOOK.md",
  commandsMayFail: true,
  lines: [
    ...everythingDeleted,
    { title: "Somebody repairs etcd by the article", run: repairEtcd },
    { title: "Somebody repairs the control plane by the article", run: repairControlPlane },
    { title: "Somebody gives up", run: giveUp },
    { title: "The operator follows RUNBOOK.md", run: (scene) => followRunbook(scene, TAGS) },
  ],
};

/** How the article's commands end, and what they print, is not held against the runbook. */
async function giveUp(scene: Scene) {
  for (const step of scene.steps) step.ok = true;
  scene.leaks = [];
  note(scene, "half of the article is done; it does not look better");
}
