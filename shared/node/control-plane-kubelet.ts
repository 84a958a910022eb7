/**
 * The kubelet of a control plane node: its client certificate and kubelet.conf, issued with the CA's key on
 * this disk.
 */
import { basename, dirname } from "node:path";
import { attempt, Fail } from "../fail.ts";
import { copyToRescue } from "../files/file-tree.ts";
import { exists, list, pointLink, readText, stat, writeFile } from "../files/files.ts";
import { certInfo, day, infoOf, madeAt, trustsCa } from "../pki/certificate.ts";
import { type ClusterFacts, keyPath } from "../pki/certs.ts";
import { acceptedCas, caText } from "../pki/examine.ts";
import { issueClient } from "../pki/issue.ts";
import { serverVerdict } from "../pki/judge.ts";
import {
  clusterServer,
  type Kubeconfig,
  kubeletKubeconfig,
  localServer,
  readKubeconfig,
  withTrust,
} from "../pki/kubeconfigs.ts";
import { mode, say } from "../run.ts";
import { dropClientPems, dropForeignServing, withOtherCas } from "./credentials.ts";
import { hasOwnClient, signsInWithoutCertificate, stateOfConf } from "./kubelet-conf.ts";
import { inside } from "./kubelet-config.ts";
import { isOwnClient, kubeletActive, type Node } from "./node.ts";
import { asideOf, rescueFolders } from "./rescue-folder.ts";
import { type EndedConf, endedConf, putKubeletsFilesBack, writeEnded } from "./systemctl-kubelet.ts";

/**
 * Gives the kubelet of a control plane node what it needs to run and to reach the API: a client certificate
 * of the CA on disk, in the place where the kubelet rotates it, and a kubelet.conf that points there (the
 * result of `kubeadm init phase kubeconfig kubelet` and `kubelet-finalize`). Returns whether the kubelet has to
 * restart for what was changed.
 */
export async function ensureControlPlaneKubelet(
  node: Node,
  facts: ClusterFacts,
  asideDir: string,
): Promise<boolean> {
  await putKubeletsFilesBack();
  const { certificatesDir: pki } = facts;
  const ca = { cert: caText("ca", pki)!, key: readText(keyPath("ca", pki))! };
  const changes = [
    ensureClientCa(node, ca.cert, asideDir),
    !hasOwnClient(node, ca.cert, facts) && (await issueClientPem(node, facts, { ca, asideDir })),
    dropForeignServing(node, acceptedCas(ca.cert, "kubelets", facts), asideDir),
  ];
  const starts = changes.includes(true) || !(await kubeletActive());
  return [...changes, await ensureKubeletConf(node, facts, { ca: ca.cert, asideDir, starts })].includes(true);
}

/**
 * Milliseconds from the one to the other. The kubelet itself renews its certificate only months after a repair has
 * issued it.
 */
const DAY = 86_400_000;

/**
 * When a repair issued this kubelet's certificate, if the one before had expired by then; undefined if it had
 * not, or if the kubelet has renewed its certificate since. The repair has just moved the one before aside.
 */
export function renewedAfterExpiry({ kubelet }: Node): Date | undefined {
  const made = attempt(() => madeAt(readText(kubelet.clientPem) ?? ""));
  if (made instanceof Fail) return undefined;
  const folders = rescueFolders().map((rescue) => `${asideOf(rescue)}${dirname(kubelet.clientPem)}`);
  const pems = folders.flatMap((folder) => list(folder).map((name) => `${folder}/${name}`));
  const isWanted = (path: string) =>
    basename(path).startsWith("kubelet-client-") &&
    Math.abs(Number(stat(path)?.changed) - made.getTime()) < DAY;
  const moved = pems.filter(isWanted);
  const ends = moved.flatMap((path) => infoOf(readText(path))?.notAfter ?? []);
  return ends.length > 0 && ends.every((end) => end < made) ? made : undefined;
}

/**
 * The kubelet's clientCAFile normally is pki/ca.crt itself. Another file without the current CA gets its content;
 * other CAs in it stay.
 */
