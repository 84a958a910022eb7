/**
 * The files that a part is about to change, named on its first screen: a line for each folder, and what happens to them
 * there. They come of a run of the very steps in memory (files/foretell.ts), so no list of them is kept by hand. What the
 * rescue folder gets is left out.
 */
import { basename, dirname } from "node:path";
import type { FileForetold } from "../files/foretell.ts";
import { isBelow } from "../files/root.ts";
import { waitingPath } from "../manifests/waiting-path.ts";
import { say } from "../run.ts";

/** Files outside of the rescue folder. */
export function changedOnNode(files: readonly FileForetold[], { dir }: { dir: string }): FileForetold[] {
  return files.filter(({ path }) => !isBelow(path, dir));
}

/** "will write in /etc/kubernetes/pki: ca.crt, ca.key"; "will write: nothing". */
export function sayFilesNamed(files: readonly FileForetold[], { dir }: { dir: string }) {
  const changed = changedOnNode(files, { dir });
  const waits = new Set(changed.flatMap((file) => (isHeld(file) ? waitingPath(file.path) : [])));
  const named = changed.filter(({ path }) => !waits.has(path));
  const folders = named.toSorted((a, b) => (dirname(a.path) < dirname(b.path) ? -1 : 1));
  const lines = Map.groupBy(folders, (file) => `will ${verbOf(file, dir)} in ${dirname(file.path)}`);
  for (const [what, own] of lines) say(`${what}: ${own.map(({ path }) => basename(path)).join(", ")}`);
  if (lines.size === 0) say("will write: nothing");
}

function isHeld({ path, to }: FileForetold): boolean {
  return to === waitingPath(path);
}

function verbOf(file: FileForetold, rescue: string): string {
  if (file.does === "write") return "write";
  if (isHeld(file)) return "hold until part 2";
  return file.to !== undefined && isBelow(file.to, rescue) ? "move aside" : "remove";
}
