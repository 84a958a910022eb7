/**
 * The certificates of a kubeadm cluster, one row each. Assess, issue, verify and hand-over are loops over
 * this table; the lab holds it against the real kubeadm, field by field. Source: kubeadm's
 * app/phases/certs/certlist.go and app/util/pkiutil/pki_helpers.go.
 */
import { isIP } from "node:net";
import { endpointHost, firstAddress, type Names, names } from "./addresses.ts";

export const KEY_ALGORITHMS = ["RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384"] as const;

/** kubeadm's `encryptionAlgorithm` (v1beta4). */
export type KeyAlgorithm = (typeof KEY_ALGORITHMS)[number];

/**
 * The algorithm for new keys beside one of this kind ("RSA-8192", "ECDSA-P521", a company's own CA's): the next
 * larger that kubeadm makes, or its largest; undefined if it makes none of the family.
 */
export function algorithmLike(name: string): KeyAlgorithm | undefined {
  const sizeOf = (one: string) => Number(/(?<!\d)\d+$/.exec(one)?.[0]);
  const family = KEY_ALGORITHMS.filter((one) => one.split("-")[0] === name.split("-")[0]);
  return family.find((one) => sizeOf(one) >= sizeOf(name)) ?? family.at(-1);
}

/** kubeadm's default of certificatesDir. */
export const CERTIFICATES_DIR = "/etc/kubernetes/pki";

/** The tables' facts of a cluster and of a node. Nothing here has a silent default. */
export interface ClusterFacts {
  /** `nodeRegistration.name`, lower case. */
  nodeName: string;
  /** This node's API server: an IP address, and its port. */
  advertiseAddress: string;
  bindPort: number;
  /**
   * "host", "host:port" or "[v6]:port"; unset if the cluster has none. Not always that of kubeadm-config:
   * see facts/endpoint.ts.
   */
  controlPlaneEndpoint?: string | undefined;
  /** More servers in kubeconfigs of this node that are this cluster's: "https://127.0.0.1:6443". */
  servers?: readonly string[];
  /** Where lost kubeconfigs of this node led, if to this machine itself: "https://127.0.0.1:6443". */
  serverBefore?: string | undefined;
  /** Certificates that the API server shows beside kubeadm's own, in PEM: see facts/signed-elsewhere.ts. */
  shown?: string | undefined;
  /** Hosts at which known clients reach the API server. */
  clients?: readonly string[];
  /** CIDRs, IPv4 and/or IPv6; the API's own address comes from the first. */
  serviceSubnets: string[];
  dnsDomain: string;
  /**
   * `apiServer.certSANs`, `etcd.local.serverCertSANs`, `etcd.local.peerCertSANs`: addresses, names,
   * wildcards.
   */
  certSANs: string[];
  etcdServerCertSANs: string[];
  etcdPeerCertSANs: string[];
  /** "v1.34.4" */
  kubernetesVersion: string;
  clusterName: string;
  keyAlgorithm: KeyAlgorithm;
  /** Hours; kubeadm's defaults are 8760 and 87600. */
  certificateValidityHours: number;
  caValidityHours: number;
  certificatesDir: string;
  /** The JSON gateway of this node's etcd, if it is not the client port: "https://10.0.0.11:2378". */
  etcdGateway?: string | undefined;
  /** Hosts at which this machine reaches its own etcd, if that does not listen at `advertiseAddress`. */
  etcdAt?: { client: string; peer: string } | undefined;
  /** Unset: kubeadm's static pod, whose certificates are rows of the table. */
  externalEtcd?: ExternalEtcd | undefined;
  etcdCa?: EtcdCa | undefined;
  /** kubeadm's external CA mode: ca.key is stored elsewhere. */
  externalCa?: boolean;
  /** A plugin signs service-account tokens: there is no sa.key. */
  externalSigner?: boolean;
  /** No flag of the API server names sa.pub: sa.key itself checks tokens. */
  withoutSaPub?: boolean;
  /** Rows of the table that no static pod reads, by name: see facts/read-by-pods.ts. */
  unread?: readonly string[];
  /** More CAs in PEM by which the API server here knows clients, and the kubelets' ports. */
  alsoTrusted?: { clients: string; kubelets: string };
  /** The ClusterRoleBinding KUBELET_CLIENT_BINDING is in etcd's data, whatever the version says. */
  kubeletClientBound?: boolean;
  /**
   * The ClusterRoleBinding of the group ADMINS_GROUP is in etcd's data: kubeadm-config may name an older
   * release than what runs.
   */
  adminsBound?: boolean;
}

