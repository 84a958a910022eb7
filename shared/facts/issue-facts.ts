/**
 * What certificates and kubeconfigs need to say on one control plane node: the cluster as it was, and this
 * node's own name and address.
 */

import type { EtcdData } from "../etcd-data/data.ts";
import { gatewayUrl } from "../etcd-location/reach-etcd.ts";
import { Fail } from "../fail.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { manifestPath, readableManifest } from "../manifests/on-disk.ts";
import type { Node } from "../node/node.ts";
import { movedHere } from "../node/rescue-folder.ts";
import { registryPrefix } from "../objects/stored.ts";
import { addressBefore } from "../pki/addresses.ts";
import { algorithmOf } from "../pki/certificate.ts";
import { type ClusterFacts, KUBELET_CLIENT_BINDING } from "../pki/certs.ts";
import { type Cluster, need } from "./cluster.ts";
import type { ClusterConfiguration } from "./cluster-configuration.ts";
import { apiEndpoint, type KnownNode } from "./known-nodes.ts";
import { believedPeers } from "./next.ts";
import { isExternalCa, isExternalSigner } from "./signed-elsewhere.ts";

/**
 * This machine under its name in the cluster. If the kubelet's certificate names another node, the control
 * plane node with its address counts: a worker's kubelet may write this machine's addresses into its own
 * Node.
 */
export function ownNode(node: Node, { nodes }: Pick<Cluster, "nodes">): Node {
  const isHere = (known: KnownNode) => known.places.some((host) => node.addresses.includes(host));
  const here = nodes.filter(isHere);
  if (here.length !== 1 || here[0]!.name === node.name) return node;
  return {
    ...node,
    name: here[0]!.name,
    nameFrom: `its address, by etcd's data; ${node.nameFrom} says ${node.name}`,
  };
}

/**
 * What the tables of certificates and kubeconfigs need to know for one control plane node. Errors: Fail where
 * its address is unknown.
 */
export function factsFor(node: Node, cluster: Cluster, data: EtcdData): ClusterFacts {
  const { configuration } = cluster;
  const { host, port } = apiAddress(node, cluster, data);
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
      ...(configuration.etcd?.local?.peerCertSANs ?? []),
      addressBefore(host, movedHere()) ?? [],
    ].flat(),
    kubernetesVersion: cluster.kubernetesVersion,
    clusterName: cluster.name,
    keyAlgorithm: need(algorithmOf(cluster.oldCaPem), "a known key algorithm of the cluster CA"),
    certificateValidityHours: validity(configuration, "certificateValidityPeriod") ?? 8760,
    caValidityHours: validity(configuration, "caCertificateValidityPeriod") ?? 87600,
    certificatesDir: cluster.certificatesDir,
    etcdGateway: etcdGateway(node, data, host),
    externalCa: isExternalCa(data, cluster),
    externalSigner: isExternalSigner(data, cluster),
    kubeletClientBound:
      data.get(`${registryPrefix(data)}/clusterrolebindings/${KUBELET_CLIENT_BINDING}`) !== undefined,
  };
}

/** This machine's address of before is none of its own any more. */
export class HasMoved extends Fail {}

/**
 * The API server's address on this node: from its mirror pod, or else from its member of etcd. It must be an
 * address of this machine.
 */
function apiAddress(node: Node, cluster: Cluster, data: EtcdData): { host: string; port: number } {
  const own = apiEndpoint(node.name, data);
  const peer = believedPeers(cluster, { node }).flatMap(({ name }) => apiEndpoint(name, data) ?? [])[0];
  const found =
    own ??
    (peer && {
      host: cluster.nodes.find((known) => known.name === node.name)?.places[0] ?? "",
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
        hint: 'is the address only away for now? When ip addr shows it: this again. Has it moved? ./bunw scripts/move.ts: RUNBOOK-MORE "Machines that moved". Is it another machine? Run this on the node itself',
      },
    );
  }
  return found;
}

/** By etcd's manifest on disk, or its mirror pod. */
function etcdGateway(node: Node, data: EtcdData, address: string): string | undefined {
  const pod =
    readableManifest(manifestPath({ node }, "etcd")) ??
    findMirrorPods(data, node.name).find(({ name }) => name === "etcd")?.pod;
  return pod && gatewayUrl(pod, address);
}

function validity(
  configuration: ClusterConfiguration,
  field: "certificateValidityPeriod" | "caCertificateValidityPeriod",
) {
  const duration = configuration[field];
  return duration ? hoursOf(duration, field) : undefined;
}

/* Durations as Kubernetes' configurations have them: Go's time.ParseDuration (time/format.go). */

/** Hours. */
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
      hint: `such as 8760h0m0s; it is in the ConfigMap kubeadm-config of kube-system: ./bunw scripts/00-assess.ts --json`,
    });
  const hours = parts.reduce((sum, [, number, unit]) => sum + Number(number) * UNITS[unit!]!, 0);
  return sign === "-" ? -hours : hours;
}
