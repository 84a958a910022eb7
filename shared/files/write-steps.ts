/**
 * The steps of a write, on paths of this machine. Each is on disk when it returns. Errors: as node:fs.
 *
 * A file or a folder is made beside its place, so that a rename puts it there whole. A run that was cut off
 * may leave such a copy: nothing reads it, but it may hold a key, or be as large as etcd's data. Its ending
 * shows that it is the kit's, and it is never the only copy of anything.
 */
import * as fs from "node:fs";
import { basename, dirname, join } from "node:path";
import { say } from "../run.ts";
import { told } from "../this-run.ts";
import { hostEntry } from "./root.ts";

/** `mode` is the permission bits (0o600), `size` is in bytes. */
export interface FileInfo {
  kind: "file" | "dir" | "link" | "other";
  mode: number;
  uid: number;
  gid: number;
  size: number;
  /** When its content was written; a copied or unpacked file may have another machine's time. */
  modified: Date;
  /**
   * Since when this inode is unchanged: a rename, a copy, a new owner or mode count, too. Nobody can set it.
   */
  changed: Date;
}

/** Makes what was renamed, made or removed in a folder (of this machine) survive a power cut. */
export function syncFolder(hostFolder: string) {
  const fd = fs.openSync(hostFolder, fs.constants.O_RDONLY);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/**
 * Makes a folder (of this machine) and its parents with `mode`, whatever the umask; those that exist stay as
 * they are.
 */
export function makeFolder(hostFolder: string, mode: number) {
  if (fs.existsSync(hostFolder)) return;
  makeFolder(dirname(hostFolder), mode);
  fs.mkdirSync(hostFolder, { mode });
  fs.chmodSync(hostFolder, mode);
  syncFolder(dirname(hostFolder));
}

/** All of the bytes, at `position` of an open file; one write may take fewer. */
export function writeAt(file: number, bytes: Uint8Array, position: number) {
  for (let done = 0; done < bytes.length; )
    done += fs.writeSync(file, bytes, done, bytes.length - done, position + done);
}

/** Returns the path of the copy beside `host`: on disk, with the mode and owner it is to have. */
export function writeBeside(
  host: string,
  bytes: Uint8Array,
  { mode, old, folderMode }: { mode: number; old: FileInfo | undefined; folderMode: number },
): string {
  makeFolder(dirname(host), folderMode);
  const partial = freshPartial(host);
  try {
    const fd = fs.openSync(
      partial,
      fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_EXCL,
      0o600,
    );
    try {
      fs.writeFileSync(fd, bytes);
      if (old && (old.uid !== process.getuid?.() || old.gid !== process.getgid?.()))
        fs.fchownSync(fd, old.uid, old.gid);
      fs.fchmodSync(fd, mode);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    return partial;
  } catch (err) {
    fs.rmSync(partial, { force: true });
    throw err;
  }
}

/** Errors: as `rename`; then nothing is left beside it. */
export function renameInto(beside: string, host: string) {
  try {
    fs.renameSync(beside, host);
  } catch (err) {
    fs.rmSync(beside, { force: true });
    throw err;
  }
  syncFolder(dirname(host));
}

/** A file or a link. */
export function removeEntry(host: string) {
  fs.unlinkSync(host);
  syncFolder(dirname(host));
}

export function fileInfo(info: fs.Stats): FileInfo {
  const kind = info.isFile() ? "file" : info.isDirectory() ? "dir" : info.isSymbolicLink() ? "link" : "other";
  return {
    kind,
    mode: info.mode & 0o7777,
    uid: info.uid,
    gid: info.gid,
    size: info.size,
    modified: info.mtime,
    changed: info.ctime,
  };
}

/** The ending of every unfinished file. No other program uses it. */
export const UNFINISHED = ".kube-pki-repair.partial";

/**
 * A free path beside `host`, a path of this machine whose folder exists. Removes left-overs of runs that were
 * cut off: ours, and those of processes that no longer run.
 */
export function freshPartial(host: string): string {
  const [folder, prefix] = [dirname(host), `.${basename(host)}.`];
  for (const name of fs.readdirSync(folder)) {
    if (!name.startsWith(prefix) || !name.endsWith(UNFINISHED) || isOthers(join(folder, name))) continue;
    const pid = name.slice(prefix.length, -UNFINISHED.length);
    if (/^\d+$/.test(pid) && (Number(pid) === process.pid || !runs(Number(pid))))
      fs.rmSync(join(folder, name), { recursive: true, force: true });
  }
  return join(folder, `${prefix}${process.pid}${UNFINISHED}`);
}

/** Whether the folder is another user's, who could redirect a removal to any path. */
function isOthers(host: string): boolean {
  const uid = process.getuid?.();
  return uid !== undefined && fs.lstatSync(host, { throwIfNoEntry: false })?.uid !== uid;
}

/** Laptops that pack the kit may have no /proc. */
function runs(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (err) {
    return err instanceof Error && "code" in err && err.code === "EPERM";
  }
}

/**
 * Removes all below a folder, but not in its folders `except`, and says so. No other run may write there
 * meanwhile.
 */
export function removeLeftOvers(folder: string, except: readonly string[] = []) {
  for (const entry of entriesOf(hostEntry(folder))) {
    const path = join(folder, entry.name);
    if (entry.name.endsWith(UNFINISHED)) {
      fs.rmSync(hostEntry(path), { recursive: true, force: true });
      told({ what: "file", did: "removed", path });
      say(`removed ${path} (not whole: a run was cut off here)`);
    } else if (entry.isDirectory() && !except.includes(path)) removeLeftOvers(path);
  }
}

function entriesOf(host: string) {
  try {
    return fs.readdirSync(host, { withFileTypes: true });
  } catch (err) {
    if (err instanceof Error && "code" in err && ["ENOENT", "ENOTDIR"].includes(String(err.code))) return [];
    throw err;
  }
}
