/**
 * Processes of this node that read a CA's certificate only at their start, and which certificate that was. If
 * the CA was renewed with its own key, both certificates work until the older one expires. A process that
 * still has it then trusts nobody: open connections continue, but no new one works, and the cluster fails at
 * its next restart.
 *
 * The file's content at that time tells: the old one is known if this kit has replaced it, as the rescue folder has it,
 * since that moment.
 *
 * No process reads front-proxy-ca or the CA for clients only once. Reads only. Sources: etcd
 * client/pkg/transport (ClientCAs and RootCAs once), apiserver storagebackend/factory/etcd3.go (TLSInfo
 * once), controller-manager's --root-ca-file and client-go's kubeconfig (once; the kubelet's too, in 1.36 as
 * well: pkg/kubelet/certificate/transport.go).
 */

import { pidsByName, processesOf, processStart } from "../etcd-location/static-pod-here.ts";
import { IN_PODS, readEvidence } from "../facts/evidence.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attempt } from "../fail.ts";
import { readText, stat } from "../files/files.ts";
import { readable } from "../files/readable.ts";
import { textInProcessRoot } from "../files/untrusted-file.ts";
import { hostFiles, hostPathOf, podFlags } from "../manifests/command.ts";
import { certificatesDirOn, isKubeadms, podsOnDisk } from "../manifests/on-disk.ts";
import {
  type Container,
  containersIfAny,
  isServerContainer,
  isStaticUid,
  nameSuffix,
} from "../node/containers.ts";
import { clientText } from "../node/kubelet-config.ts";
import type { Node } from "../node/node.ts";
import { versionsAside } from "../node/rescue-folder.ts";
import { runningKubelet } from "../node/started-with.ts";
import { type CertInfo, certificatesIn, infoOf, infosIn, signedBy } from "../pki/certificate.ts";
import { certPath, minorOf } from "../pki/certs.ts";
import { caText } from "../pki/examine.ts";
import {
  KUBECONFIGS,
  type KubeconfigName,
  kubeconfigRow,
  parseKubeconfig,
  readKubeconfig,
} from "../pki/kubeconfigs.ts";
import type { CaReader } from "./ca-reader.ts";

/** Whether one has an expired certificate in memory: open connections continue, but it trusts no new one. */
export function holdExpired(readers: readonly CaReader[], now = new Date()): boolean {
  return readers.some(({ holds, until }) => holds === "an older one" && until !== undefined && until < now);
}

/** The servers of kubeadm that need a restart, because the file that they read is renewed already. */
export function holdersOfExpiredCa(readers: readonly CaReader[]): string[] {
  const all = readers.filter((one) => one.fileUntil === undefined && holdExpired([one]));
  return [...new Set(all.map(({ name }) => name))].filter((name) => name === "kubelet" || isKubeadms(name));
}

/** On a control plane node. Throws nothing; unreadable facts are unknown. */
export async function caReaders(
  { node, facts, cluster }: Pick<ControlPlaneNode, "node" | "facts" | "cluster">,
  containers?: readonly Container[],
): Promise<CaReader[]> {
  const all = containers ?? (await containersIfAny(node));
  const cas = knownCas(facts.certificatesDir, cluster.oldCaPem);
  const pids = pidsByName();
  const rows = readsOnce(facts.certificatesDir).flatMap(({ name, ...reads }) =>
    runs(name, all, pids).flatMap((process) => readers({ name, ...reads }, process, facts.kubernetesVersion)),
  );
  return [...rows, ...mountingPods(node, all, pids), await kubelet(node, all, pids)].flatMap((reads) => {
    const ca = cas[reads.ca];
    return ca ? [judge(reads, ca)] : [];
  });
}

