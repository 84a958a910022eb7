import { sh } from "../machine/machine.ts";
import { takeFacts } from "../report/fingerprint.ts";
import { quiet } from "../report/footprint.ts";
import { followRunbook } from "../scene/follow.ts";
import { repairByPrinted } from "../scene/printed.ts";
import { damage, mirrored, type Scenario, type Scene } from "../scene/scene.ts";
import { allLost, incident, TAGS } from "./all-lost.ts";

const SCHEDULER = "/etc/kubernetes/manifests/kube-scheduler.yaml";
const FLAG = "--v=3";
const LOSS = "rm /etc/kubernetes/manifests/kube-*.yaml /etc/kubernetes/pki/apiserver.*";

/** Somebody never removed the rescue folder of a repair with a new CA: what the cluster has become since is what the next repair goes by. */
export const secondDisaster: Scenario = {
  ...allLost,
  name: "second-disaster",
  title:
    "rm -rf /etc/kubernetes on every node; RUNBOOK.md; the cluster goes on; then manifests are lost, with the old rescue folder still there",
  machinesFail: true,
  lines: [
    ...incident,
    { title: "Follow RUNBOOK.md", run: (scene) => followRunbook(scene, TAGS) },
    { title: "The cluster goes on: a flag of the scheduler is changed", run: goOn },
    {
      title: "Delete the API server's certificate and all manifests but etcd's",
      run: (scene) => damage(scene, scene.lab.controlPlanes, LOSS),
    },
    // That the flag is there again is asked by "static pods as before".
    { title: "Type what the scripts print", run: repairByPrinted },
  ],
};

async function goOn(scene: Scene) {
  const cp = scene.lab.controlPlanes[0]!;
  await quiet(scene);
  await sh(cp, `sed 's/- kube-scheduler$/&\\n    - ${FLAG}/' ${SCHEDULER} > /root/scheduler && mv /root/scheduler ${SCHEDULER}`);
  await mirrored(scene, "kube-scheduler", (spec) => spec.includes(`"${FLAG}"`));
  await quiet(scene);
  scene.before = await takeFacts(scene.lab);
}
