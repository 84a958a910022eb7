/**
 * Decides what a copy gets in the place of each file, folder and link. A copy that facts are read from, or
 * that is the way back, must hold the content of a link's target: the link alone would show current content.
 * Links between folders of the copy stay links inside it, so no loop of links is followed for ever.
 */
import * as fs from "node:fs";
import { dirname, join, relative } from "node:path";
import { Fail } from "../fail.ts";
import { shell } from "../shell-line.ts";
import { isOurs } from "./operator-files.ts";
import { realHost } from "./root.ts";

/** Links are copied as links, or what they lead to is copied. */
export type LinkMode = "kept" | "followed";

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
export function copiedIn({ from, to, tops }: CopiedEntry): CopiedEntry[] {
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
  const top = tops.find((one) => isIn(one.from, real));
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

function isIn(folder: string, path: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
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