/** Paths. */
export interface EtcdClientFiles {
  ca: string;
  cert: string;
  key: string;
}

/** An etcd that kubeadm did not make: nothing of it is issued, written or restarted. Its files: those by which this kit asks it. */
export interface ExternalEtcd extends EtcdClientFiles {
  /** This node's member, or the one of another machine that has answered: "https://10.0.0.11:2379". */
  server: string;
  /** It is on other machines. PEM: the cluster's CA before this repair, as other nodes' API servers show it. */
  elsewhere?: { ca: string };
  /** The node of each member, by its id: members have names of their own. */
  nodes: Readonly<Record<string, string>>;
  /** Files that this kit can make, though kubeadm made none of them. */
  toMake?: readonly UnitFile[];
}

/** The CA of an etcd that is a unit of this node, if its key is here, or is needed: a certificate of it is lost. Paths. */
export interface EtcdCa {
  cert: string;
  key: string;
  /** The certificates of etcd itself, for clients and for peers, and the API server's client certificate. */
  pairs: readonly EtcdClientFiles[];
  /** The user as whom etcd runs, who has to read them. */
  user: string;
}

/** A certificate of an etcd that is a unit of this node, or of the API server for it; paths. */
export interface UnitFile {
  cert: string;
  /** It is lost, or of another CA than the one that this kit has put there. */
  issue?: EtcdClientFiles;
  /** It has expired, and the key of its CA is here. */
  renewal?: { ca: string; caKey: string };
  /** CA, certificate and key are lost, and copies of etcd's own will do. */
  copy?: readonly { from: string; to: string }[];
}

export interface Cert {
  /** The name of kubeadm's sub-phase: `kubeadm init phase certs NAME`. */
  name: string;
  /** Relative to the certificates folder, without `.crt` and `.key`. */
  file: string;
  /** The row above that signs it; unset: it is a root. */
  ca?: string;
  cn: string | ((facts: ClusterFacts) => string);
  /** The subject's organisation (an RBAC group) by the cluster's minor version. */
  o?: (minor: number, patch: number) => string | undefined;
  /** It may also have no group, if the cluster has a binding of its name (`kubeletClientBound`). */
  boundByName?: true;
  usages: readonly ("server" | "client")[];
  names?: (facts: ClusterFacts) => Names;
  /** The names that something depends on; the others may be missing. */
  needs?: (facts: ClusterFacts) => Names;
  /** The same on every control plane node: the hand-over carries it, with its key. */
  shared?: true;
  /** A CA that only control plane nodes trust: a new one changes nothing for anybody else. */
  internal?: true;
}

const nodeName = (facts: ClusterFacts) => facts.nodeName;

// Groups left the etcd clients and system:masters left the kubelet client in 1.29
// (kubernetes/kubernetes#119859, #120521, #121837). The kubelet client lost its group in 1.37 and in these
// patches of older minors, and is bound by name instead (#138957, #138958, #138959, #138960, #138964; the
// patch of 1.34 is that of the same month).
export const KUBELET_CLIENT_BINDING = "kubeadm:apiserver-kubelet-client";
/** The group, and its binding. */
export const ADMINS_GROUP = "kubeadm:cluster-admins";
const UNGROUPED: Record<number, number> = { 33: 12, 34: 8, 35: 5, 36: 1 };
const groupBefore29 = (minor: number) => (minor < 29 ? "system:masters" : undefined);
const isUngrouped = (minor: number, patch: number) =>
  minor >= 37 || patch >= (UNGROUPED[minor] ?? Number.POSITIVE_INFINITY);
const kubeletClientGroup = (minor: number, patch: number) =>
  groupBefore29(minor) ?? (isUngrouped(minor, patch) ? undefined : ADMINS_GROUP);

