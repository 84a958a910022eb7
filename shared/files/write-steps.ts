/** The steps of which a write consists, on paths of this machine. Each is on disk when it returns. Errors: as node:fs. */
import * as fs from "node:fs";
import { dirname } from "node:path";
import { freshPartial } from "./partial.ts";

/** `mode` is the permission bits (0o600), `size` is in bytes. */
export interface FileInfo {
  kind: "file" | "dir" | "link" | "other";
  mode: number;
  uid: number;
  gid: number;
  size: number;
  modified: Date;
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

/** Makes a folder (of this machine) and its parents with `mode`, whatever the umask; those that exist stay as they are. */
export function makeFolder(hostFolder: string, mode: number) {
  if (fs.existsSync(hostFolder)) return;
  makeFolder(dirname(hostFolder), mode);
  fs.mkdirSync(hostFolder, { mode });
  fs.chmodSync(hostFolder, mode);
  syncFolder(dirname(hostFolder));
}

/** Returns the path of the copy beside `host`: on disk, with the mode and owner it is to have. */
export function writeBeside(
  host: string,
  bytes: Uint8Array,
  { mode, old, folderMode }: { mode: number; old: FileInfo | undefined; folderMode: number },
): string {
  makeFolder(dirname(host), folderMode);
  const beside = freshPartial(host);
  try {
    const fd = fs.openSync(beside, fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_EXCL, 0o600);
    try {
      fs.writeFileSync(fd, bytes);
      if (old && (old.uid !== process.getuid?.() || old.gid !== process.getgid?.())) fs.fchownSync(fd, old.uid, old.gid);
      fs.fchmodSync(fd, mode);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    return beside;
  } catch (err) {
    fs.rmSync(beside, { force: true });
    throw err;
  }
}

/** Errors: as `rename`; nothing is left beside then. */
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
  return { kind, mode: info.mode & 0o7777, uid: info.uid, gid: info.gid, size: info.size, modified: info.mtime };
}
