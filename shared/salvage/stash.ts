/**
 * Proved keys that are not in their places yet, in a folder of /dev/shm: that is memory, so nothing of the
 * disk is overwritten. A run that is cut off loses nothing: the next one takes the keys from there.
 */

import type { KeyObject } from "node:crypto";
import { lstatSync, mkdirSync, rmSync, statfsSync } from "node:fs";
import { attempt } from "../fail.ts";
import { hostEntry, hostPath, list, readText, stat, writeFile } from "../files/files.ts";
import { gone } from "../files/untrusted-file.ts";
import { privateKeyOf } from "../pki/certificate.ts";
import { mode, say } from "../run.ts";

/** Mode 0700, its files 0600. */
export const STASH = "/dev/shm/kube-pki-repair-salvage";

/** TMPFS_MAGIC, statfs(2). */
const TMPFS = 0x01021994;

/** Keys that an earlier run left there. */
export function stashedKeys(): KeyObject[] {
  const names = isOurs() ? list(STASH) : [];
  return names.flatMap((name) => attempt(() => [privateKeyOf(readText(`${STASH}/${name}`) ?? "")], []));
}

/** Writes nothing where /dev/shm is on a disk. */
export function stashKey(file: string, pem: string) {
  if (!stat("/dev/shm") || statfsSync(hostPath("/dev/shm")).type !== TMPFS) return;
  // made in one step, so that nobody comes between the look and the making; what is there already has to be
  // ours
  if (!mode.dryRun) gone(() => mkdirSync(hostEntry(STASH), { mode: 0o700 }), ["EEXIST"]);
  if (!isOurs()) return say(`${STASH} belongs to another user: not used`);
  writeFile(`${STASH}/${file}`, pem, {
    mode: 0o600,
    folderMode: 0o700,
    note: "in memory, until all found keys are put back",
  });
}

/** After the keys are in their places, or the operator has stopped the search. */
export function dropStash() {
  if (isOurs()) rmSync(hostEntry(STASH), { recursive: true, force: true });
}

/** Whether the stash is a folder of our own, or can be made: everybody may make one of that name there. */
function isOurs(): boolean {
  const entry = lstatSync(hostEntry(STASH), { throwIfNoEntry: false });
  return !entry || (entry.isDirectory() && entry.uid === process.getuid?.() && (entry.mode & 0o077) === 0);
}
