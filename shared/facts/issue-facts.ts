/**
 * Facts that certificates and kubeconfigs have to state on one control plane node: the cluster as it was, and this
 * node's own name and address.
 */
import { isIP } from "node:net";
import { command } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { type EtcdHome, etcdCaOf, externalEtcd } from "../etcd-location/etcd-home.ts";
import { gatewayUrl, hostOf, isHere } from "../etcd-location/reach-etcd.ts";
import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { hostPathOf, podFlags } from "../manifests/command.ts";
import { mirrorPod } from "../manifests/mirror-pods.ts";
import { manifestPath, readableManifest } from "../manifests/on-disk.ts";
import type { Node } from "../node/node.ts";
import { movedHere } from "../node/words.ts";
import type { Manifest } from "../objects/objects.ts";
import { registryPrefix } from "../objects/stored.ts";
import { addressBefore, endpointHost, endpointUrl, isLoopback } from "../pki/addresses.ts";
import { algorithmOf } from "../pki/certificate.ts";
import { ADMINS_GROUP, type ClusterFacts, certPath, KUBELET_CLIENT_BINDING } from "../pki/certs.ts";
import { isServerOf, isServersOf, shownSoon } from "../pki/served.ts";
import { need } from "./cluster.ts";
import type { Cluster, ClusterConfiguration } from "./cluster-before.ts";
import { serverPlace } from "./endpoint.ts";
import type { KnownNode } from "./known-node.ts";
import { apiEndpoint, believedPeers, type Endpoint } from "./known-nodes.ts";
import { otherCas, unreadCertRows } from "./read-by-pods.ts";
import { isExternalCa, isExternalSigner } from "./signed-elsewhere.ts";

/**
 * This machine under its name in the cluster. If the kubelet's certificate names another node, the control
 * plane node with its address counts: a worker's kubelet may write this machine's addresses into its own
 * Node.
 */
export function ownNode(node: Node, { nodes }: Pick<Cluster, "nodes">): Node {
  const isHere = (knownNode: KnownNode) => knownNode.places.some((host) => node.addresses.includes(host));
  const here = nodes.filter(isHere);
  if (here.length !== 1 || here[0]!.name === node.name) return node;
  return {
    ...node,
    name: here[0]!.name,
    nameFrom: `its address, by etcd's data; ${node.nameFrom} says ${node.name}`,
  };
}

/** Errors: Fail where this node's address is unknown. */
export function factsFor(node: Node, cluster: Cluster, data: EtcdData, home?: EtcdHome): ClusterFacts {
  const { configuration } = cluster;
  const { host, port } = apiAddress(node, cluster, data);
  const isBound = (name: string) =>
    data.get(`${registryPrefix(data)}/clusterrolebindings/${name}`) !== undefined;
  return {
    nodeName: node.name,
    advertiseAddress: host,
    bindPort: port,
    controlPlaneEndpoint: cluster.endpoint,
    serviceSubnets: cluster.serviceSubnets,
    dnsDomain: cluster.dnsDomain,
    certSANs: configuration.apiServer?.certSANs ?? [],
    etcdServerCertSANs: configuration.etcd?.local?.serverCertSANs ?? [],
    // by its old address the others reach a member until they know the new one (etcd/tell-members.ts)
    etcdPeerCertSANs: [
      configuration.etcd?.local?.peerCertSANs ?? [],
      addressBefore(host, movedHere()) ?? [],
    ].flat(),
    kubernetesVersion: cluster.kubernetesVersion,
    clusterName: cluster.name,
    keyAlgorithm: need(algorithmOf(cluster.oldCaPem), "a known key algorithm of the cluster CA"),
    certificateValidityHours: hoursIn(configuration, "certificateValidityPeriod") ?? 8760,
    caValidityHours: hoursIn(configuration, "caCertificateValidityPeriod") ?? 87600,
    certificatesDir: cluster.certificatesDir,
    ...etcdPlaces(node, data, host),
    externalEtcd: home && externalEtcd(home, node, data),
    etcdCa: home && etcdCaOf(home),
    externalCa: isExternalCa(data, cluster),
    externalSigner: isExternalSigner(data, cluster),
    ...(checksWithoutSaPub(node, data, cluster) && { withoutSaPub: true }),
    ...seenInPods(node, cluster, data),
    kubeletClientBound: isBound(KUBELET_CLIENT_BINDING),
    ...(isBound(ADMINS_GROUP) && { adminsBound: true }),
  };
}

