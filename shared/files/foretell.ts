/**
 * A run's steps, done in memory before the run: by the same code, as in a dry run, without a word. So a screen can name
 * what will end and the files that will change, and a step that would stop in the middle stops before the first write.
 */
import { rememberStates, stopsSince } from "../as-if.ts";
import { mode, silently } from "../run.ts";
import { withoutRunEvents } from "../this-run.ts";
import { isOnDisk, type Noted, notedSince, rememberOverlay } from "./root.ts";

/** `write`: also a link. `away`: the file is moved, `to` that path, or removed if there is none. */
export interface FileForetold {
  path: string;
  does: "write" | "away";
  to?: string | undefined;
}

export interface Foretold {
  /** In the order of their names. */
  files: FileForetold[];
  /** Names of the containers and units that end, in their order. */
  stops: string[];
}

/** While `action` runs, nothing is written, said or stopped; afterwards all of it is forgotten. */
export async function inMemory<T>(action: () => Promise<T>): Promise<T> {
  const wasDryRun = mode.dryRun;
  const forget = [rememberOverlay(), rememberStates()];
  mode.dryRun = true;
  try {
    return await withoutRunEvents(() => silently(action));
  } finally {
    mode.dryRun = wasDryRun;
    for (const back of forget) back();
  }
}

/**
 * All that `action` would change and end, and its value. Its keys are quick ones, which nobody gets. Errors: those of
 * `action`.
 */
export async function foretell<T>(action: () => Promise<T>): Promise<Foretold & { value: T }> {
  return await inMemory(async () => {
    const [since, ended] = [notedSince(), stopsSince()];
    mode.foretells = true;
    try {
      const value = await action();
      return { files: since().flatMap(foretold), stops: ended(), value };
    } finally {
      mode.foretells = false;
    }
  });
}

function foretold([path, entry]: [string, Noted]): FileForetold[] {
  if (entry.kind !== "gone") return [{ path, does: "write" }];
  // what was made in memory alone, and is gone again, changes nothing
  return isOnDisk(path) ? [{ path, does: "away", to: entry.to }] : [];
}
