/**
 * The repair of level 5, in memory: the steps of parts 1 and 2 that make files, by the same code, with new
 * CAs, while folders count as deleted, as in a dry run. Leaves out what asks or changes others: the other
 * members of etcd, the containers, the API.
 */
import { refuseNoMember } from "../etcd/own-etcd.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { type LostFile, lostHere } from "../facts/lost-files.ts";
import { ensureOptions } from "../facts/node-to-repair.ts";
import { lackingOfExternalCa } from "../facts/signed-elsewhere.ts";
import { failOf } from "../fail.ts";
import { clearOverlay, note } from "../files/root.ts";
import { actionsFor } from "../pki/actions.ts";
import { CERTS } from "../pki/certs.ts";
import { apply } from "../pki/ensure.ts";
import { mode, silently } from "../run.ts";
import {
  issueEtcdCertificates,
  issueForServers,
  refuseOtherFolder,
  serversWork,
  startEtcd,
  startServers,
} from "../static-pods/issue-and-start.ts";
import { refuseWhereNothingFits } from "../static-pods/preflight.ts";
import { filesOf } from "./compared.ts";
import type { Stop } from "./what-to-do-now.ts";

/**
 * While `action` runs, these folders count as deleted, and nothing is written or said; afterwards all of it
 * is forgotten.
 */
export async function asIfGone<T>(folders: readonly string[], action: () => Promise<T>): Promise<T> {
  const wasDryRun = mode.dryRun;
  mode.dryRun = true;
  for (const folder of folders) note(folder, { kind: "gone" });
  try {
    return await silently(action);
  } finally {
    clearOverlay();
    mode.dryRun = wasDryRun;
  }
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
  for (const step of [refuseNoMember, refuseOtherFolder, refuseWhereNothingFits, makeFiles]) {
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
    const all = lostHere({ data, node, etcd, ran, certificatesDir: facts.certificatesDir });
    const lost = all.filter(({ stored }) => !stored);
    if (lost.length === 0) break;
    for (const { path } of lost) note(path, { kind: "tree", source: path });
    files.push(...lost);
  }
  return files;
}

async function makeFiles(cp: ControlPlaneNode) {
  const shared = { certs: CERTS.filter((row) => row.shared), serviceAccountKey: true };
  await apply(actionsFor(shared, cp.facts, ensureOptions(cp, "all")), cp.facts, { asideDir: cp.asideDir });
  await issueEtcdCertificates(cp);
  await startEtcd(cp);
  const work = serversWork(cp);
  await startServers(cp, work, await issueForServers(cp, work));
}
