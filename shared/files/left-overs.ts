/**
 * What a run that was cut off leaves: a file beside its place, or a copy that is not whole. Nothing reads it, but it may hold a key, or be
 * as large as etcd's data. By their ending they are known as the kit's own, and are never the only copy of anything.
 */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { say } from "../run.ts";
import { told } from "../run-events.ts";
import { UNFINISHED } from "./partial.ts";
import { hostEntry } from "./root.ts";

/** Removes all below a folder, but not in its folders `except`, and says so. No other run may write there meanwhile. */
export function removeLeftOvers(folder: string, except: readonly string[] = []) {
  for (const entry of entriesOf(hostEntry(folder))) {
    const path = join(folder, entry.name);
    if (entry.name.endsWith(UNFINISHED)) {
      rmSync(hostEntry(path), { recursive: true, force: true });
      told({ what: "file", did: "removed", path });
      say(`removed ${path} (not whole: a run was cut off here)`);
    } else if (entry.isDirectory() && !except.includes(path)) removeLeftOvers(path);
  }
}

function entriesOf(host: string) {
  try {
    return readdirSync(host, { withFileTypes: true });
  } catch (err) {
    if (err instanceof Error && "code" in err && ["ENOENT", "ENOTDIR"].includes(String(err.code))) return [];
    throw err;
  }
}
