/**
 * Credentials on a node: the kubelet's own, which are kubelet.conf, the client certificate that it rotates, and its
 * serving certificate; and the kubeconfigs of the network plugin.
 *
 * The trap: /var/lib/kubelet/pki/kubelet-client-current.pem is outside of /etc/kubernetes and survives. As
 * long as it has not expired, the kubelet prefers it to every kubelet.conf, whichever CA signed it
 * (client-go's certificate_manager.go; kubeadm issue 2015). So it is moved aside when the CA is new.
 *
 * The runtime starts the plugin's program (CNI) for each pod's network. Many of them ask the API, with a kubeconfig that
 * the plugin's agent wrote when it started, with the CA of then. With another CA no pod gets a network here, so none
 * starts, and none ends.
 */
import { dirname } from "node:path";
import { attempt, Fail } from "../fail.ts";
import { moveToRescue } from "../files/file-tree.ts";
import { exists, list, readText } from "../files/files.ts";
import { smallText } from "../files/untrusted-file.ts";
import { hostAndPort } from "../pki/addresses.ts";
import {
  certInfo,
  certificatesIn,
  day,
  infoOf,
  isValidNow,
  keyMatches,
  orUndefined,
  signedBy,
  trustedKeys,
  trustedText,
} from "../pki/certificate.ts";
import { readKubeconfig, withTrust } from "../pki/kubeconfigs.ts";
import { isServerOf, servedPem } from "../pki/served.ts";
import { say } from "../run.ts";
import { readYaml } from "../yaml.ts";
import type { Node } from "./node.ts";

/** In a word; the text has the key, too. */
export function stateOfPem(
  read: () => string | undefined,
  ca: string | undefined,
  nodeName?: string,
): string | undefined {
  const pem = attempt(read);
  if (!pem) return "missing";
  const info = pem instanceof Fail ? pem : attempt(() => certInfo(pem));
  if (info instanceof Fail || pem instanceof Fail) return "unreadable";
  if (attempt(() => keyMatches(pem, pem)) !== true) return "unreadable";
  if (ca === undefined || attempt(() => signedBy(pem, ca)) !== true) return "other CA";
  if (nodeName !== undefined && info.cn !== `system:node:${nodeName}`) return "other node";
  if (isValidNow(info)) return undefined;
  return info.notAfter < new Date() ? "expired" : "not yet valid";
}

export function trusted(path: string, caPem: string): boolean {
  return trustedText(readText(path) ?? "", caPem);
}

/** The kubelet requests a new one when it starts, and part 3 approves its CSR. */
export function dropForeignServing(node: Node, cas: string, asideDir: string): boolean {
  const { serverTlsBootstrap, serverPem } = node.kubelet;
  if (!serverTlsBootstrap || !exists(serverPem) || trusted(serverPem, cas)) return false;
  moveAllToRescue(dirname(serverPem), "kubelet-server-", asideDir);
  return true;
}

/**
 * kubelet.conf with the certificate that the kubelet rotates as its user's; undefined where that is not valid, or not
 * of the CA in it.
 */
export function withRotated(kubelet: Pick<Node["kubelet"], "kubeconfig" | "clientPem">): string | undefined {
  const { kubeconfig, clientPem } = kubelet;
  const ca = attempt(() => readKubeconfig(kubeconfig), undefined)?.caPem;
  const isSound = ca && attempt(() => trustedText(readText(clientPem) ?? "", ca), false);
  return isSound ? withTrust(readText(kubeconfig)!, { ca, clientPem }) : undefined;
}

export function dropClientPems(node: Node, asideDir: string) {
  moveAllToRescue(dirname(node.kubelet.clientPem), "kubelet-client-", asideDir);
}

/**
 * The content of the kubelet's clientCAFile with a new cluster CA: the one before goes, other CAs of a bundle
 * stay (a monitoring's, say). The one before is in kubelet.conf, or has signed the kubelet's certificate;
 * where nothing names it, only a lone one is known to be it.
 */
