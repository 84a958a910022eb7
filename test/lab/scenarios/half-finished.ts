import { followRunbook } from "../scene/follow.ts";
import { note, type Scenario, type Scene } from "../scene/scene.ts";
import { allLost, incident, TAGS } from "./all-lost.ts";
import { repairControlPlane, repairEtcd } from "./article.ts";

/** Most likely of all in real life: somebody began by the article, with kubeadm's defaults, and stopped when things looked worse. */
export const halfFinished: Scenario = {
  ...allLost,
  name: "half-finished",
  commandsMayFail: true,
  title: "rm -rf /etc/kubernetes on every node; half of the article with kubeadm's defaults; then RUNBOOK.md",
  lines: [
    ...incident,
    { title: "Repair etcd by the article", run: repairEtcd },
    { title: "Repair the control plane by the article", run: repairControlPlane },
    { title: "Give up", run: giveUp },
    { title: "Follow RUNBOOK.md", run: (scene) => followRunbook(scene, TAGS) },
  ],
};

/** How the article's commands ended, and what they printed, is not ours to be judged by. */
async function giveUp(scene: Scene) {
  for (const step of scene.steps) step.ok = true;
  scene.leaks = [];
  note(scene, "half of the article is done; it does not look better");
}
