/**
 * The CA certificate that a process has read at its start, by the file's content at that time. The old
 * content is known if this kit has replaced it: the rescue folder has it, since that moment. Reads only.
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

/** The certificates of one key, by their ends: with the same key they differ only in these. */
export interface CaOfKey {
  /** As `CertInfo.publicKeyHash`. */
  hash: string;
  /** The end of the newest in use: after an undo, a newer one may be in a rescue folder. */
  end: Date;
  /** The end of the newest before it; unset: no older one is known here. */
  olderEnd?: Date | undefined;
}

/** Undefined if no text in use has a certificate of that key. */
export function caOfKey(
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
export function newestOf(text: string | undefined, hash: string): Readonly<CertInfo> | undefined {
  return certificatesOfKey(text, hash).sort((a, b) => b.notAfter.getTime() - a.notAfter.getTime())[0];
}

function certificatesOfKey(text: string | undefined, hash: string): Readonly<CertInfo>[] {
  return infosIn(text).filter(({ publicKeyHash }) => publicKeyHash === hash);
}

/** The CAs in a file of a process: its own text, or those that a kubeconfig embeds. */
export function casIn(text: string, path: string): string {
  if (certificatesIn(text).length > 0) return text;
  return attempt(() => parseKubeconfig(text, path).caPem, "");
}

/**
 * The text that a process with this start has read; undefined if unknown. Between a file's last write and its
 * last change there may have been a rename, a copy with its old time, or a new mode; not if this kit moved
 * the old one away as it wrote this one.
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

interface Mounting {
  /** The container's name. */
  name: string;
  path: string;
  /** Its start by each clock that was set since. */
  starts: readonly Date[];
  /** The file as its process sees it. */
  seen?: string | undefined;
}

/**
 * Static pods beside kubeadm's own that have a kubeconfig, such as kube-vip: client-go reads its CA once. The
 * program's later use is unknown, so it may hold an older one. It does hold it if the file alone is mounted:
 * its process sees the file from its start as long as it runs.
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
      // from the first process that has it
      const seen = (inside: string) =>
        inside === "" ? undefined : pids.flatMap((pid) => textBelow(pid, inside) ?? [])[0];
      return [...new Map(files.map((file) => [file.path, file.inside]))].map(([path, inside]) => ({
        ...{ name, path, starts, seen: seen(inside) },
      }));
    });
  });
}
