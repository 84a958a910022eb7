/**
 * Whole folders: copied for the rescue folder, or moved aside before something new takes their place. Nothing here deletes the only copy of
 * anything.
 */
import * as fs from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { Fail } from "../fail.ts";
import { mode as run, say } from "../run.ts";
import { told } from "../run-events.ts";
import { exists } from "./files.ts";
import { makeFolder, syncFolder } from "./host-files.ts";
import { lookUp, note } from "./overlay.ts";
import { UNFINISHED } from "./partial.ts";
import { contentPath, hostEntry } from "./root.ts";
import { tryFile } from "./try-file.ts";

/** Folders made for copies hold keys: nobody but root looks into them. */
const PRIVATE_FOLDER = 0o700;

/**
 * Copies a file or a folder with mode, owner and times, and says so. It grows under another name and is renamed when all of it is on disk,
 * so a copy that was cut off is never taken for a complete one; a left-over is begun again. An existing `to` is kept as it is.
 * Links are copied as links; sockets and pipes are left out, with a message. Returns whether it copied.
 */
export function copyTree(from: string, to: string): boolean {
  if (exists(to)) {
    say(`${to}: kept`);
    return false;
  }
  if (!exists(from)) throw new Fail(`Cannot copy ${from}: it is not there`, { hint: `look for it with: ls -la ${dirname(from)}` });
  if (run.dryRun) noteCopy(from, to);
  else tryFile("copy", from, () => copyWhole(hostEntry(from), hostEntry(to)), true, to);
  told({ what: "file", did: "copied", path: from, to });
  say(`${run.dryRun ? "would copy" : "copied"} ${from} to ${to}`);
  return true;
}

/**
 * Moves a file or a folder below `folder`, under its whole old path (`FOLDER/etc/kubernetes/pki/ca.crt`; `.1`, `.2` … where that is taken),
 * and says so. Returns the new path, undefined where there was nothing to move.
 */
export function moveAside(path: string, folder: string): string | undefined {
  if (!exists(path) && !isLink(path)) return undefined;
  const to = freeName(join(folder, resolve("/", path)));
  if (run.dryRun) {
    noteCopy(path, to);
    note(resolve("/", path), { kind: "gone" });
  } else tryFile("move", path, () => moveEntry(hostEntry(path), hostEntry(to)), true, to);
  told({ what: "file", did: "moved", path, to });
  say(`${run.dryRun ? "would move" : "moved"} ${path} to ${to}`);
  return to;
}

/** Copies a file to where `moveAside` would move it, before it is replaced: the file is never missing. Of a link, what it points to. */
export function copyAside(path: string, folder: string): string {
  const from = contentPath(path);
  const to = freeName(join(folder, from));
  copyTree(from, to);
  return to;
}

/** Whether two files or folders are equal: content, mode and owner of all that is in them. Times do not count. */
export function sameTree(a: string, b: string): boolean {
  return tryFile("compare", b, () => sameEntry(hostEntry(a), hostEntry(b))) ?? false;
}

function sameEntry(a: string, b: string): boolean {
  const [one, other] = [fs.lstatSync(a), fs.lstatSync(b)];
  if (one.mode !== other.mode || one.uid !== other.uid || one.gid !== other.gid) return false;
  if (one.isSymbolicLink()) return fs.readlinkSync(a) === fs.readlinkSync(b);
  if (one.isFile()) return one.size === other.size && fs.readFileSync(a).equals(fs.readFileSync(b));
  if (!one.isDirectory()) return true;
  const names = fs.readdirSync(a).sort();
  return names.join("\n") === fs.readdirSync(b).sort().join("\n") && names.every((name) => sameEntry(join(a, name), join(b, name)));
}

function noteCopy(from: string, to: string) {
  const place = lookUp(resolve("/", from));
  note(resolve("/", to), place.kind === "disk" ? { kind: "tree", source: place.path } : place);
}

function freeName(path: string): string {
  for (let n = 0; ; n++) {
    const name = n === 0 ? path : `${path}.${n}`;
    if (!exists(name) && !isLink(name)) return name;
  }
}

function isLink(path: string): boolean {
  return tryFile("look at", path, () => fs.lstatSync(hostEntry(path)))?.isSymbolicLink() === true && lookUp(path).kind === "disk";
}

function copyWhole(from: string, to: string) {
  makeFolder(dirname(to), PRIVATE_FOLDER);
  const partial = `${to}${UNFINISHED}`;
  fs.rmSync(partial, { recursive: true, force: true });
  try {
    copyEntry(from, partial);
    fs.renameSync(partial, to);
  } catch (err) {
    fs.rmSync(partial, { recursive: true, force: true });
    throw err;
  }
  syncFolder(dirname(to));
}

/** A rename where that is possible; across file systems a whole copy first, and only then the removal. */
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

function copyEntry(from: string, to: string) {
  const info = fs.lstatSync(from);
  if (info.isSymbolicLink()) fs.symlinkSync(fs.readlinkSync(from), to);
  else if (info.isFile()) copyFile(from, to);
  else if (info.isDirectory()) copyFolder(from, to);
  else return say(`${from}: not copied (neither file, folder nor link: ${basename(from)})`);
  fs.lchownSync(to, info.uid, info.gid);
  if (info.isSymbolicLink()) return;
  fs.chmodSync(to, info.mode & 0o7777);
  fs.utimesSync(to, info.atime, info.mtime);
}

function copyFolder(from: string, to: string) {
  fs.mkdirSync(to, { mode: PRIVATE_FOLDER });
  for (const name of fs.readdirSync(from)) copyEntry(join(from, name), join(to, name));
  syncFolder(to);
}

/** The copy is never more open than the file; shares the blocks where the file system can (etcd's data may be gigabytes). */
function copyFile(from: string, to: string) {
  fs.closeSync(fs.openSync(to, fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_WRONLY, 0o600));
  fs.copyFileSync(from, to, fs.constants.COPYFILE_FICLONE);
  const fd = fs.openSync(to, fs.constants.O_RDONLY);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
