/**
 * Whole files and folders, moved aside or copied, with mode, owner and times, before something new takes their place.
 * Nothing here deletes the only copy of anything. A copy grows under another name and is renamed when all of it is on
 * disk, so one that was cut off is never taken for a complete one; a left-over is begun again. Sockets and pipes are
 * left out, with a message.
 *
 * A copy that facts are read from, or that is the way back, must hold the content of a link's target: the link
 * alone would show current content. Links between folders of the copy stay links inside it, so no loop of links
 * is followed for ever.
 */
import * as fs from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { codeOf, Fail } from "../fail.ts";
import { listed } from "../plain.ts";
import { Progress } from "../progress.ts";
import { did, mode as run, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { checkSignal, orUndo, RUN_AGAIN, told } from "../this-run.ts";
import { sayWhile } from "../wait-for.ts";
import { megabytes } from "./file-system.ts";
import { exists, type FileChange, list, makeFolder, sync, UNFINISHED, writeTogether } from "./files.ts";
import { isOurs } from "./operator-files.ts";
import {
  contentPath,
  entryAt,
  failOfFile,
  hostEntry,
  hostPath,
  isBelow,
  lookUp,
  nearestPlace,
  note,
  realHost,
  tryFile,
} from "./root.ts";

/**
 * Keeps its whole old path (`FOLDER/etc/kubernetes/pki/ca.crt`; `.1`, `.2` … if that exists); says so. Moves a link
 * alone: its target stays. `why`, for the record: what is wrong with it. Returns the new path, undefined if there was
 * nothing to move.
 */
export function moveToRescue(path: string, folder: string, why?: string): string | undefined {
  if (!exists(path) && !isLink(path)) return undefined;
  const to = freeName(join(folder, resolve("/", path)));
  const content = isLink(path) && exists(path) ? contentPath(path) : undefined;
  if (run.dryRun) {
    noteCopy(path, to);
    note(resolve("/", path), { kind: "gone", to });
  } else tryFile("move", path, () => moveEntry(hostEntry(path), hostEntry(to)), true, to);
  told({ what: "file", did: "moved", path, to, ...(why === undefined ? {} : { why }) });
  say(`${did("move")} ${path} to ${to}${content ? ` (a link: unchanged ${content})` : ""}`);
  return to;
}

/**
 * Copies to the path that `moveToRescue` would give it, before it is replaced: the file is never missing. Copies a
 * link's target.
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
 * `copy` unset: there was none. Only the differing parts are moved below `aside`: on a full disk nothing is lost. A
 * folder stays in place, as a disk may be mounted there (EBUSY).
 */
export function restoreTree(copy: string | undefined, path: string, aside: string) {
  if (copy !== undefined && tryFile("compare", path, () => sameEntry(hostEntry(copy), hostEntry(path))))
    return;
  if (copy === undefined || !isFolder(copy) || !isFolder(path)) {
    moveToRescue(path, aside);
    if (copy !== undefined) copyTree(copy, path);
    return;
  }
  const before = list(copy);
  for (const name of new Set([...before, ...list(path)]))
    restoreTree(before.includes(name) ? join(copy, name) : undefined, join(path, name), aside);
}

function isFolder(path: string): boolean {
  return entryAt(path)?.isDirectory() === true;
}

/** Content, mode and owner of all that is in them. Times do not count. */
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
    if (codeOf(err) !== "EXDEV") throw err;
    copyWhole(from, to);
    fs.rmSync(from, { recursive: true });
  }
  sync(dirname(to));
  sync(dirname(from));
}

/**
 * Bytes of a large file that are copied and synced at once; between these, signals and time limits are
 * checked.
 */
const PIECE = 8 * 2 ** 20;
const SYNC_EVERY = 64 * 2 ** 20;

/**
 * Says so. It is for putting back what was there, so links stay links. An existing `to` stays. Returns whether it
 * copied.
 */
export function copyTree(from: string, to: string): boolean {
  if (isKept(from, to)) return false;
  if (run.dryRun) noteCopy(from, to);
  else tryFile("copy", from, () => copyWhole(hostEntry(from), hostEntry(to)), true, to);
  sayCopied(from, to);
  return true;
}

