/**
 * The cluster's public keys, as far as they are still known: certificates in etcd's data and on this node's disk, and
 * the tokens that pods hold. Each place is a row with its source (evidence/sources.ts): a place that a tenant
 * can write to is not even read. A place that cannot be read is reported, and the others are read.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { believedNames } from "../etcd-data/members.ts";
import { kubeSystemUids, ofPodFolder } from "../evidence/owners.ts";
import { may, ofNamespace, type SourceName } from "../evidence/sources.ts";
import { attempt, Fail } from "../fail.ts";
import { list, readText } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { hostPathOf, podFlags } from "../manifests/command.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { PODS_DIR } from "../node/kubelet-config.ts";
import type { Node } from "../node/node.ts";
import type { Secret } from "../objects/objects.ts";
import { AGGREGATED_TRUST, configMapIn, readObjects } from "../objects/stored.ts";
import { type CaText, CLUSTER_CA_SOURCE, type Evidence, KUBELETS_CA } from "../pki/actions.ts";
import { certificatesIn } from "../pki/certificate.ts";
import { type EtcdCa, sharedPath } from "../pki/certs.ts";
import type { Jwt } from "../pki/jwt.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import { readJwt } from "../pki/sa-keys.ts";

/** Only its signature proves which key signed it. */
export interface KnownToken extends Jwt {
  from: string;
}

export interface ClusterEvidence extends Evidence {
  texts: CaText[];
  tokens: KnownToken[];
  /** A sentence each. */
  unread: string[];
}

/** Without etcd's data only this node's disk is read. */
interface Places {
  data: EtcdData | undefined;
  node: Node | undefined;
  certificatesDir: string;
  etcdCa?: EtcdCa | undefined;
}

interface Asked extends Places {
  /** Looked up once. */
  volumes: () => readonly string[];
}

interface Row {
  /** Whether what is read is the content of the CA's own file. */
  whole?: (asked: Asked) => boolean;
  ca: CaText["ca"];
  from: string;
  source: SourceName;
  read: (asked: Asked) => string | undefined;
}

/** They have mounted what the cluster uses now. */
export const IN_PODS = "kube-system's pods on this node";

const IN_SECRETS = "kube-system's token Secrets";

/** Bytes. No token, and no bundle of CAs for pods, is as long as this. */
const LARGEST = 64 * 1024;

const KUBE_SYSTEM = ofNamespace("kube-system");

// biome-ignore format: a table; what the cluster itself uses comes first
const ROWS: readonly Row[] = [
  { ca: "ca",             from: CLUSTER_CA_SOURCE,                        source: KUBE_SYSTEM,            read: ({ data }) => configMap(data, "kube-system/kube-root-ca.crt", "ca.crt"), whole: isCaFile },
  { ca: "ca",             from: "extension-apiserver-authentication", source: KUBE_SYSTEM,            read: ({ data }) => configMap(data, AGGREGATED_TRUST, "client-ca-file") },
  { ca: "ca",             from: IN_PODS,                              source: "a pod of kube-system", read: (asked) => projected("ca.crt", asked).join("\n") },
  { ca: "ca",             from: IN_SECRETS,                           source: KUBE_SYSTEM,            read: ({ data }) => tokenSecrets(data).map((secret) => inSecret(secret, "ca.crt")).join("\n") },
  { ca: "ca",             from: "kubelet.conf",                       source: "this node",            read: ({ node }) => node && readKubeconfig(node.kubelet.kubeconfig)?.caPem },
  { ca: "ca",             from: KUBELETS_CA,                          source: "this node",            read: ({ node }) => node && readText(node.kubelet.clientCaFile) },
  { ca: "ca",             from: "pki/ca.crt",                         source: "this node",            read: ({ certificatesDir }) => readText(`${certificatesDir}/ca.crt`) },
  { ca: "front-proxy-ca", from: "extension-apiserver-authentication", source: KUBE_SYSTEM,            read: ({ data }) => configMap(data, AGGREGATED_TRUST, "requestheader-client-ca-file") },
  { ca: "front-proxy-ca", from: "pki/front-proxy-ca.crt",             source: "this node",            read: ({ certificatesDir }) => readText(`${certificatesDir}/front-proxy-ca.crt`) },
  { ca: "etcd-ca",        from: "pki/etcd/ca.crt",                    source: "this node",            read: (asked) => readText(sharedPath("etcd/ca.crt", asked)) },
  { ca: "etcd-ca",        from: "this machine's trust store",         source: "this node",            read: ({ etcdCa }) => etcdCa && TRUST_STORES.flatMap((path) => readText(path) ?? []).join("\n") },
];

