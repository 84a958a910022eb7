import { drilled } from "../scene/drilled.ts";
import { followGuide } from "../scene/follow-repair.ts";
import { nodesOn } from "../scene/power.ts";
import { controlPlaneGone, deleteKubernetes, note, type Scenario, workloadsLeft } from "../scene/scene.ts";

/** Which of the runbook's blocks are meant for this disaster. */
export const TAGS = ["new-cas", "join"];

export const everythingDeleted: Scenario["lines"] = [
  {
    title: "/etc/kubernetes is deleted on every node",
    run: (scene) => deleteKubernetes(scene, nodesOn(scene)),
  },
  {
    title: "The control plane stops, the workloads go on",
    async run(scene) {
      await controlPlaneGone(scene);
      note(scene, "the control plane is gone", workloadsLeft(scene));
    },
  },
];

const drill = drilled();

/**
 * The article's disaster: everything below /etc/kubernetes is deleted on every node while the kubelets run.
 */
export const allLost: Scenario = {
  name: "all-lost",
  title: "/etc/kubernetes is deleted on every node while the kubelets run; the operator follows RUNBOOK.md",
  controlPlanes: 1,
  workers: 1,
  byRunbook: true,
  lines: [
    drill.before,
    ...everythingDeleted,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, TAGS) },
    drill.outcome,
  ],
};
