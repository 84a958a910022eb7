/** The cluster of a phone call at night: three control plane nodes, each broken in another way. The operator has the screens alone. */
import { sh } from "../machine/machine.ts";
import { controlPlaneGone, deleteKubernetes, note, type Scenario, type Scene, workloadsLeft } from "../scene/scene.ts";
import { followScreens, type Operator, operatorAt } from "../scene/screens.ts";
import { haAllLost } from "./several-control-planes.ts";

const HALF_ATTEMPT = ["certs ca", "certs etcd-ca", "certs apiserver", "kubeconfig admin"];

export const phoneCall: Scenario = {
  ...haAllLost,
  name: "phone-call",
  title:
    "Three control plane nodes: one wiped, one with half an attempt by kubeadm, one without data; the operator types what is printed alone",
  machinesFail: true,
  lines: [
    { title: "/etc/kubernetes is deleted on the control plane nodes and the first worker, and cp3 loses etcd's data", run: lose },
    { title: "Somebody begins with kubeadm on the second control plane node", run: beginWithKubeadm },
    { title: "The operator types what is printed, from 00-assess on the first control plane node", run: repair },
  ],
};

async function lose(scene: Scene) {
  const { controlPlanes, workers } = scene.lab;
  await deleteKubernetes(scene, [...controlPlanes, workers[0]!]);
  await sh(controlPlanes[2]!, "rm -rf /var/lib/etcd");
  await controlPlaneGone(scene);
  note(scene, "the control plane is gone", workloadsLeft(scene));
}

async function beginWithKubeadm({ lab }: Scene) {
  for (const phase of HALF_ATTEMPT) await sh(lab.controlPlanes[1]!, `kubeadm init phase ${phase}`);
}

async function repair(scene: Scene) {
  const operator = operatorAt(scene);
  const began = Date.now();
  await followScreens(operator, "./bunw scripts/00-assess.ts").finally(() => count(operator, began));
}

/** What the way has cost. A command that failed is a wrong turn. */
function count({ scene, typed, wrongTurns }: Operator, began: number) {
  const seconds = ((Date.now() - began) / 1000).toFixed(0);
  const cost = `${typed.length} commands typed, ${seconds} s`;
  scene.checks.push({
    name: "what is printed leads to the end without a wrong turn",
    ok: wrongTurns.length === 0,
    detail: [cost, ...wrongTurns].join("; "),
  });
  note(scene, `phone call: ${cost}`, typed.join("; "));
}
