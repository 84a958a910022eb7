/**
 * The cluster's CA, as etcd's data names it, and each CA that is found on this node: is it that one? And who else
 * keeps the cluster's keys, or makes nodes that trust its CA. Reads only.
 */

import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, readText } from "../files/files.ts";
import { readable } from "../files/readable.ts";
import { certificatesDirOn } from "../manifests/on-disk.ts";
import type { Node } from "../node/node.ts";
import { rescuedEtcd, versionsAside } from "../node/rescue-folder.ts";
import { readObject } from "../objects/stored.ts";
import { CLUSTER_CA_SOURCE, foreignCa } from "../pki/actions.ts";
import {
  type CertInfo,
  certInfo,
  certificatesIn,
  infoOf,
  infosIn,
  isValidNow,
  knowsCa,
  madeAt,
  signedBy,
  trustedKeys,
} from "../pki/certificate.ts";
import { CERTS, certPath, certRow, sharedPath } from "../pki/certs.ts";
import { caText, clusterCa, examine } from "../pki/examine.ts";
import type { Difference } from "../pki/judge.ts";
import { KUBECONFIGS, readKubeconfig } from "../pki/kubeconfigs.ts";
import { newSaKeySince } from "../pki/sa-keys.ts";
import { shell } from "../shell-line.ts";
import type { Cluster } from "./cluster-before.ts";
import { IN_PODS, readEvidence } from "./evidence.ts";
import type { ControlPlaneNode, PartialFacts } from "./node-facts.ts";

export interface ClusterCa {
  /** Fingerprints of the cluster's CA; several while it is exchanged, none where nothing names it. */
  hashes: string[];
  /** In words for the operator. */
  from: string;
  copies: CaCopy[];
}

interface CaCopy {
  what: string;
  /** Unset: it cannot be read. */
  hash?: string;
  is: "the cluster's" | "new in this repair" | "another CA" | "not compared" | "unreadable";
}

type KeyFacts = Pick<PartialFacts, "cluster" | "facts" | "rescue" | "certificatesDir">;

/**
 * `keyFacts`: nothing on a worker, and where etcd's data is lost. There kube-system's pods know the CA: the
 * cluster has given it to them.
 */
export function clusterCaSeen(node: Node, keyFacts?: KeyFacts): ClusterCa {
  const certificatesDir = keyFacts?.certificatesDir ?? certificatesDirOn(node);
  const stored = keyFacts?.cluster && {
    text: keyFacts.cluster.oldCaPem,
    from: `${CLUSTER_CA_SOURCE} in etcd's data`,
  };
  const { text, from } = stored ?? inPods(node, certificatesDir) ?? { text: "", from: "" };
  const hashes = [...trustedKeys(text)];
  const other = keyFacts && repairHasBegun(keyFacts) ? "new in this repair" : "another CA";
  const copies = copiesOn(node, certificatesDir).map(({ what, pem }): CaCopy => {
    const own = pem instanceof Fail ? [] : [...trustedKeys(pem)];
    const [hash] = own;
    if (!hash) return { what, is: "unreadable" };
    if (hashes.length === 0) return { what, hash, is: "not compared" };
    const same = own.find((one) => hashes.includes(one));
    return same ? { what, hash: same, is: "the cluster's" } : { what, hash, is: other };
  });
  return { hashes, from, copies };
}

function inPods(node: Node, certificatesDir: string) {
  const { texts } = readEvidence({ data: undefined, node, certificatesDir });
  return texts.find(({ ca, from }) => ca === "ca" && from === IN_PODS);
}

/** A file that is missing is no copy. */
function copiesOn({ kubelet }: Node, certificatesDir: string): { what: string; pem: string | Fail }[] {
  const files = [...new Set([certPath("ca", certificatesDir), kubelet.clientCaFile])];
  const copies = [
    ...files.map((what) => ({ what, pem: attempt(() => readText(what)) })),
    { what: kubelet.kubeconfig, pem: attempt(() => readKubeconfig(kubelet.kubeconfig)?.caPem) },
  ];
  return copies.flatMap(({ what, pem }) => (pem === undefined ? [] : [{ what, pem }]));
}

