/** Describes a bundle, in lines for people and as the mark of a backup. Nothing secret. */
import { basename } from "node:path";
import { writeMark } from "../files/files.ts";
import { certInfo, certificatesIn, hashIn } from "../pki/certificate.ts";
import { SHARED_KEYS } from "../pki/certs.ts";
import { day } from "../pki/judge.ts";
import { signingFirst } from "../pki/trusted-keys.ts";
import { BACKUP_MARK, type BackupMark, backupMark, differing, notKept } from "./backup-mark.ts";
import { type Bundle, keysIn, publicHash, textIn } from "./bundle.ts";

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
