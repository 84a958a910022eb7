/**
 * The kubelet's own credentials: kubelet.conf, the client certificate that it rotates, and its serving certificate.
 *
 * The trap behind all of this: /var/lib/kubelet/pki/kubelet-client-current.pem lies outside of /etc/kubernetes, survives, and beats every
 * kubelet.conf as long as it has not expired, whoever signed it (client-go's certificate_manager.go; kubeadm issue 2015). So it is moved
 * aside when the CA is a new one.
 */
import { symlinkSync, unlinkSync } from "node:fs";
import { dirname } from "node:path";
import type { ClusterFacts } from "./certs.ts";
import { exists, hostPath, list, moveAside, readText, writeFile } from "./files.ts";
import { issueClient, readCa } from "./issue.ts";
import { kubeletKubeconfig, kubeletServer, readKubeconfig } from "./kubeconfigs.ts";
import type { Node } from "./node.ts";
import { certInfo, signedBy } from "./pki.ts";
import { act, say } from "./run.ts";

/** Whether a certificate file exists, is signed by this CA and has not expired. */
export function trusted(path: string, caPem: string): boolean {
  const pem = readText(path);
  if (!pem) return false;
  return signedBy(pem, caPem) && certInfo(pem).notAfter > new Date();
}

/**
 * Sees to it that a master's kubelet can talk to the API: a client certificate of the CA on disk, in the place where the kubelet rotates
 * it, and a kubelet.conf that points there (what `kubeadm init phase kubeconfig kubelet` and `kubelet-finalize` come to).
 * Returns whether anything was changed, so that the kubelet has to be restarted.
 */
export async function ensureMasterKubelet(node: Node, facts: ClusterFacts, asideDir: string): Promise<boolean> {
  const ca = readCa("ca", facts);
  const wrongTrust = ensureClientCa(node, ca.cert);
  const newCert = !trusted(node.kubelet.clientPem, ca.cert) && (await issueClientPem(node, facts, asideDir));
  const wrongServing = dropForeignServing(node, ca.cert, asideDir);
  const newConf = ensureKubeletConf(node, facts, ca.cert);
  return wrongTrust || newCert || wrongServing || newConf;
}

/** The kubelet's clientCAFile is normally pki/ca.crt itself; where it is another file, that gets the same content. */
function ensureClientCa(node: Node, caPem: string): boolean {
  if (readText(node.kubelet.clientCaFile) === caPem) return false;
  return writeFile(node.kubelet.clientCaFile, caPem, { mode: 0o644 });
}

/** Moves serving certificates of another CA aside: the kubelet asks for a new one when it starts. Part 3 approves it. */
export function dropForeignServing(node: Node, caPem: string, asideDir: string): boolean {
  const { serverTlsBootstrap, serverPem } = node.kubelet;
  if (!serverTlsBootstrap || !exists(serverPem) || trusted(serverPem, caPem)) return false;
  moveAsideAll(dirname(serverPem), "kubelet-server-", asideDir);
  return true;
}

/** Moves the client certificates aside, whatever they are dated. */
export function dropClientPems(node: Node, asideDir: string) {
  moveAsideAll(dirname(node.kubelet.clientPem), "kubelet-client-", asideDir);
}

async function issueClientPem(node: Node, facts: ClusterFacts, asideDir: string): Promise<boolean> {
  dropClientPems(node, asideDir);
  const { cert, key } = await issueClient({ cn: `system:node:${node.name}`, o: "system:nodes" }, readCa("ca", facts), facts);
  const stamp = new Date().toISOString().slice(0, 19).replace(/[T:]/g, "-");
  const dated = `${dirname(node.kubelet.clientPem)}/kubelet-client-${stamp}.pem`;
  writeFile(dated, cert + key, { mode: 0o600, note: `until ${certInfo(cert).notAfter.toISOString().slice(0, 10)}, signed by ${certInfo(cert).issuer}` });
  // The kubelet insists on a symbolic link here (certificate_store.go).
  await act(`${node.kubelet.clientPem}: points to it`, () => replaceLink(node.kubelet.clientPem, dated));
  return true;
}

function ensureKubeletConf(node: Node, facts: ClusterFacts, caPem: string): boolean {
  const server = kubeletServer(facts);
  const now = exists(node.kubelet.kubeconfig) ? readKubeconfig(node.kubelet.kubeconfig) : undefined;
  if (now?.caPem?.trim() === caPem.trim() && now.clientCertificatePath === node.kubelet.clientPem && now.server) {
    say(`${node.kubelet.kubeconfig}: kept`);
    return false;
  }
  return writeFile(node.kubelet.kubeconfig, kubeletKubeconfig({ server, ca: caPem }), { mode: 0o600 });
}

function moveAsideAll(folder: string, prefix: string, asideDir: string) {
  for (const name of list(folder)) if (name.startsWith(prefix)) moveAside(`${folder}/${name}`, asideDir);
}

function replaceLink(link: string, target: string) {
  if (exists(link)) unlinkSync(hostPath(link));
  symlinkSync(target, hostPath(link));
}