/** Part 1 has copied etcd's data here: a CA that differs from the one in it is the new one. */
function repairHasBegun({ rescue }: Pick<PartialFacts, "rescue">): boolean {
  return rescue !== undefined && exists(rescuedEtcd(rescue));
}

/** A sound CA in the place of the cluster's, not made by this repair. */
export interface StrangeCa {
  hash: string;
  /**
   * It is older than the cluster's. A younger one may be of a half attempt, or of part 1 on another
   * control plane node.
   */
  older: boolean;
}

export function strangeCa(keyFacts: KeyFacts): StrangeCa | undefined {
  const { cluster, facts, certificatesDir } = keyFacts;
  if (!cluster || examine(certRow("ca"), facts, { certificatesDir }).state !== "ok") return undefined;
  const pem = caText("ca", certificatesDir)!;
  const hash = certInfo(pem).publicKeyHash;
  if (knowsCa(cluster.oldCaPem, pem) || infosIn(cluster.oldCaPem).length === 0) return undefined;
  const older = foreignCa(pem, cluster.oldCaPem) !== undefined;
  return older || !repairHasBegun(keyFacts) ? { hash, older } : undefined;
}

/**
 * Whether the CA that signs on this node is none of those that the cluster trusted before. One that cannot be
 * read signs nothing.
 */
export function caIsNew({ facts, cluster }: Pick<ControlPlaneNode, "facts" | "cluster">): boolean {
  const now = caText("ca", facts.certificatesDir);
  return infoOf(now) !== undefined && !knowsCa(cluster.oldCaPem, now!);
}

/**
 * From when on a Lease renewal shows a kubelet that trusts the current CA. Where that is new, an API server of
 * another control plane node may have served those that trust the old one until part 1 ran there; this node's
 * API server has its certificate since after that. Where it is renewed, who trusted the old certificate has
 * lost the API at its end.
 */
export function trustedSince(
  cp: Pick<ControlPlaneNode, "facts" | "cluster">,
  { endedAt } = { endedAt: caEndedAt(cp) },
): Date {
  const { certificatesDir } = cp.facts;
  const server = caIsNew(cp) ? readText(certPath("apiserver", certificatesDir)) : undefined;
  const made = [clusterCa(certificatesDir), server].flatMap((pem) => (pem ? [madeAt(pem).getTime()] : []));
  return new Date(Math.min(Date.now(), Math.max(...made, endedAt?.getTime() ?? 0)));
}

/**
 * When the certificate of the current CA that was there before this repair has expired; undefined where it has
 * not. Who has it in memory trusts no server any more.
 */
export function caEndedAt({ facts, cluster }: Pick<ControlPlaneNode, "facts" | "cluster">): Date | undefined {
  const ca = infoOf(caText("ca", facts.certificatesDir));
  if (!ca) return undefined;
  const file = certPath("ca", facts.certificatesDir);
  // etcd's data has the renewed one soon after the API is back
  const aside = versionsAside(file).map(({ text }) => text);
  const before = infosIn([cluster.oldCaPem, ...aside].join("\n"));
  const ended = before.filter((one) => one.publicKeyHash === ca.publicKeyHash && one.notAfter < new Date());
  return ended.map(({ notAfter }) => notAfter).sort((a, b) => b.getTime() - a.getTime())[0];
}

/**
 * Since when the key of the current CA is in use, by certificates here and in etcd's data `before` the repair; 1970 where
 * one was made up to `end`. Undefined where a copy of the CA has ended: who read it when it started trusts nothing.
 */
export function caInUseSince(
  certificatesDir: string,
  before?: Pick<Cluster, "oldCaPem"> & { end: Date },
): Date | undefined {
  const ca = certInfo(clusterCa(certificatesDir));
  const ofKey = [...certificatesHere(certificatesDir), ...infosIn(before?.oldCaPem)].filter(
    ({ pem, publicKeyHash }) => publicKeyHash === ca.publicKeyHash || signedBy(pem, ca.pem),
  );
  if (ofKey.some((one) => one.isCa && !isValidNow(one))) return undefined;
  const made = Math.min(...[ca, ...ofKey].map(({ pem }) => madeAt(pem).getTime()));
  return new Date(before && made <= before.end.getTime() ? 0 : made);
}

