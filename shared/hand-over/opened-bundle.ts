/**
 * Reads a bundle from its file, all of it in memory and checked before it is used; and describes one, in lines
 * for people and as the mark of a backup. Nothing of that is secret.
 */
import { basename } from "node:path";
import { Fail } from "../fail.ts";
import { readBytes, stat, writeMark } from "../files/files.ts";
import { typed } from "../options.ts";
import { certInfo, certificatesIn, hashIn } from "../pki/certificate.ts";
import { SHARED_KEYS } from "../pki/certs.ts";
import { day } from "../pki/judge.ts";
import { signingFirst } from "../pki/trusted-keys.ts";
import { shell } from "../shell-line.ts";
import { BACKUP_MARK, type BackupMark, backupMark, differing, notKept, sha256Of } from "./backup-mark.ts";
import { type Bundle, keysIn, MAX_BYTES, publicHash, textIn, unpackTar } from "./bundle.ts";
import { keyFor, type LockOptions } from "./lock-options.ts";
import { type LockKind, lockOf, open } from "./sealed.ts";

export const NO_SA = "sa              not in it: an external signer has the service-account key";

/** When, where and for which cluster it was packed, and its keys. */
export function aboutBundle({ files, manifest }: Bundle): string[] {
  if (!manifest) return ["packed by hand: it does not say when, and of which cluster", ...describe(files)];
  const { made, node, tool, cluster, externalSigner } = manifest;
  const origin = cluster ? `cluster "${cluster.name}"` : "cluster not known";
  return [
    `packed ${made} on ${node}, ${tool}; ${origin}`,
    ...describe(files),
    ...(externalSigner ? [NO_SA] : []),
  ];
}

/** A line for each key: name, fingerprint, kind, expiry. */
export function describe(files: Bundle["files"]): string[] {
  const width = Math.max(...SHARED_KEYS.map(({ name }) => name.length));
  return keysIn(files).map((key) => {
    const pem = signingFirst(textIn(files, key.publicFile)!, textIn(files, key.keyFile));
    const cert = certificatesIn(pem).length > 0 ? certInfo(pem) : undefined;
    return `${key.name.padEnd(width)}  ${hashIn(pem)}  ${cert ? `${cert.algorithm}, until ${day(cert.notAfter)}` : "signs service-account tokens"}`;
  });
}

/** The fingerprint of each shared key, by its name. */
export function fingerprints(files: Bundle["files"]): Record<string, string> {
  return Object.fromEntries(keysIn(files).map((key) => [key.name, publicHash(files, key)]));
}

/** `newest`: replaces the mark of an earlier backup with the same keys; otherwise that mark stays. */
export function markBackup(
  files: Bundle["files"],
  bundle: { path: string; sha256: string },
  options: { newest: boolean },
) {
  if (notKept(bundle.path)) return;
  const keys = fingerprints(files);
  const known = backupMark();
  if (!options.newest && known && differing(known, keys).length === 0) return;
  const mark: BackupMark = {
    made: new Date().toISOString(),
    bundle: basename(bundle.path),
    sha256: bundle.sha256,
    keys,
    ...(known?.etcd && { etcd: known.etcd }),
  };
  writeMark(BACKUP_MARK, mark, "for 05-verify: there is a backup of these keys");
}

/** Written beside the mark of the bundle that it was made with. */
export function markEtcd(path: string, sha256: string) {
  const mark = backupMark();
  if (!mark || notKept(path)) return;
  const etcd = { made: new Date().toISOString(), file: basename(path), sha256 };
  writeMark(BACKUP_MARK, { ...mark, etcd }, "for drill: there is a snapshot of etcd");
}

interface OpenedBundle {
  bundle: Bundle;
  sha256: string;
  lock: LockKind;
}

/** `file`: as it was typed. Errors: Fail if it is no bundle, cannot be opened, or cannot be used. */
export async function openBundle(
  file: string,
  options: LockOptions,
  certificatesDir: string,
): Promise<OpenedBundle> {
  const info = stat(typed(file));
  if (!info)
    throw new Fail(`There is no file "${file}"`, {
      hint: "pack writes it, on a control plane node that has the keys; carry it here with scp",
    });
  if (info.kind !== "file" || info.size > MAX_BYTES) {
    const why = info.kind === "file" ? `${info.size} bytes are too many` : "it is not a file";
    throw new Fail(`"${file}" is no bundle: ${why}`, {
      hint: shell`ls -l ${file}: a bundle that pack wrote is about 20,000 bytes long`,
    });
  }
  const sealed = readBytes(typed(file))!;
  const lock = lockOf(sealed);
  const content = await open(sealed, keyFor(lock, options));
  return { bundle: unpackTar(content, certificatesDir), sha256: sha256Of(sealed), lock };
}