/** On a worker: the files of kube-system's pods show whether its own are current. */
export async function kubeletCaReader(node: Node, containers?: readonly Container[]): Promise<CaReader[]> {
  const { clientCaFile } = node.kubelet;
  const hash = kubeletsCa(node, readable(clientCaFile))?.publicKeyHash;
  const { texts } = readEvidence({ data: undefined, node, certificatesDir: certificatesDirOn(node) });
  const inPods = texts.filter(({ ca, from }) => ca === "ca" && from === IN_PODS).map(({ text }) => text);
  const oldTexts = [...asideTexts(clientCaFile), ...configTexts()];
  const trusted = hash && caOfKey(hash, [readable(clientCaFile), ...inPods], oldTexts);
  return trusted ? [judge(await kubelet(node, containers ?? (await containersIfAny(node))), trusted)] : [];
}

/** The one of several CAs that a worker trusts which has signed its kubelet's certificate; else the first. */
export function kubeletsCa({ kubelet }: Node, text: string | undefined): Readonly<CertInfo> | undefined {
  const [all, own] = [infosIn(text), clientText(kubelet)];
  return all.find(({ pem }) => attempt(() => signedBy(own, pem), false)) ?? all[0];
}

type Texts = Partial<Record<"now" | "before", readonly (string | undefined)[]>>;

export function knownCas(certificatesDir: string, oldCaPem: string) {
  const generation = (name: CaReader["ca"], { now = [], before = [] }: Texts = {}) => {
    const text = caText(name, certificatesDir);
    const hash = infoOf(text)?.publicKeyHash;
    const oldTexts = asideTexts(certPath(name, certificatesDir));
    return hash === undefined ? undefined : caOfKey(hash, [text, ...now], [...oldTexts, ...before]);
  };
  const ca = generation("ca", { now: [oldCaPem], before: configTexts() });
  return { ca, "etcd-ca": generation("etcd-ca") };
}

function asideTexts(path: string): string[] {
  return versionsAside(path).map(({ text }) => casIn(text, path));
}

function configTexts(): (string | undefined)[] {
  return KUBECONFIGS.flatMap(({ path }) => [
    attempt(() => readKubeconfig(path)?.caPem, undefined),
    ...asideTexts(path),
  ]);
}

interface ReadsOnce {
  name: CaReader["name"];
  ca: CaReader["ca"];
  by: readonly string[];
  /** kubeadm's, if it does not run. */
  usual: string;
}

function readsOnce(certificatesDir: string): ReadsOnce[] {
  const [ca, etcdCa] = (["ca", "etcd-ca"] as const).map((name) => certPath(name, certificatesDir));
  const config = (name: KubeconfigName) => kubeconfigRow(name).path;
  // biome-ignore format: a table
  return [
    { name: "etcd", ca: "etcd-ca", by: ["trusted-ca-file", "peer-trusted-ca-file"], usual: etcdCa! },
    { name: "kube-apiserver", ca: "etcd-ca", by: ["etcd-cafile"], usual: etcdCa! },
    { name: "kube-controller-manager", ca: "ca", by: ["root-ca-file"], usual: ca! },
    { name: "kube-controller-manager", ca: "ca", by: ["kubeconfig"], usual: config("controller-manager") },
    { name: "kube-scheduler", ca: "ca", by: ["kubeconfig"], usual: config("scheduler") },
  ];
}

interface Reading extends Pick<CaReader, "name" | "ca" | "path"> {
  /** The file as its own mounts show it: a file that was mounted alone stays the one from its start. */
  caText?: string | undefined;
  /** Its start by each clock that was set since. */
  starts: readonly Date[];
  /** It may read the file again. */
  isUnsure?: boolean;
}

type Pids = ReturnType<typeof pidsByName>;
type Running = ReturnType<typeof processesOf>[number] & { starts: readonly Date[] };

/** A single undefined if none runs. */
function runs(name: string, all: readonly Container[], pids: Pids): (Running | undefined)[] {
  const containers = all.filter((one) => one.running && one.name === name && isServerContainer(one));
  const created = Math.max(0, ...containers.map((one) => one.created.getTime()));
  const found = processesOf(name, all, pids).map((process) => ({
    ...process,
    starts: [processStart(process.pid), created > 0 ? new Date(created) : undefined].filter(
      (date) => date !== undefined,
    ),
  }));
  return found.length > 0 ? found : [undefined];
}

