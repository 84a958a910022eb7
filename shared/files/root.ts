/**
 * Maps a node's paths to this machine, or to the memory of a dry run; and the system's refusals, for the
 * operator. The root is "/", unless the variable KUBE_PKI_REPAIR_ROOT or a test sets another for files; programs
 * (systemctl, crictl, ip) stay this machine's. Inside another root links are followed as that node would follow
 * them, so that none leads out to our own files.
 *
 * A dry run keeps its writes in memory: later reads in the same process see them, so the same code prints the
 * whole plan. An entry is a file, a tree that was copied or moved from a path on disk, or the fact that
 * something is deleted. It covers everything below its path that has no entry itself.
 *
 * Paths are the node's own (see files.ts), absolute and normalised.
 */
import { existsSync, lstatSync, readlinkSync, realpathSync, type Stats } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { forgetStates } from "../as-if.ts";
import { attempt, codeOf, Fail, unlessCode } from "../fail.ts";
import { shell } from "../shell-line.ts";
import { howToRepair } from "../system-errors.ts";

/** As the kernel: path_resolution(7). */
const MAX_LINKS = 40;

let root = resolve(process.env.KUBE_PKI_REPAIR_ROOT || "/");

/** Whether files are read and written below another root than this machine's. */
export function isElsewhere(): boolean {
  return root !== "/";
}

/** Reads and writes below `dir` from now on; a dry run's memory is emptied. */
export function setRoot(dir: string) {
  root = resolve(dir);
  clearOverlay();
}

/**
 * A node's path as a path of this machine, for code that opens it itself. A dry run's writes are not there.
 */
export function hostPath(path: string): string {
  return root === "/" ? resolve("/", path) : join(root, walk(path, { followsLast: true }).at);
}

/**
 * The same, but a link at the very end is not followed: for removing, renaming and copying the link itself.
 */
export function hostEntry(path: string): string {
  return root === "/" ? resolve("/", path) : join(root, walk(path, { followsLast: false }).at);
}

/**
 * The node's path at which the content of `path` is: another one only if `path` is a link. It need not
 * exist.
 */
export function contentPath(path: string): string {
  return content(path).path;
}

/** The result of `lookUp` for the `contentPath`; on disk with its path on this machine. */
export function contentAt(path: string): ContentPlace {
  const { path: at, real } = content(path);
  const place = lookUp(at);
  if (place.kind !== "disk") return { ...place, at };
  const isMoved = place.path !== at;
  return { kind: "disk", at, isMoved, host: !isMoved && real ? join(root, real) : hostPath(place.path) };
}

type ContentPlace = { at: string } & (
  | Exclude<Noted, { kind: "tree" | "link" }>
  | { kind: "disk"; host: string; isMoved: boolean }
);

/** `real`: without links on the way, if that is known already. */
function content(path: string) {
  const named = resolve("/", path);
  const own = entries.get(named)?.kind === "link" ? throughLinks(named, true) : named;
  // a link that is deleted or replaced in memory has no target
  if (lookUp(own).kind !== "disk") return { path: own };
  if (root !== "/") {
    const { at, isLink } = walk(path, { followsLast: true });
    return { path: isLink ? at : own, real: at };
  }
  const target = linkAt(own);
  if (typeof target !== "string") return { path: own };
  return { path: realpath(path) ?? resolve(realpath(dirname(path)) ?? dirname(path), target) };
}

/**
 * The content's path on this machine, with links followed as the node would; undefined if a link is dead, or
 * in a circle.
 */
export function realHost(host: string): string | undefined {
  const real = root === "/" ? realpath(host) : attempt(() => hostPath(host.slice(root.length)));
  return real === undefined || real instanceof Fail || !existsSync(real) ? undefined : real;
}

/**
 * All on the way to a path, links and their targets, in order: paths of the node. The end need not
 * exist.
 */
export function linkChain(path: string): string[] {
  const links: string[] = [];
  walk(path, { followsLast: true, see: (entry) => links.push(entry) });
  return links;
}

/** The path without links on the way. It need not exist. */
export function realPath(path: string): string {
  return linkChain(path).at(-1) ?? "/";
}

interface Way {
  followsLast: boolean;
  see?: (entry: string) => void;
}

/** `isLink`: the last part of the path is a link, and was followed. Asks for nothing below what is not there. */
function walk(path: string, { followsLast, see }: Way) {
  const pending = resolve("/", path).split("/").filter(Boolean);
  let at = "/";
  let links = 0;
  let isLink: boolean | undefined;
  let isThere = true;
  while (pending.length > 0) {
    const next = join(at, pending.shift()!);
    see?.(next);
    const entry: LinkAt =
      isThere && (pending.length > 0 || followsLast) ? linkAt(join(root, next)) : undefined;
    isThere = entry !== undefined;
    if (pending.length === 0) isLink ??= typeof entry === "string";
    if (typeof entry !== "string") {
      at = next;
      continue;
    }
    if (++links > MAX_LINKS)
      throw new Fail(`Cannot follow ${path}: more than ${MAX_LINKS} links`, {
        hint: shell`look at it with: namei -l ${path}`,
      });
    pending.unshift(...entry.split("/").filter(Boolean));
    if (entry.startsWith("/")) at = "/";
  }
  return { at, isLink: isLink === true };
}

