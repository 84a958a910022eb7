/**
 * Copies of files and folders, with mode, owner and times. A copy grows under another name and is renamed when
 * all of it is on disk, so one that was cut off is never taken for a complete one; a left-over is begun again.
 * Sockets and pipes are left out, with a message.
 *
 * A copy that facts are read from, or that is the way back, must hold the content of a link's target: the link
 * alone would show current content. Links between folders of the copy stay links inside it, so no loop of links
 * is followed for ever.
 */
import * as fs from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { Fail } from "../fail.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { isOurs } from "./operator-files.ts";
import { isBelow, realHost } from "./root.ts";
import { makeFolder, syncFolder, UNFINISHED } from "./write-steps.ts";

/** Folders made for copies hold keys: nobody but root looks into them. */
export const PRIVATE_FOLDER = 0o700;

/** Takes paths of this machine; links stay links. Errors: as node:fs. */
export function copyWhole(from: string, to: string) {
  for (const file of wholeCopy(from, to, "kept")) {
    if (sharesBlocks(file)) continue;
    fs.copyFileSync(file.from, file.to);
    syncFile(file.to);
  }
}

/** A file whose content has to be copied; `to` is there, empty, and nobody but root can read it. */
export interface FileCopy {
  from: string;
  to: string;
}

/**
 * Copies all but the content of files, and yields each file that still needs it. The caller fills it before
 * it asks for the next one.
 */
export function* wholeCopy(from: string, to: string, links: LinkMode): Generator<FileCopy> {
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
export function sharesBlocks({ from, to }: FileCopy): boolean {
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

/** Links are copied as links, or what they lead to is copied. */
type LinkMode = "kept" | "followed";

/** All paths are of this machine. */
export interface CopiedEntry {
  /** The path of the content. */
  from: string;
  to: string;
  info: fs.Stats;
  /** The link that led to `from`. */
  via?: string;
  /** The target of a link in the copy. A link without it is dead. */
  target?: string;
  /** Undefined: links are kept. */
  tops: readonly Top[] | undefined;
}

/** A folder whose content is copied: `from` has no link on its way. */
type Top = Pick<CopiedEntry, "from" | "to">;

/** Errors: as node:fs; Fail if a link leads to what its maker does not own. */
export function copiedEntry(from: string, to: string, links: LinkMode): CopiedEntry {
  const real = links === "followed" && !fs.lstatSync(from).isSymbolicLink() ? realHost(from) : undefined;
  return entryOf(from, to, links === "kept" ? undefined : real ? [{ from: real, to }] : []);
}

/** Errors: as `copiedEntry`. */
function copiedIn({ from, to, tops }: CopiedEntry): CopiedEntry[] {
  return fs.readdirSync(from).map((name) => entryOf(join(from, name), join(to, name), tops));
}

/** An entry and all that is below it. Errors: as `copiedEntry`. */
export function* allCopied(entry: CopiedEntry): Generator<CopiedEntry> {
  yield entry;
  if (entry.info.isDirectory()) for (const one of copiedIn(entry)) yield* allCopied(one);
}

/** The links that lead out of what is copied: "/var/lib/etcd/member -> /mnt/member". */
export function linksOut(entries: Iterable<CopiedEntry>): string[] {
  return [...entries].flatMap(({ via, from }) => (via ? [`${via} -> ${from}`] : []));
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

interface Seen {
  path: string;
  info: fs.Stats;
}

/**
 * As the kernel's fs.protected_symlinks: a user who may write in a folder must not choose what root reads.
 */
function refuseOthersLink(link: Seen, content: Seen) {
  if (isOurs(link.info.uid) || link.info.uid === content.info.uid) return;
  const owners = `it is a link of user ${link.info.uid} to "${content.path}" of user ${content.info.uid}`;
  throw new Fail(`Cannot copy the target of the link "${link.path}": ${owners}`, {
    hint: `${shell`see who made it: ls -ld ${link.path} ${content.path}`}. If it is right: ${shell`chown -h root ${link.path}`}; then run the same line again`,
  });
}
