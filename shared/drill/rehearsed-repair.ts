/**
 * The repair of level 5, in memory: the steps of parts 1 and 2 that make files, by the same code, with new
 * CAs, while folders count as deleted, as in a dry run. Leaves out what asks or changes others: the other
 * members of etcd, the containers, the API. And its result as commands to type while all is well.
 */
import { command } from "../again.ts";
import type { LostFile } from "../facts/lost-file.ts";
import { lostHere } from "../facts/lost-files.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { refuseUnfitData } from "../facts/node-to-repair.ts";
import { lackingOfExternalCa } from "../facts/signed-elsewhere.ts";
import { failOf } from "../fail.ts";
import { inMemory } from "../files/foretell.ts";
import { note } from "../files/root.ts";
import type { BackupState } from "../hand-over/backup-mark.ts";
import { certRow } from "../pki/certs.ts";
import { apply } from "../pki/ensure.ts";
import { listed, plainLine } from "../plain.ts";
import { KUBECTL, shell } from "../shell-line.ts";
import {
  issueEtcdCertificates,
  issueForServers,
  startEtcd,
  startServers,
} from "../static-pods/issue-and-start.ts";
import { refuseWhereNothingFits } from "../static-pods/preflight.ts";
import { refuseOtherFolder, serversWork, sharedActions } from "../static-pods/work.ts";
import { type ComparedFile, type ComparedServer, filesOf } from "./compared.ts";
import type { KeptSnapshot } from "./kept-snapshot.ts";

/**
 * While `action` runs, these folders count as deleted, and nothing is written or said; afterwards all of it
 * is forgotten.
 */
export async function withFoldersDeleted<T>(
  folders: readonly string[],
  action: () => Promise<T>,
): Promise<T> {
  return await inMemory(async () => {
    for (const folder of folders) note(folder, { kind: "gone" });
    return await action();
  });
}

/** The files that it makes, why it would stop, and the files that nobody can rebuild. */
export async function rehearseRepair(cp: ControlPlaneNode) {
  const stops: Stop[] = [];
  const external = lackingOfExternalCa(cp);
  if (external)
    stops.push({
      message: `the cluster's CA is external: its key never was on this node. It has to issue ${external.files.join(", ")}`,
      hint: external.steps.join("; "),
    });
  const lost = bringBack(cp);
  for (const step of [refuseUnfitData, refuseOtherFolder, refuseWhereNothingFits, makeFiles]) {
    const stop = await failOf(() => step(cp));
    if (stop && !stops.some(({ message }) => message === stop.message))
      stops.push({ message: stop.message, hint: stop.hint });
  }
  return { lost, stops, back: filesOf(cp) };
}

/** Files name others so deep (facts/lost-files.ts): each is seen once the file that names it is back. */
const ROUNDS = 5;

/**
 * Assumes that the operator has copies of the files that nobody can rebuild, and brings them back before a
 * repair.
 */
function bringBack({ data, node, facts, etcd, ran }: ControlPlaneNode): LostFile[] {
  const files: LostFile[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const all = lostHere({ data, node, etcd, ran, facts, certificatesDir: facts.certificatesDir });
    const lost = all.filter(({ stored }) => !stored);
    if (lost.length === 0) break;
    for (const { path } of lost) note(path, { kind: "tree", source: path });
    files.push(...lost);
  }
  return files;
}

async function makeFiles(cp: ControlPlaneNode) {
  await apply(sharedActions(cp, "all"), cp.facts, { asideDir: cp.asideDir });
  await issueEtcdCertificates(cp);
  await startEtcd(cp);
  const work = serversWork(cp);
  await startServers(cp, work, await issueForServers(cp, work));
}

/** `kept`: whether the operator has a copy of it in the folder that he names: the `same`, or an `other` one. */
export type KeptFile = LostFile & { kept: "same" | "other" | "none" };

export interface Stop {
  /** Copies of the files that nobody can rebuild would help. */
  byCopies?: true;
  message: string;
  hint: string;
}

interface Found {
  files: ComparedFile[];
  servers: ComparedServer[];
  lost: KeptFile[];
  /** Unset in external CA mode. */
  backup?: BackupState;
  /** Set if the operator has named one. */
  snapshot?: KeptSnapshot;
  stops: Stop[];
}

/** Lines for a shell. */
export function shellLinesOf({ files, servers, lost, backup, snapshot, stops }: Found): string[] {
  const changed = files.filter(({ differences }) => differences.length > 0);
  const todo = stops
    .filter(({ byCopies }) => !byCopies || lost.length === 0)
    .map(({ message, hint }) => `# the repair would stop: ${plainLine(message)}\n${plainLine(hint)}`);
  if (backup && !backup.fits)
    todo.push(
      `# ${backup.says}: without the old keys every node rejoins and every pod restarts\n${backup.command}`,
    );
  if (snapshot && !snapshot.fits) todo.push(`# ${snapshot.says}\n${snapshot.command}`);
  const unkept = lost.filter(({ kind, kept }) => kind !== "socket" && kept !== "same");
  if (unkept.length > 0) todo.push(keepCopies(unkept));
  for (const file of changed) todo.push(bringInto(file));
  for (const { server, path, differences } of servers)
    if (differences.length > 0 && !changed.some((file) => file.path === path))
      todo.push(
        `# ${server} shows another certificate than ${path} would be: ${differences.join(", ")}\n${command("05-verify")}`,
      );
  return todo;
}

const ARCHIVE = "/root/kubernetes-files.tgz";

/** One archive: files that nobody can rebuild may hold keys, such as those of an encryption configuration. */
function keepCopies(unkept: readonly KeptFile[]): string {
  const paths = unkept.map(({ path }) => path);
  const stale = unkept.some(({ kept }) => kept === "other") ? ", as your copy is not the same" : "";
  const archive = shell`(umask 077; tar -C / -czf ${ARCHIVE} ${paths.map((path) => path.slice(1))})`;
  const proof = `away from this machine. Unpacked into DIR: ${command("drill --backup DIR")} proves it, ${command("00-salvage files --backup DIR")} puts it back`;
  return `# nobody can rebuild ${listed(paths)}${stale}: keep a copy\n${archive}   # ${proof}`;
}

/** The lists of kubeadm's ClusterConfiguration that have a certificate's additional names. */
const LISTS = {
  apiserver: "apiServer.certSANs",
  "etcd-server": "etcd.local.serverCertSANs",
  "etcd-peer": "etcd.local.peerCertSANs",
};

/** Edits that make the cluster's own record say what the file says. */
function bringInto({ path, is, differences }: ComparedFile): string {
  const why = `# ${path} would not come back as it is: ${differences.join(", ")}`;
  const names = differences.flatMap((one) => (one.startsWith("-names ") ? [one.slice(7)] : []));
  const list = Object.entries(LISTS).find(([row]) => path.endsWith(`/${certRow(row).file}.crt`))?.[1];
  if (is === "certificate" && list && names.length > 0)
    return `${why}\n${KUBECTL} -n kube-system edit configmap kubeadm-config   # ${list}: add ${names.join(", ")}`;
  if (is === "manifest")
    return `${why}\njournalctl -u kubelet -n 50   # the kubelet keeps the mirror pod in etcd equal to this file: why does it not?`;
  return `${why}\n${shell`(umask 077; cp -p ${path} /root/)`}   # keep a copy away from this machine`;
}
