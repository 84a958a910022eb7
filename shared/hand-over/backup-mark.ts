/**
 * A mark that pack and unpack leave on a node for 05-verify: there is a backup of these keys. It holds no
 * secret. Only a bundle that can stay is a backup: one in memory, or in the kit's folder, travels and is
 * deleted at the end of the repair.
 *
 * Neither pack nor unpack removes a bundle: it may be the only backup, and the next node may still need it.
 */

import { dirname, resolve } from "node:path";
import { BACKUP, command } from "../again.ts";
import { isInMemory } from "../files/file-system.ts";
import { type Mark, readBytes, readMark, readText } from "../files/files.ts";
import { sha256Of } from "../files/sha256.ts";
import { typed } from "../options.ts";
import { day, hashIn, signingFirst } from "../pki/certificate.ts";
import { SHARED_KEYS } from "../pki/certs.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";

export const BACKUP_MARK = "/etc/kubernetes/.kube-pki-repair-backup";

export interface BackupMark extends Mark {
  /** The bundle's file name and SHA-256, to find the bundle again. */
  bundle: string;
  sha256: string;
  /** The fingerprint of each key in the bundle, by the key's name. */
  keys: Record<string, string>;
  /** The last snapshot of etcd by `pack --with-etcd`. */
  etcd?: Mark & { file: string; sha256: string };
}

const KIT = resolve(import.meta.dir, "../..");

/** Why a bundle at this path is no backup; undefined: it may be one. */
export function whyNoBackup(path: string): string | undefined {
  if (isInMemory(path)) return "it is in memory, and gone when this machine is off";
  return path.startsWith(`${KIT}/`)
    ? "it is in the kit's folder, which is removed after the repair"
    : undefined;
}

/** The state of a backup by its mark. Only its keeper knows whether it still exists. */
export interface BackupState {
  fits: boolean;
  says: string;
  command: string;
}

/**
 * `bundle`: the file, if the operator names it. It is not opened: the mark with its SHA-256 lists its keys. Errors:
 * Fail if the file cannot be read.
 */
export function backupState(certificatesDir: string, bundle?: string): BackupState {
  const mark = backupMark();
  const unfit = (says: string, command: string) => ({ fits: false, says, command });
  const bytes = bundle === undefined ? undefined : readBytes(bundle);
  if (bundle !== undefined && !bytes) return unfit(`there is no bundle "${bundle}"`, BACKUP);
  const list = bundle === undefined ? "" : command(shell`hand-over list ${bundle}`);
  if (!mark) return bytes ? unfit(`nothing here says what "${bundle}" holds`, list) : unfit(NO_MARK, BACKUP);
  if (bytes && sha256Of(bytes) !== mark.sha256)
    return unfit(`"${bundle}" is not the bundle that was packed or unpacked here last`, list);
  const present = SHARED_KEYS.flatMap(({ name, publicFile, keyFile }) => {
    const [text, key] = [publicFile, keyFile].map((file) => readText(`${certificatesDir}/${file}`));
    return text ? [[name, hashIn(signingFirst(text, key))] as const] : [];
  });
  const made = day(new Date(mark.made));
  const other = differing(mark, Object.fromEntries(present));
  if (other.length > 0) return unfit(`the backup of ${made} holds other keys (${other.join(", ")})`, BACKUP);
  return { fits: true, says: `${mark.bundle}, ${made}`, command: "" };
}

/** The backup of etcd's data that this kit has made; only its keeper knows whether it still exists. */
export function etcdBackup(): string {
  const etcd = backupMark()?.etcd;
  if (etcd) return `${etcd.file}, ${day(new Date(etcd.made))}`;
  return `no snapshot was made with ${command("hand-over pack --with-etcd")} on this node`;
}

const NO_MARK = "no backup of these keys was made with hand-over.ts pack on this node";

/** `others`: names of the other control plane nodes; if one of them made the backup, its mark is enough. */
export function backupAnswer(
  certificatesDir: string,
  others: readonly string[] = [],
): string | { warning: string } {
  const { fits, says } = backupState(certificatesDir);
  if (fits) return says;
  const [first] = others;
  return {
    warning:
      first === undefined
        ? says
        : `${says}; if ${others.join(" or ")} made it: ${copyMarkCommand({ from: first })}`,
  };
}

/** It is root's file on both nodes, and names keys by their fingerprints. */
export function copyMarkCommand({
  from,
  to,
}: { from: string; to?: never } | { to: string; from?: never }): string {
  const [file, into] = [BACKUP_MARK, `${dirname(BACKUP_MARK)}/`];
  return from === undefined
    ? shell`scp -p ${file} root@${to}:${into}`
    : shell`scp -p root@${from}:${file} ${into}`;
}

/** Undefined if there is none, or it holds other keys. */
export function backupMade(certificatesDir: string): Date | undefined {
  const mark = backupMark();
  return mark && backupState(certificatesDir).fits ? new Date(mark.made) : undefined;
}

export function differing(mark: BackupMark, keys: Record<string, string>): string[] {
  return Object.keys(keys).filter((name) => mark.keys[name] !== keys[name]);
}

export function backupMark(): BackupMark | undefined {
  const mark = readMark<BackupMark>(BACKUP_MARK);
  return mark && typeof mark.keys === "object" ? mark : undefined;
}

interface Pair {
  /**
   * As the operator typed them. `opener`: a passphrase or an age identity; unset if it was typed, or is on
   * another machine.
   */
  bundle: string;
  opener: string | undefined;
}

/** `when`: the time from which nobody needs them here any more. */
export function sayBundleFilesLeft({ bundle, opener }: Pair, when: string) {
  if (opener === undefined) return;
  const warning = `WARNING: "${opener}" opens "${bundle}", and together they are all keys of the cluster`;
  const paths = [typed(opener), typed(bundle)];
  if (whyNoBackup(paths[1]!)) say(`${warning}. ${when}: ${removal(paths)}`);
  else say(`${warning}. Keep them in two places, away from this machine`);
}

/** Memory needs no shredding. */
function removal(paths: readonly string[]): string {
  const [inMemory, onDisk] = [paths.filter(isInMemory), paths.filter((path) => !isInMemory(path))];
  const lines = [
    onDisk.length > 0 ? shell`shred -u ${onDisk}` : "",
    inMemory.length > 0 ? shell`rm ${inMemory}` : "",
  ];
  return lines.filter(Boolean).join("; ");
}
