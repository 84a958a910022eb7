/**
 * Whole files and folders, moved aside or copied before something new takes their place. Nothing here deletes the
 * only copy of anything.
 */
import * as fs from "node:fs";
import { dirname, join, resolve } from "node:path";
import { Fail } from "../fail.ts";
import { Progress } from "../progress.ts";
import { did, mode as run, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { checkSignal, orUndo, RUN_AGAIN, told } from "../this-run.ts";
import { sayWhile } from "../wait-for.ts";
import { copyWhole, type FileCopy, PRIVATE_FOLDER, sharesBlocks, wholeCopy } from "./copy-tree.ts";
import { sizeBelow } from "./file-system.ts";
import { exists, type FileChange, list, writeTogether } from "./files.ts";
import { contentPath, failOfFile, hostEntry, lookUp, note, tryFile } from "./root.ts";
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

/**
 * Bytes of a large file that are copied and synced at once; between these, signals and time limits are
 * checked.
 */
const PIECE = 8 * 2 ** 20;
const SYNC_EVERY = 64 * 2 ** 20;

/**
 * Copies a small file or folder at once, and says so. It is for putting back what was there, so links stay
 * links. An existing `to` stays. Returns whether it copied. See `copyLargeTree` for large trees, or data that
 * is read later.
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
  const megabytes = (bytes: number) => Math.ceil(bytes / 1e6);
  const progress = new Progress(
    `copying ${from}`,
    megabytes(sizeBelow(hostEntry(from))),
    process.stderr.isTTY,
    "MB",
  );
  const buffer = Buffer.allocUnsafe(PIECE);
  let copied = 0;
  try {
    for (const file of wholeCopy(hostEntry(from), hostEntry(to), "followed"))
      for await (const bytes of sharesBlocks(file) ? [fs.statSync(file.to).size] : pieces(file, buffer)) {
        copied += bytes;
        progress.show(megabytes(copied));
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

/** Returns its size: 0 at the end of the file. */
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

/** All on disk below a folder that is no folder itself, whatever a dry run has deleted. Links are not followed. */
export function entriesBelow(folder: string): { path: string; kind: "file" | "link" | "other" }[] {
  const names = tryFile("list", folder, () => fs.readdirSync(hostEntry(folder))) ?? [];
  return names.sort().flatMap((name) => {
    const path = join(folder, name);
    const info = tryFile("look at", path, () => fs.lstatSync(hostEntry(path)));
    if (!info) return [];
    if (info.isDirectory()) return entriesBelow(path);
    return [{ path, kind: info.isSymbolicLink() ? "link" : info.isFile() ? "file" : "other" }];
  });
}

/** Also true for a dead link. */
export function isLink(path: string): boolean {
  return (
    tryFile("look at", path, () => fs.lstatSync(hostEntry(path)))?.isSymbolicLink() === true &&
    lookUp(path).kind === "disk"
  );
}

function sayCopied(from: string, to: string) {
  told({ what: "file", did: "copied", path: from, to });
  say(`${did("copy")} ${from} to ${to}`);
}

/** Records a copy in a dry run. */
function noteCopy(from: string, to: string) {
  const place = lookUp(resolve("/", from));
  note(resolve("/", to), place.kind === "disk" ? { kind: "tree", source: place.path } : place);
}