/** This machine's address of before is none of its own any more, or NAT has it. */
export class HasMoved extends Fail {
  readonly at: Endpoint;

  constructor(message: string, options: { hint: string; at: HasMoved["at"] }) {
    super(message, options);
    this.at = options.at;
  }
}

/**
 * The API server's address on this node: from its mirror pod, or else from its member of etcd. It must be an
 * address of this machine.
 */
function apiAddress(node: Node, cluster: Cluster, data: EtcdData): Endpoint {
  const own = apiEndpoint(node.name, data);
  const peer = believedPeers(cluster, { node }).flatMap(({ name }) => apiEndpoint(name, data) ?? [])[0];
  const found =
    own ??
    (peer && {
      host: cluster.nodes.find((knownNode) => knownNode.name === node.name)?.places[0] ?? "",
      port: peer.port,
    });
  if (!found?.host) {
    throw new Fail(`Cannot find the API server's mirror pod of node "${node.name}" in etcd's data`, {
      hint: 'copy its manifest from another control plane node: RUNBOOK-MORE "If a mirror pod is gone"',
    });
  }
  if (!node.addresses.includes(found.host)) {
    throw new HasMoved(
      `The API server of "${node.name}" was at "${found.host}", but this machine has ${node.addresses.join(", ")}`,
      {
        hint:
          'wait until ip addr shows the address, then run the same line again. If this machine has moved: ./bunw scripts/move.ts, RUNBOOK-MORE "Machines that moved". ' +
          `If NAT leads it here: ${command("01-etcd", { endpoint: serverPlace(endpointUrl(found.host, found.port)) })}. If it is another machine, run this on the node itself`,
        at: found,
      },
    );
  }
  const card = node.nat === found.host ? memberOnCard(node, data) : undefined;
  return card ? { ...found, host: card } : found;
}

/**
 * The host of this node's etcd, where others know it by a card of this machine: then all but --advertise-address has that
 * address, and NAT's is only for clients.
 */
function memberOnCard(node: Node, data: EtcdData): string | undefined {
  const own = data.members.find(({ id }) => id === data.memberId);
  const hosts = [...(own?.peerURLs ?? []), ...(own?.clientURLs ?? [])].map(hostOf);
  return hosts.find((host) => host !== node.nat && node.addresses.includes(host));
}

/** Unset where kubeadm's defaults hold. */
function seenInPods(node: Node, cluster: Cluster, data: EtcdData): Partial<ClusterFacts> {
  const unread = unreadCertRows(data, cluster, node);
  const [clients, kubelets] = (["clients", "kubelets"] as const).map((of) =>
    otherCas(node, of, { data, oldCaPem: cluster.oldCaPem }),
  ) as [string, string];
  return {
    ...(unread.length > 0 && { unread }),
    ...(clients + kubelets !== "" && { alsoTrusted: { clients, kubelets } }),
  };
}

/** Part 2 puts the manifest back as it is here, or as the mirror pod has it. */
function checksWithoutSaPub(node: Node, data: EtcdData, { certificatesDir }: Cluster): boolean {
  const mirror = mirrorPod(data, node.name, "kube-apiserver");
  const pods = [readableManifest(manifestPath({ node }, "kube-apiserver")), mirror].filter(
    (pod) => pod !== undefined,
  );
  const files = pods.map((pod) =>
    podFlags(pod)
      .all("service-account-key-file")
      .map((inside) => hostPathOf(pod, inside)),
  );
  const isWithout = (paths: (string | undefined)[]) =>
    paths.length > 0 && !paths.includes(`${certificatesDir}/sa.pub`);
  return files.length > 0 && files.every(isWithout);
}

/** Its manifest on disk says it, else its mirror pod; a foreign one cannot listen at this machine's addresses. */
function etcdPlaces(
  node: Node,
  data: EtcdData,
  address: string,
): Pick<ClusterFacts, "etcdGateway" | "etcdAt"> {
  const fits = (host: string) => isLoopback(host) || [...ANY, ...node.addresses].includes(host);
  const pods = [readableManifest(manifestPath({ node }, "etcd")), etcdMirror(node, data)];
  const pod = pods.find((one) => one && listening(one, ...LISTEN).every(fits));
  if (!pod) return {};
  const at = (flag: (typeof LISTEN)[number]) => {
    const hosts = listening(pod, flag);
    const isAny = hosts.some((host) => ANY.includes(host));
    if (hosts.length === 0 || hosts.includes(address) || (isAny && node.nat !== address)) return address;
    return hosts.find(isLoopback) ?? (isAny ? (isIP(address) === 6 ? "::1" : "127.0.0.1") : hosts[0]!);
  };
  const [client, peer] = [at(LISTEN[0]), at(LISTEN[1])];
  const isElsewhere = client !== address || peer !== address;
  return { etcdGateway: gatewayUrl(pod, address), ...(isElsewhere && { etcdAt: { client, peer } }) };
}

