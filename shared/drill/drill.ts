/**
 * A drill on the living cluster: the files that a repair of level 5 would make if /etc/kubernetes were
 * deleted now, compared with those on disk. Reads only: the repair is made in memory, and forgotten.
 */
import { readdirSync } from "node:fs";
import { $ } from "zx/core";
import { command } from "../again.ts";
import { adminClient } from "../api/admin-api.ts";
import { caIsNew } from "../facts/ca-copies.ts";
import type { LostFile } from "../facts/lost-file.ts";
import { lostHere } from "../facts/lost-files.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { controlPlaneToRepair } from "../facts/node-to-repair.ts";
import { attempt, Fail, failOf, Refused } from "../fail.ts";
import { entriesBelow, filesBelow } from "../files/file-tree.ts";
import { exists, readBytes } from "../files/files.ts";
import { backupState } from "../hand-over/backup-mark.ts";
import { linksUsualDir, manifestPath, readManifest } from "../manifests/on-disk.ts";
import { isReduced } from "../manifests/repair-changes.ts";
import { CONTROL_PLANE } from "../node/containers.ts";
import { CERTIFICATES_DIR } from "../pki/certs.ts";
import { pkiFindings, wholePki, withAdminElsewhere } from "../pki/examine.ts";
import { listed } from "../plain.ts";
import { dueCas } from "../renew/renewal.ts";
import { copiesIn } from "../salvage/backup-files.ts";
import { SERVERS } from "../static-pods/wanted-manifests.ts";
import { compareFiles, compareServers, filesOf } from "./compared.ts";
import { snapshotState } from "./kept-snapshot.ts";
import {
  type KeptFile,
  rehearseRepair,
  type Stop,
  shellLinesOf,
  withFoldersDeleted,
} from "./rehearsed-repair.ts";

interface DrillOptions {
  etcdData?: string | undefined;
  /** The bundle of `hand-over pack`, and a folder with copies of files that nobody can rebuild. */
  bundle?: string | undefined;
  backup?: string | undefined;
  /** A snapshot of etcd. */
  snapshot?: string | undefined;
}

/** The shape of `drill --json`. */
export type Drill = Awaited<ReturnType<typeof repairAndCompare>>;

/** Errors: Fail if this is no control plane node, Refused if it is not well. */
export async function drill(options: DrillOptions): Promise<Drill> {
  // lowers all threads of this process, and so those that they start. A thread may have exited meanwhile
  const threads = readdirSync("/proc/self/task");
  for (const lower of [
    ["renice", "19"],
    ["ionice", "-c", "3"],
  ])
    await $({ quiet: true, nothrow: true })`${lower} -p ${threads}`;
  return await repairAndCompare(options);
}

const KUBERNETES = "/etc/kubernetes";

/** The same at normal priority. */
export async function repairAndCompare({ etcdData, bundle, backup: folder, snapshot }: DrillOptions) {
  const { cp, blind } = await look(etcdData);
  await refuseDamaged(cp);
  const present = filesOf(cp);
  const folders = [...new Set([KUBERNETES, cp.facts.certificatesDir, cp.node.kubelet.staticPodPath])];
  const { made, rebuilt } = await withFoldersDeleted(folders, async () => {
    const repair = await rehearseRepair(cp);
    return { made: repair, rebuilt: allBelow(folders).filter(exists) };
  });
  const files = compareFiles(present, made.back, cp);
  const servers = await compareServers(cp, made.back);
  const lost = keptIn(folder, made.lost);
  const due = dueCas(cp.facts);
  const found = {
    ...{ files, servers },
    /** Files that nobody can rebuild. */
    lost,
    /** The backup of the shared keys; unset in external CA mode: there is nothing to pack. */
    ...(!cp.facts.externalCa && { backup: backupState(cp.facts.certificatesDir, bundle) }),
    ...(snapshot !== undefined && { snapshot: await snapshotState(snapshot, cp.cluster) }),
    /** CAs to be renewed on the living cluster, whatever is lost. */
    ...(due && { due }),
    /** Reasons why the repair would stop. With copies of all lost files it could read the data. */
    stops: [...(lost.every(({ kept }) => kept === "same") ? [] : blind), ...made.stops],
    others: othersThan([...files, ...lost], lost, folders).filter((path) => !isRebuilt(path, rebuilt)),
  };
  /** Commands to type now, each with its reason. */
  const todo = shellLinesOf(found);
  return {
    ...{ node: cp.node.name, kubernetes: cp.cluster.kubernetesVersion, ...found },
    /** Only refuseDamaged asks the API server, once; all else comes from etcd's data on this node. */
    apiReads: 1,
    /** Whether all of it would come back. */
    allBack: todo.length === 0,
    todo,
  };
}

