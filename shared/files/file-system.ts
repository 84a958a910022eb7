/**
 * The kernel tells of a place: mounts as a process sees them, by /proc/PID/mountinfo (proc_pid_mountinfo(5)); SELinux,
 * which gives a new file below /etc the label of its folder, and not always one that containers may read; whether a step
 * has enough room there for its small files, and enough memory, so that the kernel does not end this process.
 */
import * as fs from "node:fs";
import { dirname, join } from "node:path";
import { Fail } from "../fail.ts";
import { shell } from "../shell-line.ts";
import { readText } from "./files.ts";
import { contentPath, hostPath, isBelow, nearestPlace, tryFile } from "./root.ts";
import { hostText } from "./untrusted-file.ts";

interface Mount {
  /** `major:minor` of its file system. */
  device: string;
  /** The folder of the file system that is mounted. */
  root: string;
  at: string;
  type: string;
}

/** The kernel appends this to a mounted file or folder that was deleted (fs/d_path.c). */
const DELETED = /\/\/deleted$/;

/** The mounts that a process sees; none if it has ended. */
export function mountsOf(pid: number | "self"): Mount[] {
  const lines = (hostText(`/proc/${pid}/mountinfo`) ?? "").split("\n").filter(Boolean);
  return lines.map((line) => {
    const [, , device = "", root = "", at = ""] = line.split(" ").map(unescaped);
    return { device, root: root.replace(DELETED, ""), at, type: line.split(" - ")[1]?.split(" ")[0] ?? "" };
  });
}

/**
 * The deepest mount above a path, as that process sees it; of several at one path the last, which hides the
 * others.
 */
function mountAt(pid: number | "self", path: string): Mount | undefined {
  let deepest: Mount | undefined;
  for (const mount of mountsOf(pid))
    if (isBelow(path, mount.at) && mount.at.length >= (deepest?.at.length ?? 0)) deepest = mount;
  return deepest;
}

/**
 * Whether files there vanish when the machine is off, and need no shredding. False if this machine does not
 * say.
 */
export function isInMemory(path: string): boolean {
  return ["tmpfs", "ramfs"].includes(mountAt("self", contentPath(path))?.type ?? "");
}

/** A path of this process as the node's first process sees it; undefined if that has no such mount. */
export function onHost(pid: number, path: string): string | undefined {
  const mount = mountAt(pid, path);
  if (!mount) return undefined;
  const below = join(mount.root, path.slice(mount.at === "/" ? 0 : mount.at.length));
  const outside = mountsOf(1).find(({ device, root }) => device === mount.device && isBelow(below, root));
  return outside && join(outside.at, below.slice(outside.root === "/" ? 0 : outside.root.length));
}

/** Errors: as `refuseUnwritable`; Fail if one of the files is a mount of its own: rename(2) replaces none (EBUSY). */
export function refuseFixed(files: readonly string[]) {
  refuseUnwritable(files);
  const mounted = mountsOf("self").map(({ at }) => at);
  const file = files.find((path) => mounted.includes(contentPath(path)));
  if (file === undefined) return;
  throw new Fail(`Cannot replace "${file}": it is a mount of its own`, {
    unchanged: true,
    hint: `see what mounts it: ${shell`findmnt ${file}`}. Take it out there, ${shell`umount ${file}`}, then run the same line again`,
  });
}