/** Since client-go 0.36 a CA in a file of its own is read again (transport/ca_rotation.go). */
const READS_ANEW = 36;

function readers(
  { name, ca, by, usual }: ReadsOnce,
  process: Running | undefined,
  version: string,
): Reading[] {
  if (!process) return [{ name, ca, path: usual, starts: [] }];
  const { pid, spec, starts } = process;
  const values = podFlags({ spec });
  const named = new Set(by.flatMap((flag) => values.get(flag) ?? []));
  return [...named].flatMap((inside): Reading[] => {
    const path = hostPathOf({ spec }, inside) ?? inside;
    const caPath = attempt(() => readKubeconfig(path)?.caPath, undefined);
    if (caPath && minorOf(version) >= READS_ANEW) return [];
    return [{ name, ca, path: caPath ?? path, caText: textInProcessRoot(pid, inside), starts }];
  });
}

/** Found by its unit's cgroup, or as systemd says: a unit may be in a slice of its own. */
async function kubelet(
  { kubelet: { kubeconfig } }: Node,
  all: readonly Container[],
  pids?: Pids,
): Promise<Reading> {
  const caPath = attempt(() => readKubeconfig(kubeconfig)?.caPath, undefined);
  const found = processesOf("kubelet", all, pids)[0] ?? (await runningKubelet());
  const started = found && processStart(found.pid);
  return { name: "kubelet", ca: "ca", path: caPath ?? kubeconfig, starts: started ? [started] : [] };
}

function judge({ name, ca, path, caText, starts, isUnsure }: Reading, today: CaOfKey): CaReader {
  const endOf = (text: string | undefined) =>
    newestCertificate(casIn(text ?? "", path), today.hash)?.notAfter;
  const isOld = (end: Date | undefined) => end !== undefined && end < today.end;
  const file = newestCertificate(casIn(readable(path) ?? "", path), today.hash);
  const fileUntil = isOld(file?.notAfter) ? file!.notAfter : undefined;
  const started = starts[0];
  const otherUser = isUnsure && mayHaveReadOther(path, starts);
  const row = {
    name,
    ca,
    path,
    started,
    changed: stat(path)?.changed,
    fileUntil,
    ...(otherUser && { otherUser }),
  };
  if (!started) return { ...row, until: fileUntil };
  // by each clock: if one was set since, they may differ
  const read = starts.map((start) => endOf(textReadAt(path, start)));
  const ends = [...(isOld(endOf(caText)) ? [endOf(caText)] : read)];
  const [end] = ends;
  if (end && ends.every((one) => one?.getTime() === end.getTime()))
    return isOld(end)
      ? { ...row, holds: isUnsure && !isOld(endOf(caText)) ? undefined : "an older one", until: end }
      : { ...row, holds: "today's" };
  // a certificate made after the start cannot be in memory
  const madeSince = file && starts.every((start) => start < file.notBefore);
  // with an expired certificate it would not have started
  const older = today.olderEnd && started < today.olderEnd ? today.olderEnd : undefined;
  return { ...row, holds: madeSince ? "an older one" : undefined, until: older };
}

/** A certificate in a file of its own is read again; an unchanged file has no other. */
function mayHaveReadOther(path: string, starts: readonly Date[]): boolean {
  const userIn = (text = "") => attempt(() => parseKubeconfig(text, path), undefined);
  const now = userIn(readable(path));
  const written = stat(path)?.modified;
  if (!now?.clientCertPem || now.clientCertificatePath || !written) return false;
  const isRead = (start: Date) => userIn(textReadAt(path, start))?.clientCertPem === now.clientCertPem;
  return starts.every((start) => start < written && !isRead(start));
}

/* The file as it was when a process started. */