/**
 * Looks as after the deletion: no file below /etc/kubernetes says anything. `blind`: why a repair could not
 * begin then, though the node is well.
 */
async function look(etcdData: string | undefined): Promise<{ cp: ControlPlaneNode; blind: Stop[] }> {
  const nodes: ControlPlaneNode[] = [];
  const fail = await failOf(() =>
    withFoldersDeleted([KUBERNETES], async () => void nodes.push(await controlPlaneToRepair(etcdData))),
  );
  const [cp] = nodes;
  if (cp) return { cp, blind: [] };
  const blind = fail ? [{ message: fail.message, hint: fail.hint, byCopies: true as const }] : [];
  return { cp: await controlPlaneToRepair(etcdData), blind };
}

/**
 * A drill compares with the files here, and those of a damaged node prove nothing. Errors: Refused with the
 * damage. Asks the API server once.
 */
async function refuseDamaged(cp: ControlPlaneNode) {
  const wrong = [...troubles(cp)];
  if (wrong.length === 0) wrong.push(...(await notReady(cp)));
  if (wrong.length === 0) return;
  throw new Refused(`A drill needs a node that is well, and this one is not: ${listed(wrong)}`, {
    hint: `${command("00-assess")} says what is damaged here, and what repairs it`,
  });
}

function* troubles(cp: ControlPlaneNode): Generator<string> {
  const { facts, node, data, etcd, ran } = cp;
  const findings = withAdminElsewhere(pkiFindings(wholePki(facts), facts), facts);
  for (const { paths, state, detail } of findings)
    if (state !== "ok") yield `${paths[0]}: ${state} (${detail})`;
  for (const name of facts.externalEtcd ? SERVERS : CONTROL_PLANE) {
    const path = manifestPath(cp, name);
    const manifest = attempt(() => readManifest(path));
    if (manifest instanceof Fail) yield manifest.message;
    else if (!manifest) yield `${path}: missing`;
    else if (isReduced(manifest)) yield `${name} is reduced: a repair is in progress`;
  }
  const lost = lostHere({ data, node, etcd, ran, facts, certificatesDir: facts.certificatesDir });
  for (const { path, namedBy } of lost) yield `${path}: missing (${namedBy})`;
  if (findings[0]?.state === "ok" && caIsNew(cp))
    yield "its CA is not the one that etcd's data names: a repair is in progress";
}

async function notReady({ facts }: ControlPlaneNode): Promise<string[]> {
  const wrong: string[] = [];
  const silent = await failOf(async () => {
    const api = await adminClient(facts);
    if (!(await api.ready())) wrong.push(`${api.server} is not ready`);
  });
  return silent ? [silent.message] : wrong;
}

interface At {
  path: string;
}

/** Files on disk that the repair does not make, and that no static pod or kubelet names. */
function othersThan(named: readonly At[], lost: readonly At[], folders: readonly string[]): string[] {
  const paths = new Set(named.map(({ path }) => path));
  const isBelow = (path: string, all: readonly string[]) => all.some((one) => path.startsWith(`${one}/`));
  const lostPaths = lost.map(({ path }) => path);
  return allBelow(folders.filter((folder) => !isBelow(folder, folders) && exists(folder))).filter(
    (path) => !paths.has(path) && !isBelow(path, lostPaths) && !path.includes("/.kube-pki-repair-"),
  );
}

function allBelow(folders: readonly string[]): string[] {
  return folders.flatMap((folder) =>
    [...entriesBelow(folder)].flatMap(({ path, kind }) => (kind === "other" ? [] : [path])),
  );
}

/** The kubelet's own files, and the link in the place of kubeadm's usual folder. */
function isRebuilt(path: string, rebuilt: readonly string[]): boolean {
  return rebuilt.includes(path) || (path === CERTIFICATES_DIR && linksUsualDir());
}

/**
 * `folder`: the operator's copies, as `00-salvage files --backup` takes them. Errors: Fail if it is no
 * folder.
 */
function keptIn(folder: string | undefined, lost: readonly LostFile[]): KeptFile[] {
  const copies = folder === undefined ? [] : copiesIn(folder, lost);
  return lost.map((file) => {
    const below = file.kind === "folder" ? [...filesBelow(file.path)].map((path) => ({ path })) : [file];
    const found = below.map(({ path }) => copies.filter((copy) => copy.path === path));
    const isSame = found.every((all) =>
      all.some(({ path, content }) => Buffer.from(content).equals(readBytes(path) ?? Buffer.of())),
    );
    return { ...file, kept: isSame ? "same" : found.some((all) => all.length > 0) ? "other" : "none" };
  });
}
