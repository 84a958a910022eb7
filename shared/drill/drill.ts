/**
 * A drill on the living cluster: what the repair of rung 5 would make if /etc/kubernetes were deleted now,
 * beside what is here. Reads only: the repair is made in memory, and forgotten.
 */

import { readdirSync } from "node:fs";
import { setPriority } from "node:os";
import { $ } from "zx/core";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import type { LostFile } from "../facts/lost-files.ts";
import { controlPlaneToRepair } from "../facts/node-to-repair.ts";
import { lackingOfExternalCa } from "../facts/signed-elsewhere.ts";
import { failOf } from "../fail.ts";
import { exists, readBytes } from "../files/files.ts";
import { type BackupState, backupState } from "../hand-over/backup-mark.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { dueCas } from "../renew/renewal.ts";
import { copiesIn } from "../salvage/backup-files.ts";
import { compareFiles, compareServers, filesOf } from "./compared-files.ts";
import type { ComparedFile, Drill, KeptFile, Stop } from "./drill-report.ts";
import { refuseDamaged } from "./healthy-node.ts";
import { asIfGone, entriesBelow, loseFiles, rehearseRepair } from "./rehearsed-repair.ts";
import { todosOf } from "./what-to-do-now.ts";

const KUBERNETES = "/etc/kubernetes";

interface DrillOptions {
  etcdData?: string | undefined;
  /** The bundle of `hand-over pack`, and a folder with copies of files that nobody can rebuild. */
  bundle?: string | undefined;
  backup?: string | undefined;
}

/** Errors: Fail where this is no control plane node, Refused where it is not well. */
export async function drill(options: DrillOptions): Promise<Drill> {
  await lowPriority();
  return await repairAndCompare(options);
}

/** The same, as fast as it goes. */
export async function repairAndCompare({ etcdData, bundle, backup: folder }: DrillOptions): Promise<Drill> {
  const { cp, blind } = await look(etcdData);
  await refuseDamaged(cp);
  const here = filesOf(cp);
  const { gone, stops, back } = await repairInMemory(cp);
  const files = compareFiles(here, back, cp);
  const servers = await compareServers(cp, back);
  const lost = keptIn(folder, gone);
  const backup = backupOf(cp.facts, bundle);
  const due = dueCas(cp.facts);
  const others = othersThan(files, lost, cp);
  const seen = {
    files,
    servers,
    lost,
    ...(backup && { backup }),
    ...(due && { due }),
    stops: [...(lost.every(isKept) ? [] : blind), ...stops],
    others,
  };
  const todo = todosOf(seen);
  const about = { node: cp.node.name, kubernetes: cp.cluster.kubernetesVersion };
  return {
    ...about,
    ...seen,
    apiReads: API_READS,
    allBack: todo.length === 0,
    todo,
  };
}

/** With all copies back, nothing keeps a repair from reading the data. */
const isKept = ({ kept }: KeptFile) => kept === "same";

/** refuseDamaged asks whether the API server is ready; all else comes from etcd's data on this node. */
const API_READS = 1;

/**
 * As after the deletion: nothing below /etc/kubernetes says anything. `blind`: why a repair could not begin
 * so, though the node is well.
 */
async function look(etcdData: string | undefined): Promise<{ cp: ControlPlaneNode; blind: Stop[] }> {
  const seen: ControlPlaneNode[] = [];
  const blind = await failOf(() =>
    asIfGone([KUBERNETES], async () => {
      seen.push(await controlPlaneToRepair(etcdData));
    }),
  );
  const [cp] = seen;
  if (cp) return { cp, blind: [] };
  return {
    cp: await controlPlaneToRepair(etcdData),
    blind: blind ? [{ message: blind.message, hint: blind.hint, byCopies: true }] : [],
  };
}

function repairInMemory(cp: ControlPlaneNode) {
  return asIfGone(foldersOf(cp), async () => {
    const external = externalCa(cp);
    const gone = loseFiles(cp);
    const stops = await rehearseRepair(cp);
    return { gone, stops: [...external, ...stops], back: filesOf(cp) };
  });
}

/** What an accident takes: kubeadm's folders may be elsewhere. */
function foldersOf({ facts, node }: ControlPlaneNode): string[] {
  return [...new Set([KUBERNETES, facts.certificatesDir, node.kubelet.staticPodPath])];
}

function externalCa(cp: ControlPlaneNode): Stop[] {
  const lacking = lackingOfExternalCa(cp);
  const message = `the cluster's CA is external: its key never was on this node. It has to issue ${lacking?.files.join(", ")}`;
  return lacking ? [{ message, hint: lacking.steps.join("; ") }] : [];
}

/** Files on the disk that the repair does not make, and that nothing names which it starts. */
function othersThan(
  files: readonly ComparedFile[],
  lost: readonly LostFile[],
  cp: ControlPlaneNode,
): string[] {
  const known = new Set([...files.map(({ path }) => path), ...lost.map(({ path }) => path)]);
  const isLost = (path: string) => lost.some((file) => path.startsWith(`${file.path}/`));
  return foldersOf(cp)
    .filter(
      (folder, i, all) =>
        !all.some((other, j) => i !== j && folder.startsWith(`${other}/`)) && exists(folder),
    )
    .flatMap((folder) => entriesBelow(folder).filter(({ kind }) => kind === "file" || kind === "link"))
    .map(({ path }) => path)
    .filter((path) => !known.has(path) && !isLost(path) && !path.includes("/.kube-pki-repair-"));
}

/** The lowest of setpriority(2). */
const LOWEST = 19;

/**
 * All threads of this process, and so those that they start. The disk's class is set where the machine has
 * the program ionice.
 */
async function lowPriority() {
  const threads = readdirSync("/proc/self/task");
  for (const thread of threads) lower(Number(thread));
  await $({ quiet: true, nothrow: true })`ionice -c 3 -p ${threads}`;
}

/** A thread may have ended meanwhile. */
function lower(thread: number) {
  try {
    setPriority(thread, LOWEST);
  } catch (err) {
    if (!(err instanceof Error && "code" in err && err.code === "ERR_SYSTEM_ERROR")) throw err;
  }
}

/**
 * `bundle`: the file, where the operator names it. Undefined in external CA mode: there is nothing to be
 * packed.
 */
function backupOf(
  { externalCa, certificatesDir }: ClusterFacts,
  bundle: string | undefined,
): BackupState | undefined {
  return externalCa ? undefined : backupState(certificatesDir, bundle);
}

/**
 * `folder`: the operator's copies, as `00-salvage files --backup` takes them. Errors: Fail where it is no
 * folder.
 */
function keptIn(folder: string | undefined, lost: readonly LostFile[]): KeptFile[] {
  const copies = folder === undefined ? [] : copiesIn(folder, lost);
  return lost.map((file) => {
    const here =
      file.kind === "folder"
        ? entriesBelow(file.path).flatMap(({ path, kind }) => (kind === "file" ? [path] : []))
        : [file.path];
    const isSame = (path: string) =>
      copies.some(
        (copy) => copy.path === path && Buffer.from(copy.content).equals(readBytes(path) ?? Buffer.of()),
      );
    const isThere = (path: string) => copies.some((copy) => copy.path === path);
    return { ...file, kept: here.every(isSame) ? "same" : here.some(isThere) ? "other" : "none" };
  });
}
