/**
 * A bundle in the operator's hands: how it is locked and opened, by passphrases and age identities, as options or
 * typed on the terminal; what is in it, in lines for people and as the mark of a backup; and the commands that
 * follow. All of it is in memory, and checked before it is used. What is told of it is not secret.
 */
import { basename, dirname } from "node:path";
import { BACKUP, command } from "../again.ts";
import { Fail } from "../fail.ts";
import { readBytes, stat, writeMark } from "../files/files.ts";
import { secretIn } from "../files/operator-files.ts";
import { sha256Of } from "../files/sha256.ts";
import { typed } from "../options.ts";
import { certInfo, certificatesIn, day, hashIn, signingFirst } from "../pki/certificate.ts";
import { type PkiPlace, SHARED_KEYS, type SharedKey } from "../pki/certs.ts";
import { ask, askTwice, newPassphrase, showOnce } from "../prompt.ts";
import { answer, answerJson, answerLines, say, tell } from "../run.ts";
import { shell } from "../shell-line.ts";
import {
  BACKUP_MARK,
  type BackupMark,
  backupMark,
  copyMarkCommand,
  differing,
  whyNoBackup,
} from "./backup-mark.ts";
import {
  type Bundle,
  type BundleManifest,
  type KeysElsewhere,
  keysIn,
  MAX_BYTES,
  publicHash,
  textIn,
  unpackTar,
} from "./bundle.ts";
import { type Key, type Lock, type LockKind, lockOf, open, recipientsIn } from "./sealed.ts";

const NO_SA = "sa              not in it: an external signer has the service-account key";
const NO_ETCD = "etcd/ca         not in it: kubeadm did not make etcd, and the key of its CA is not here";
const NO_FRONT_PROXY =
  "front-proxy-ca  not in it: no API server has an aggregation layer, so nothing reads it";

export function keysNotInBundle({
  externalSigner,
  externalEtcd,
  withoutAggregation,
}: KeysElsewhere): string[] {
  return [
    ...(externalSigner ? [NO_SA] : []),
    ...(externalEtcd ? [NO_ETCD] : []),
    ...(withoutAggregation ? [NO_FRONT_PROXY] : []),
  ];
}

export function aboutBundle({ files, manifest }: Bundle): string[] {
  if (!manifest) return ["packed by hand: it does not say when, and of which cluster", ...describe(files)];
  const { made, node, tool, cluster, kubeletConfig } = manifest;
  const origin = cluster ? `cluster "${cluster.name}"` : "cluster not known";
  return [
    `packed ${made} on ${node}, ${tool}; ${origin}`,
    ...describe(files),
    ...keysNotInBundle(manifest),
    ...ofKubelet(kubeletConfig),
  ];
}

/** Answers with the content of the bundle, for people or for programs. */
export function answerBundle(bundle: Bundle, { json }: { json?: boolean | undefined }) {
  if (json) answerJson(bundleAsData(bundle));
  else answerLines(aboutBundle(bundle));
}

/** The same for programs: no key, only what names each. */
function bundleAsData({ files, manifest }: Bundle) {
  const { made, node, tool, cluster, kubeletConfig } = manifest ?? {};
  return {
    ...(manifest && { packed: { made, node, kit: tool } }),
    ...(cluster && { cluster: cluster.name, controlPlanes: cluster.controlPlanes }),
    keys: keysIn(files).map(({ name, ...key }) => {
      const { pem, cert } = signingIn(files, key);
      const more = cert && { algorithm: cert.algorithm, notAfter: cert.notAfter.toISOString() };
      return { name, publicKeyHash: hashIn(pem), ...more };
    }),
    elsewhere: manifest ? keysNotInBundle(manifest).map((line) => line.split(/ /)[0]!) : [],
    ...(kubeletConfig && { kubeletConfig: kubeletConfig.path }),
  };
}

/** A key's public half, and its certificate if it is a CA. */
function signingIn(files: Bundle["files"], key: Pick<SharedKey, "publicFile" | "keyFile">) {
  const pem = signingFirst(textIn(files, key.publicFile)!, textIn(files, key.keyFile));
  return { pem, cert: certificatesIn(pem).length > 0 ? certInfo(pem) : undefined };
}

export function ofKubelet(config: BundleManifest["kubeletConfig"]): string[] {
  return config ? ["and the kubelet's configuration of that node"] : [];
}

export function describe(files: Bundle["files"]): string[] {
  const width = Math.max(...SHARED_KEYS.map(({ name }) => name.length));
  return keysIn(files).map((key) => {
    const { pem, cert } = signingIn(files, key);
    return `${key.name.padEnd(width)}  ${hashIn(pem)}  ${cert ? `${cert.algorithm}, until ${day(cert.notAfter)}` : "signs service-account tokens"}`;
  });
}

export function fingerprints(files: Bundle["files"]): Record<string, string> {
  return Object.fromEntries(keysIn(files).map((key) => [key.name, publicHash(files, key)]));
}

/** `newest`: replaces the mark of an earlier backup with the same keys; otherwise that mark stays. */
export function markBackup(
  files: Bundle["files"],
  bundle: { path: string; sha256: string },
  options: { newest: boolean },
) {
  if (whyNoBackup(bundle.path)) return;
  const keys = fingerprints(files);
  const oldMark = backupMark();
  if (!options.newest && oldMark && differing(oldMark, keys).length === 0) return;
  const mark: BackupMark = {
    made: new Date().toISOString(),
    bundle: basename(bundle.path),
    sha256: bundle.sha256,
    keys,
    ...(oldMark?.etcd && { etcd: oldMark.etcd }),
  };
  writeMark(BACKUP_MARK, mark, "it stays: 05-verify knows the backup by it");
}