/** Spaces, tabs, line breaks and backslashes are octal there. */
function unescaped(word: string): string {
  return word.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/**
 * A hint for a container that does not start, with more if SELinux enforces: only its audit log names the
 * denial.
 */
export function withSelinux(hint: string): string {
  return selinuxEnforces() ? `${hint}. ${ENFORCES}` : hint;
}

export function selinuxEnforces(): boolean {
  return readText("/sys/fs/selinux/enforce")?.trim() === "1";
}

const ENFORCES =
  "SELinux enforces here: ausearch -m avc -ts recent; restorecon -R /etc/kubernetes, or your own chcon again";

/**
 * The most that a part writes into one folder. A control plane node has about 50 files of kubeadm's, 300 KB
 * in blocks of 4 KB, and each exists twice for a moment. The rest is for others' writes meanwhile.
 */
const SMALL = { bytes: 4e6, inodes: 100 };

/**
 * `paths`: folders, and files to be replaced: a file in a writable folder may be immutable (chattr +i, for which
 * access(2) says EPERM). Errors: Fail if one, or its nearest existing folder, is read-only, or if the small files of
 * a part, or `bytes`, do not fit.
 */
export function refuseUnwritable(
  paths: readonly string[],
  { bytes = SMALL.bytes, inodes = SMALL.inodes } = {},
) {
  const places = [...new Set(paths.map(nearestPlace))];
  for (const place of places)
    tryFile("write to", place, () => fs.accessSync(hostPath(place), fs.constants.W_OK), true);
  for (const folder of new Set(places.map(folderOf))) {
    const { bavail, bsize, files, ffree } = fs.statfsSync(hostPath(folder));
    if (bavail * bsize < bytes)
      throw noRoomIn(folder, `${megabytes(bytes)} MB are needed, ${megabytes(bavail * bsize)} MB are free`);
    // btrfs makes inodes as it needs them, and counts none
    if (files > 0 && ffree < inodes) throw noRoomIn(folder, `${inodes} inodes are needed, ${ffree} are free`);
  }
}

function folderOf(place: string): string {
  return fs.statSync(hostPath(place)).isDirectory() ? place : dirname(place);
}

function noRoomIn(folder: string, why: string): Fail {
  return new Fail(`No room in "${folder}": ${why}`, {
    unchanged: true,
    hint: `make room there (${shell`df -h ${folder}; df -i ${folder}`}); then run the same line again`,
  });
}

/** "1,234" */
export function megabytes(bytes: number): string {
  return Math.ceil(bytes / 1e6).toLocaleString("en-US");
}

const MEMINFO = "/proc/meminfo";
const OWN = "/proc/self/cgroup";

/**
 * Bytes that a script takes, with its Bun and its part of etcd's data: measured in cgroups, with 823 MB and
 * 200,000 keys.
 */
export const NEED = 112 * 2 ** 20;

interface Need {
  /** Bytes, beside those that this process has already. Default: what etcd's data takes. */
  need?: number;
  /** Another way, for the operator. */
  orElse?: string;
}

/**
 * `todo`: "read etcd's data". Errors: Fail if the kernel would end this process before it has done that.
 */
export function refuseNoMemory(todo: string, { need = NEED, orElse }: Need = {}) {
  const free = freeMemory();
  if (free === undefined || free.bytes >= need) return;
  const [needed, have] = [need, free.bytes].map(megabytes);
  const way =
    free.of === MEMINFO ? "see what takes it: ps aux --sort=-rss | head. Make room, or add swap" : OUTSIDE;
  throw new Fail(`Not enough memory to ${todo}: ${needed} MB are needed, ${have} MB are free (${free.of})`, {
    unchanged: true,
    hint: `${way}; then run the same line again${orElse ? `. ${orElse}` : ""}`,
  });
}

const OUTSIDE = "Run it outside that limit, from another login";

interface Room {
  bytes: number;
  of: string;
}

/** The least of all limits. Undefined if this machine does not tell. */
function freeMemory(): Room | undefined {
  const meminfo = readText(MEMINFO) ?? "";
  const lines = [...meminfo.matchAll(/^(\w+): +(\d+) kB$/gm)];
  const kilobytes = (wanted: string) => Number(lines.find(([, name]) => name === wanted)?.[2] ?? Number.NaN);
  const all = [
    { bytes: (kilobytes("MemAvailable") + (kilobytes("SwapFree") || 0)) * 1024, of: MEMINFO },
    ...limits(),
  ];
  return all.filter(({ bytes }) => !Number.isNaN(bytes)).sort((a, b) => a.bytes - b.bytes)[0];
}

const V1 = { at: "/sys/fs/cgroup/memory", max: "memory.limit_in_bytes", now: "memory.usage_in_bytes" };
const V2 = { at: "/sys/fs/cgroup", max: "memory.max", now: "memory.current" };

/**
 * The limits of this process's cgroups and those above: cgroup v2 (memory.max) and v1
 * (memory.limit_in_bytes), Linux' admin-guide. The kernel frees the page cache there in time.
 */
function limits(): Room[] {
  return (readText(OWN) ?? "").split("\n").flatMap((line) => {
    const [, controllers = "none", path = "/"] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    const version = controllers === "" ? V2 : controllers.split(",").includes("memory") ? V1 : undefined;
    return version ? foldersAbove(path).map((folder) => limitOf(folder, version)) : [];
  });
}

/** Bytes that are free in one; NaN if it has no limit. */
function limitOf(folder: string, { at, max, now }: typeof V1): Room {
  const text = (name: string) => readText(`${at}${folder}/${name}`) ?? "";
  const cache = Number(/^(?:total_)?inactive_file (\d+)$/m.exec(text("memory.stat"))?.[1] ?? 0);
  const used = Number.parseInt(text(now), 10) - cache;
  return { bytes: Number.parseInt(text(max), 10) - used, of: `${at}${folder}/${max}` };
}

/** "/a/b" → "/a/b", "/a", "" */
function foldersAbove(path: string): string[] {
  return path.length <= 1 ? [""] : [path, ...foldersAbove(dirname(path))];
}