// etcd's server also dials itself, so its certificate is a client's too: github.com/etcd-io/etcd/issues/9785
// biome-ignore format: a table
const TABLE = [
  { name: "ca",                       file: "ca",                       cn: "kubernetes",                    usages: [],                   shared: true },
  { name: "apiserver",                file: "apiserver",                cn: "kube-apiserver",                usages: ["server"],           ca: "ca",      names: apiserverNames,  needs: apiserverNeeds },
  { name: "apiserver-kubelet-client", file: "apiserver-kubelet-client", cn: "kube-apiserver-kubelet-client", usages: ["client"],           ca: "ca",      o: kubeletClientGroup, boundByName: true },
  { name: "front-proxy-ca",           file: "front-proxy-ca",           cn: "front-proxy-ca",                usages: [],                   shared: true, internal: true },
  { name: "front-proxy-client",       file: "front-proxy-client",       cn: "front-proxy-client",            usages: ["client"],           ca: "front-proxy-ca" },
  { name: "etcd-ca",                  file: "etcd/ca",                  cn: "etcd-ca",                       usages: [],                   shared: true, internal: true },
  { name: "etcd-server",              file: "etcd/server",              cn: nodeName,                        usages: ["server", "client"], ca: "etcd-ca", names: etcdServerNames, needs: etcdServerNeeds },
  { name: "etcd-peer",                file: "etcd/peer",                cn: nodeName,                        usages: ["server", "client"], ca: "etcd-ca", names: etcdPeerNames,   needs: etcdPeerNeeds },
  { name: "etcd-healthcheck-client",  file: "etcd/healthcheck-client",  cn: "kube-etcd-healthcheck-client",  usages: ["client"],           ca: "etcd-ca", o: groupBefore29 },
  { name: "apiserver-etcd-client",    file: "apiserver-etcd-client",    cn: "kube-apiserver-etcd-client",    usages: ["client"],           ca: "etcd-ca", o: groupBefore29 },
] as const satisfies readonly Cert[];

type CertName = (typeof TABLE)[number]["name"];

/** Every certificate; a CA stands above those that it signs. */
export const CERTS: readonly (Cert & { name: CertName })[] = TABLE;

/** The key pair that signs service-account tokens: no certificate, the same on every control plane node. */
export const SERVICE_ACCOUNT_KEYS = { name: "sa", file: "sa", shared: true } as const;

/**
 * Without those that nothing here reads, and without the rows of etcd, as kubeadm leaves them out, where that is external;
 * its CA stays if this kit has a use for it.
 */
export function certsOf({
  externalEtcd,
  etcdCa,
  unread = [],
}: Pick<ClusterFacts, "externalEtcd" | "etcdCa" | "unread">): typeof CERTS {
  const isRow = ({ name, ca }: Cert) => ca !== "etcd-ca" && (name !== "etcd-ca" || etcdCa !== undefined);
  return CERTS.filter((row) => !unread.includes(row.name) && (!externalEtcd || isRow(row)));
}

/** Where shared keys are: all below certificatesDir, but the CA of an etcd that kubeadm did not make. */
export type PkiPlace = Pick<ClusterFacts, "certificatesDir" | "etcdCa">;

/** `file`: its name below certificatesDir, as in SHARED_FILES. */
export function sharedPath(file: string, { certificatesDir, etcdCa }: PkiPlace): string {
  const own = { "etcd/ca.crt": etcdCa?.cert, "etcd/ca.key": etcdCa?.key }[file];
  return own ?? `${certificatesDir}/${file}`;
}

/** Paths of the CA, and of a client's certificate and key, by which this node asks etcd. */
export function etcdClientFiles({
  certificatesDir,
  externalEtcd,
}: Pick<ClusterFacts, "certificatesDir" | "externalEtcd">): EtcdClientFiles {
  const pki = `${certificatesDir}/etcd`;
  const client = `${pki}/healthcheck-client`;
  return externalEtcd ?? { ca: `${pki}/ca.crt`, cert: `${client}.crt`, key: `${client}.key` };
}

/** etcd's own certificates; part 2 issues the API server's client certificate. */
export function isEtcds(row: Cert): boolean {
  return row.ca === "etcd-ca" && row.file.startsWith("etcd/");
}

