/**
 * Reads a file that somebody else has named, or may have made: only a regular file, without waiting, and only
 * up to a limit. A pipe, a device, or a file that is too large counts as no file.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync, statSync } from "node:fs";
import { attempt, unlessCode } from "../fail.ts";
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
export function textInProcessRoot(pid: number, path: string): string | undefined {
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
function content(file: number, largest = LARGEST, read = (more: () => number) => more()): string | undefined {
  // most are small: room for the largest, for each, made nine in ten collections of garbage
  let buffer = Buffer.allocUnsafe(Math.min(1 << 14, largest + 1));
  let size = 0;
  for (let count = 1; count > 0 && size <= largest; size += count) {
    if (size === buffer.length) buffer = Buffer.concat([buffer], Math.min(4 * size, largest + 1));
    count = read(() => readSync(file, buffer, size, buffer.length - size, null));
  }
  return size > largest ? undefined : buffer.toString("utf8", 0, size);
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

/**
 * The small files at and below a path, in folders of root's alone; links are not followed. Errors: Fail if a folder
 * cannot be listed.
 */
export function* rootOwnedTexts(path: string): Generator<{ path: string; text: string }> {
  const text = unlinkedText(hostEntry(path));
  if (text !== undefined) yield { path, text };
  const isFolder = gone(() => lstatSync(hostEntry(path)))?.isDirectory();
  if (isFolder && isRoots(path)) for (const name of list(path)) yield* rootOwnedTexts(`${path}/${name}`);
}
