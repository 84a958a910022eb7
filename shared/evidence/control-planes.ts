/**
 * Which nodes are control plane nodes: etcd's list of members says so, and nothing else. Only etcd itself
 * writes that list. The label node-role.kubernetes.io/control-plane proves nothing: no kubelet can give it to
 * its own Node, but a PATCH of nodes/status changes labels, too, and the network plugin's token on every
 * worker may do that (registry/core/node/strategy.go; the ClusterRoles of flannel and Calico). Every kubelet
 * may make mirror pods in kube-system, under any name, but only for its own node
 * (plugin/pkg/admission/noderestriction). So the node of a mirror pod decides what it is: that of a worker is
 * the word of whoever owns the worker.
 */
import type { EtcdData } from "../etcd-data/data.ts";

type Members = Pick<EtcdData, "members" | "formerMembers">;

export function hasControlPlaneLabel({
  metadata,
}: {
  metadata: { labels?: Record<string, string> };
}): boolean {
  return metadata.labels?.["node-role.kubernetes.io/control-plane"] !== undefined;
}

/**
 * The control plane nodes among these Nodes, each with its role in etcd: a current member, or one that a
 * restore has left behind, which is only known to be lost. kubeadm gives a member the name of its Node. A
 * member without a name, or with another one, belongs to no Node: its address would be that of whoever claims
 * it.
 */
export function controlPlanesAmong(
  names: ReadonlySet<string>,
  { members, formerMembers = [] }: Members,
): Map<string, "member" | "former"> {
  const withRole = (role: "member" | "former", all: readonly string[]) =>
    all.filter((name) => names.has(name)).map((name) => [name, role] as const);
  return new Map([
    ...withRole("former", formerMembers),
    ...withRole(
      "member",
      members.map(({ name }) => name),
    ),
  ]);
}

/** Names of etcd's current members; these are believed whether their Nodes still exist or not. */
export function believedNames({ members }: Pick<EtcdData, "members">): string[] {
  return members.flatMap(({ name }) => name || []);
}

/** etcd's members still name a Node that was deleted. */
export function isControlPlaneName(
  name: string,
  {
    cluster,
    data,
  }: { cluster: { nodes: readonly { name: string; controlPlane: boolean }[] }; data: Members },
): boolean {
  const node = cluster.nodes.find((one) => one.name === name);
  return node ? node.controlPlane : memberNames(data).includes(name);
}

/** Includes those that a restore has left behind. */
export function memberNames({ members, formerMembers = [] }: Members): string[] {
  return [...members.map(({ name }) => name), ...formerMembers];
}
