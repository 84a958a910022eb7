/**
 * Who says where the cluster's API is reached: ConfigMaps in etcd's data, and this node's kubeconfigs. No
 * worker's kubelet may write them. Reads only.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import type { EtcdFolders } from "../etcd-location/etcd-folders.ts";
import { memberHosts } from "../etcd-location/reach-etcd.ts";
import { may, type SourceName } from "../evidence/sources.ts";
import { attempt, Fail } from "../fail.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import type { Node } from "../node/node.ts";
import type { Rescue } from "../node/rescue-folder.ts";
import { movedHere } from "../node/words.ts";
import { configMapIn } from "../objects/stored.ts";
import { asMoved, canonicalHost, endpointHost, endpointUrl, ofMachines } from "../pki/addresses.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { readable } from "../pki/examine.ts";
import { serverIn } from "../pki/kubeconfig-fields.ts";
import { KUBECONFIGS, leadsToEndpoint, parseKubeconfig } from "../pki/kubeconfigs.ts";
import type { Cluster } from "./cluster.ts";
import type { ClusterConfiguration } from "./cluster-configuration.ts";
import type { Repair } from "./repair.ts";

export interface Witness {
  /** "kube-proxy", "admin.conf". */
  name: string;
  /** "host:port"; "": that it has none, and each control plane node is reached by itself. */
  place: string;
  /** Pods run with what kube-proxy has: it counts twice. The kubeconfigs of one node are one voice. */
  weight: number;
}

export interface EndpointPlace extends Pick<Repair, "data" | "rescue" | "earlier"> {
  cluster: Cluster;
  facts: ClusterFacts;
  node: Node;
  etcd: EtcdFolders;
}

/** In etcd's data, beside kubeadm-config. No worker's kubelet may write them. */
// biome-ignore format: a table
const STORED: readonly { name: string; namespace: string; key: string; source: SourceName; weight: number }[] = [
  { name: "cluster-info", namespace: "kube-public", key: "kubeconfig",      source: "cluster-info in etcd", weight: 1 },
  { name: "kube-proxy",   namespace: "kube-system", key: "kubeconfig.conf", source: "kube-system in etcd",  weight: 2 },
];

/** What etcd's data says: names with their places, "host:port" each. */
export function storedPlaces(
  data: EtcdData,
  { controlPlaneEndpoint: told }: ClusterConfiguration,
  port: number,
): Witness[] {
  const stored = STORED.filter(({ source }) => may(source, "facts")).flatMap(
    ({ name, namespace, key, weight }) => {
      const map = attempt(() => configMapIn(data, `${namespace}/${name}`), undefined);
      const server = serverIn(map?.[key] ?? "");
      return server && !isLocal(serverHost(server)) ? [{ name, place: serverPlace(server), weight }] : [];
    },
  );
  return [{ name: KUBEADM, place: told ? serverPlace(endpointUrl(told, port)) : "", weight: 1 }, ...stored];
}

export const KUBEADM = "kubeadm-config";

export interface ConfigHere {
  name: string;
  server: string;
  tlsServerName?: string | undefined;
}

/** The kubeconfigs of this node; those of before the repair where it has a copy of them. */
export function kubeconfigsHere({ rescue, node }: { rescue: Rescue; node: Node }): ConfigHere[] {
  const moved = movedHere();
  return KUBECONFIGS.flatMap((row) => {
    const { name, path } = row;
    const at = name === "kubelet" ? node.kubelet.kubeconfig : path;
    const text = readable(`${rescue.dir}/before${at}`) ?? readable(at);
    const config = text
      ? attempt(() => parseKubeconfig(asMoved(text, leadsToEndpoint(row) ? moved : ofMachines(moved)), at))
      : undefined;
    if (!config || config instanceof Fail || !URL.canParse(config.server)) return [];
    return [{ name: `${name}.conf`, server: config.server, tlsServerName: config.tlsServerName }];
  });
}

/**
 * The kubeconfigs of one node are one witness; those that lead to the node itself say nothing of an endpoint.
 */
export function witnessesOf(place: EndpointPlace): Witness[] {
  const { data, cluster, facts, node } = place;
  const stored = storedPlaces(data, cluster.configuration, facts.bindPort);
  // another address of this machine may be a guest, a VIP, which leads to another node next
  const proved = cluster.nodes.find(({ name }) => name === node.name)?.places ?? [];
  const here = proved.length > 0 ? proved : node.addresses;
  const own = [...here, ...cluster.nodes.flatMap(({ places }) => places)];
  // without an endpoint kubeadm writes the address of the first control plane node
  const none = stored[0]!.place === "";
  const isOwn = (at: string) => isLocal(endpointHost(at)) || here.includes(endpointHost(at));
  const files = kubeconfigsHere(place).map(
    ({ name, server }): Witness => ({ name, place: serverPlace(server), weight: 0 }),
  );
  const far = files.filter((one) => !isOwn(one.place));
  const most = [...Map.groupBy(far, ({ place }) => place).values()].sort(
    (a, b) => b.length - a.length,
  )[0]?.[0];
  const voice = most ?? (none && files.length > 0 ? { ...files[0]!, place: "" } : undefined);
  const all = [...stored, ...(voice ? [{ ...voice, weight: 1 }] : []), ...far.filter((one) => one !== most)];
  return all.map((one) => (none && own.includes(endpointHost(one.place)) ? { ...one, place: "" } : one));
}

/**
 * Which addresses are guests on the machine that was `node`: the cluster's record names them, as an endpoint or in a
 * static pod (kube-vip), and none is an API server's or an etcd's own.
 */
export function guestsOf({
  data,
  cluster,
  node,
}: Pick<EndpointPlace, "data" | "cluster"> & { node: Pick<Node, "name"> }): (ip: string) => boolean {
  const members = data.members.flatMap(memberHosts).map(canonicalHost);
  const own = new Set([...cluster.nodes.flatMap(({ places }) => places), ...members]);
  const pods = findMirrorPods(data, node.name).map(({ pod }) => pod.spec);
  const said = JSON.stringify([cluster.configuration, storedPlaces(data, cluster.configuration, 0), pods]);
  return (ip) => !own.has(ip) && asMoved(said, new Map([[ip, "-"]])) !== said;
}

export function serverHost(server: string): string {
  return endpointHost(new URL(server).host);
}

/** "https://lb.example" → "lb.example:443". */
export function serverPlace(server: string): string {
  const { host, port } = new URL(server);
  return port ? host : `${host}:443`;
}

/** This machine, on every machine: a proxy or the API server of the node itself. */
export function isLocal(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127\.0\.0\.\d+$/.test(host);
}
