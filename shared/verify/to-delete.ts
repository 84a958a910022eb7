/**
 * What of a repair still lies on this node and in the cluster, and on which other nodes nobody has looked:
 * each with the command that removes it.
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
import { hasLeftCanaries } from "../workloads/test-pod.ts";

export interface ToDelete {
  /** Node names, or words. */
  on: string;
  command: string;
  /** What it is, and when it may go. */
  why: string;
}

const SECRETS = "opens, or is, a bundle of all keys: when it is away from this machine";
const MARKS = "/etc/kubernetes";
const OURS = /^\.kube-pki-repair-/;
const ROOT = "/root";

/** `dataFrom`: where the scripts read their facts now. */
export function onThisNode(node: string, dataFrom?: string): ToDelete[] {
  const on = (command: string, why: string) => ({ on: node, command, why });
  const rescued = rescueFolders().map((rescue) => {
    const inUse =
      dataFrom === rescuedEtcd(rescue) ? ": the last thing to go, the scripts read their facts here" : "";
    const open = openWords(rescue);
    const said = open.length > 0 ? `; KEEP IT while this holds: ${open.join("; ")}` : "";
    return on(shell`rm -rf ${rescue.dir}`, `${heldIn(rescue)}${inUse}${said}`);
  });
  const marks = list(MARKS).flatMap((name) => (OURS.test(name) ? `${MARKS}/${name}` : []));
  const notes = marks.filter((path) => path !== BACKUP_MARK);
  return [
    ...rescued,
    ...(notes.length > 0 ? [on(shell`rm -f ${notes}`, "notes for part 4, no secret")] : []),
    ...(stat(STASH) ? [on(shell`rm -rf ${STASH}`, "keys that 00-salvage has found, in memory")] : []),
    ...unfinished(MARKS).map((path) => on(shell`rm -rf ${path}`, "not whole: a run was cut off here")),
    ...(stat(`${ROOT}/token.d`) ? [on(shell`rm -rf ${ROOT}/token.d`, "the workers' bootstrap tokens")] : []),
    ...[...new Set([ROOT, typed(".")])].flatMap((folder) =>
      // what is in the kit's folder goes with it
      folder === KIT
        ? []
        : secretFiles(hostEntry(folder)).map((name) => on(shell`shred -u ${join(folder, name)}`, SECRETS)),
    ),
  ];
}

/** The kit's folder is memory of its own: with it goes all that is in it. */
export function kits(kit = KIT): ToDelete {
  const inside = [...secretFiles(kit), ...(existsSync(join(kit, "token.d")) ? ["token.d"] : [])];
  return {
    on: "every node",
    command: "cd / && umount /run/kube-pki-repair && rmdir /run/kube-pki-repair",
    why: `the kit, with every passphrase, token and bundle in it${inside.length > 0 ? `; here: ${listed(inside)}` : ""}`,
  };
}

const KIT = resolve(import.meta.dir, "../..");

/** `names`: of nodes that were part of the repair. What lies there shows only there. */
export function onOtherNodes(names: readonly string[]): ToDelete[] {
  if (names.length === 0) return [];
  return [
    {
      on: listed(names),
      command: "rm -rf /root/kube-pki-repair-* /etc/kubernetes/.kube-pki-repair-{new-sa-key,skipped}",
      why: `unknown from here: ${command("05-verify")} there says what it is`,
    },
  ];
}

export async function inCluster(api: KubeApi): Promise<ToDelete[]> {
  const on = "the cluster";
  const canaries = await hasLeftCanaries(api);
  return [
    ...(canaries
      ? [
          {
            on,
            command: "kubectl -n kube-system delete pod -l kube-pki-repair=canary",
            why: "test pods of a run that was cut off",
          },
        ]
      : []),
    ...((await joiningIsOpen(api))
      ? [
          {
            on,
            command: command("03-workers close"),
            why: "the workers' bootstrap token, or the right to use it",
          },
        ]
      : []),
  ];
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

/** Bytes that are looked at; a bundle is larger, its first line is not. */
const HEAD = 4096;

/** What it opens shows only beside its bundle: it looks like nothing. */
const OPENER = /(^|[-.])passphrase(\.txt)?$/;

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

/** Bytes. No bundle of keys is as large. */
const LARGEST = 1 << 20;
