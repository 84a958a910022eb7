import { controlPlaneGone, followRunbook, note, type Scenario, workloadsLeft, wreck } from "../scene.ts";

const TAGS = ["all-lost", "new-cas", "several-masters"];

/** Three masters behind a balancer and two workers, all wiped at once. */
export const haAllLost: Scenario = {
  name: "ha-all-lost",
  title: "rm -rf /etc/kubernetes on three masters and two workers, kubelets running; then RUNBOOK.md",
  masters: 3,
  workers: 2,
  byRunbook: true,
  lines: [
    { title: "Delete /etc/kubernetes on every node", run: (scene) => wreck(scene, scene.lab.nodes) },
    {
      title: "The control plane dies, the workloads run on",
      async run(scene) {
        await controlPlaneGone(scene);
        note(scene, "control plane gone", workloadsLeft(scene));
      },
    },
    { title: "Follow RUNBOOK.md", run: (scene) => followRunbook(scene, TAGS) },
  ],
};
