/**
 * The kernel's own about a path: mounts as a process sees them, by /proc/PID/mountinfo
 * (proc_pid_mountinfo(5)), and SELinux, which gives a new file below /etc the label of its folder, and not
 * always one that containers may read.
 */
import { Fail } from "../fail.ts";
import { shell } from "../shell-line.ts";
import { readText } from "./files.ts";
import { refuseUnwritable } from "./room.ts";
import { contentPath } from "./root.ts";
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

export function isBelow(path: string, folder: string): boolean {
  return folder === "/" || path === folder || path.startsWith(`${folder}/`);
}

function join(folder: string, rest: string): string {
  return `${folder === "/" ? "" : folder}${rest}` || "/";
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
