/**
 * The cluster's nodes, which of them are control plane nodes, and where they are.
 *
 * etcd's list of members says which are control plane nodes, and nothing else: only etcd itself writes that list. The label
 * node-role.kubernetes.io/control-plane proves nothing: no kubelet can give it to its own Node, but a PATCH of nodes/status
 * changes labels, too, and the network plugin's token on every worker may do that (registry/core/node/strategy.go; the
 * ClusterRoles of flannel and Calico). Every kubelet may make mirror pods in kube-system, under any name, but only for its
 * own node (plugin/pkg/admission/noderestriction): that of a worker is the word of whoever owns the worker.
 *
 * A Node says itself where it is: a claim, as its kubelet writes it, and accounts of pods on any worker may, too
 * (evidence/sources.ts). Where a control plane node is, two things prove: the URLs of etcd's members, and the flags of its
 * API server in its mirror pod. The annotations of a mirror pod prove nothing: who may patch pods/status changes them
 * (registry/core/pod/strategy.go; Calico's account may).
 */

import type { EtcdData } from "../etcd-data/data.ts";
import type { EtcdClient } from "../etcd-location/client.ts";
import { CONTROL_PLANE_LABEL, hostOf, OWN_ALONE } from "../etcd-location/reach-etcd.ts";
import { attempt } from "../fail.ts";
import { podFlags } from "../manifests/command.ts";
import { mirrorPod } from "../manifests/mirror-pods.ts";
import { decodeObject } from "../objects/storage.ts";
import { readObjects, registryPrefix } from "../objects/stored.ts";
import { canonicalHost, endpointHost } from "../pki/addresses.ts";
import type { KnownNode } from "./known-node.ts";
import { type NamedNode, otherControlPlanes } from "./other-control-planes.ts";

export function controlPlaneNames(nodes: readonly Pick<KnownNode, "name" | "controlPlane">[]): string[] {
  return nodes.filter(({ controlPlane }) => controlPlane).map(({ name }) => name);
}

interface StoredNode {
  metadata: { name: string; uid: string; labels?: Record<string, string> };
  status?: { addresses?: { type: string; address: string }[] };
}

export function readNodes(data: EtcdData): KnownNode[] {
  const stored = readObjects<StoredNode>(data, "minions/").toArray();
  const roles = controlPlanesAmong(new Set(stored.map(({ metadata }) => metadata.name)), data);
  return stored.map((node): KnownNode => {
    const { name, uid, labels } = node.metadata;
    const addresses = node.status?.addresses ?? [];
    const of = (isIps: boolean) =>
      addresses.flatMap(({ type, address }) => (type.endsWith("IP") === isIps ? address : []));
    const role = roles.get(name);
    return {
      ...{ name, uid, controlPlane: role !== undefined },
      ...(role === "former" && { former: true }),
      ...(role === undefined && labels?.[CONTROL_PLANE_LABEL] !== undefined && { onlyLabelled: true }),
      ...(labels?.["kubernetes.io/os"] === "windows" && { windows: true }),
      claimed: { names: [...new Set([name, ...of(false)])], ips: of(true) },
      places: role === "member" ? placesOf(name, data) : [],
    };
  });
}

function placesOf(name: string, data: EtcdData): string[] {
  const api = attempt(() => apiEndpoint(name, data)?.host, undefined);
  return [...new Set([...(api ? [canonicalHost(api)] : []), ...memberPlaces(name, data)])];
}

function memberPlaces(name: string, { members }: EtcdData): string[] {
  const { peerURLs = [], clientURLs = [] } = members.find((one) => one.name === name) ?? {};
  return [...peerURLs, ...clientURLs]
    .map((url) => canonicalHost(hostOf(url)))
    .filter((host) => !OWN_ALONE.includes(host));
}

export interface Endpoint {
  host: string;
  port: number;
}

/**
 * Where a control plane node's API server listens, by its mirror pod: by its flag; without one it finds its address
 * itself, and its member of etcd tells. Undefined where there is no such pod, or nothing tells.
 */
export function apiEndpoint(nodeName: string, data: EtcdData): Endpoint | undefined {
  const pod = mirrorPod(data, nodeName, "kube-apiserver");
  const command = podFlags(pod);
  const host = command.get("advertise-address") ?? (pod && memberPlaces(nodeName, data)[0]);
  return host ? { host: endpointHost(host), port: Number(command.get("secure-port") ?? 6443) } : undefined;
}

/**
 * Where a control plane node's API server answers. Its Node's first address may be of another network (the kubelet's
 * --node-ip, a second card), and is only a claim.
 */
export function apiAddressOf(
  { name, places }: KnownNode,
  data: EtcdData,
  port: number,
): ReturnType<typeof apiEndpoint> {
  return apiEndpoint(name, data) ?? (places[0] ? { host: places[0], port } : undefined);
}

/** The members that this kit believes: a restore has left the other members out, and they are only known as lost. */
export function believedPeers<N extends NamedNode & { former?: true }>(
  cluster: { nodes: readonly N[] },
  place: Parameters<typeof otherControlPlanes>[1],
): N[] {
  return otherControlPlanes(cluster, place).filter(({ former }) => !former);
}

type Members = Pick<EtcdData, "members" | "formerMembers">;

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

/** etcd's members still name a Node that was deleted. */
export function isControlPlaneName(
  name: string,
  { cluster, data }: { cluster: { nodes: readonly NamedNode[] }; data: Members },
): boolean {
  const node = cluster.nodes.find((one) => one.name === name);
  return node ? node.controlPlane : memberNames(data).includes(name);
}

/** Includes those that a restore has left behind. */
export function memberNames({ members, formerMembers = [] }: Members): string[] {
  return [...members.map(({ name }) => name), ...formerMembers];
}

/**
 * The UID of an object now, by its key below the registry's: "minions/cp1". Undefined if it is deleted. `how`: as `get`.
 * Errors: Fail if etcd does not answer.
 */
export async function uidOf(
  client: EtcdClient,
  data: EtcdData,
  object: string,
  how?: Parameters<EtcdClient["get"]>[1],
): Promise<string | undefined> {
  const key = `${registryPrefix(data)}/${object}`;
  const value = await client.get(key, how);
  return value && (decodeObject(data.shown(key, value)) as { metadata?: { uid?: string } }).metadata?.uid;
}
