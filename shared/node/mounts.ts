/** Where a path of one process's mount namespace lies in another's, by /proc/PID/mountinfo (proc_pid_mountinfo(5)). */
import { hostText } from "../files/untrusted-file.ts";

interface Mount {
  /** `major:minor` of its file system. */
  device: string;
  /** The folder of the file system that is mounted. */
  root: string;
  at: string;
  type: string;
}

/** What the kernel appends to a mounted file or folder that was deleted (fs/d_path.c). */
const DELETED = /\/\/deleted$/;

/** The mounts that a process sees; none where it has ended. */
export function mountsOf(pid: number): Mount[] {
  const lines = (hostText(`/proc/${pid}/mountinfo`) ?? "").split("\n").filter(Boolean);
  return lines.map((line) => {
    const [, , device = "", root = "", at = ""] = line.split(" ").map(unescaped);
    return { device, root: root.replace(DELETED, ""), at, type: line.split(" - ")[1]?.split(" ")[0] ?? "" };
  });
}

/** A path of this process as the node's first process sees it; undefined where that has no such mount. */
export function onHost(pid: number, path: string): string | undefined {
  const mount = mountsOf(pid)
    .filter(({ at }) => isBelow(path, at))
    .sort((a, b) => b.at.length - a.at.length)[0];
  if (!mount) return undefined;
  const inside = join(mount.root, path.slice(mount.at === "/" ? 0 : mount.at.length));
  const outside = mountsOf(1).find(({ device, root }) => device === mount.device && isBelow(inside, root));
  return outside && join(outside.at, inside.slice(outside.root === "/" ? 0 : outside.root.length));
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
