/** Where a repair has its private folders. */
import { accessSync, constants, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { codeOf } from "../fail.ts";
import { hostPath } from "../files/files.ts";
import { tryFile } from "../files/root.ts";
import type { Host } from "./host.ts";

/** In memory on a node, as the disk's free blocks may have the lost keys. */
export function folderIn({ isHere }: Pick<Host, "isHere">): string {
  if (isHere) return hostPath("/run");
  const own = process.env.XDG_RUNTIME_DIR;
  return own && isWritable(own) ? own : tmpdir();
}

/** After `su` and `sudo -E` the variable names another user's folder, or one that is gone. */
function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
    return true;
  } catch (err) {
    if (codeOf(err) === undefined) throw err;
    return false;
  }
}

/** A new folder of this user alone. Errors: Fail with the system's reason. */
export function privateFolder(folder: string, name: string): string {
  return tryFile("write", folder, () => mkdtempSync(join(folder, name)), true)!;
}
