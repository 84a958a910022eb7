/**
 * Copies of whole files and folders, with mode, owner and times. A copy grows under another name and is
 * renamed when all of it is on disk, so one that was cut off is never taken for a complete one; a left-over
 * is begun again. Sockets and pipes are left out, with a message.
 */
import * as fs from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { Fail } from "../fail.ts";
import { Progress } from "../progress.ts";
import { did, mode as run, say } from "../run.ts";
import { told } from "../run-events.ts";
import { shell } from "../shell-line.ts";
import { checkSignal, orUndo, RUN_AGAIN } from "../signals.ts";
import { sayWhile } from "../wait-for.ts";
import { type CopiedEntry, copiedEntry, copiedIn, type LinkMode } from "./copied-entry.ts";
import { exists } from "./files.ts";
import { sizeBelow } from "./room.ts";
import { failOfFile, hostEntry, lookUp, note, realHost, tryFile } from "./root.ts";
import { makeFolder, syncFolder, UNFINISHED } from "./write-steps.ts";

/** Folders made for copies hold keys: nobody but root looks into them. */
export const PRIVATE_FOLDER = 0o700;

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

function isKept(from: string, to: string): boolean {
  if (exists(to)) say(`unchanged ${to}`);
  else if (!exists(from) && !isLink(from))
    throw new Fail(`Cannot copy ${from}: it is not there`, {
      hint: shell`look for it with: ls -la ${dirname(from)}`,
    });
  return exists(to);
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
export function noteCopy(from: string, to: string) {
  const place = lookUp(resolve("/", from));
  note(resolve("/", to), place.kind === "disk" ? { kind: "tree", source: place.path } : place);
}

/** Takes paths of this machine; links stay links. Errors: as node:fs. */
export function copyWhole(from: string, to: string) {
  for (const file of wholeCopy(from, to, "kept")) {
    if (sharesBlocks(file)) continue;
    fs.copyFileSync(file.from, file.to);
    syncFile(file.to);
  }
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
  syncFolder(dirname(to));
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
  syncFolder(folder.to);
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
    syncFile(to);
    return true;
  } catch {
    // Bun removes the file if this fails
    fs.rmSync(to, { force: true });
    emptyFile(from, to);
    return false;
  }
}

function syncFile(path: string) {
  const fd = fs.openSync(path, fs.constants.O_RDONLY);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
