/** Whether a step can write what it is going to write. Asked before anything is stopped: a full disk must not end a repair in its middle. */
import * as fs from "node:fs";
import { join } from "node:path";
import { Fail } from "../fail.ts";
import { hostPath } from "./root.ts";
import { nearestPlace, tryFile } from "./try-file.ts";

/** Bytes that stay free: for manifests, certificates, and for what others write meanwhile. */
const RESERVE = 64 * 2 ** 20;

/** File systems where a copy shares the blocks of its original (FICLONE): of btrfs and XFS; statfs(2). */
const SHARES_BLOCKS = [0x9123683e, 0x58465342];

/** Errors: Fail where the file system of `to` has no room for copies of these files and folders. */
export function refuseNoRoom(paths: readonly string[], to: string) {
  const folder = nearestPlace(to);
  const { bavail, bsize, type } = fs.statfsSync(hostPath(folder));
  const home = fs.statSync(hostPath(folder)).dev;
  const copied = paths
    .map(hostPath)
    .filter((path) => fs.existsSync(path) && !(SHARES_BLOCKS.includes(type) && fs.statSync(path).dev === home));
  const [need, free] = [copied.reduce((total, path) => total + sizeOf(path), 0) + RESERVE, bavail * bsize];
  if (need <= free) return;
  throw new Fail(`No room for the copy below "${folder}": it needs ${megabytes(need)} MB, ${megabytes(free)} MB are free`, {
    hint: `nothing was changed. Make room there (df -h ${folder}), or mount another disk there; then run this again`,
  });
}

/** Errors: Fail where a folder, or the one above that is there, can only be read. */
export function refuseUnwritable(folders: readonly string[]) {
  for (const folder of folders.map(nearestPlace))
    tryFile("write to", folder, () => fs.accessSync(hostPath(folder), fs.constants.W_OK), true);
}

function sizeOf(host: string): number {
  const info = fs.lstatSync(host);
  if (!info.isDirectory()) return info.isFile() ? info.size : 0;
  return fs.readdirSync(host).reduce((total, name) => total + sizeOf(join(host, name)), 0);
}

/** "1,234" */
export function megabytes(bytes: number): string {
  return Math.ceil(bytes / 1e6).toLocaleString("en-US");
}
