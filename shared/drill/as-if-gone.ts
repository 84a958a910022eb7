/** Thinks folders away: in memory only, as in a dry run. The code of a repair then runs as it would after a deletion, and writes nothing. */
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { hostEntry } from "../files/files.ts";
import { clearOverlay, note } from "../files/root.ts";
import { tryFile } from "../files/try-file.ts";
import { mode, silently } from "../run.ts";

/** While `action` runs, these folders are gone, nothing is written, and nothing is said; afterwards all is forgotten. */
export async function asIfGone<T>(folders: readonly string[], action: () => Promise<T>): Promise<T> {
  const before = mode.dryRun;
  mode.dryRun = true;
  for (const folder of folders) note(folder, { kind: "gone" });
  try {
    return await silently(action);
  } finally {
    clearOverlay();
    mode.dryRun = before;
  }
}

/** While folders are thought away, this one is back: the operator has a copy. */
export function restoreInMemory(path: string) {
  note(path, { kind: "tree", source: path });
}

/** Everything below a folder on the disk, whatever is thought away. */
export function entriesBelow(folder: string): { path: string; kind: "file" | "folder" | "link" | "other" }[] {
  const names = tryFile("list", folder, () => readdirSync(hostEntry(folder))) ?? [];
  return names.sort().flatMap((name) => {
    const path = join(folder, name);
    const info = tryFile("look at", path, () => lstatSync(hostEntry(path)));
    if (!info) return [];
    if (info.isDirectory()) return [{ path, kind: "folder" as const }, ...entriesBelow(path)];
    return [{ path, kind: info.isSymbolicLink() ? "link" : info.isFile() ? "file" : "other" }];
  });
}