/** Written beside the mark of the bundle that it was made with. */
export function markEtcd(path: string, sha256: string) {
  const mark = backupMark();
  if (!mark || whyNoBackup(path)) return;
  const etcd = { made: new Date().toISOString(), file: basename(path), sha256 };
  writeMark(BACKUP_MARK, { ...mark, etcd }, "for drill: there is a snapshot of etcd");
}

interface OpenedBundle {
  bundle: Bundle;
  sha256: string;
  lock: LockKind;
}

/** `file`: as it was typed. Errors: Fail if it is no bundle, cannot be opened, or cannot be used. */
export async function openBundle(file: string, options: LockOptions, place: PkiPlace): Promise<OpenedBundle> {
  const info = stat(typed(file));
  if (!info)
    throw new Fail(`There is no file "${file}"`, {
      hint: "copy the bundle here with scp: pack writes it on a control plane node that has the keys",
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
  return { bundle: unpackTar(content, place), sha256: sha256Of(sealed), lock };
}

export interface LockOptions {
  to?: string[] | undefined;
  generate?: boolean | undefined;
  "passphrase-file"?: string | undefined;
  identity?: string | undefined;
}

/** Recipients and files are read now; a passphrase is asked for only when everything else is well. */
export function howToLock({
  to,
  generate,
  "passphrase-file": file,
  identity,
}: LockOptions): () => Promise<Lock> {
  if ([to, generate, file].filter(Boolean).length > 1 || identity)
    throw new Fail("pack takes one of --to, --passphrase-file and --generate", {
      hint: "./bunw scripts/hand-over.ts --help",
    });
  if (to) {
    const recipients = recipientsIn(to);
    if (recipients.length === 0)
      throw new Fail("--to names no recipient", { hint: "age-keygen -y IDENTITY-FILE prints the recipient" });
    return async () => ({ recipients });
  }
  const passphrase = file === undefined ? undefined : refuseWeak(passphraseIn(file));
  return async () => ({
    passphrase: passphrase ?? (generate ? showNewPassphrase() : refuseWeak(askTwice())),
  });
}

export function keyFor(lock: LockKind, { identity, "passphrase-file": file }: LockOptions): Key {
  if (lock === "recipients") {
    if (identity) return { identityFile: secretIn(identity) };
    throw new Fail("This bundle was packed for recipients, not with a passphrase", {
      hint: "give the file that age-keygen wrote: --identity FILE",
    });
  }
  if (identity)
    throw new Fail("This bundle was packed with a passphrase, not for an identity", {
      hint: "run the same line without --identity",
    });
  return { passphrase: file === undefined ? ask("Passphrase of the bundle: ") : passphraseIn(file) };
}

/**
 * `bundle`: as it was typed; `ca`: the fingerprint of the CA in it; `others`: the other control plane nodes, as far
 * as they are known.
 */
interface Packed {
  bundle: string;
  ca: string;
  others: readonly string[];
}

/** The next commands for a bundle that only travels. The line for the other nodes stands alone on stdout. */
export function printCarryCommands({ bundle, ca, others }: Packed, options: LockOptions) {
  say(`${bundle} does not count as a backup: ${whyNoBackup(typed(bundle))}. A backup: ${BACKUP}`);
  const files = [bundle, ...(options["passphrase-file"] === undefined ? [] : [options["passphrase-file"]])];
  for (const name of others) say(shell`scp -p ${files} root@${name}:${dirname(typed(bundle))}/`);
  tell("", "done.  next: copy it into the kit's folder on each other control plane node; there:");
  answer(unpackLine(bundle, ca, options));
}

/** The next commands for a backup: its mark is enough for the other nodes. */
export function printBackupCommands({ bundle, ca, others }: Packed, options: LockOptions) {
  const opener = options.to ? "identity" : "passphrase";
  say(
    `${bundle} counts as the backup of these keys: move it away from this machine, and store its ${opener} elsewhere`,
  );
  if (options.to)
    say(
      `save the CA's fingerprint elsewhere: ${ca}. A restore needs it: anybody can lock one for a recipient`,
    );
  say(`to unpack it on another control plane node: ${unpackLine(bundle, ca, options)}`);
  const markNote =
    others.length > 0 ? "; so that the others know of it, its mark goes there, which holds no key:" : "";
  tell("", `done.  next: move ${bundle} away${markNote || `, then ${command("05-verify")}`}`);
  for (const to of others) answer(copyMarkCommand({ to }));
}

function unpackLine(bundle: string, ca: string, { to, "passphrase-file": file }: LockOptions): string {
  if (to) return command(shell`hand-over unpack --identity FILE --ca-hash ${ca} ${bundle}`);
  if (file === undefined) return command(shell`hand-over unpack --ca-hash ${ca} ${bundle}`);
  return command(shell`hand-over unpack --passphrase-file ${file} --ca-hash ${ca} ${bundle}`);
}

function showNewPassphrase(): string {
  const passphrase = newPassphrase();
  showOnce(
    `\n  ${passphrase}\n\n  The passphrase of the bundle. Write it down now: it is shown once. Without it nobody can open the bundle.\n\n`,
  );
  return passphrase;
}

function refuseWeak(passphrase: string): string {
  if (passphrase.length >= 12) return passphrase;
  throw new Fail("The passphrase is too short: whoever finds the bundle can try all of them", {
    hint: "take 12 letters or more, or let --generate make a good one",
  });
}

function passphraseIn(file: string): string {
  const passphrase = secretIn(file).replace(/\r?\n$/, "");
  if (passphrase && !passphrase.includes("\n")) return passphrase;
  throw new Fail(`"${file}" holds ${passphrase ? "more than one line" : "no passphrase"}`, {
    hint: "write the passphrase alone, on the first line",
  });
}
