/**
 * Reads and writes files of a node. A power cut at any moment leaves the old file or the new one, never half
 * of one.
 *
 * Every path is the node's own (`/etc/kubernetes/pki/ca.crt`), below the root that `setRoot` names. In a dry
 * run nothing is written: writes go into an overlay that later reads see. Content is never printed. All of it
 * is synchronous: the files are small, and their order on disk is the point.
 */
import * as fs from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { attempt, codeOf, Fail } from "../fail.ts";
import { act, did, mode as run, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { told } from "../this-run.ts";
import {
  contentAt,
  contentPath,
  entryAt,
  hostEntry,
  hostPath,
  lookUp,
  note,
  overlayNames,
  tryFile,
} from "./root.ts";

export { hostEntry, hostPath, setRoot } from "./root.ts";

/** `mode` is the permission bits (0o600), `size` is in bytes. */
interface FileInfo {
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

export type Ownership = Pick<FileInfo, "uid" | "gid" | "mode">;

export interface WriteOptions {
  /** Permission bits. Without it an existing file keeps its own, and a new one gets 0600. */
  mode?: number | undefined;
  /** Printed in brackets after the path: `wrote PATH (note)`. Never a secret. */
  note?: string | undefined;
  /** Permission bits of parent folders that have to be made. Default 0755. */
  folderMode?: number | undefined;
  /** An existing file may be somebody else's: a link is replaced, not followed, and no owner is kept. */
  replace?: boolean | undefined;
}

export function exists(path: string): boolean {
  return stat(path) !== undefined;
}

/** Follows links; undefined if there is nothing, or a link to nothing. Fails if it may not look. */
export function stat(path: string): FileInfo | undefined {
  const place = contentAt(path);
  if (place.kind === "file")
    return { mode: place.mode, size: place.bytes.length, kind: "file", uid: 0, gid: 0, ...madeNow() };
  const info = place.kind === "disk" ? tryFile("look at", path, () => fs.statSync(place.host)) : undefined;
  // a file that was moved or copied in memory is changed by that
  if (info)
    return { ...fileInfo(info), ...(place.kind === "disk" && place.isMoved && { changed: new Date() }) };
  if (![...overlayNames(place.at).values()].includes(true)) return undefined;
  return { kind: "dir", mode: 0o755, uid: 0, gid: 0, size: 0, ...madeNow() };
}

function madeNow() {
  const now = new Date();
  return { modified: now, changed: now };
}

/** Undefined if there is no such file. Fails if it may not read. */
export function readBytes(path: string): Uint8Array | undefined {
  const place = contentAt(path);
  if (place.kind === "file") return place.bytes;
  return place.kind === "gone" ? undefined : tryFile("read", path, () => fs.readFileSync(place.host));
}

export function readText(path: string): string | undefined {
  const bytes = readBytes(path);
  return bytes && Buffer.from(bytes).toString("utf8");
}

/** The names in a folder, sorted; none if there is no such folder. */
export function list(folder: string): string[] {
  const place = contentAt(folder);
  const onDisk =
    place.kind === "disk" ? tryFile("list", folder, () => fs.readdirSync(place.host)) : undefined;
  const names = new Set(onDisk);
  for (const [name, there] of overlayNames(place.at)) there ? names.add(name) : names.delete(name);
  return [...names].sort();
}

/**
 * Writes a file beside and renames it into place; says `wrote PATH (note)`, or `unchanged PATH` if content
 * and mode are equal already, and returns whether it wrote.
 *
 * The copy beside is 0600 from its first byte, starts with a dot (the kubelet skips dot files in its
 * manifests folder) and is on disk before it gets the name. An existing file keeps its owner. A link stays:
 * the file it points to is replaced. A dead link is refused, because its target (on a mount, say) may come
 * back.
 */
export function writeFile(path: string, content: string | Uint8Array, options: WriteOptions = {}): boolean {
  const pending = prepare(path, content, options);
  pending?.commit();
  return pending !== undefined;
}

export type FileChange = WriteOptions & { path: string; content: string | Uint8Array };

/**
 * As `writeFile`, but all of them are on disk beside their places before the first one gets its name: a full disk, or
 * a folder that cannot be written, changes none. Returns the paths it wrote.
 */
export function writeTogether(files: readonly FileChange[]): string[] {
  const pending: Pending[] = [];
  try {
    for (const { path, content, ...options } of files) {
      const one = prepare(path, content, options);
      if (one) pending.push(one);
    }
    for (const { commit } of pending) commit();
    return pending.map(({ path }) => path);
  } finally {
    // what has its place is no longer there
    for (const { discard } of pending) discard();
  }
}

/** A write whose content is beside its place already. */
interface Pending {
  path: string;
  commit: () => void;
  discard: () => void;
}

function prepare(path: string, content: string | Uint8Array, options: WriteOptions): Pending | undefined {
  const bytes = Buffer.from(content);
  const old = stat(path);
  if (old && old.kind !== "file")
    throw new Fail(`Cannot write ${path}: it is not a file`, {
      hint: shell`look at it with: ls -ld ${path}`,
    });
  const mode = options.mode ?? old?.mode ?? 0o600;
  if (old && old.mode === mode && bytes.equals(readBytes(path)!)) {
    say(`unchanged ${path}`);
    return undefined;
  }
  const target = options.replace ? resolve("/", path) : contentPath(path);
  if (target !== resolve("/", path) && !old)
    throw new Fail(`Cannot write ${path}: it is a link to ${target}, which is not there`, {
      hint: shell`bring ${target} back, or remove the link: rm ${path}`,
    });
  const line = `${path}${options.note ? ` (${options.note})` : ""}`;
  if (run.dryRun) {
    const commit = () => {
      note(target, { kind: "file", bytes, mode });
      say(`${did("write")} ${line}`);
    };
    return { path, commit, discard: () => undefined };
  }
  const host = options.replace ? hostEntry(target) : hostPath(target);
  const partial = tryFile(
    "write",
    path,
    () =>
      writeTemporary(host, bytes, {
        mode,
        old: options.replace ? undefined : old,
        folderMode: options.folderMode ?? 0o755,
      }),
    true,
  )!;
  const discard = () => fs.rmSync(partial, { force: true });
  const commit = () => {
    tryFile("write", path, () => renameInto(partial, host), true);
    told({ what: "file", did: "wrote", path, isNew: !old, mode, bytes });
    say(`${did("write")} ${line}`);
  };
  return { path, commit, discard };
}

/** A link's target gets it. Says nothing. */
export function giveTo(path: string, { uid, gid, mode }: Ownership) {
  const give = () => {
    fs.chownSync(hostPath(contentPath(path)), uid, gid);
    fs.chmodSync(hostPath(contentPath(path)), mode);
  };
  tryFile("change the owner of", path, give, true);
}

/** As `giveTo`, and says so. `why`: after its path. Errors: as `giveTo`. */
export function setOwner(path: string, owner: Ownership, why: string) {
  const { uid, gid, mode } = owner;
  if (run.dryRun) note(contentPath(path), { kind: "file", bytes: readBytes(path)!, mode });
  else giveTo(path, owner);
  const line = `${did("set")} owner ${uid}:${gid}, mode 0${mode.toString(8)} of ${path}: ${why}`;
  told({ what: "act", line });
  say(line);
}

/** Makes a symbolic link, in place of one that may be there; says so. `target`: as it is written into the link. */
export async function pointLink(path: string, target: string, words = target) {
  if (run.dryRun) note(resolve("/", path), { kind: "link", target: resolve("/", dirname(path), target) });
  await act("point", `${path} to ${words}`, () => {
    const link = hostEntry(path);
    makeFolder(dirname(link), 0o755);
    fs.symlinkSync(target, `${link}.new`);
    fs.renameSync(`${link}.new`, link);
  });
}

/** Removes a file or a link (not what it points to); says so, and returns whether there was one. */
export function removeFile(path: string): boolean {
  const host = hostEntry(path);
  const place = lookUp(resolve("/", path));
  const found = place.kind === "file" || (place.kind === "disk" && entryAt(path) !== undefined);
  if (!found) return false;
  const remove = () => {
    fs.unlinkSync(host);
    sync(dirname(host));
  };
  if (run.dryRun) note(resolve("/", path), { kind: "gone" });
  else tryFile("remove", path, remove, true);
  told({ what: "file", did: "removed", path });
  say(`${did("remove")} ${path}`);
  return true;
}

/** Stays in its folder, over one that may be there. Errors: Fail if there is none to rename. */
export function renameFile(from: string, to: string) {
  const content = readBytes(from);
  const mode = stat(from)?.mode;
  if (!content || mode === undefined)
    throw new Fail(`There is no "${from}"`, { hint: shell`ls -la ${dirname(from)}` });
  if (run.dryRun) {
    note(resolve("/", from), { kind: "gone", to: resolve("/", to) });
    note(resolve("/", to), { kind: "file", bytes: Buffer.from(content), mode });
  } else tryFile("rename", from, () => renameInto(hostEntry(from), hostEntry(to)), true);
  told({ what: "file", did: "renamed", path: from, to });
  say(`${did("rename")} ${from} to ${basename(to)}`);
}

export interface Mark {
  /** ISO time. */
  made: string;
}

export function writeMark<T extends Mark>(path: string, mark: T, note: string) {
  writeFile(path, `${JSON.stringify(mark, null, 2)}\n`, { mode: 0o644, note });
}

/** Undefined if there is none, or if it cannot be read. */
export function readMark<T extends Mark>(path: string): T | undefined {
  const mark = attempt(() => readKeptJson<T | null>(path), undefined);
  return mark && !Number.isNaN(Date.parse(mark.made)) ? mark : undefined;
}

/** An earlier run of this kit has saved it. Errors: Fail if it cannot be read. */
export function readKeptJson<T>(path: string): T | undefined {
  const text = readText(path);
  try {
    return text === undefined ? undefined : (JSON.parse(text) as T);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new Fail(`"${path}", which a run of this kit has saved, is no JSON: ${cause.message}`, {
      hint: shell`bring it back from a copy, or do without it: mv ${path} ${path}.bad`,
      cause,
    });
  }
}

/*
 * The steps of a write, on paths of this machine. Each is on disk when it returns. Errors: as node:fs.
 *
 * A file or a folder is made beside its place, so that a rename puts it there whole. A run that was cut off
 * may leave such a copy: nothing reads it, but it may hold a key, or be as large as etcd's data. Its ending
 * shows that it is the kit's, and it is never the only copy of anything.
 */

/** Makes a file's content, or what was renamed, made or removed in a folder, survive a power cut. */
export function sync(host: string) {
  const fd = fs.openSync(host, fs.constants.O_RDONLY);
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
  sync(dirname(hostFolder));
}

/** All of the bytes, at `position` of an open file; one write may take fewer. */
export function writeAt(file: number, bytes: Uint8Array, position: number) {
  for (let done = 0; done < bytes.length; )
    done += fs.writeSync(file, bytes, done, bytes.length - done, position + done);
}

/** Returns the path of the copy beside `host`: on disk, with the mode and owner it is to have. */
export function writeTemporary(
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
  sync(dirname(host));
}

function fileInfo(info: fs.Stats): FileInfo {
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
    if (/^\d+$/.test(pid) && (Number(pid) === process.pid || !processRuns(Number(pid))))
      fs.rmSync(join(folder, name), { recursive: true, force: true });
  }
  return join(folder, `${prefix}${process.pid}${UNFINISHED}`);
}

/** Another user could redirect a removal to any path. */
function isOthers(host: string): boolean {
  const uid = process.getuid?.();
  return uid !== undefined && fs.lstatSync(host, { throwIfNoEntry: false })?.uid !== uid;
}

/** Laptops that pack the kit may have no /proc. */
export function processRuns(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (err) {
    return codeOf(err) === "EPERM";
  }
}

/**
 * Removes all below a folder, but not in its folders `except`, and says so. No other run may write there
 * meanwhile.
 */
export function removeLeftOvers(folder: string, except: readonly string[] = []) {
  const list = () => fs.readdirSync(hostEntry(folder), { withFileTypes: true });
  for (const entry of tryFile("list", folder, list) ?? []) {
    const path = join(folder, entry.name);
    if (entry.name.endsWith(UNFINISHED)) {
      fs.rmSync(hostEntry(path), { recursive: true, force: true });
      told({ what: "file", did: "removed", path });
      say(`removed ${path} (not whole: a run was cut off here)`);
    } else if (entry.isDirectory() && !except.includes(path)) removeLeftOvers(path);
  }
}