export function withOtherCas({ kubelet }: Node, caPem: string): string {
  const bundle = certificatesIn(attempt(() => readText(kubelet.clientCaFile) ?? "", ""));
  const conf = certificatesIn(attempt(() => readKubeconfig(kubelet.kubeconfig)?.caPem ?? "", ""));
  const client = attempt(() => readText(kubelet.clientPem) ?? "", "");
  const isBefore = (pem: string) =>
    conf.some((one) => one.trim() === pem.trim()) || attempt(() => signedBy(client, pem), false);
  const today = trustedKeys(caPem);
  const isToday = (pem: string) => !trustedKeys(pem).isDisjointFrom(today);
  const others = bundle.length < 2 ? [] : bundle.filter((pem) => !isToday(pem) && !isBefore(pem));
  for (const pem of others) {
    const subject = attempt(() => certInfo(pem).subject, "of no name");
    say(`unchanged in ${kubelet.clientCaFile}: another CA, ${subject}`);
  }
  return [caPem, ...others.map((pem) => `${pem.trim()}\n`)].join("");
}

function moveAllToRescue(folder: string, prefix: string, asideDir: string) {
  const paths = list(folder).flatMap((name) => (name.startsWith(prefix) ? [`${folder}/${name}`] : []));
  // all are judged first: a link's file goes, too
  const judged = paths.map((path) => [path, expiredWhy(path)] as const);
  for (const [path, why] of judged) moveToRescue(path, asideDir, why);
}

function expiredWhy(path: string): string | undefined {
  const info = attempt(() => certInfo(readText(path) ?? ""), undefined);
  return info && info.notAfter < new Date() ? `expired: it was valid until ${day(info.notAfter)}` : undefined;
}

/** Where containerd and CRI-O look, unless their own configuration says otherwise. */
const CNI_DIR = "/etc/cni/net.d";

interface CniCluster {
  server?: string;
  "certificate-authority"?: string;
  "certificate-authority-data"?: string;
  "insecure-skip-tls-verify"?: boolean;
}

/**
 * Kubeconfigs that the plugin in use reads: those that the first sound configuration names, as the runtimes
 * choose it (libcni's ConfFiles: by name). What an earlier plugin has left is none of them.
 */
export function cniKubeconfigs(): string[] {
  for (const name of list(CNI_DIR).filter((one) => /\.(conf|conflist|json)$/.test(one))) {
    const conf: { type?: string; plugins?: unknown[] } | undefined = orUndefined(() =>
      JSON.parse(smallText(`${CNI_DIR}/${name}`) ?? ""),
    );
    if (conf?.type || conf?.plugins?.length) return [...new Set(kubeconfigsIn(conf))];
  }
  return [];
}

/** Calico's and others' "kubernetes": {"kubeconfig": …}, multus' own, and those of the plugins that it calls. */
function kubeconfigsIn(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === "kubeconfig" && typeof inner === "string" && inner.startsWith("/")
      ? [inner]
      : kubeconfigsIn(inner),
  );
}

/**
 * Whether what answers at the kubeconfig's server is verified by the current CA, and not by the kubeconfig's.
 * Where nothing answers, a CA of the same name with another key says it. A set that holds the current CA, a proxy
 * with a CA of its own, and what verifies nothing are well.
 */
export async function trustsOldCa(path: string, caPem: string): Promise<boolean> {
  const cluster = clusterIn(path);
  const pem = cluster && caOf(cluster);
  if (!pem || !URL.canParse(cluster.server ?? "") || cluster["insecure-skip-tls-verify"]) return false;
  const [own, today] = [trustedKeys(pem), trustedKeys(caPem)];
  if (own.size === 0 || today.size === 0 || !own.isDisjointFrom(today)) return false;
  const { host, port } = hostAndPort(cluster.server!);
  const [served] = await Promise.allSettled([servedPem(host, port)]);
  if (served.status === "rejected") return !namesIn(pem).isDisjointFrom(namesIn(caPem));
  return isServerOf(served.value, host, caPem) && !isServerOf(served.value, host, pem);
}

function clusterIn(path: string): CniCluster | undefined {
  type Config = { clusters?: { cluster?: CniCluster }[] } | undefined;
  const config = orUndefined(() => readYaml(smallText(path) ?? "")) as Config;
  return config?.clusters?.[0]?.cluster;
}

function caOf(cluster: CniCluster): string | undefined {
  const { "certificate-authority": file, "certificate-authority-data": data } = cluster;
  return data ? Buffer.from(data, "base64").toString() : file && orUndefined(() => smallText(file));
}

function namesIn(pem: string): Set<string> {
  return new Set(certificatesIn(pem).flatMap((one) => infoOf(one)?.subject ?? []));
}
