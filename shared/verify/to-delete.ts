/**
 * Left-overs of a repair on this node and in the cluster, and the other nodes that were not checked: each
 * with the command that removes it.
 */

import { existsSync, lstatSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { command } from "../again.ts";
import { joiningIsOpen } from "../api/bootstrap-tokens.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { hostEntry, list, stat } from "../files/files.ts";
import { gone } from "../files/untrusted-file.ts";
import { UNFINISHED } from "../files/write-steps.ts";
import { BACKUP_MARK } from "../hand-over/backup-mark.ts";
import { heldIn, rescuedEtcd, rescueFolders } from "../node/rescue-folder.ts";
import { openWords } from "../node/words.ts";
import { typed } from "../options.ts";
import { listed } from "../plain.ts";
import { STASH } from "../salvage/stash.ts";
import { shell } from "../shell-line.ts";
import { hasLeftCanaries } from "../workloads/canaries.ts";

export interface ToDelete {
  /** Node names, or words. */
  on: string;
  command: string;
  /** Its purpose, and when it may go. */
  why: string;
}

const MARKS = "/etc/kubernetes";
const ROOT = "/root";
const KIT = resolve(import.meta.dir, "../..");

/** `dataFrom`: the folder from which scripts read their facts now. */
export function onThisNode(node: string, dataFrom?: string): ToDelete[] {
  const all: ToDelete[] = [];
  const add = (command: string, why: string) => all.push({ on: node, command, why });
  for (const rescue of rescueFolders()) {
    const isInUse = dataFrom === rescuedEtcd(rescue);
    const last = isInUse ? ": the last thing to go, the scripts read their facts here" : "";
    const open = openWords(rescue);
    const condition = open.length > 0 ? `; KEEP IT while this holds: ${open.join("; ")}` : "";
    add(shell`rm -rf ${rescue.dir}`, `${heldIn(rescue)}${last}${condition}`);
  }
  const ours = list(MARKS).filter((name) => name.startsWith(".kube-pki-repair-"));
  const notes = ours.map((name) => `${MARKS}/${name}`).filter((path) => path !== BACKUP_MARK);
  if (notes.length > 0) add(shell`rm -f ${notes}`, "notes for part 4, no secret");
  if (stat(STASH)) add(shell`rm -rf ${STASH}`, "keys that 00-salvage has found, in memory");
  for (const path of unfinished(MARKS)) add(shell`rm -rf ${path}`, "not whole: a run was cut off here");
  if (stat(`${ROOT}/token.d`)) add(shell`rm -rf ${ROOT}/token.d`, "the workers' bootstrap tokens");
  // files in the kit's folder are removed with it
  for (const folder of new Set([ROOT, typed(".")]))
    for (const name of folder === KIT ? [] : secretFiles(hostEntry(folder)))
      add(
        shell`shred -u ${join(folder, name)}`,
        "opens, or is, a bundle of all keys: when it is away from this machine",
      );
  return all;
}

/** The kit's folder is memory of its own, and everything in it is removed with it. */
export function kits(kit = KIT): ToDelete {
  const secrets = [...secretFiles(kit), ...(existsSync(join(kit, "token.d")) ? ["token.d"] : [])];
  return {
    on: "every node",
    command: "cd / && umount /run/kube-pki-repair && rmdir /run/kube-pki-repair",
    why: `the kit, with every passphrase, token and bundle in it${secrets.length > 0 ? `; here: ${listed(secrets)}` : ""}`,
  };
}

/** `names`: nodes that took part in the repair. Left-overs there show only there. */
export function onOtherNodes(names: readonly string[]): ToDelete[] {
  const line = "rm -rf /root/kube-pki-repair-* /etc/kubernetes/.kube-pki-repair-{new-sa-key,skipped}";
  const why = `unknown from here: ${command("05-verify")} there says what it is`;
  return names.length > 0 ? [{ on: listed(names), command: line, why }] : [];
}

export async function inCluster(api: KubeApi): Promise<ToDelete[]> {
  const all: ToDelete[] = [];
  const add = (command: string, why: string) => all.push({ on: "the cluster", command, why });
  if (await hasLeftCanaries(api))
    add("kubectl -n kube-system delete pod -l kube-pki-repair=canary", "test pods of a run that was cut off");
  if (await joiningIsOpen(api))
    add(command("03-workers close"), "the workers' bootstrap token, or the right to use it");
  return all;
}

function unfinished(folder: string): string[] {
  return list(folder).flatMap((name) => {
    const path = `${folder}/${name}`;
    if (name.endsWith(UNFINISHED)) return [path];
    return gone(() => lstatSync(hostEntry(path)))?.isDirectory() ? unfinished(path) : [];
  });
}

/**
 * A bundle in the age format, an age identity (and its first line, which age-keygen writes), a bootstrap
 * token.
 */
const SECRET =
  /^(age-encryption\.org\/v1\n|-----BEGIN AGE ENCRYPTED FILE-----|(#.*\n)*AGE-SECRET-KEY-|[a-z0-9]{6}\.[a-z0-9]{16}\s)/;

/** A passphrase file: only the bundle beside it shows its purpose. */
const OPENER = /(^|[-.])passphrase(\.txt)?$/;
/** Bytes: no bundle of keys is as large; its first line is not longer. */
const [LARGEST, HEAD] = [1 << 20, 4096];

/** Names of regular files in this folder of this machine, not below it. */
function secretFiles(folder: string): string[] {
  const names = gone(() => readdirSync(folder)) ?? [];
  return names.sort().filter((name) => {
    const path = join(folder, name);
    const info = gone(() => lstatSync(path));
    if (!info?.isFile() || info.size > LARGEST) return false;
    return OPENER.test(name) || SECRET.test(readFileSync(path).subarray(0, HEAD).toString("latin1"));
  });
}
