/** Where the temporary files of tests are. */
import { chmodSync, existsSync, mkdtempSync, readFileSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** As /tmp: tests are other users, too. Whoever makes it removes it. */
export function openFolder(parent: string): string {
  const folder = mkdtempSync(join(parent, "tests-"));
  chmodSync(folder, 0o1777);
  return folder;
}

/** Bytes that all tests in process together never need. */
const ROOM = 2 * 2 ** 30;

/**
 * In memory, where programs may run there and room is left: each test makes and removes a hundred files. Kits, which
 * are large, and which a host with a /dev/shm of its own sees, are on disk.
 */
export const IN_MEMORY = isFit("/dev/shm") ? "/dev/shm" : tmpdir();

function isFit(folder: string): boolean {
  if (!existsSync(folder)) return false;
  const mount = readFileSync("/proc/mounts", "utf8").match(new RegExp(`^\\S+ ${folder} tmpfs (\\S+) `, "m"));
  if (!mount || mount[1]!.split(",").includes("noexec")) return false;
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize > ROOM;
}
