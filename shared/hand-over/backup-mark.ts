/**
 * A mark that pack and unpack leave on a node for 05-verify: there is a backup of these keys. It holds no secret. Only a bundle that can stay
 * is a backup: one in memory, or in the kit's folder, travels and is deleted at the end of the repair.
 */
import { basename, resolve } from "node:path";
import { BACKUP } from "../facts/next.ts";
import { readText } from "../files/files.ts";
import { isInMemory } from "../files/in-memory.ts";
import { type Mark, readMark, writeMark } from "../files/mark.ts";
import { hashIn } from "../pki/certificate.ts";
import { SHARED_KEYS } from "../pki/certs.ts";
import { day } from "../pki/judge.ts";
import { fingerprints } from "./about-bundle.ts";
import type { Bundle } from "./bundle.ts";

export const BACKUP_MARK = "/etc/kubernetes/.kube-pki-repair-backup";

interface BackupMark extends Mark {
  /** The bundle's file name and SHA-256, to find the bundle again. */
  bundle: string;
  sha256: string;
  /** The fingerprint of each key in the bundle, by the key's name. */
  keys: Record<string, string>;
}

const KIT = resolve(import.meta.dir, "../..");

/** Why a bundle at this path is no backup; undefined: it may be one. */
export function notKept(path: string): string | undefined {
  if (isInMemory(path)) return "it is in memory, and gone when this machine is off";
  return path.startsWith(`${KIT}/`) ? "it is in the kit's folder, which is removed after the repair" : undefined;
}

/** `newest`: replaces the mark of an earlier backup with the same keys; otherwise that mark stays. */
export function markBackup(files: Bundle["files"], bundle: { path: string; sha256: string }, options: { newest: boolean }) {
  if (notKept(bundle.path)) return;
  const keys = fingerprints(files);
  const known = backupMark();
  if (!options.newest && known && differing(known, keys).length === 0) return;
  const mark: BackupMark = { made: new Date().toISOString(), bundle: basename(bundle.path), sha256: bundle.sha256, keys };
  writeMark(BACKUP_MARK, mark, "for 05-verify: there is a backup of these keys");
}

/** Whether a backup of the keys of this folder was made, as an answer for 05-verify. Only its keeper knows whether it still exists. */
export function backupAnswer(certificatesDir: string): string | { warning: string } {
  const mark = backupMark();
  const todo = `${BACKUP}, and keep the file away from this machine`;
  if (!mark) return { warning: `no backup of these keys was made with hand-over.ts pack on this node: ${todo}` };
  const present = SHARED_KEYS.flatMap(({ name, publicFile }) => {
    const text = readText(`${certificatesDir}/${publicFile}`);
    return text ? [[name, hashIn(text)] as const] : [];
  });
  const other = differing(mark, Object.fromEntries(present));
  if (other.length > 0) return { warning: `the backup of ${day(new Date(mark.made))} holds other keys (${other.join(", ")}): ${todo}` };
  return `${mark.bundle}, ${day(new Date(mark.made))}`;
}

function differing(mark: BackupMark, keys: Record<string, string>): string[] {
  return Object.keys(keys).filter((name) => mark.keys[name] !== keys[name]);
}

function backupMark(): BackupMark | undefined {
  const mark = readMark<BackupMark>(BACKUP_MARK);
  return mark && typeof mark.keys === "object" ? mark : undefined;
}
