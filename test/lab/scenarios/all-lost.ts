import { followRunbook } from "../scene/follow.ts";
import { controlPlaneGone, note, type Scenario, workloadsLeft, wreck } from "../scene/scene.ts";

/** Which of the runbook's blocks are meant for this disaster. */
export const TAGS = ["all-lost", "new-cas"];

export const incident: Scenario["lines"] = [
  { title: "Delete /etc/kubernetes on every node", run: (scene) => wreck(scene, scene.lab.nodes) },
  {
    title: "The control plane dies, the workloads run on",
    async run(scene) {
      await controlPlaneGone(scene);
      note(scene, "control plane gone", workloadsLeft(scene));
    },
  },
];

/** The article's disaster: everything below /etc/kubernetes deleted on every node while the kubelets run. The runbook brings it back. */
export const allLost: Scenario = {
  name: "all-lost",
  title: "rm -rf /etc/kubernetes on every node, kubelets running; then RUNBOOK.md",
  controlPlanes: 1,
  workers: 1,
  byRunbook: true,
  lines: [...incident, { title: "Follow RUNBOOK.md", run: (scene) => followRunbook(scene, TAGS) }],
};
