import { followRunbook } from "../scene/follow.ts";
import {
  controlPlaneSamples,
  cutPower,
  note,
  powerOn,
  type Scenario,
  type Scene,
  sayAndWait,
  workloadsLeft,
  wreck,
} from "../scene/scene.ts";
import { incident } from "./all-lost.ts";

export const TAGS = ["all-lost", "new-cas", "several-control-planes"];

/** Three control plane nodes behind a balancer and two workers, all wiped at once. */
export const haAllLost: Scenario = {
  name: "ha-all-lost",
  title: "rm -rf /etc/kubernetes on three control plane nodes and two workers, kubelets running; then RUNBOOK.md",
  controlPlanes: 3,
  workers: 2,
  byRunbook: true,
  lines: [...incident, { title: "Follow RUNBOOK.md", run: (scene) => followRunbook(scene, TAGS) }],
};

/** The same, and then somebody switched all machines off and on: kubelets crash-loop, no container runs, nothing is left in memory. */
export const haPowerCycle: Scenario = {
  ...haAllLost,
  name: "ha-power-cycle",
  title: "the same, and all machines lose power before RUNBOOK.md is opened",
  machinesFail: true,
  lines: [
    ...incident,
    {
      title: "Every machine loses power and comes back",
      async run(scene) {
        await cutPower(scene, scene.lab.nodes);
        await powerOn(scene, scene.lab.nodes);
      },
    },
    { title: "Follow RUNBOOK.md", run: (scene) => followRunbook(scene, TAGS) },
  ],
};

/** Two control plane nodes are well, the third is wiped: it gets the keys from them, and nobody else notices. */
export const oneWiped: Scenario = {
  ...haAllLost,
  name: "one-wiped",
  oldKeys: true,
  title: "rm -rf /etc/kubernetes on one control plane node of three; then RUNBOOK.md, with the keys of the others",
  lines: [
    { title: "Delete /etc/kubernetes on the third control plane node", run: (scene) => wreck(scene, scene.lab.controlPlanes.slice(2)) },
    { title: "Its control plane dies", run: lastControlPlaneGone },
    { title: "Follow RUNBOOK.md", run: (scene) => followRunbook(scene, ["old-cas", "several-control-planes"]) },
  ],
};

async function lastControlPlaneGone(scene: Scene) {
  const gone = () => controlPlaneSamples(scene)[2]?.at(-1)?.api === false && controlPlaneSamples(scene)[2]?.at(-1)?.etcd === false;
  await sayAndWait(scene, "the third control plane node's control plane to go away", gone, {
    seconds: 120,
    hint: "is its kubelet running?",
  });
  note(scene, "the third control plane node is gone", workloadsLeft(scene));
}
