import { followRunbook } from "../follow.ts";
import type { Scenario } from "../scene.ts";
import { allLost, incident, TAGS } from "./all-lost.ts";
import { repairControlPlane, repairEtcd } from "./article.ts";

/** Most likely of all in real life: somebody began by the article, with kubeadm's defaults, and stopped when things looked worse. */
export const halfFinished: Scenario = {
  ...allLost,
  name: "half-finished",
  title: "rm -rf /etc/kubernetes on every node; half of the article with kubeadm's defaults; then RUNBOOK.md",
  lines: [
    ...incident,
    { title: "Repair etcd by the article", run: repairEtcd },
    { title: "Repair the control plane by the article", run: repairControlPlane },
    { title: "Follow RUNBOOK.md", run: (scene) => followRunbook(scene, TAGS) },
  ],
};
