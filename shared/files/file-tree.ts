/**
 * Whole files and folders, moved aside or copied aside before something new takes their place. Nothing here
 * deletes the only copy of anything.
 */
import * as fs from "node:fs";
import { dirname, join, resolve } from "node:path";
import { did, mode as run, say } from "../run.ts";
import { told } from "../run-events.ts";
import { copyTree, copyWhole, isLink, noteCopy, PRIVATE_FOLDER } from "./copy-tree.ts";
import { exists, type FileChange, list, writeTogether } from "./files.ts";
import { contentPath, hostEntry, note, tryFile } from "./root.ts";
import { makeFolder, syncFolder } from "./write-steps.ts";

/**
 * Moves a file or a folder below `folder`, under its whole old path (`FOLDER/etc/kubernetes/pki/ca.crt`;
 * `.1`, `.2` … if that exists), and says so. Moves a link alone: its target stays. `why`, for the record:
 * what is wrong with it. Returns the new path, undefined if there was nothing to move.
 */
export function moveToRescue(path: string, folder: string, why?: string): string | undefined {
  if (!exists(path) && !isLink(path)) return undefined;
  const to = freeName(join(folder, resolve("/", path)));
  const content = isLink(path) && exists(path) ? contentPath(path) : undefined;
  if (run.dryRun) {
    noteCopy(path, to);
    note(resolve("/", path), { kind: "gone" });
  } else tryFile("move", path, () => moveEntry(hostEntry(path), hostEntry(to)), true, to);
  told({ what: "file", did: "moved", path, to, ...(why === undefined ? {} : { why }) });
  say(`${did("move")} ${path} to ${to}${content ? ` (a link: unchanged ${content})` : ""}`);
  return to;
}

/**
 * Copies a file to the path that `moveToRescue` would give it, before it is replaced: the file is never
 * missing. Copies a link's target.
 */
export function copyToRescue(path: string, folder: string): string {
  const from = contentPath(path);
  const to = freeName(join(folder, from));
  copyTree(from, to);
  return to;
}

/** Copies each file below `folder`, then writes all together. Returns the paths. */
export function replaceFiles(changes: readonly FileChange[], folder: string): string[] {
  for (const { path } of changes) copyToRescue(path, folder);
  return writeTogether(changes);
}

/**
 * Makes a file or a folder equal to its copy; `copy` unset: there was none. Only the differing parts are
 * moved below `aside`: on a full disk nothing is lost. A folder stays in place, as a disk may be mounted
 * there (EBUSY).
 */
export function restoreTree(copy: string | undefined, path: string, aside: string) {
  if (copy !== undefined && sameTree(copy, path)) return;
  if (copy !== undefined && isFolder(copy) && isFolder(path)) return restoreEntries(copy, path, aside);
  moveToRescue(path, aside);
  if (copy !== undefined) copyTree(copy, path);
}

function restoreEntries(copy: string, path: string, aside: string) {
  const before = list(copy);
  for (const name of new Set([...before, ...list(path)]))
    restoreTree(before.includes(name) ? join(copy, name) : undefined, join(path, name), aside);
}

function isFolder(path: string): boolean {
  return tryFile("look at", path, () => fs.lstatSync(hostEntry(path)))?.isDirectory() === true;
}

/**
 * Whether two files or folders are equal: content, mode and owner of all that is in them. Times do not count.
 */
function sameTree(a: string, b: string): boolean {
  return tryFile("compare", b, () => sameEntry(hostEntry(a), hostEntry(b))) ?? false;
}

function sameEntry(a: string, b: string): boolean {
  const [one, other] = [fs.lstatSync(a), fs.lstatSync(b)];
  if (one.mode !== other.mode || one.uid !== other.uid || one.gid !== other.gid) return false;
  if (one.isSymbolicLink()) return fs.readlinkSync(a) === fs.readlinkSync(b);
  if (one.isFile()) return one.size === other.size && fs.readFileSync(a).equals(fs.readFileSync(b));
  if (!one.isDirectory()) return true;
  const names = fs.readdirSync(a).sort();
  return (
    names.join("\n") === fs.readdirSync(b).sort().join("\n") &&
    names.every((name) => sameEntry(join(a, name), join(b, name)))
  );
}

export function freeName(path: string): string {
  for (let n = 0; ; n++) {
    const name = n === 0 ? path : `${path}.${n}`;
    if (!exists(name) && !isLink(name)) return name;
  }
}

/** A rename if that is possible; across file systems a whole copy first, and only then the removal. */
function moveEntry(from: string, to: string) {
  makeFolder(dirname(to), PRIVATE_FOLDER);
  try {
    fs.renameSync(from, to);
  } catch (err) {
    if (!(err instanceof Error && "code" in err && err.code === "EXDEV")) throw err;
    copyWhole(from, to);
    fs.rmSync(from, { recursive: true });
  }
  syncFolder(dirname(to));
  syncFolder(dirname(from));
}
