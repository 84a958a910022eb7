/**
 * What the attacker does with the network plugin's token, which lies on his worker: his Node says that it is
 * a control plane node.
 */
import { Fail } from "../../../shared/fail.ts";
import { kubectl, type Lab, type Machine } from "../machine/machine.ts";
import type { Check } from "../report/rehearsal.ts";
import { type Scene, type } from "../scene/scene.ts";
import { mirrorPodOfKubelet } from "./objects.ts";

export const ROLE = "node-role.kubernetes.io/control-plane";
const PLUGIN = "network-plugin";

/** As the ClusterRole of flannel has it. His token lies in a pod of the plugin's on every worker. */
export async function pluginsToken(lab: Lab): Promise<string> {
  const rbac = { apiVersion: "rbac.authorization.k8s.io/v1", metadata: { name: PLUGIN } };
  const roleRef = { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: PLUGIN };
  const account = { kind: "ServiceAccount", name: PLUGIN, namespace: "kube-system" };
  const items = [
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: PLUGIN, namespace: "kube-system" } },
    {
      ...rbac,
      kind: "ClusterRole",
      rules: [{ apiGroups: [""], resources: ["nodes/status"], verbs: ["patch"] }],
    },
    { ...rbac, kind: "ClusterRoleBinding", roleRef, subjects: [account] },
  ];
  const args = ["create", "-f", "-"];
  const made = await kubectl(lab, args, JSON.stringify({ apiVersion: "v1", kind: "List", items }));
  const { exitCode, stdout, stderr } = await kubectl(lab, [
    "-n",
    "kube-system",
    "create",
    "token",
    PLUGIN,
    "--duration=24h",
  ]);
  if (made.exitCode + exitCode !== 0)
    throw new Fail(`No token of the network plugin: ${made.stderr}${stderr}`, { hint: "look with --keep" });
  return stdout.trim();
}

/** A mirror pod of an API server on his own node, which listens at the address of the API's Service. */
export function pretendedServer(own: { nodeName: string; uid: string }) {
  const pod = mirrorPodOfKubelet(`kube-apiserver-${own.nodeName}`, own);
  const endpoint = { "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": "10.97.0.1:6443" };
  return { ...pod, metadata: { ...pod.metadata, annotations: { ...pod.metadata.annotations, ...endpoint } } };
}

/**
 * 00-assess and the plan name the Node that only says what it is, and the plan waits for the operator's word.
 */
export async function roleIsNamed(scene: Scene, { nodeName }: Machine): Promise<Check[]> {
  const cp = scene.lab.controlPlanes[0]!;
  const assessed = await type(scene, cp, "./bunw scripts/00-assess.ts", { exit: [0, 2] });
  const plan = await type(scene, cp, "./bunw scripts/plan.ts", { exit: [3] });
  const line =
    assessed.stdout
      .split("\n")
      .find((text) => text.includes("its label says that it is a control plane node")) ?? "nothing";
  return [
    {
      name: "00-assess names the worker that only says that it is a control plane node",
      ok: line.includes(nodeName),
      detail: line.trim(),
    },
    {
      name: "the plan stops for the operator's word on it",
      ok: plan.ok && plan.stderr.includes(`--worker ${nodeName}`),
      detail: plan.stderr.slice(-300),
    },
  ];
}
