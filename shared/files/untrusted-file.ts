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
  readSync,
  type Stats,
  statSync,
} from "node:fs";
import { list } from "./files.ts";
import { contentAt, hostEntry, hostPath } from "./root.ts";
import { tryFile } from "./try-file.ts";

/** Bytes. The largest file that is read: a kubeconfig, a manifest, a token. */
const LARGEST = 1 << 20;

/** A file below /proc as this node has it; undefined where there is none, or where its process has ended. */
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
 * run would have written. Undefined where there is no regular file of at most `largest` bytes. Errors: as
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

/**
 * It does not exist, or the process or its mapping is gone meanwhile; or its path, or what the kernel says of it, is
 * longer than a path can be: a user makes such folders, and such cgroups.
 */
const GONE = ["ENOENT", "ENOTDIR", "ESRCH", "EIO", "EFAULT", "ENAMETOOLONG"];

/** The value, or undefined where it is gone, or for a reason in `also`. */
export function gone<T>(action: () => T, also: readonly string[] = []): T | undefined {
  try {
    return action();
  } catch (err) {
    if (err instanceof Error && "code" in err && [...GONE, ...also].includes(String(err.code)))
      return undefined;
    throw err;
  }
}

const FOLDERS = ["/etc", "/var/lib/kubelet"];
const OF_PEOPLE = ".kube";
const LEFT_OUT = /^\/var\/lib\/kubelet\/(pods|plugins|device-plugins|checkpoints)$/;

/**
 * The small files of this node in which programs and people write where they go, and whom they trust, each with its
 * path. Links are not followed: what they point to is looked at where it lies. Pods' volumes follow their objects.
 */
export function* textsHere(): Generator<{ path: string; text: string }> {
  const homes = ["/root", ...list("/home").map((name) => `/home/${name}`)];
  for (const folder of [...FOLDERS, ...homes.map((home) => `${home}/${OF_PEOPLE}`)].filter(isFolder))
    yield* textsBelow(folder);
}

/** Whether it is a folder, and no link to one. */
export function isFolder(path: string): boolean {
  return infoOf(path)?.isDirectory() === true;
}

/** Whether root has made it, or has taken it over; where this does not run as root, who runs it. */
export function isRoots(path: string): boolean {
  const uid = infoOf(path)?.uid;
  return uid === 0 || (uid !== undefined && uid === process.getuid?.());
}

function infoOf(path: string): Stats | undefined {
  return gone(() => lstatSync(hostEntry(path)));
}

function* textsBelow(folder: string): Generator<{ path: string; text: string }> {
  for (const name of list(folder)) {
    const path = `${folder}/${name}`;
    if (isFolder(path)) {
      if (!LEFT_OUT.test(path)) yield* textsBelow(path);
      continue;
    }
    const text = unlinkedText(hostEntry(path));
    if (text !== undefined) yield { path, text };
  }
}
