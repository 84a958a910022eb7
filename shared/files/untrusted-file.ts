/**
 * Reads a file that somebody else has named, or may have made: only a regular file, without waiting for
 * anybody, and no more than so many bytes. A pipe or a device in its place counts as no file, and so does a
 * file that is too large.
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
import { attempt, Fail } from "../fail.ts";
import { list } from "./files.ts";
import { contentAt, hostEntry, hostPath } from "./root.ts";
import { tryFile } from "./try-file.ts";

/** Bytes. The largest file that is read: a kubeconfig, a manifest, a token. */
const LARGEST = 1 << 20;

/** A file below /proc as this node has it; undefined if there is none, or if its process has ended. */
export function hostText(path: string): string | undefined {
  return unlinkedText(`${hostPath("/proc")}${path.slice("/proc".length)}`);
}

/**
 * A file as a process sees it, `path` below its /proc/PID/root. Nothing on the way may be a link: in a
 * container it leads wherever it likes.
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
 * A file of this node whose path a flag, a pod or a configuration names: links count, and so does what a dry
 * run would have written. Undefined if there is no regular file of at most `largest` bytes. Errors: as
 * `readText`.
 */
export function smallText(path: string, largest = LARGEST): string | undefined {
  const place = contentAt(path);
  if (place.kind === "gone") return undefined;
  if (place.kind === "file")
    return place.bytes.length > largest ? undefined : Buffer.from(place.bytes).toString("utf8");
  const { host } = place;
  const read = (file: number) => content(file, largest, readMore);
  return tryFile("read", path, () => (statSync(host).isFile() ? regular(host, 0, read) : undefined));
}

/**
 * A file of this machine that others may change or remove at any time, as those of /proc, and that is no
 * link.
 */
function unlinkedText(host: string): string | undefined {
  if (gone(() => lstatSync(host))?.isFile() !== true) return undefined;
  const read: typeof readMore = (...more) => gone(() => readMore(...more)) ?? 0;
  return gone(() => regular(host, constants.O_NOFOLLOW, (file) => content(file, LARGEST, read)), NO_FILE);
}

/**
 * It is looked at before, as the mere opening of a device may do something, and once more when it is open.
 */
function regular(
  host: string,
  flags: number,
  read: (file: number) => string | undefined,
): string | undefined {
  // without O_NONBLOCK it would wait for a pipe that nobody writes to
  const file = openSync(host, constants.O_RDONLY | constants.O_NONBLOCK | flags);
  try {
    return fstatSync(file).isFile() ? read(file) : undefined;
  } finally {
    closeSync(file);
  }
}

/** Files of /proc say that they are empty: they are read until they end. */
function content(file: number, largest: number, read: typeof readMore): string | undefined {
  const buffer = Buffer.allocUnsafe(largest + 1);
  let size = 0;
  for (let count = 1; count > 0 && size < buffer.length; size += count) count = read(file, buffer, size);
  return size > largest ? undefined : buffer.toString("utf8", 0, size);
}

/** How many bytes came into the buffer from `at` on; 0 at the file's end. */
function readMore(file: number, buffer: Buffer, at: number): number {
  return readSync(file, buffer, at, buffer.length - at, null);
}

/**
 * A link, a socket, a device without a driver; the mounts of a process that has ended and that nobody has
 * waited for (fs/proc_namespace.c).
 */
const NO_FILE = ["ELOOP", "ENXIO", "ENODEV", "EINVAL"];

/** It does not exist, or the process or its mapping is gone meanwhile; or its cgroup's path is too long to be said. */
const GONE = ["ENOENT", "ENOTDIR", "ESRCH", "EIO", "EFAULT", "ENAMETOOLONG"];

/** The value, or undefined if it is gone, or for a reason in `also`. */
export function gone<T>(action: () => T, also: readonly string[] = []): T | undefined {
  try {
    return action();
  } catch (err) {
    if (err instanceof Error && "code" in err && [...GONE, ...also].includes(String(err.code)))
      return undefined;
    throw err;
  }
}

/** Whether it belongs to root; or to who runs this, where that is another. What cannot be looked at does not. */
export function isRoots(path: string): boolean {
  const uid = attempt(() => tryFile("look at", path, () => lstatSync(hostEntry(path)).uid), undefined);
  return uid === 0 || (uid !== undefined && uid === process.getuid?.());
}

const FOLDERS = ["/etc", "/var/lib/kubelet"];
/** Pods' volumes follow their objects; what kubectl keeps of servers' answers it makes again. */
const LEFT_OUT = /^\/var\/lib\/kubelet\/(pods|plugins|device-plugins|checkpoints)$|\/\.kube\/(http-)?cache$/;

/** `unseen`: why not all below this folder was looked at, for the operator. */
export type TextHere = { path: string; text: string } | { path: string; unseen: string };

/**
 * The small files of this node in which programs and people write where they go, and whom they trust, each with its
 * path. Links are not followed: what they point to is looked at where it lies.
 */
export function* textsHere(): Generator<TextHere> {
  yield* textsOfNode();
  const found = attempt(() => list("/home"));
  if (found instanceof Fail) yield { path: "/home", unseen: found.message };
  const homes = found instanceof Fail ? [] : found.map((name) => `/home/${name}`);
  for (const home of ["/root", ...homes]) yield* textsOfPeople(`${home}/.kube`);
}

/** The same without people's. Errors: Fail if a folder of root's cannot be listed. */
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

/** How much is looked at of a folder that its owner may fill at will: how deep, how many files, milliseconds. */
const [DEPTH, MOST, TIME] = [5, 2000, 2000];

/** No error ends it: a server of files may keep root out, or be away. */
function* textsOfPeople(folder: string): Generator<TextHere> {
  const until = performance.now() + TIME;
  const why = new Set<string>();
  const paths = new Set([folder]);
  let left = MOST;
  for (const path of paths) {
    const isLate = performance.now() > until;
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
    const read = (file: number) => content(file, LARGEST, readMore);
    if (!info.isDirectory()) return info.isFile() ? regular(host, constants.O_NOFOLLOW, read) : undefined;
    const names = readdirSync(host).sort();
    // people's own configuration counts most
    return names.includes("config") ? ["config", ...names] : names;
  } catch (err) {
    if (!(err instanceof Error && "code" in err)) throw err;
    return ["ENOENT", "ENOTDIR", "ELOOP"].includes(String(err.code)) ? undefined : err;
  }
}
