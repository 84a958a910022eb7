/**
 * Reads a file that somebody else has named, or may have made: only a regular file, without waiting, and only
 * up to a limit. A pipe, a device, or a file that is too large counts as no file.
 */
import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readSync,
  statSync,
} from "node:fs";
import { attempt, codeOf, Fail, unlessCode } from "../fail.ts";
import { list } from "./files.ts";
import { contentAt, entryAt, hostEntry, hostPath, tryFile } from "./root.ts";

/** Bytes. The largest file that is read: a kubeconfig, a manifest, a token. */
const LARGEST = 1 << 20;

/** A file below /proc as this node has it; undefined if there is none, or if its process has ended. */
export function hostText(path: string): string | undefined {
  return unlinkedText(`${hostPath("/proc")}${path.slice("/proc".length)}`);
}

/**
 * A file as a process sees it, `path` below its /proc/PID/root. No part of the path may be a link: a
 * container's link leads anywhere.
 */
export function textBelow(pid: number, path: string): string | undefined {
  const root = `${hostPath("/proc")}/${pid}/root`;
  const folders = path.split("/").slice(1, -1);
  const isWay = folders.every((_, i) =>
    gone(() => lstatSync(`${root}/${folders.slice(0, i + 1).join("/")}`))?.isDirectory(),
  );
  return isWay ? unlinkedText(root + path) : undefined;
}

/**
 * A flag, a pod or a configuration names it: links count, and so does what a dry run would have written. Undefined if
 * there is no regular file of at most `largest` bytes. Errors: as `readText`.
 */
export function smallText(path: string, largest = LARGEST): string | undefined {
  const place = contentAt(path);
  if (place.kind === "gone") return undefined;
  if (place.kind === "file")
    return place.bytes.length > largest ? undefined : Buffer.from(place.bytes).toString("utf8");
  const { host } = place;
  const read = (file: number) => content(file, largest);
  return tryFile("read", path, () => (statSync(host).isFile() ? openRegularFile(host, 0, read) : undefined));
}

/**
 * A file of this machine that others may change or remove at any time, such as those of /proc, and that is no
 * link.
 */
function unlinkedText(host: string): string | undefined {
  if (gone(() => lstatSync(host))?.isFile() !== true) return undefined;
  const read = (more: () => number) => gone(more) ?? 0;
  return gone(
    () => openRegularFile(host, constants.O_NOFOLLOW, (file) => content(file, LARGEST, read)),
    NO_FILE,
  );
}

/** Checks the type before opening, as even opening a device may act, and again when it is open. */
function openRegularFile(
  host: string,
  flags: number,
  read: (file: number) => string | undefined,
): string | undefined {
  // without O_NONBLOCK it would wait for a writer of a pipe
  const file = openSync(host, constants.O_RDONLY | constants.O_NONBLOCK | flags);
  try {
    return fstatSync(file).isFile() ? read(file) : undefined;
  } finally {
    closeSync(file);
  }
}

/** Files of /proc claim to be empty: they are read to their end. */
function content(file: number, largest = LARGEST, read = now): string | undefined {
  // most are small: room for the largest, for each, made nine in ten collections of garbage
  let buffer = Buffer.allocUnsafe(Math.min(1 << 14, largest + 1));
  let size = 0;
  for (let count = 1; count > 0 && size <= largest; size += count) {
    if (size === buffer.length) buffer = Buffer.concat([buffer], Math.min(4 * size, largest + 1));
    count = read(() => readSync(file, buffer, size, buffer.length - size, null));
  }
  return size > largest ? undefined : buffer.toString("utf8", 0, size);
}

function now(read: () => number): number {
  return read();
}

/** A link, a socket, a device without a driver; or the mounts of a zombie (fs/proc_namespace.c). */
const NO_FILE = ["ELOOP", "ENXIO", "ENODEV", "EINVAL"];

/** It does not exist, or the process or its mapping has gone meanwhile; or its cgroup's path is too long. */
const GONE = ["ENOENT", "ENOTDIR", "ESRCH", "EIO", "EFAULT", "ENAMETOOLONG"];

