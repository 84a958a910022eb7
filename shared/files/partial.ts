/** Where a file or a folder is made before it gets its name: beside it, so that a rename puts it there whole. */
import { lstatSync, readdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** The ending of everything that is not whole yet. No other program has files that end so. */
export const UNFINISHED = ".kube-pki-repair.partial";

/**
 * The path beside `host`, a path of this machine whose folder is there. Nothing is at it: what runs left that were cut off is removed, ours
 * and those of processes that no longer run.
 */
export function freshPartial(host: string): string {
  const [folder, prefix] = [dirname(host), `.${basename(host)}.`];
  for (const name of readdirSync(folder)) {
    if (!name.startsWith(prefix) || !name.endsWith(UNFINISHED) || isOthers(join(folder, name))) continue;
    const pid = name.slice(prefix.length, -UNFINISHED.length);
    if (/^\d+$/.test(pid) && (Number(pid) === process.pid || !runs(Number(pid))))
      rmSync(join(folder, name), { recursive: true, force: true });
  }
  return join(folder, `${prefix}${process.pid}${UNFINISHED}`);
}

/** In a folder of another user: what he changes while it is removed could lead to any place. */
function isOthers(host: string): boolean {
  const uid = process.getuid?.();
  return uid !== undefined && lstatSync(host, { throwIfNoEntry: false })?.uid !== uid;
}

/** Laptops that pack the kit have no /proc. */
function runs(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (err) {
    return err instanceof Error && "code" in err && err.code === "EPERM";
  }
}
