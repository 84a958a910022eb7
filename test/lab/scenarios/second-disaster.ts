import { sh } from "../machine/machine.ts";
import { quiet } from "../report/footprint.ts";
import { takeSnapshot } from "../report/snapshot.ts";
import { followRunbook } from "../scene/follow.ts";
import { repairByPrinted } from "../scene/printed.ts";
import { damage, mirrorPodFollows, type Scenario, type Scene } from "../scene/scene.ts";
import { allLost, everythingDeleted, TAGS } from "./all-lost.ts";

const SCHEDULER = "/etc/kubernetes/manifests/kube-scheduler.yaml";
const FLAG = "--v=3";
const LOSS = "rm /etc/kubernetes/manifests/kube-*.yaml /etc/kubernetes/pki/apiserver.*";

/**
 * Nobody removed the rescue folder of a repair with a new CA. The next repair must use the cluster as it is
 * now, not the old folder.
 */
export const secondDisaster: Scenario = {
  ...allLost,
  name: "second-disaster",
  title:
    "A repaired cluster changes; then manifests are deleted, and the rescue folder of the first repair is still there",
  machinesFail: true,
  lines: [
    ...everythingDeleted,
    { title: "The operator follows RUNBOOK.md", run: (scene) => followRunbook(scene, TAGS) },
    { title: "The cluster goes on, and somebody changes a flag of the scheduler", run: goOn },
    {
      title: "The API server's certificate and every manifest but etcd's are deleted",
      run: (scene) => damage(scene, scene.lab.controlPlanes, LOSS),
    },
    // The check of the static pods sees whether the flag is there again.
    { title: "The operator types what the scripts print", run: repairByPrinted },
  ],
};

async function goOn(scene: Scene) {
  const cp = scene.lab.controlPlanes[0]!;
  await quiet(scene);
  await sh(
    cp,
    `sed 's/- kube-scheduler$/&\\n    - ${FLAG}/' ${SCHEDULER} > /root/scheduler && mv /root/scheduler ${SCHEDULER}`,
  );
  await mirrorPodFollows(scene, "kube-scheduler", (spec) => spec.includes(`"${FLAG}"`));
  await quiet(scene);
  scene.before = await takeSnapshot(scene.lab);
}