/** A link's target; false: it is none; undefined: nothing is there. */
type LinkAt = string | false | undefined;

/** Asking first costs less than the error. */
function linkAt(host: string): LinkAt {
  return unlessCode(["ENOENT", "ENOTDIR"], () => {
    const isLink = lstatSync(host, { throwIfNoEntry: false })?.isSymbolicLink();
    return isLink ? (unlessCode(["EINVAL"], () => readlinkSync(host)) ?? false) : isLink;
  });
}

function realpath(host: string): string | undefined {
  return unlessCode(["ENOENT", "ENOTDIR", "ELOOP"], () => realpathSync(host));
}

/** `link`: to a path of the node. `gone`, and is now at `to`, if it was moved. */
export type Noted =
  | { kind: "file"; bytes: Uint8Array; mode: number }
  | { kind: "tree"; source: string }
  | { kind: "link"; target: string }
  | { kind: "gone"; to?: string };

const entries = new Map<string, Noted>();

/** Nothing of a dry run is remembered, be it a file or a program. */
export function clearOverlay() {
  entries.clear();
  forgetStates();
}

/** Whatever is noted from here on is forgotten when the returned function is called. */
export function rememberOverlay(): () => void {
  const before = [...entries];
  return () => {
    entries.clear();
    for (const [path, entry] of before) entries.set(path, entry);
  };
}

/** The returned function says what was noted since, by the order of the paths. */
export function notedSince(): () => [string, Noted][] {
  const before = new Map(entries);
  return () =>
    [...entries].filter(([path, entry]) => before.get(path) !== entry).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Whether a file, a folder or a link is on disk at this very path, whatever a dry run has noted. */
export function isOnDisk(path: string): boolean {
  return entryAt(path) !== undefined;
}

/** The path behind links that were noted: those on the way to it, and with `last` one at its end. */
function throughLinks(path: string, last: boolean): string {
  for (let at = last ? path : dirname(path); at !== "/"; at = dirname(at)) {
    const entry = entries.get(at);
    if (entry?.kind === "link") return throughLinks(entry.target + path.slice(at.length), last);
  }
  return path;
}

/** Puts an entry at `path`; what was noted below it before is forgotten. */
export function note(named: string, entry: Noted) {
  const path = throughLinks(named, false);
  for (const entryPath of entries.keys()) if (entryPath.startsWith(`${path}/`)) entries.delete(entryPath);
  entries.set(path, entry);
}

/**
 * The current source of `path`: a file in memory, nothing, or a path on disk (its own, or the one its tree
 * came from).
 */
export function lookUp(
  named: string,
): Exclude<Noted, { kind: "tree" | "link" }> | { kind: "disk"; path: string } {
  const path = throughLinks(named, true);
  for (let at = path; ; at = dirname(at)) {
    const entry = entries.get(at);
    if (entry?.kind === "tree") return { kind: "disk", path: entry.source + path.slice(at.length) };
    if (entry?.kind === "gone" || (entry?.kind === "file" && at === path)) return entry;
    if (at === "/") return { kind: "disk", path };
  }
}

/** Names right below `folder` that the overlay adds (true) or hides (false). */
export function overlayNames(named: string): Map<string, boolean> {
  const names = new Map<string, boolean>();
  const folder = throughLinks(named, true);
  const prefix = folder === "/" ? "/" : `${folder}/`;
  for (const [path, entry] of entries) {
    if (!path.startsWith(prefix)) continue;
    const [name, ...deeper] = path.slice(prefix.length).split("/");
    if (entry.kind !== "gone") names.set(name!, true);
    else if (deeper.length === 0 && !names.has(name!)) names.set(name!, false);
  }
  return names;
}

/**
 * `action`'s value; undefined if the path does not exist (unless it `must`); a Fail with the system's
 * reason otherwise. `to`: where it writes, if that is elsewhere.
 */
export function tryFile<T>(
  verb: string,
  path: string,
  action: () => T,
  must = false,
  to = path,
): T | undefined {
  try {
    return action();
  } catch (err) {
    if (!must && ["ENOENT", "ENOTDIR"].includes(codeOf(err) ?? "")) return undefined;
    throw failOfFile(err, verb, path, to);
  }
}

/** A file, a folder or a link itself; undefined if there is none. Errors: as `tryFile`. */
export function entryAt(path: string): Stats | undefined {
  return tryFile("look at", path, () => lstatSync(hostEntry(path)));
}

/** A Fail with the system's reason, or the error itself if it is not the system's. */
export function failOfFile(err: unknown, verb: string, path: string, to = path): unknown {
  const code = codeOf(err);
  if (!code || err instanceof Fail) return err;
  const paths = to === path ? path : `${path} to ${to}`;
  const at = code === "EPERM" ? path : to;
  return new Fail(`Cannot ${verb} ${paths}: ${(err as Error).message}`, {
    hint: howToRepair(code, { path: at, place: nearestPlace(at) }),
    cause: err,
  });
}

/** The path, or the nearest folder above it that is there. */
export function nearestPlace(path: string): string {
  return path === "/" || existsSync(hostPath(path)) ? path : nearestPlace(dirname(resolve("/", path)));
}

export function isBelow(path: string, folder: string): boolean {
  return folder === "/" || path === folder || path.startsWith(`${folder}/`);
}
