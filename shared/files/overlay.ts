/**
 * What a dry run would have written, kept in memory: later reads in the same process see it, so the same code prints the whole plan.
 *
 * An entry is a file, a tree that was copied or moved from a place on disk, or the fact that something is gone. The entry of a path
 * covers everything below it that has no entry itself. Paths are the node's own (see files.ts), absolute and normalised.
 */
import { dirname } from "node:path";

type Entry = { kind: "file"; bytes: Uint8Array; mode: number } | { kind: "tree"; source: string } | { kind: "gone" };

const entries = new Map<string, Entry>();

export function clearOverlay() {
  entries.clear();
}

/** Puts an entry at `path`; what was noted below it before is forgotten. */
export function note(path: string, entry: Entry) {
  for (const known of entries.keys()) if (known.startsWith(`${path}/`)) entries.delete(known);
  entries.set(path, entry);
}

/** Where the truth about `path` is: a file in memory, nowhere, or on disk at a path (its own, or the one its tree came from). */
export function lookUp(path: string): Exclude<Entry, { kind: "tree" }> | { kind: "disk"; path: string } {
  for (let at = path; ; at = dirname(at)) {
    const entry = entries.get(at);
    if (entry?.kind === "tree") return { kind: "disk", path: entry.source + path.slice(at.length) };
    if (entry?.kind === "gone" || (entry && at === path)) return entry;
    if (at === "/") return { kind: "disk", path };
  }
}

/** Names directly below `folder` that the overlay adds (true) or hides (false). */
export function namesBelow(folder: string): Map<string, boolean> {
  const names = new Map<string, boolean>();
  const prefix = folder === "/" ? "/" : `${folder}/`;
  for (const [path, entry] of entries) {
    if (!path.startsWith(prefix)) continue;
    const [name, ...deeper] = path.slice(prefix.length).split("/");
    if (entry.kind !== "gone") names.set(name!, true);
    else if (deeper.length === 0 && !names.has(name!)) names.set(name!, false);
  }
  return names;
}