/**
 * The same for gigabytes, with progress. Copies the targets of links, so that the copy is complete. Errors:
 * also Fail if a signal has come, and as `copiedEntry`; nothing of the copy is left then.
 */
export async function copyLargeTree(from: string, to: string): Promise<boolean> {
  if (isKept(from, to)) return false;
  if (run.dryRun) noteCopy(from, to);
  else {
    const copy = () =>
      copyInPieces(from, to).catch((err) => Promise.reject(failOfFile(err, "copy", from, to)));
    await orUndo(copy, async () => undefined, RUN_AGAIN);
  }
  sayCopied(from, to);
  return true;
}

async function copyInPieces(from: string, to: string) {
  const inMb = (bytes: number) => Math.ceil(bytes / 1e6);
  const size = inMb(sizeBelow(hostEntry(from)));
  const progress = new Progress(`copying ${from}`, size, process.stderr.isTTY, "MB");
  const buffer = Buffer.allocUnsafe(PIECE);
  let copied = 0;
  try {
    for (const file of wholeCopy(hostEntry(from), hostEntry(to), "followed"))
      for await (const bytes of sharesBlocks(file) ? [fs.statSync(file.to).size] : pieces(file, buffer)) {
        copied += bytes;
        progress.show(inMb(copied));
        checkSignal();
      }
  } finally {
    progress.clear();
  }
}

/** Copies a piece each time, and yields its size. Says so if a disk hangs. */
async function* pieces({ from, to }: FileCopy, buffer: Buffer): AsyncGenerator<number> {
  const patiently = <T>(action: () => Promise<T>) =>
    sayWhile(`the disk of ${dirname(to)}`, "dmesg | tail; iostat -x 1", action);
  await using files = new AsyncDisposableStack();
  const [source, copy] = [await fs.promises.open(from, "r"), await fs.promises.open(to, "r+")];
  for (const file of [source, copy]) files.defer(() => file.close());
  for (let at = 0, bytes = 1; bytes > 0; at += bytes) {
    bytes = await patiently(() => copyPiece(source, copy, { buffer, at }));
    if (bytes > 0) yield bytes;
  }
  await patiently(() => copy.sync());
}

async function copyPiece(
  source: fs.promises.FileHandle,
  copy: fs.promises.FileHandle,
  { buffer, at }: { buffer: Buffer; at: number },
) {
  const { bytesRead } = await source.read(buffer, 0, buffer.length, at);
  for (let done = 0; done < bytesRead; )
    done += (await copy.write(buffer, done, bytesRead - done, at + done)).bytesWritten;
  if ((at % SYNC_EVERY) + bytesRead >= SYNC_EVERY) await copy.datasync();
  return bytesRead;
}

function isKept(from: string, to: string): boolean {
  if (exists(to)) say(`unchanged ${to}`);
  else if (!exists(from) && !isLink(from))
    throw new Fail(`Cannot copy ${from}: it is not there`, {
      hint: shell`look for it with: ls -la ${dirname(from)}`,
    });
  return exists(to);
}

interface Entry {
  path: string;
  kind: "file" | "link" | "other";
}

/**
 * All on disk that is no folder itself, whatever a dry run has deleted; at most `deep` folders down. Links are not
 * followed.
 */
export function* entriesBelow(folder: string, deep = Number.POSITIVE_INFINITY): Generator<Entry> {
  const names = tryFile("list", folder, () => fs.readdirSync(hostEntry(folder))) ?? [];
  for (const name of names.sort()) {
    const path = join(folder, name);
    const info = entryAt(path);
    if (!info?.isDirectory()) {
      if (info) yield { path, kind: info.isSymbolicLink() ? "link" : info.isFile() ? "file" : "other" };
    } else if (deep > 0) yield* entriesBelow(path, deep - 1);
  }
}

export function* filesBelow(folder: string, deep?: number): Generator<string> {
  for (const { path, kind } of entriesBelow(folder, deep)) if (kind === "file") yield path;
}

/** Also true for a dead link. */
export function isLink(path: string): boolean {
  return entryAt(path)?.isSymbolicLink() === true && lookUp(path).kind === "disk";
}

function sayCopied(from: string, to: string) {
  told({ what: "file", did: "copied", path: from, to });
  say(`${did("copy")} ${from} to ${to}`);
}

