/**
 * Files of kubeadm's that the static pods of the control plane nodes read. A cluster may live without a certificate of the
 * table: without the aggregation layer no flag names front-proxy-ca and front-proxy-client, nothing here makes them, and
 * nobody misses them. A client certificate is sound if the API server's own file of clients' CAs trusts it, whichever CA
 * has signed it: kubelets may have one of their own (--cluster-signing-kubelet-client-cert-file). Reads only.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt } from "../fail.ts";
import { smallText } from "../files/untrusted-file.ts";
import { hostPathOf, podFlags } from "../manifests/command.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { manifestPath, podsOnDisk, readableManifest } from "../manifests/on-disk.ts";
import type { Node } from "../node/node.ts";
import type { Manifest, PodSpec } from "../objects/objects.ts";
import { certificatesIn, infoOf, isValidNow, trustedKeys } from "../pki/certificate.ts";
import { certRow } from "../pki/certs.ts";
import type { Cluster } from "./cluster-before.ts";
import type { KnownNode } from "./known-node.ts";
import { controlPlaneNames } from "./known-nodes.ts";

type Pod = { spec: PodSpec };

interface ClusterNodes {
  nodes: readonly Pick<KnownNode, "name" | "controlPlane">[];
}

/** Rows that only flags of these programs name. A CA is read as well where what it signs is. */
const OPTIONAL = ["front-proxy-client", "front-proxy-ca", "apiserver-kubelet-client"];
const READERS = ["kube-apiserver", "kube-controller-manager"];

/**
 * Names of rows that no static pod of a control plane node reads, by the mirror pods in etcd's data and the manifests of
 * this node. None where the programs' own pods are known by neither: kubeadm's defaults count then.
 */
export function unreadCertRows(
  data: EtcdData | undefined,
  cluster: ClusterNodes | undefined,
  node?: Node,
): readonly string[] {
  const names = cluster ? controlPlaneNames(cluster.nodes) : [];
  const mirrors = data ? attempt(() => names.flatMap((name) => findMirrorPods(data, name)), []) : [];
  const onDisk = node ? attempt(() => [...podsOnDisk({ node }).values()], []) : [];
  const pods: { name: string; pod: Pod }[] = [
    ...mirrors,
    ...onDisk.map((pod) => ({ name: pod.metadata.name, pod })),
  ];
  if (!READERS.every((reader) => pods.some(({ name }) => name === reader))) return [];
  const words = pods.flatMap(({ pod }) => wordsOf(pod));
  const isNamed = (row: string) => words.some((word) => word.includes(`/${certRow(row).file}.`));
  const isRead = (row: string) =>
    isNamed(row) || OPTIONAL.some((leaf) => certRow(leaf).ca === row && isNamed(leaf));
  return OPTIONAL.filter((row) => !isRead(row));
}

function wordsOf({ spec }: Pod): string[] {
  const { containers, initContainers = [], volumes = [] } = spec;
  return [
    ...[...initContainers, ...containers].flatMap(({ command = [], args = [], env = [] }) => [
      ...[...command, ...args],
      ...env.flatMap(({ value }) => value ?? []),
    ]),
    ...volumes.flatMap(({ hostPath }) => hostPath?.path ?? []),
  ];
}

const FILES_OF_CAS = { clients: "client-ca-file", kubelets: "kubelet-certificate-authority" } as const;

type Trusted = keyof typeof FILES_OF_CAS;

/**
 * The CAs in PEM, valid now, by which this node's API server knows clients, or the kubelets' ports: its manifest names
 * the file, or else its mirror pod. "" where neither does.
 */
export function casOfApiServer(node: Node, of: Trusted, data?: EtcdData): string {
  const own: Manifest | Pod | undefined =
    readableManifest(manifestPath({ node }, "kube-apiserver")) ??
    (data && attempt(() => mirrorOf(data, node.name), undefined));
  const inside = own && podFlags(own).get(FILES_OF_CAS[of]);
  const path = inside && hostPathOf(own, inside);
  const text = path ? attempt(() => smallText(path), undefined) : undefined;
  return certificatesIn(text ?? "")
    .filter(isSoundNow)
    .join("");
}

function isSoundNow(pem: string): boolean {
  const info = infoOf(pem);
  return info !== undefined && isValidNow(info);
}

function mirrorOf(data: EtcdData, name: string): Pod | undefined {
  return findMirrorPods(data, name).find((one) => one.name === "kube-apiserver")?.pod;
}

/** The same without the cluster's own of before: a repair has replaced it, and part 2 takes it out of these files. */
export function otherCas(
  node: Node,
  of: Trusted,
  { data, oldCaPem }: { data: EtcdData } & Pick<Cluster, "oldCaPem">,
): string {
  const before = trustedKeys(oldCaPem);
  return certificatesIn(casOfApiServer(node, of, data))
    .filter((pem) => trustedKeys(pem).isDisjointFrom(before))
    .join("");
}