/** The certificates of one key, by their ends: they differ only in these. */
export interface CaOfKey {
  hash: string;
  /** The end of the newest in use: after an undo, a newer one may be in a rescue folder. */
  end: Date;
  /** The end of the newest before it; unset: no older one is known here. */
  olderEnd?: Date | undefined;
}

function caOfKey(
  hash: string,
  inUse: readonly (string | undefined)[],
  before: readonly (string | undefined)[] = [],
): CaOfKey | undefined {
  const endsIn = (texts: typeof inUse) =>
    texts.flatMap((text) => certificatesOfKey(text, hash)).map(({ notAfter }) => notAfter.getTime());
  const all = endsIn(inUse);
  if (all.length === 0) return undefined;
  const end = Math.max(...all);
  const older = [...all, ...endsIn(before)].filter((one) => one < end);
  return { hash, end: new Date(end), ...(older.length > 0 && { olderEnd: new Date(Math.max(...older)) }) };
}

/** A program with several of them in a file trusts the newest. */
export function newestCertificate(text: string | undefined, hash: string): Readonly<CertInfo> | undefined {
  return certificatesOfKey(text, hash).sort((a, b) => b.notAfter.getTime() - a.notAfter.getTime())[0];
}

function certificatesOfKey(text: string | undefined, hash: string): Readonly<CertInfo>[] {
  return infosIn(text).filter(({ publicKeyHash }) => publicKeyHash === hash);
}

/** The CAs in a file of a process: its own text, or those that a kubeconfig embeds. */
function casIn(text: string, path: string): string {
  if (certificatesIn(text).length > 0) return text;
  return attempt(() => parseKubeconfig(text, path).caPem, "");
}

/**
 * Undefined if unknown. Between a file's last write and its last change there may have been a rename, a copy with its
 * old time, or a new mode; not if this kit moved the old one away as it wrote this one.
 */
export function textReadAt(path: string, started: Date): string | undefined {
  const info = stat(path);
  const versions = versionsAside(path);
  const isOurs =
    info && versions.some(({ until }) => Math.abs(until.getTime() - info.modified.getTime()) < WRITES_MS);
  const since = isOurs ? info.modified : info?.changed;
  if (since && since <= started) return attempt(() => readText(path), undefined);
  return versions.find(({ until }) => started <= until)?.text;
}

/** Milliseconds between the move of an old file and the write of the new one. */
const WRITES_MS = 10_000;

/**
 * kube-vip is one: client-go reads its CA once. The program's later use is unknown, so it may hold an older one. It
 * does hold it if the file alone is mounted: its process sees the file from its start as long as it runs.
 */
function mountingPods(node: Node, all: readonly Container[], pids: Pids): Reading[] {
  const configs = new Set([...KUBECONFIGS.map(({ path }) => path), node.kubelet.kubeconfig]);
  return [...podsOnDisk({ node })].flatMap(([key, manifest]) => {
    const [namespace, name = ""] = key.split("/");
    if (isKubeadms(name)) return [];
    const files = hostFiles(manifest).filter(({ path }) => configs.has(path));
    const isOwn = (one: Container) =>
      one.running &&
      one.namespace === namespace &&
      isStaticUid(one.podUid) &&
      one.pod === `${name}${nameSuffix(node.name)}`;
    return all.filter(isOwn).flatMap(({ name, created }) => {
      const its = processesOf(name, all, pids).map(({ pid }) => pid);
      const starts = [created, ...its.flatMap((pid) => processStart(pid) ?? [])];
      // from the first process that has it
      const readInside = (inside: string) =>
        inside === "" ? undefined : its.flatMap((pid) => textInProcessRoot(pid, inside) ?? [])[0];
      return [...new Map(files.map((file) => [file.path, file.inside]))].map(([path, inside]) => ({
        ...{ name, ca: "ca", path, starts, caText: readInside(inside), isUnsure: true },
      }));
    });
  });
}