function noteCopy(from: string, to: string) {
  const place = lookUp(resolve("/", from));
  note(resolve("/", to), place.kind === "disk" ? { kind: "tree", source: place.path } : place);
}

/* A copy, entry by entry. */

/** Folders made for copies hold keys: nobody but root looks into them. */
export const PRIVATE_FOLDER = 0o700;

/** Takes paths of this machine; links stay links. Errors: as node:fs. */
function copyWhole(from: string, to: string) {
  for (const file of wholeCopy(from, to, "kept")) {
    if (sharesBlocks(file)) continue;
    fs.copyFileSync(file.from, file.to);
    sync(file.to);
  }
}

/** A file whose content has to be copied; `to` is there, empty, and nobody but root can read it. */
interface FileCopy {
  from: string;
  to: string;
}

/**
 * Copies all but the content of files, and yields each file that still needs it. The caller fills it before
 * it asks for the next one.
 */
function* wholeCopy(from: string, to: string, links: LinkMode): Generator<FileCopy> {
  makeFolder(dirname(to), PRIVATE_FOLDER);
  const partial = join(realHost(dirname(to)) ?? dirname(to), `${basename(to)}${UNFINISHED}`);
  fs.rmSync(partial, { recursive: true, force: true });
  let whole = false;
  try {
    yield* entryCopy(copiedEntry(from, partial, links), partial);
    fs.renameSync(partial, to);
    whole = true;
  } finally {
    if (!whole) fs.rmSync(partial, { recursive: true, force: true });
  }
  sync(dirname(to));
}

function* entryCopy(entry: CopiedEntry, whole: string): Generator<FileCopy> {
  const { from, to, info, via, target } = entry;
  if (from === whole) return say(`skipped ${from} (it is this copy)`);
  if (via) say(`${via}: a link, so ${from} is copied in its place`);
  if (target !== undefined) fs.symlinkSync(target, to);
  else if (info.isFile()) yield emptyFile(from, to);
  else if (info.isDirectory()) yield* folderCopy(entry, whole);
  else
    return say(
      `skipped ${from} (${info.isSymbolicLink() ? "a link to nothing" : "neither file, folder nor link"}: ${basename(from)})`,
    );
  fs.lchownSync(to, info.uid, info.gid);
  if (target !== undefined) return;
  fs.chmodSync(to, info.mode & 0o7777);
  fs.utimesSync(to, info.atime, info.mtime);
}

function* folderCopy(folder: CopiedEntry, whole: string): Generator<FileCopy> {
  fs.mkdirSync(folder.to, { mode: PRIVATE_FOLDER });
  for (const entry of copiedIn(folder)) yield* entryCopy(entry, whole);
  sync(folder.to);
}

function emptyFile(from: string, to: string): FileCopy {
  fs.closeSync(fs.openSync(to, fs.constants.O_CREAT | fs.constants.O_EXCL | fs.constants.O_WRONLY, 0o600));
  return { from, to };
}

/**
 * Whether the file system lets the copy have the blocks of its original (FICLONE): then nothing is left to
 * copy.
 */
function sharesBlocks({ from, to }: FileCopy): boolean {
  try {
    fs.copyFileSync(from, to, fs.constants.COPYFILE_FICLONE_FORCE);
    sync(to);
    return true;
  } catch {
    // Bun removes the file if this fails
    fs.rmSync(to, { force: true });
    emptyFile(from, to);
    return false;
  }
}

type LinkMode = "kept" | "followed";

/** All paths are of this machine. */
interface CopiedEntry {
  from: string;
  to: string;
  info: fs.Stats;
  via?: string;
  /** The target of a link in the copy. A link without it is dead. */
  target?: string;
  /** Links stay links if this is undefined. */
  tops: readonly Top[] | undefined;
}

/** A folder whose content is copied: `from` has no link on its way. */
type Top = Pick<CopiedEntry, "from" | "to">;

/** Errors: as node:fs; Fail if a link leads to what its maker does not own. */
function copiedEntry(from: string, to: string, links: LinkMode): CopiedEntry {
  if (links === "kept") return entryOf(from, to, undefined);
  const real = fs.lstatSync(from).isSymbolicLink() ? undefined : realHost(from);
  return entryOf(from, to, real ? [{ from: real, to }] : []);
}

