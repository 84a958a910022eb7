/**
 * The end of part 5 on one screen: what the repair has changed, what it leaves to people, and what can be deleted, each
 * with its command. Reads only.
 */

import { existsSync, lstatSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { BACKUP, command, inLines, type Todo } from "../again.ts";
import { adminClient } from "../api/admin-api.ts";
import { joiningIsOpen } from "../api/bootstrap-tokens.ts";
import type { KubeApi } from "../api/kube-api.ts";
import type { KubeObject } from "../api/kube-object.ts";
import { caEndedAt } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { keptRepair, type Repair, replacedCa } from "../facts/repair.ts";
import { saKeyIsNew } from "../facts/sa-key.ts";
import { attemptLater, Fail } from "../fail.ts";
import { filesBelow } from "../files/file-tree.ts";
import { hostEntry, list, stat, UNFINISHED } from "../files/files.ts";
import { gone } from "../files/untrusted-file.ts";
import { BACKUP_MARK, backupState } from "../hand-over/backup-mark.ts";
import type { Node } from "../node/node.ts";
import { rescuedEtcd, rescueFolders, STASH } from "../node/rescue-folder.ts";
import { meanings, openSavedOptions, savedOptionsOf } from "../node/words.ts";
import { typed } from "../options.ts";
import { certInfo } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import { NEW_SA_KEY_MARK, oldSaKeys } from "../pki/sa-keys.ts";
import { listed } from "../plain.ts";
import { shell } from "../shell-line.ts";
import { undefinedOnTimeout } from "../wait-for.ts";
import { hasLeftCanaries, heldIn, peopleToDo } from "../workloads/left-to-do.ts";
import type { ToDelete, WrapUp } from "./wrap-up-parts.ts";

/** Without `cp` (a worker) only the files of this node. Undefined if there is no trace of a repair. */
export async function wrapUp(node: Node, cp: ControlPlaneNode | undefined): Promise<WrapUp | undefined> {
  // the checks have said why the API does not answer
  const admin = cp && (await attemptLater(() => adminClient(cp.facts)));
  const client = admin instanceof Fail ? undefined : admin;
  const api = client && (await undefinedOnTimeout(client.ready())) ? client : undefined;
  const removable = onThisNode(node.name, cp?.dataFrom);
  const repair = cp && keptRepair(cp);
  if (api) removable.push(...(await inCluster(api, cp, repair)));
  if (!repair && removable.length === 0) return undefined;
  const next = beforeRemoval(cp);
  if (!cp) return { changed: [], left: [], next, remove: [...removable, kits()] };
  const nodes = (await api?.list("/api/v1/nodes"))?.map(({ metadata }) => metadata);
  const others = (nodes ?? cp.cluster.nodes).map(({ name }) => name).filter((name) => name !== node.name);
  const caPem = clusterCa(cp.facts.certificatesDir);
  const changed = repair ? trustChanges(cp, caPem) : [];
  const aside = cp.earlier ? `${cp.earlier.rescue.dir}/aside` : cp.asideDir;
  const moved = [...filesBelow(aside)].length;
  if (repair && moved > 0) changed.push(`moved aside, not deleted: ${moved} files, in ${aside}`);
  const left = await peopleToDo(cp, caPem, api);
  return { changed, left, next, remove: [...removable, ...onOtherNodes(others), kits()] };
}

/** The files to remove hold the transcripts; afterwards no old key is left. */
function beforeRemoval(cp: ControlPlaneNode | undefined): Todo[] {
  const report = {
    command: command("report report.html"),
    note: "once, on one control plane node: it writes a page about this repair, from the transcripts in the rescue folders",
    ...(!cp && { on: "a control plane node" }),
  };
  const backup = {
    command: BACKUP,
    note: "once, in a terminal (ssh -t): it shows the passphrase, and says where the file goes",
  };
  return [
    ...(cp && !backupState(cp.facts.certificatesDir).fits ? [backup] : []),
    ...(rescueFolders().length > 0 ? [report] : []),
  ];
}

function trustChanges(cp: ControlPlaneNode, caPem: string): string[] {
  const [now, old] = [certInfo(caPem).publicKeyHash, [...replacedCa(cp, caPem)]];
  const state = caEndedAt(cp) ? "renewed with its own key" : "as before";
  const ca = old.length > 0 ? `new, ${now} instead of ${old.join(" and ")}` : `${state}, ${now}`;
  if (!saKeyIsNew(cp)) return [`CA: ${ca}`];
  const isAccepted = oldSaKeys(cp.facts.certificatesDir).length > 0;
  const tokens = `tokens of the old key ${isAccepted ? "are still accepted (sa-old.pub)" : "end"}`;
  return [`CA: ${ca}`, `service-account key: new; ${tokens}`];
}

/** Text for a terminal: four headings, or fewer. */
export function wrapUpLines({ changed, left, next, remove }: WrapUp): string[] {
  const width = Math.max(...remove.map(({ on }) => `on ${on}`.length));
  const lines = remove.map(({ on, command, why }) => `${`on ${on}`.padEnd(width)}  ${command}   # ${why}`);
  const parts: [string, string[]][] = [
    ["What has changed", changed],
    ["Left for you, beside what the checks say", left],
    ["Next, in this order, before anything is deleted", inLines(next)],
    ["To delete, when nothing is missing any more", lines],
  ];
  const shown = parts.filter(([, items]) => items.length > 0);
  return shown.flatMap(([title, items]) => [title, ...items.map((item) => `  ${item}`)]);
}

const MARKS = "/etc/kubernetes";
const ROOT = "/root";
const KIT = resolve(import.meta.dir, "../..");

/** `dataFrom`: the folder from which scripts read their facts now. */
function onThisNode(node: string, dataFrom?: string): ToDelete[] {
  const all: ToDelete[] = [];
  const add = (command: string, why: string) => all.push({ on: node, command, why });
  for (const rescue of rescueFolders()) {
    const isInUse = dataFrom === rescuedEtcd(rescue);
    const last = isInUse ? ": the last thing to go, the scripts read their facts here" : "";
    add(shell`rm -rf ${rescue.dir}`, `${heldIn(rescue)}${last}${keepWhile(openSavedOptions(rescue))}`);
  }
  const ours = list(MARKS).filter((name) => name.startsWith(".kube-pki-repair-"));
  const notes = ours.map((name) => `${MARKS}/${name}`).filter((path) => path !== BACKUP_MARK);
  if (notes.length > 0) add(shell`rm -f ${notes}`, "notes for part 4, no secret");
  if (stat(STASH)) add(shell`rm -rf ${STASH}`, "keys that 00-salvage has found, in memory");
  for (const path of unfinished(MARKS)) add(shell`rm -rf ${path}`, "not whole: a run was cut off here");
  if (stat(`${ROOT}/token.d`)) add(shell`rm -rf ${ROOT}/token.d`, "the workers' bootstrap tokens");
  // files in the kit's folder are removed with it
  for (const folder of new Set([ROOT, typed(".")]))
    for (const { name, why } of folder === KIT ? [] : secretFiles(hostEntry(folder)))
      add(shell`shred -u ${join(folder, name)}`, why);
  return all;
}

/** The kit's folder is memory of its own, and everything in it is removed with it. */
export function kits(kit = KIT): ToDelete {
  // who comes back needs it
  const back = meanings([...savedOptionsOf("without"), ...savedOptionsOf("start-without")]);
  const secrets = [
    ...secretFiles(kit).map(({ name }) => name),
    ...(existsSync(join(kit, "token.d")) ? ["token.d"] : []),
  ];
  return {
    on: "every node",
    command: "cd / && umount /run/kube-pki-repair && rmdir /run/kube-pki-repair",
    why: `the kit, with every passphrase, token and bundle in it${secrets.length > 0 ? `; here: ${listed(secrets)}` : ""}${keepWhile(back)}`,
  };
}

function keepWhile(open: readonly string[]): string {
  return open.length > 0 ? `; KEEP IT while this holds: ${open.join("; ")}` : "";
}

/** `names`: nodes that took part in the repair. Left-overs there show only there. */
function onOtherNodes(names: readonly string[]): ToDelete[] {
  const line = `rm -rf /root/kube-pki-repair-* ${NEW_SA_KEY_MARK}`;
  const keep = keepWhile([...new Set(rescueFolders().flatMap(openSavedOptions))]);
  const why = `unknown from here: ${command("05-verify")} there says what it is${keep}`;
  return names.length > 0 ? [{ on: listed(names), command: line, why }] : [];
}

/** If the repair has replaced keys, an older Secret of kubeadm's holds the old ones. */
async function inCluster(
  api: KubeApi,
  cp: ControlPlaneNode | undefined,
  repair: Repair | undefined,
): Promise<ToDelete[]> {
  const all: ToDelete[] = [];
  const add = (command: string, why: string) => all.push({ on: "the cluster", command, why });
  if (await hasLeftCanaries(api))
    add("kubectl -n kube-system delete pod -l kube-pki-repair=canary", "test pods of a run that was cut off");
  const since = repair?.rescue.made;
  const isNew =
    cp && since && (replacedCa(cp, clusterCa(cp.facts.certificatesDir)).size > 0 || saKeyIsNew(cp));
  const uploaded =
    isNew && (await api.find<KubeObject>("/api/v1/namespaces/kube-system/secrets/kubeadm-certs"));
  if (uploaded && Date.parse(uploaded.metadata.creationTimestamp ?? "") < +since)
    add(
      "kubectl -n kube-system delete secret kubeadm-certs",
      "the old keys, for kubeadm join; kubeadm init phase upload-certs --upload-certs brings the current ones",
    );
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

/** Files that hold a secret, by how they begin, each with what it is. age-keygen's first lines are comments. */
const SECRETS: readonly [begins: RegExp, why: string][] = [
  [
    /^(age-encryption\.org\/v1\n|-----BEGIN AGE ENCRYPTED FILE-----)/,
    "a bundle of keys: delete it when a copy is on another machine",
  ],
  [
    /^(#.*\n)*AGE-SECRET-KEY-/,
    "an age identity, which opens a bundle of keys: keep a copy on another machine",
  ],
  [/^[a-z0-9]{6}\.[a-z0-9]{16}\s/, "a worker's bootstrap token, and the CA"],
];

/** A passphrase file: only the bundle beside it shows its purpose. */
const OPENER = /(^|[-.])passphrase(\.txt)?$/;
/** Bytes: no bundle of keys is as large; its first line is not longer. */
const [LARGEST, HEAD] = [1 << 20, 4096];

/** Regular files in this folder of this machine, not below it, each with what it is. */
function secretFiles(folder: string): { name: string; why: string }[] {
  const names = gone(() => readdirSync(folder)) ?? [];
  return names.sort().flatMap((name) => {
    const path = join(folder, name);
    const info = gone(() => lstatSync(path));
    if (!info?.isFile() || info.size > LARGEST) return [];
    if (OPENER.test(name))
      return { name, why: "a passphrase, which opens a bundle of keys: keep a copy elsewhere" };
    const head = readFileSync(path).subarray(0, HEAD).toString("latin1");
    const why = SECRETS.find(([begins]) => begins.test(head))?.[1];
    return why === undefined ? [] : { name, why };
  });
}
