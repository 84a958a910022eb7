/**
 * The repair of rung 5, in memory: the steps of parts 1 and 2 that make files, by the same code, with new
 * CAs, while folders are thought away as in a dry run. What is left out is what asks or changes others: the
 * other members of etcd, the containers' end, the API.
 */

import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { refuseNoMember } from "../etcd/own-etcd.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { type LostFile, lostHere } from "../facts/lost-files.ts";
import { ensureOptions } from "../facts/node-to-repair.ts";
import { failOf } from "../fail.ts";
import { hostEntry } from "../files/files.ts";
import { clearOverlay, note } from "../files/root.ts";
import { tryFile } from "../files/try-file.ts";
import { actionsFor } from "../pki/actions.ts";
import { CERTS } from "../pki/certs.ts";
import { apply } from "../pki/ensure.ts";
import { mode, silently } from "../run.ts";
import { issueEtcdCertificates, refuseOtherFolder, startEtcd } from "../static-pods/etcd-pod.ts";
import { refuseWhereNothingFits } from "../static-pods/preflight.ts";
import { issueForServers, startServers } from "../static-pods/servers.ts";
import type { Stop } from "./drill-report.ts";

/**
 * While `action` runs, these folders are gone, nothing is written, and nothing is said; afterwards all is
 * forgotten.
 */
export async function asIfGone<T>(folders: readonly string[], action: () => Promise<T>): Promise<T> {
  const before = mode.dryRun;
  mode.dryRun = true;
  for (const folder of folders) note(folder, { kind: "gone" });
  try {
    return await silently(action);
  } finally {
    clearOverlay();
    mode.dryRun = before;
  }
}

/** While folders are thought away, this one is back: the operator has a copy. */
function restoreInMemory(path: string) {
  note(path, { kind: "tree", source: path });
}

/** Everything below a folder on the disk, whatever is thought away. */
export function entriesBelow(folder: string): { path: string; kind: "file" | "folder" | "link" | "other" }[] {
  const names = tryFile("list", folder, () => readdirSync(hostEntry(folder))) ?? [];
  return names.sort().flatMap((name) => {
    const path = join(folder, name);
    const info = tryFile("look at", path, () => lstatSync(hostEntry(path)));
    if (!info) return [];
    if (info.isDirectory()) return [{ path, kind: "folder" as const }, ...entriesBelow(path)];
    return [{ path, kind: info.isSymbolicLink() ? "link" : info.isFile() ? "file" : "other" }];
  });
}

/** So deep do files name others (facts/lost-files.ts): each is seen when the one that names it is back. */
const ROUNDS = 5;

/** The files that nobody can rebuild; as in a real repair they are brought back before it begins. */
export function loseFiles({ data, node, facts, etcd, ran }: ControlPlaneNode): LostFile[] {
  const brought: LostFile[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const all = lostHere({ data, node, etcd, ran, certificatesDir: facts.certificatesDir });
    const lost = all.filter(({ stored }) => !stored);
    if (lost.length === 0) break;
    for (const { path } of lost) restoreInMemory(path);
    brought.push(...lost);
  }
  return brought;
}

/** Makes everything in memory. Returns why it would stop. */
export async function rehearseRepair(cp: ControlPlaneNode): Promise<Stop[]> {
  const gates = [() => refuseNoMember(cp), () => refuseOtherFolder(cp), () => refuseWhereNothingFits(cp)];
  const steps = [...gates, () => makeFiles(cp)];
  const stops: Stop[] = [];
  for (const step of steps) {
    const stop = await failOf(step);
    if (stop && !stops.some(({ message }) => message === stop.message))
      stops.push({ message: stop.message, hint: stop.hint });
  }
  return stops;
}

async function makeFiles(cp: ControlPlaneNode) {
  const shared = { certs: CERTS.filter((row) => row.shared), serviceAccountKey: true };
  await apply(actionsFor(shared, cp.facts, ensureOptions(cp, "all")), cp.facts, { asideDir: cp.asideDir });
  await issueEtcdCertificates(cp);
  await startEtcd(cp);
  await startServers(cp, await issueForServers(cp, { superAdmin: false }));
}