function certificatesHere(certificatesDir: string): Readonly<CertInfo>[] {
  const configs = KUBECONFIGS.flatMap(({ path }) => attempt(() => readKubeconfig(path), undefined) ?? []);
  const inConfigs = configs.flatMap(({ caPem, clientCertPem }) => [caPem, clientCertPem]);
  const leaves = CERTS.filter((row) => row.ca === "ca");
  return [...inConfigs, ...leaves.map((row) => readable(certPath(row, certificatesDir)))].flatMap(infosIn);
}

/** To know, not to do. */
export function severalCas({
  facts,
  cluster,
}: Pick<ControlPlaneNode, "facts" | "cluster">): Difference | undefined {
  const all = certificatesIn(cluster.oldCaPem).map((pem) => infoOf(pem)?.publicKeyHash);
  const own = infoOf(caText("ca", facts.certificatesDir))?.publicKeyHash;
  const place = own === undefined ? -1 : all.indexOf(own);
  if (trustedKeys(cluster.oldCaPem).size < 2 || place < 0) return undefined;
  return {
    differs: `kube-root-ca.crt holds ${all.length} CAs, and pods trust all of them; number ${place + 1} is the one that signs`,
  };
}

/** A cluster as Cluster API's management cluster knows it. */
interface Managed {
  namespace: string;
  name: string;
}

/**
 * The annotations that Cluster API's controller gives to a Node (api/v1beta1/common_types.go); undefined where it
 * has none. A kubelet can write every annotation of its own Node: only lines for people come of them.
 */
export function managedNode(data: EtcdData | undefined, node: string): Managed | undefined {
  type Annotated = { metadata: { annotations?: Record<string, string> } };
  const object = data && attempt(() => readObject<Annotated>(data, `minions/${node}`), undefined);
  const annotated = (key: string) => object?.metadata.annotations?.[`cluster.x-k8s.io/${key}`] ?? "";
  const [name, namespace] = [annotated("cluster-name"), annotated("cluster-namespace")];
  const isName = (one: string) => /^[a-z0-9][a-z0-9.-]{0,252}$/.test(one);
  return isName(name) && isName(namespace) ? { namespace, name } : undefined;
}

/** Typed in a shell of the management cluster: writes the private keys into a folder in memory. */
export function fetchLine({ namespace, name }: Managed): string {
  const keys = shell`kubectl -n ${namespace} get secret ${name}-$k`;
  return `(umask 077; mkdir /dev/shm/keys && for k in ca sa etcd proxy; do ${keys} -o jsonpath='{.data.tls\\.key}' | base64 -d >/dev/shm/keys/$k.key; done)`;
}

interface Outside {
  managed: Managed | undefined;
  /** "sha256:…" of the CA that was replaced. */
  oldHashes: Iterable<string>;
  certificatesDir: string;
}

/** Outside of the cluster these have to learn a new CA: a sentence each. */
export function holdersOf({ managed, oldHashes, certificatesDir }: Outside): string[] {
  const templates = `launch templates, Terraform, kickstart files and join lines in a wiki may name the old CA. Search them for ${[...oldHashes].join(" and ")}, kubeadm's --discovery-token-ca-cert-hash`;
  if (!managed) return [templates];
  const { namespace, name } = managed;
  const secrets = ["ca", "etcd", "proxy", "sa"].map((purpose) => `${name}-${purpose}`).join(", ");
  const management = `Cluster API's management cluster still has the old keys, and gives them to the next machine that it makes. Replace tls.crt and tls.key of the Secrets ${secrets} in its namespace ${namespace}. Take the new ones from ca, etcd/ca, front-proxy-ca and sa in ${certificatesDir} (for sa, tls.crt is sa.pub)`;
  return [management, templates];
}

/** This repair has made shared keys, now or before. */
export function hasNewKeys(cp: ControlPlaneNode): boolean {
  const { certificatesDir } = cp.facts;
  if (caIsNew(cp) || newSaKeySince(readText(`${certificatesDir}/sa.pub`) ?? "")) return true;
  const paths = CERTS.filter((row) => row.shared).map(({ file }) => sharedPath(`${file}.crt`, cp.facts));
  return paths.flatMap((path) => readText(path) ?? []).some((pem) => madeAt(pem) >= cp.rescue.made);
}
