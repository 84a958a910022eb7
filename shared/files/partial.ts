/**
 * Where a file or a folder is made before it gets its name: beside it, so that a rename puts it there whole. What a run that was cut off leaves
 * there nothing reads, but it may hold a key, or be as large as etcd's data. By its ending it is known as the kit's own, and is never the only
 * copy of anything.
 */
import { lstatSync, readdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { say } from "../run.ts";
import { told } from "../run-events.ts";
import { hostEntry } from "./root.ts";

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

/** Removes all below a folder, but not in its folders `except`, and says so. No other run may write there meanwhile. */
export function removeLeftOvers(folder: string, except: readonly string[] = []) {
  for (const entry of entriesOf(hostEntry(folder))) {
    const path = join(folder, entry.name);
    if (entry.name.endsWith(UNFINISHED)) {
      rmSync(hostEntry(path), { recursive: true, force: true });
      told({ what: "file", did: "removed", path });
      say(`removed ${path} (not whole: a run was cut off here)`);
    } else if (entry.isDirectory() && !except.includes(path)) removeLeftOvers(path);
  }
}

function entriesOf(host: string) {
  try {
    return readdirSync(host, { withFileTypes: true });
  } catch (err) {
    if (err instanceof Error && "code" in err && ["ENOENT", "ENOTDIR"].includes(String(err.code))) return [];
    throw err;
  }
}