/** Whether only control plane nodes trust this key, by the name of its certificate or file. */
export function isInternal(name: string): boolean {
  return CERTS.some((row) => row.internal && (row.name === name || row.file === name));
}

export function certRow(name: string): Cert {
  const row = CERTS.find((cert) => cert.name === name);
  if (!row) throw new Error(`no certificate is called ${name}`);
  return row;
}

/** `row`: or its name. */
export function certPath(row: { file: string } | string, certificatesDir: string): string {
  return `${certificatesDir}/${fileOf(row)}.crt`;
}

export function keyPath(row: { file: string } | string, certificatesDir: string): string {
  return `${certificatesDir}/${fileOf(row)}.key`;
}

function fileOf(row: { file: string } | string): string {
  return (typeof row === "string" ? certRow(row) : row).file;
}

export function subjectOf(row: Pick<Cert, "cn" | "o">, facts: ClusterFacts): { cn: string; o?: string } {
  const cn = typeof row.cn === "string" ? row.cn : row.cn(facts);
  // 4 of "v1.34.4"
  const patch = Number(/^v?1\.\d+\.(\d+)/.exec(facts.kubernetesVersion)?.[1] ?? 0);
  const o = row.o?.(minorOf(facts.kubernetesVersion), patch);
  return o ? { cn, o } : { cn };
}

/** 34 of "v1.34.4". */
export function minorOf(version: string): number {
  const minor = /^v?1\.(\d+)/.exec(version)?.[1];
  if (!minor) throw new Error(`not a Kubernetes version: ${version}`);
  return Number(minor);
}

/** kubeadm's GetAPIServerAltNames (app/util/pkiutil/pki_helpers.go). */
function apiserverNames(facts: ClusterFacts): Names {
  return names([
    facts.nodeName,
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    `kubernetes.default.svc.${facts.dnsDomain}`,
    firstAddress(facts.serviceSubnets[0] ?? ""),
    facts.advertiseAddress,
    ...(facts.controlPlaneEndpoint ? [endpointHost(facts.controlPlaneEndpoint)] : []),
    ...facts.certSANs,
    ...(facts.clients ?? []),
  ]);
}

/** Pods use the Service's address, and this node's own clients the others. */
function apiserverNeeds({ serviceSubnets, advertiseAddress, clients = [] }: ClusterFacts): Names {
  return names([firstAddress(serviceSubnets[0] ?? ""), advertiseAddress, ...clients]);
}

/** kubeadm gives the API server etcd's loopback address, and the others the members' addresses. */
function etcdServerNeeds({ advertiseAddress }: ClusterFacts): Names {
  return names([advertiseAddress, isIP(advertiseAddress) === 6 ? "::1" : "127.0.0.1"]);
}

function etcdPeerNeeds({ advertiseAddress }: ClusterFacts): Names {
  return names([advertiseAddress]);
}

function etcdServerNames(facts: ClusterFacts): Names {
  return etcdNames(facts, facts.etcdServerCertSANs);
}

function etcdPeerNames(facts: ClusterFacts): Names {
  return etcdNames(facts, facts.etcdPeerCertSANs);
}

function etcdNames({ nodeName, advertiseAddress }: ClusterFacts, more: readonly string[]): Names {
  return names([nodeName, "localhost", advertiseAddress, "127.0.0.1", "::1", ...more]);
}

/**
 * A key with its public half: a CA's certificate, or sa.pub. Names are relative to the certificates folder.
 */
export interface SharedKey {
  name: string;
  publicFile: string;
  keyFile: string;
}

export const SHARED_KEYS: readonly SharedKey[] = [
  ...CERTS.filter((row) => row.shared).map(({ file }) => ({ name: file, publicFile: `${file}.crt` })),
  { name: SERVICE_ACCOUNT_KEYS.name, publicFile: `${SERVICE_ACCOUNT_KEYS.file}.pub` },
].map((key) => ({ ...key, keyFile: `${key.name}.key` }));

/** In the order in which they are written: a key before its certificate, as kubeadm does. */
export const SHARED_FILES: readonly string[] = SHARED_KEYS.flatMap(({ keyFile, publicFile }) => [
  keyFile,
  publicFile,
]);
