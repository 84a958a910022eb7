/**
 * Which nodes are control plane nodes: etcd's list of members says so, and nothing else. Only etcd itself
 * writes that list. The label node-role.kubernetes.io/control-plane proves nothing: no kubelet can give it to
 * its own Node, but a PATCH of nodes/status changes labels, too, and the network plugin's token on every
 * worker may do that (registry/core/node/strategy.go; the ClusterRoles of flannel and Calico). Every kubelet
 * may make mirror pods in kube-system, under any name, but only for its own node
 * (plugin/pkg/admission/noderestriction). So the node of a mirror pod decides what it is: that of a worker is
 * the word of whoever owns the worker.
 */
import { isIP } from "node:net";
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt } from "../fail.ts";
import { readObjects } from "../objects/stored.ts";
import { canonicalIp, endpointHost, isLoopback } from "../pki/addresses.ts";

interface StoredNode {
  metadata: { name: string; labels?: Record<string, string> };
  status?: { addresses?: { type: string; address: string }[] };
}

type Members = Pick<EtcdData, "members" | "formerMembers">;

export function hasControlPlaneLabel({ metadata }: StoredNode): boolean {
  return metadata.labels?.["node-role.kubernetes.io/control-plane"] !== undefined;
}

/**
 * Names of the Nodes that are members of etcd: kubeadm gives a member the name of its Node. A member of
 * another name (a restore calls it "default") is the one Node with its address, if that has the label, too:
 * kubespray may put etcd on workers. An address that more than one claims belongs to none of them, as each
 * kubelet writes its own status. Those that a restore has left behind were control plane nodes, too.
 */
export function membersAmong(
  nodes: readonly StoredNode[],
  { members, formerMembers = [] }: Members,
): Set<string> {
  const names = new Set(nodes.map(({ metadata }) => metadata.name));
  const found = members.flatMap((member) =>
    names.has(member.name) ? member.name : (atAddress(nodes, member) ?? []),
  );
  return new Set([...found, ...formerMembers.filter((name) => names.has(name))]);
}

function atAddress(
  nodes: readonly StoredNode[],
  { peerURLs, clientURLs }: EtcdData["members"][number],
): string | undefined {
  const hosts = [...peerURLs, ...clientURLs].flatMap((url) =>
    URL.canParse(url) ? endpointHost(new URL(url).host) : [],
  );
  const ips = hosts.filter((host) => isIP(host) && !isLoopback(host)).map(canonicalIp);
  const here = nodes.filter(({ status }) =>
    status?.addresses?.some(({ address }) => isIP(address) && ips.includes(canonicalIp(address))),
  );
  const [node, ...others] = here;
  return node && others.length === 0 && hasControlPlaneLabel(node) ? node.metadata.name : undefined;
}

/**
 * Names of the control plane nodes, by etcd's data: of its members, and of the Nodes that are one under
 * another name.
 */
export function controlPlaneNames(data: EtcdData): string[] {
  const found = membersAmong(
    attempt(() => readObjects<StoredNode>(data, "minions/").toArray(), []),
    data,
  );
  return [...new Set([...found, ...memberNames(data)])];
}

/** Of a Node that is deleted, etcd's members still tell. */
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

/** With those that a restore has left behind. */
export function memberNames({ members, formerMembers = [] }: Members): string[] {
  return [...members.map(({ name }) => name), ...formerMembers];
}
