/** A mark that pack and unpack leave on a node for 05-verify: there is a bundle with these keys. It holds no secret. */
import { readText } from "../files/files.ts";
import { type Mark, readMark, writeMark } from "../files/mark.ts";
import { hashIn } from "../pki/certificate.ts";
import { SHARED_KEYS } from "../pki/certs.ts";
import { day } from "../pki/judge.ts";
import { type Bundle, fingerprints } from "./bundle.ts";

const MARK = "/etc/kubernetes/.kube-pki-repair-backup";

interface BackupMark extends Mark {
  /** The bundle's file name and SHA-256, to find the bundle again. */
  bundle: string;
  sha256: string;
  /** The fingerprint of each key in the bundle, by the key's name. */
  keys: Record<string, string>;
}

/** `newest`: replaces the mark of an earlier bundle with the same keys; otherwise that mark stays. */
export function markBackup(files: Bundle["files"], bundle: { name: string; sha256: string }, options: { newest: boolean }) {
  const keys = fingerprints(files);
  const known = backupMark();
  if (!options.newest && known && differing(known, keys).length === 0) return;
  const mark: BackupMark = { made: new Date().toISOString(), bundle: bundle.name, sha256: bundle.sha256, keys };
  writeMark(MARK, mark, "for 05-verify: there is a bundle with these keys");
}

/** Whether a bundle with the keys of this folder was made, as an answer for 05-verify. Only its keeper knows whether it still exists. */
export function backupAnswer(certificatesDir: string): string | { warning: string } {
  const mark = backupMark();
  const todo = "./bunw scripts/hand-over.ts pack, and keep the file away from this machine";
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
  const mark = readMark<BackupMark>(MARK);
  return mark && typeof mark.keys === "object" ? mark : undefined;
}
