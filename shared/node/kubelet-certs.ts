/**
 * The kubelet's own credentials: kubelet.conf, the client certificate that it rotates, and its serving
 * certificate.
 *
 * The trap: /var/lib/kubelet/pki/kubelet-client-current.pem is outside of /etc/kubernetes and survives. As
 * long as it has not expired, the kubelet prefers it to every kubelet.conf, whichever CA signed it
 * (client-go's certificate_manager.go; kubeadm issue 2015). So it is moved aside when the CA is new.
 */

import { dirname } from "node:path";
import { attempt, Fail } from "../fail.ts";
import { moveToRescue } from "../files/file-tree.ts";
import { exists, list, readText } from "../files/files.ts";
import { certInfo, certificatesIn, isValidNow, keyMatches, signedBy } from "../pki/certificate.ts";
import { withTrust } from "../pki/kubeconfig-fields.ts";
import { readKubeconfig } from "../pki/kubeconfigs.ts";
import { trusted, trustedKeys, trustedText } from "../pki/trusted-keys.ts";
import { say } from "../run.ts";
import type { Node } from "./node.ts";

/** What is wrong with a certificate in a text that has its key, too, in a word. */
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

/**
 * Moves serving certificates of another CA aside: the kubelet requests a new one when it starts, and part 3
 * approves its CSR.
 */
export function dropForeignServing(node: Node, caPem: string, asideDir: string): boolean {
  const { serverTlsBootstrap, serverPem } = node.kubelet;
  if (!serverTlsBootstrap || !exists(serverPem) || trusted(serverPem, caPem)) return false;
  moveAllToRescue(dirname(serverPem), "kubelet-server-", asideDir);
  return true;
}

/**
 * kubelet.conf with the certificate that the kubelet rotates as its user's; undefined where that is not valid, or not
 * of the CA in it.
 */
export function withRotated({
  kubeconfig,
  clientPem,
}: Pick<Node["kubelet"], "kubeconfig" | "clientPem">): string | undefined {
  const ca = attempt(() => readKubeconfig(kubeconfig), undefined)?.caPem;
  const isSound = ca && attempt(() => trustedText(readText(clientPem) ?? "", ca), false);
  return isSound ? withTrust(readText(kubeconfig)!, { ca, clientPem }) : undefined;
}

/** Moves all client certificates aside, the link and the dated files. */
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
  for (const pem of others)
    say(
      `unchanged in ${kubelet.clientCaFile}: another CA, ${attempt(() => certInfo(pem).subject, "of no name")}`,
    );
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
  return info && info.notAfter < new Date()
    ? `expired: it was valid until ${info.notAfter.toISOString().slice(0, 10)}`
    : undefined;
}
