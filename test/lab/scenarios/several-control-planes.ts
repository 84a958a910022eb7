import { drilled } from "../scene/drilled.ts";
import { followGuide } from "../scene/follow-repair.ts";
import { cutPower, powerOn } from "../scene/power.ts";
import {
  controlPlaneSamples,
  deleteKubernetes,
  note,
  type Scenario,
  type Scene,
  sayAndWait,
  workloadsLeft,
} from "../scene/scene.ts";
import { everythingDeleted } from "./all-lost.ts";

export const TAGS = ["new-cas", "join", "several-control-planes"];

const drill = drilled();

/** Three control plane nodes behind a balancer and two workers, all wiped at once. */
export const haAllLost: Scenario = {
  name: "ha-all-lost",
  title:
    "/etc/kubernetes is deleted on three control plane nodes and two workers; the operator follows RUNBOOK.md",
  controlPlanes: 3,
  workers: 2,
  byRunbook: true,
  lines: [
    drill.before,
    ...everythingDeleted,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, TAGS) },
    drill.outcome,
  ],
};

/**
 * The same, then somebody switches all machines off and on: the kubelets crash-loop, no container runs, no
 * key is left in memory.
 */
export const haPowerCycle: Scenario = {
  ...haAllLost,
  name: "ha-power-cycle",
  title: "As ha-all-lost, and every machine loses power before the operator opens RUNBOOK.md",
  machinesFail: true,
  lines: [
    ...everythingDeleted,
    {
      title: "Every machine loses power and boots again",
      async run(scene) {
        await cutPower(scene, scene.lab.nodes);
        await powerOn(scene, scene.lab.nodes);
      },
    },
    { title: "The operator follows RUNBOOK.md", run: (scene) => followGuide(scene, TAGS) },
  ],
};

/**
 * Two control plane nodes are well, the third is wiped: it gets the keys from them, and no workload notices.
 */
export const oneWiped: Scenario = {
  ...haAllLost,
  name: "one-wiped",
  oldKeys: true,
  title:
    "/etc/kubernetes is deleted on one of three control plane nodes; the operator follows RUNBOOK.md with the others' keys",
  lines: [
    {
      title: "/etc/kubernetes is deleted on the third control plane node",
      run: (scene) => deleteKubernetes(scene, scene.lab.controlPlanes.slice(2)),
    },
    { title: "Its API server and its etcd stop", run: thirdGone },
    {
      title: "The operator follows RUNBOOK.md",
      run: (scene) => followGuide(scene, ["old-cas", "several-control-planes"]),
    },
  ],
};

async function thirdGone(scene: Scene) {
  const gone = () =>
    controlPlaneSamples(scene)[2]?.at(-1)?.api === false &&
    controlPlaneSamples(scene)[2]?.at(-1)?.etcd === false;
  await sayAndWait(scene, "the third node's API server and etcd to stop", gone, {
    seconds: 120,
    hint: "is its kubelet running?",
  });
  note(scene, "the third node's control plane is gone", workloadsLeft(scene));
}
