/**
 * The cluster's nodes, and where they are. A Node says itself where it is: a claim, as its kubelet writes it, and
 * accounts of pods on any worker may, too (evidence/sources.ts). Where a control plane node is, two things prove: the
 * URLs of etcd's members, and the flags of its API server in its mirror pod, which only its own kubelet can make. The
 * annotations of a mirror pod prove nothing: who may patch pods/status changes them (registry/core/pod/strategy.go;
 * Calico's account may).
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { hostOf, OWN_ALONE } from "../etcd-location/reach-etcd.ts";
import { controlPlanesAmong, hasControlPlaneLabel } from "../evidence/control-planes.ts";
import { attempt } from "../fail.ts";
import { commandOf, flags } from "../manifests/command.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { readObjects } from "../objects/stored.ts";
import { canonicalHost, endpointHost } from "../pki/addresses.ts";

export interface KnownNode {
  name: string;
  uid: string;
  /** It is a member of etcd, or was one before a restore. */
  controlPlane: boolean;
  /** A restore has left it behind. It is known to be lost, and nothing else of it is believed. */
  former?: true;
  /** It only says that it is a control plane node, by its label: nothing of it is believed. */
  onlyLabelled?: true;
  /**
   * Its label says so, which accounts of pods on any worker may write: who has it is not waited for, and never called
   * back.
   */
  windows?: true;
  /**
   * Said by its Node of itself. It decides nothing: it may be shown, asked at, or compared with what is proved.
   * `names`: the Node's own name, its hostname and its DNS names; `ips`: as they are written.
   */
  claimed: { names: string[]; ips: string[] };
  /** Hosts where it is proved to be, addresses in canonical form. None where it is a worker. */
  places: string[];
}

interface StoredNode {
  metadata: { name: string; uid: string; labels?: Record<string, string> };
  status?: { addresses?: { type: string; address: string }[] };
}

/** Errors: Fail where a Node cannot be read. */
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
      ...(role === undefined && hasControlPlaneLabel(node) && { onlyLabelled: true }),
      ...(labels?.["kubernetes.io/os"] === "windows" && { windows: true }),
      claimed: { names: [...new Set([name, ...of(false)])], ips: of(true) },
      places: role === "member" ? placesOf(name, data) : [],
    };
  });
}

/** Its API server's host, and those of its member of etcd. */
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

/**
 * Where a control plane node's API server listens, by its mirror pod: by its flag; without one it finds its address
 * itself, and its member of etcd tells. Undefined where there is no such pod, or nothing tells.
 */
export function apiEndpoint(nodeName: string, data: EtcdData): { host: string; port: number } | undefined {
  const pod = findMirrorPods(data, nodeName).find((mirror) => mirror.name === "kube-apiserver")?.pod;
  const command = flags(pod ? commandOf(pod) : []);
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

/** As much of a node as decides here. */
interface Known {
  name: string;
  controlPlane: boolean;
}

export function otherControlPlanes<N extends Known>(
  { nodes }: { nodes: readonly N[] },
  { node, without = [] }: { node: Pick<Known, "name">; without?: readonly string[] },
): N[] {
  const left = [node.name, ...without];
  return nodes.filter(({ controlPlane, name }) => controlPlane && !left.includes(name));
}

/** Those of them that are believed: a restore has left the others behind, and they are only known to be lost. */
export function believedPeers<N extends Known & { former?: true }>(
  cluster: { nodes: readonly N[] },
  place: Parameters<typeof otherControlPlanes>[1],
): N[] {
  return otherControlPlanes(cluster, place).filter(({ former }) => !former);
}
