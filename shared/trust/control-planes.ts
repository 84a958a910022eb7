/**
 * Which nodes are control plane nodes: a label says so that no kubelet can give to its own Node, or etcd's list of members. Every kubelet may
 * make mirror pods in kube-system, under any name, but only for its own node (plugin/pkg/admission/noderestriction). So the node of a mirror
 * pod decides what it is: that of a worker is the word of whoever owns the worker.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { readObjects } from "../k8s/stored.ts";

interface Labelled {
  metadata: { name: string; labels?: Record<string, string> };
}

export function hasControlPlaneLabel({ metadata }: Labelled): boolean {
  return metadata.labels?.["node-role.kubernetes.io/control-plane"] !== undefined;
}

/** By its label, which a kubelet cannot set or remove itself, or because it is a member of etcd. */
export function isControlPlane(node: { name: string; controlPlane: boolean }, { members }: Pick<EtcdData, "members">): boolean {
  return node.controlPlane || members.some(({ name }) => name === node.name);
}

/** Their names, by etcd's data; where its Nodes cannot be read, by its members alone. */
export function controlPlaneNames(data: EtcdData): string[] {
  const labelled = attempt(() => readObjects<Labelled>(data, "minions/").filter(hasControlPlaneLabel).toArray());
  const nodes = labelled instanceof Fail ? [] : labelled.map(({ metadata }) => metadata.name);
  return [...new Set([...nodes, ...data.members.map(({ name }) => name)])];
}
