/**
 * A second control plane node, m2, as etcd knew it before it was lost: with marks of people, and a hand edit
 * of its API server.
 */
import type { Manifest } from "../../shared/objects/objects.ts";
import { frozen, mirrorPod, type Objects } from "./cluster.ts";

const CONTROL_PLANE = "node-role.kubernetes.io/control-plane";

export const AT_M2 = "127.77.0.12";

export const M2 = frozen({
  apiVersion: "v1",
  kind: "Node",
  metadata: {
    name: "m2",
    uid: "uid-of-m2",
    labels: { "kubernetes.io/hostname": "m2", [CONTROL_PLANE]: "", disk: "nvme" },
    annotations: { "node.alpha.kubernetes.io/ttl": "0", "example.org/owner": "O'Neill & co" },
  },
  spec: {
    taints: [
      { key: CONTROL_PLANE, effect: "NoSchedule" },
      { key: "storage", value: "only", effect: "NoExecute" },
      { key: "node.kubernetes.io/unreachable", effect: "NoExecute" },
    ],
  },
  status: { addresses: [{ type: "InternalIP", address: AT_M2 }] },
});

export const HAND_EDIT = "--event-ttl=2h";

/** Its static pods: as m1's, at its own address. */
export function mirrorPodOfM2(name: string, ...edits: string[]): Manifest {
  const pod = JSON.parse(
    JSON.stringify(mirrorPod(name)).replaceAll(/-m1\b/g, "-m2").replaceAll('"m1"', '"m2"'),
  ) as Manifest;
  pod.metadata.annotations!["kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"] =
    `${AT_M2}:7443`;
  const command = pod.spec.containers[0]!.command;
  for (const [index, word] of command?.entries() ?? [])
    command![index] = word.replace(/^(--advertise-address=).*/, `$1${AT_M2}`);
  if (name === "kube-apiserver") command?.push("--secure-port=7443");
  command?.push(...edits);
  return pod;
}

export function withM2(objects: Objects) {
  objects["minions/m2"] = structuredClone(M2);
  for (const name of ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"])
    objects[`pods/kube-system/${name}-m2`] = mirrorPodOfM2(
      name,
      ...(name === "kube-apiserver" ? [HAND_EDIT] : []),
    );
}