function ensureClientCa(node: Node, caPem: string, asideDir: string): boolean {
  const { clientCaFile } = node.kubelet;
  const text = readText(clientCaFile);
  if (text !== undefined && trustsCa(text, caPem)) return false;
  const content = withOtherCas(node, caPem);
  if (text !== undefined) copyToRescue(clientCaFile, asideDir);
  return writeFile(clientCaFile, content, { mode: 0o644 });
}

async function issueClientPem(
  node: Node,
  facts: ClusterFacts,
  use: { ca: { cert: string; key: string }; asideDir: string },
) {
  dropClientPems(node, use.asideDir);
  const subject = { cn: `system:node:${node.name}`, o: "system:nodes" };
  // as a kubelet that renews it, whatever the cluster's keys are (client-go, generateCSR)
  const { cert, key } = await issueClient(subject, use.ca, { ...facts, keyAlgorithm: "ECDSA-P256" });
  const stamp = mode.began.toISOString().slice(0, 19).replace(/[T:]/g, "-");
  const dated = `${dirname(node.kubelet.clientPem)}/kubelet-client-${stamp}.pem`;
  writeFile(dated, cert + key, { mode: 0o600, note: `until ${day(certInfo(cert).notAfter)}` });
  // The kubelet requires a symbolic link here (certificate_store.go).
  await pointLink(node.kubelet.clientPem, dated, "the new certificate");
  return true;
}

/**
 * The kubelet of a control plane node asks its own API server, as kubeadm writes it from 1.33 on. A balancer
 * without servers accepts each connection and closes it; client-go tries a GET ten times then, and until one
 * has failed twice a kubelet that has just started mounts no volume, so it starts no static pod for 20 s
 * (pkg/kubelet/volumemanager/reconciler, updateReconstructedFromNodeStatus; v1.29). One that runs (not
 * `starts`) has the file of a cluster that was upgraded, and keeps it. A file that 00-assess calls well stays as it is,
 * also where its user signs in by a program or a token.
 */
async function ensureKubeletConf(
  node: Node,
  facts: ClusterFacts,
  { ca: caPem, asideDir, starts }: { ca: string; asideDir: string; starts: boolean },
): Promise<boolean> {
  const { kubeconfig, clientPem } = node.kubelet;
  const now = attempt(() => readKubeconfig(kubeconfig), undefined);
  // one that leads elsewhere is somebody's own: a proxy on this node, say
  const isFar = starts && now?.server === clusterServer(facts) && now.server !== localServer(facts);
  const isGood = now !== undefined && !isFar && stateOfConf(node, caPem) === undefined;
  const ended = isGood ? await endedConf(node.systemd) : undefined;
  if (isGood && (!starts || isUsed(node, now, { caPem, facts, ended }))) {
    // what a kubelet that runs with its own has in memory is right: the file is for its next start
    if (!(ended?.isExpired && writeEnded(ended, asideDir))) say(`unchanged ${kubeconfig}`);
    return false;
  }
  const isOwn = now && !isFar && now.server !== localServer(facts) && !serverVerdict(now.server, facts);
  const ofOwn = isOwn ? withTrust(readText(kubeconfig)!, { ca: caPem, clientPem }) : undefined;
  if (exists(kubeconfig)) copyToRescue(kubeconfig, asideDir);
  const server = facts.serverBefore ?? localServer(facts);
  const content = ofOwn ?? kubeletKubeconfig({ server, ca: caPem, clientPem });
  const note = ofOwn && { note: `leads to ${now?.server}, as before` };
  return writeFile(kubeconfig, content, { mode: 0o600, ...note });
}

/** Whether the kubelet signs in by what is in this file, or by its own certificate beside it, after its next start, too. */
function isUsed(
  node: Node,
  conf: Kubeconfig,
  { caPem, facts, ended }: { caPem: string; facts: ClusterFacts; ended: EndedConf | undefined },
): boolean {
  const { clientPem, keepsCertificate } = node.kubelet;
  if (conf.clientCertificatePath === clientPem) return true;
  if (isOwnClient(node, inside(conf), acceptedCas(caPem, "clients", facts))) return true;
  return keepsCertificate ? signsInWithoutCertificate(node, caPem) !== undefined : ended === undefined;
}