/** kubespray puts etcd's CA there: on Debian, RedHat, Flatcar (roles/etcd/tasks/upd_ca_trust.yml). */
export const TRUST_STORES = [
  "/usr/local/share/ca-certificates/etcd-ca.crt",
  "/etc/pki/ca-trust/source/anchors/etcd-ca.crt",
  "/etc/ssl/certs/etcd-ca.pem",
];

// biome-ignore format: a table
const TOKEN_ROWS: readonly { from: string; source: SourceName; read: (asked: Asked) => string[] }[] = [
  { from: IN_PODS,    source: "a pod of kube-system", read: (asked) => projected("token", asked) },
  { from: IN_SECRETS, source: KUBE_SYSTEM,            read: ({ data }) => tokenSecrets(data).map((secret) => inSecret(secret, "token")) },
];

export function readEvidence(places: Places): ClusterEvidence {
  const evidence: ClusterEvidence = { texts: [], tokens: [], unread: [] };
  let volumes: readonly string[] | undefined;
  const asked: Asked = { ...places, volumes: () => (volumes ??= ownVolumes(places)) };
  const read = <T>(from: string, action: () => T): T | undefined => {
    const value = attempt(action);
    if (!(value instanceof Fail)) return value;
    evidence.unread.push(`${from}: ${value.message}`);
    return undefined;
  };
  for (const { ca, from, source, read: text, whole } of ROWS) {
    const found = may(source, "keys") ? read(from, () => text(asked)) : undefined;
    const isWhole = found && whole ? read(from, () => whole(asked)) : undefined;
    if (found && certificatesIn(found).length > 0)
      evidence.texts.push({ ca, from, text: found, ...(isWhole && { whole: true }) });
  }
  for (const { from, source, read: texts } of TOKEN_ROWS) {
    const found = may(source, "keys") ? (read(from, () => texts(asked)) ?? []) : [];
    for (const jwt of found.flatMap((text) => readJwt(text) ?? [])) evidence.tokens.push({ ...jwt, from });
  }
  return evidence;
}

/**
 * Whether kube-root-ca.crt is the content of pki/ca.crt: the controller-managers publish what --root-ca-file
 * names. One that signs with the file as well starts with one certificate in it only (kubernetes.io, "Manual
 * Rotation of CA Certificates"; ca_provider.go): then ca.crt held one, whatever another controller-manager
 * has published.
 */
function isCaFile({ data, certificatesDir }: Asked): boolean {
  const managers = data ? believedNames(data).flatMap((name) => findMirrorPods(data, name)) : [];
  const commands = managers
    .filter(({ name }) => name === "kube-controller-manager")
    .map(({ pod }) => ({ pod, of: podFlags(pod) }));
  const names = ({ pod, of }: (typeof commands)[number], flag: string) =>
    hostPathOf(pod, of.get(flag) ?? "") === `${certificatesDir}/ca.crt`;
  return (
    commands.length > 0 &&
    commands.every((one) => names(one, "root-ca-file") && !names(one, "cluster-signing-cert-file"))
  );
}

function configMap(data: EtcdData | undefined, name: string, key: string): string | undefined {
  return data && configMapIn(data, name)?.[key];
}

function tokenSecrets(data: EtcdData | undefined): Secret[] {
  const secrets = data && readObjects<Secret>(data, "secrets/kube-system/");
  return secrets?.filter(({ type }) => type === "kubernetes.io/service-account-token").toArray() ?? [];
}

function inSecret({ data }: Secret, key: string): string {
  return Buffer.from(data?.[key] ?? "", "base64").toString();
}

/** Each content once. */
function projected(name: string, { volumes }: Asked): string[] {
  return [...new Set(volumes().flatMap((volume) => smallText(`${volume}/${name}`, LARGEST) ?? []))];
}

function ownVolumes({ data, node }: Places): string[] {
  const pods = node?.kubelet.podsDir ?? PODS_DIR;
  const uids = kubeSystemUids(data);
  const own = list(pods).filter((uid) => may(ofPodFolder(uid, uids), "keys"));
  return own.flatMap((uid) => {
    const folder = `${pods}/${uid}/volumes/kubernetes.io~projected`;
    return list(folder).map((volume) => `${folder}/${volume}`);
  });
}