/** The value, or undefined if it is gone, or for a reason in `also`. */
export function gone<T>(action: () => T, also: readonly string[] = []): T | undefined {
  return unlessCode([...GONE, ...also], action);
}

/** Whether it belongs to root, or to the user that runs this. False if it cannot be checked. */
export function isRoots(path: string): boolean {
  const uid = attempt(() => entryAt(path)?.uid, undefined);
  return uid === 0 || (uid !== undefined && uid === process.getuid?.());
}

const FOLDERS = ["/etc", "/var/lib/kubelet"];
/** Pods' volumes follow their objects; kubectl makes its cache of answers again. */
const LEFT_OUT = /^\/var\/lib\/kubelet\/(pods|plugins|device-plugins|checkpoints)$|\/\.kube\/(http-)?cache$/;

/** `unseen`: why a part of this folder was skipped, for the operator. */
export type TextHere = { path: string; text: string } | { path: string; unseen: string };

/**
 * Programs and people name servers and the CAs that they trust in them. Links are not followed: their targets are
 * read at their own path.
 */
export function* textsHere(): Generator<TextHere> {
  yield* textsOfNode();
  const found = attempt(() => list("/home"));
  if (found instanceof Fail) yield { path: "/home", unseen: found.message };
  const homes = found instanceof Fail ? [] : found.map((name) => `/home/${name}`);
  for (const home of ["/root", ...homes]) yield* textsOfPeople(`${home}/.kube`);
}

/** The same without users' files. Errors: Fail if a folder of root's cannot be listed. */
export function* textsOfNode(folders = FOLDERS): Generator<TextHere> {
  for (const folder of folders.filter((one) => isFolder(one) && !LEFT_OUT.test(one))) {
    if (!isRoots(folder)) yield* textsOfPeople(folder);
    else
      for (const path of list(folder).map((name) => `${folder}/${name}`)) {
        const text = unlinkedText(hostEntry(path));
        if (text !== undefined) yield { path, text };
        yield* textsOfNode([path]);
      }
  }
}

function isFolder(path: string): boolean {
  return gone(() => lstatSync(hostEntry(path)))?.isDirectory() === true;
}

/** Limits for a folder that its owner may fill at will: depth, number of files, milliseconds. */
const [DEPTH, MOST, TIME] = [5, 2000, 2000];

/** No error stops it: a file server may deny root, or be offline. */
function* textsOfPeople(folder: string): Generator<TextHere> {
  const deadline = performance.now() + TIME;
  const why = new Set<string>();
  const paths = new Set([folder]);
  let left = MOST;
  for (const path of paths) {
    const isLate = performance.now() > deadline;
    if (isLate || left-- === 0) {
      why.add(isLate ? `more than ${TIME / 1000} s` : `more than ${MOST} files`);
      break;
    }
    const seen = LEFT_OUT.test(path) ? undefined : lookAt(path);
    if (seen instanceof Error) why.add(seen.message.split(",")[0]!);
    else if (typeof seen === "string") yield { path, text: seen };
    else if (seen && path.split("/").length - folder.split("/").length >= DEPTH)
      why.add(`more than ${DEPTH} folders below each other`);
    else for (const name of seen?.slice(0, MOST) ?? []) paths.add(`${path}/${name}`);
  }
  if (why.size > 0) yield { path: folder, unseen: [...why].join("; ") };
}

/** The names in a folder, or a small file's text; the system's error; undefined if it is neither, or is gone. */
function lookAt(path: string): string[] | string | Error | undefined {
  try {
    const host = hostEntry(path);
    const info = lstatSync(host);
    if (!info.isDirectory())
      return info.isFile() ? openRegularFile(host, constants.O_NOFOLLOW, content) : undefined;
    const names = readdirSync(host).sort();
    // users' own configuration counts most
    return names.includes("config") ? ["config", ...names] : names;
  } catch (err) {
    const code = codeOf(err);
    if (code === undefined) throw err;
    return ["ENOENT", "ENOTDIR", "ELOOP"].includes(code) ? undefined : (err as Error);
  }
}
