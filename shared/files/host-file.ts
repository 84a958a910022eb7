/**
 * Reads a file that somebody else may have made: only a regular file, without following a link, without waiting for anybody, and no more
 * than so many bytes. A pipe, a device or a link in its place counts as no file, and so does a file that is too large.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync } from "node:fs";
import { hostPath } from "./root.ts";

/** Bytes. The largest file that is read: a kubeconfig, a manifest, a token. */
const LARGEST = 1 << 20;

/** A file below /proc as this node has it; undefined where there is none, or where its process has ended. */
export function hostText(path: string): string | undefined {
  return read(`${hostPath("/proc")}${path.slice("/proc".length)}`);
}

/**
 * A file as a process sees it, `path` below its /proc/PID/root. Nothing on the way may be a link: in a container it leads wherever it
 * likes.
 */
export function textBelow(pid: number, path: string): string | undefined {
  const root = `${hostPath("/proc")}/${pid}/root`;
  const folders = path.split("/").slice(1, -1);
  const isWay = folders.every((_, i) => kindOf(`${root}/${folders.slice(0, i + 1).join("/")}`) === "folder");
  return isWay ? read(root + path) : undefined;
}

function kindOf(host: string): "folder" | "other" {
  return gone(() => lstatSync(host))?.isDirectory() ? "folder" : "other";
}

function read(host: string): string | undefined {
  // without O_NONBLOCK it would wait for a pipe that nobody writes to
  const file = gone(() => openSync(host, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW), NO_FILE);
  if (file === undefined) return undefined;
  try {
    return fstatSync(file).isFile() ? content(file) : undefined;
  } finally {
    closeSync(file);
  }
}

/** Files of /proc say that they are empty: they are read until they end. */
function content(file: number): string | undefined {
  const buffer = Buffer.alloc(LARGEST + 1);
  let size = 0;
  for (let count = 1; count > 0 && size < buffer.length; size += count)
    count = gone(() => readSync(file, buffer, size, buffer.length - size, null)) ?? 0;
  return size > LARGEST ? undefined : buffer.toString("utf8", 0, size);
}

/** A link, a socket, a device without a driver. */
const NO_FILE = ["ELOOP", "ENXIO", "ENODEV"];

/** It does not exist, or the process or its mapping is gone meanwhile. */
const GONE = ["ENOENT", "ENOTDIR", "ESRCH", "EIO", "EFAULT"];

/** The value, or undefined where it is gone, or for a reason in `also`. */
export function gone<T>(action: () => T, also: readonly string[] = []): T | undefined {
  try {
    return action();
  } catch (err) {
    if (err instanceof Error && "code" in err && [...GONE, ...also].includes(String(err.code))) return undefined;
    throw err;
  }
}