/** Errors: as `copiedEntry`. */
function copiedIn({ from, to, tops }: CopiedEntry): CopiedEntry[] {
  return fs.readdirSync(from).map((name) => entryOf(join(from, name), join(to, name), tops));
}

/** All that a copy of this file or folder of this machine has, with what its links lead to. Errors: as `copiedEntry`. */
export function copiedFrom(host: string): CopiedEntry[] {
  const below = (entry: CopiedEntry): CopiedEntry[] => [
    entry,
    ...(entry.info.isDirectory() ? copiedIn(entry).flatMap(below) : []),
  ];
  return below(copiedEntry(host, host, "followed"));
}

export function sizeBelow(host: string): number {
  return bytesOf(copiedFrom(host));
}

function bytesOf(entries: readonly CopiedEntry[]): number {
  return entries.reduce((total, { info }) => total + (info.isFile() ? info.size : 0), 0);
}

/** The links that lead out of what is copied: "/var/lib/etcd/member -> /mnt/member". */
export function linksOut(entries: readonly CopiedEntry[]): string[] {
  return entries.flatMap(({ via, from }) => (via ? [`${via} -> ${from}`] : []));
}

function entryOf(from: string, to: string, tops: CopiedEntry["tops"]): CopiedEntry {
  const info = fs.lstatSync(from);
  if (!info.isSymbolicLink()) return { from, to, info, tops };
  if (!tops) return { from, to, info, tops, target: fs.readlinkSync(from) };
  const real = realHost(from);
  if (!real) return { from, to, info, tops };
  const top = tops.find((one) => isBelow(real, one.from));
  if (top)
    return {
      from,
      to,
      info,
      tops,
      target: relative(dirname(to), join(top.to, relative(top.from, real))) || ".",
    };
  const content = fs.lstatSync(real);
  refuseOthersLink({ path: from, info }, { path: real, info: content });
  return { from: real, to, info: content, via: from, tops: [...tops, { from: real, to }] };
}

interface FoundFile {
  path: string;
  info: fs.Stats;
}

/**
 * As the kernel's fs.protected_symlinks: a user who may write in a folder must not choose what root reads.
 */
function refuseOthersLink(link: FoundFile, content: FoundFile) {
  if (isOurs(link.info.uid) || link.info.uid === content.info.uid) return;
  const owners = `it is a link of user ${link.info.uid} to "${content.path}" of user ${content.info.uid}`;
  throw new Fail(`Cannot copy the target of the link "${link.path}": ${owners}`, {
    hint: `${shell`see who made it: ls -ld ${link.path} ${content.path}`}. If it is right: ${shell`chown -h root ${link.path}`}; then run the same line again`,
  });
}

/* Room for it. It is asked before anything is stopped: a full disk must not end a repair half-way. */

/** Bytes that stay free: for manifests, certificates, and for what others write meanwhile. */
const RESERVE = 64 * 2 ** 20;

/** File systems on which a copy shares the blocks of its original (FICLONE): btrfs and XFS; statfs(2). */
const SHARES_BLOCKS = [0x9123683e, 0x58465342];

/**
 * Errors: Fail if the file system of `to` has no room for copies of these files and folders, with what
 * their links lead to; and as `copiedFrom`.
 */
export function refuseNoRoom(paths: readonly string[], to: string) {
  const folder = nearestPlace(to);
  const { bavail, bsize, type } = fs.statfsSync(hostPath(folder));
  const home = fs.statSync(hostPath(folder)).dev;
  const isShared = ({ dev }: fs.Stats) => SHARES_BLOCKS.includes(type) && dev === home;
  const copied = paths
    .filter((path) => fs.existsSync(hostPath(path)))
    .flatMap((path) => tryFile("look at", path, () => copiedFrom(hostEntry(path)), true)!);
  const [need, free] = [bytesOf(copied.filter(({ info }) => !isShared(info))) + RESERVE, bavail * bsize];
  if (need <= free) return;
  const links = linksOut(copied);
  const more = links.length > 0 ? ` What links lead to is copied as well: ${listed(links)}.` : "";
  throw new Fail(
    `No room for the copy below "${folder}": it needs ${megabytes(need)} MB, ${megabytes(free)} MB are free`,
    {
      unchanged: true,
      hint: `make room there (${shell`df -h ${folder}`}), or mount another disk there; then run the same line again.${more}`,
    },
  );
}