type EtcdPod = Pick<Manifest, "spec">;

const LISTEN = ["listen-client-urls", "listen-peer-urls"] as const;
const ANY = ["0.0.0.0", "::", ""];

function etcdMirror(node: Pick<Node, "name">, data: EtcdData): EtcdPod | undefined {
  return mirrorPod(data, node.name, "etcd");
}

function listening(pod: EtcdPod, ...names: string[]): string[] {
  const words = podFlags(pod);
  return names.flatMap((name) => words.get(name)?.split(",").map(hostOf) ?? []);
}

/**
 * Whether NAT leads an address here that is at no card of this machine, and the machine has not moved. etcd tells:
 * its member is known at that address, and it listens elsewhere, at another address of this machine. Where it only
 * listens at loopback, or everywhere, a certificate of the cluster's CA must be for the address as well: the one that
 * the API server here shows, or the one on disk. What answers there with the very certificate that is shown here
 * proves it alone; and so does the operator's word (`given`, --endpoint).
 */
export async function natLeadsHere(
  { host, port }: HasMoved["at"],
  { node, data, cluster }: { node: Node; data: EtcdData; cluster: Cluster },
  given?: string,
): Promise<boolean> {
  if (given !== undefined && endpointHost(given) === host) return true;
  const mirror = etcdMirror(node, data);
  const own = data.members.find(({ id }) => id === data.memberId);
  const listens = mirror && own && isHere(own, [host]) ? listening(mirror, ...LISTEN) : [];
  const onCard = listens.filter((one) => node.addresses.includes(one));
  const isOwn = (one: string) => onCard.includes(one) || ANY.includes(one) || isLoopback(one);
  if (listens.includes(host) || !listens.every(isOwn)) return false;
  if (onCard.length > 0) return true;
  const isForIt = (pem: string | undefined) => pem !== undefined && isServerOf(pem, host, cluster.oldCaPem);
  const [here, there] = await Promise.all([node.addresses[0] ?? "", host].map((one) => shownSoon(one, port)));
  // whatever names it has: each API server has a key of its own
  if (here !== undefined && here === there && isServersOf(here, cluster.oldCaPem)) return true;
  const onDisk = readText(certPath("apiserver", cluster.certificatesDir));
  return listens.length > 0 && (isForIt(here) || isForIt(onDisk));
}

function hoursIn(
  configuration: ClusterConfiguration,
  field: "certificateValidityPeriod" | "caCertificateValidityPeriod",
) {
  const duration = configuration[field];
  return duration ? hoursOf(duration, field) : undefined;
}

/* Durations as Kubernetes' configurations have them: Go's time.ParseDuration (time/format.go). */

const UNITS: Record<string, number> = {
  h: 1,
  m: 1 / 60,
  s: 1 / 3600,
  ms: 1 / 3_600_000,
  us: 1 / 3_600_000_000,
  "\u00b5s": 1 / 3_600_000_000,
  "\u03bcs": 1 / 3_600_000_000,
  ns: 1 / 3_600_000_000_000,
};

const PART = /(\d+(?:\.\d*)?|\.\d+)(h|ms|us|\u00b5s|\u03bcs|ns|m|s)/gy;

/**
 * Hours of `8760h0m0s`, `90m`, `1.5h`, `-1h`; a bare `0` is 0. Errors: Fail where Go would not take it, with
 * `field`.
 */
export function hoursOf(duration: string, field: string): number {
  const [, sign = "", text = ""] = /^([+-]?)(.*)$/s.exec(duration)!;
  const parts = [...text.matchAll(PART)];
  const isWhole = parts.length > 0 && parts.map(([part]) => part).join("") === text;
  if (text !== "0" && !isWhole)
    throw new Fail(`Cannot read the duration "${duration}" in ${field}`, {
      hint: `correct the duration, for example to 8760h0m0s. The ConfigMap kubeadm-config of kube-system has it: ./bunw scripts/00-assess.ts --json`,
    });
  const hours = parts.reduce((sum, [, number, unit]) => sum + Number(number) * UNITS[unit!]!, 0);
  return sign === "-" ? -hours : hours;
}
