/**
 * Which certificate of a CA a process has read that reads it once: by what was in the file's place when it
 * started. What was there before is known where this kit has replaced it: the rescue folder has it, since
 * that moment. Reads only.
 */
import { processesOf, processStart } from "../etcd-location/static-pod-here.ts";
import { attempt } from "../fail.ts";
import { readText, stat } from "../files/files.ts";
import { textBelow } from "../files/untrusted-file.ts";
import { hostFiles } from "../manifests/command.ts";
import { isKubeadms, podsOnDisk } from "../manifests/on-disk.ts";
import { type Container, isStaticUid, nameSuffix } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { versionsAside } from "../node/rescue-folder.ts";
import { type CertInfo, certificatesIn, infosIn } from "../pki/certificate.ts";
import { KUBECONFIGS, parseKubeconfig } from "../pki/kubeconfigs.ts";

/** The certificates of one key, by their ends: with the same key one only differs from another by it. */
export interface CaOfKey {
  /** As `CertInfo.publicKeyHash`. */
  hash: string;
  /** The end of the newest that is in use: after a way back a newer one may lie in a rescue folder. */
  end: Date;
  /** The end of the newest before it; unset: nothing here says that there was another. */
  olderEnd?: Date | undefined;
}

/** Undefined if none of the texts that are in use has a certificate of that key. */
export function caOfKey(
  hash: string,
  inUse: readonly (string | undefined)[],
  before: readonly (string | undefined)[] = [],
): CaOfKey | undefined {
  const endsIn = (texts: typeof inUse) =>
    texts.flatMap((text) => ofKey(text, hash)).map(({ notAfter }) => notAfter.getTime());
  const all = endsIn(inUse);
  if (all.length === 0) return undefined;
  const end = Math.max(...all);
  const older = [...all, ...endsIn(before)].filter((one) => one < end);
  return { hash, end: new Date(end), ...(older.length > 0 && { olderEnd: new Date(Math.max(...older)) }) };
}

/** Who has several of them in a file trusts the newest. */
export function newestOf(text: string | undefined, hash: string): Readonly<CertInfo> | undefined {
  return ofKey(text, hash).sort((a, b) => b.notAfter.getTime() - a.notAfter.getTime())[0];
}

function ofKey(text: string | undefined, hash: string): Readonly<CertInfo>[] {
  return infosIn(text).filter(({ publicKeyHash }) => publicKeyHash === hash);
}

/** The CAs in a file of a process: its own text, or those that a kubeconfig embeds. */
export function casIn(text: string, path: string): string {
  if (certificatesIn(text).length > 0) return text;
  return attempt(() => parseKubeconfig(text, path).caPem, "");
}

/**
 * The text that a process has read which started then; undefined if nothing says it. Between the last
 * write of a file and its last change lie a rename, a copy with its old time, or only another mode; not where
 * this kit has taken the one before away as it wrote it.
 */
export function textReadAt(path: string, started: Date): string | undefined {
  const info = stat(path);
  const aside = versionsAside(path);
  const isOurs =
    info && aside.some(({ until }) => Math.abs(until.getTime() - info.modified.getTime()) < WRITES_MS);
  const since = isOurs ? info.modified : info?.changed;
  if (since && since <= started) return attempt(() => readText(path), undefined);
  return aside.find(({ until }) => started <= until)?.text;
}

/** Between the move of an old file and the write of the new one. */
const WRITES_MS = 10_000;

interface Mounting {
  /** Of the container. */
  name: string;
  path: string;
  /** By each clock that says it. */
  starts: readonly Date[];
  /** As its process sees the file. */
  seen?: string | undefined;
}

/**
 * Static pods beside kubeadm's own that have a kubeconfig, such as kube-vip: client-go reads its CA once. Nothing says
 * what such a program does with it later, so it may hold an older one. It does hold it where the file alone is mounted:
 * then its process sees the one from its start for as long as it runs.
 */
export function mountingPods(node: Node, all: readonly Container[]): Mounting[] {
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
      const pids = processesOf(name, all).map(({ pid }) => pid);
      const starts = [created, ...pids.flatMap((pid) => processStart(pid) ?? [])];
      // of the first process that has it
      const seen = (inside: string) =>
        inside === "" ? undefined : pids.flatMap((pid) => textBelow(pid, inside) ?? [])[0];
      return [...new Map(files.map((file) => [file.path, file.inside]))].map(([path, inside]) => ({
        ...{ name, path, starts, seen: seen(inside) },
      }));
    });
  });
}
