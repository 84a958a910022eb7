/**
 * The end of part 5 on one screen: what the repair has changed, what it leaves to people, and what can be
 * deleted. Reads only.
 */
import { BACKUP, command, inLines, type Todo } from "../again.ts";
import { adminClient } from "../api/admin-api.ts";
import { caEndedAt } from "../facts/ca-copies.ts";
import { readCluster } from "../facts/cluster.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { type Repair, replacedCa } from "../facts/repair.ts";
import { saKeyIsNew } from "../facts/sa-key.ts";
import { attemptLater, Fail } from "../fail.ts";
import { exists, list, stat } from "../files/files.ts";
import { backupState } from "../hand-over/backup-mark.ts";
import type { Node } from "../node/node.ts";
import { rescuedEtcd, rescueFolders, runsIn } from "../node/rescue-folder.ts";
import { certInfo } from "../pki/certificate.ts";
import { clusterCa } from "../pki/examine.ts";
import { oldSaKeys } from "../pki/sa-keys.ts";
import { listed } from "../plain.ts";
import { undefinedOnTimeout } from "../wait-for.ts";
import { peopleToDo } from "../workloads/left-to-do.ts";
import { inCluster, kits, onOtherNodes, onThisNode, type ToDelete } from "./to-delete.ts";

export interface WrapUp {
  /** Changes of the repair whose rescue folder is here. */
  changed: string[];
  /** Tasks for people, without those that a check has named. */
  left: string[];
  /** Commands to type before anything is removed, in this order. */
  next: Todo[];
  remove: ToDelete[];
}

/** Without `cp` (a worker) only the files of this node. Undefined if there is no trace of a repair. */
export async function wrapUp(node: Node, cp: ControlPlaneNode | undefined): Promise<WrapUp | undefined> {
  // the checks have said why the API does not answer
  const admin = cp && (await attemptLater(() => adminClient(cp.facts)));
  const client = admin instanceof Fail ? undefined : admin;
  const api = client && (await undefinedOnTimeout(client.ready())) ? client : undefined;
  const removable = [...onThisNode(node.name, cp?.dataFrom), ...(api ? await inCluster(api) : [])];
  const repair = cp && repairOf(cp);
  if (!repair && removable.length === 0) return undefined;
  const next = beforeRemoval(cp);
  if (!cp) return { changed: [], left: [], next, remove: [...removable, kits()] };
  const nodes = (await api?.list("/api/v1/nodes"))?.map(({ metadata }) => metadata);
  const others = (nodes ?? cp.cluster.nodes).map(({ name }) => name).filter((name) => name !== node.name);
  const caPem = clusterCa(cp.facts.certificatesDir);
  const changed = repair ? [...trustChanges(cp, caPem), ...fileChanges(cp, repair)] : [];
  if (repair && nodes) changed.push(...nodeChanges(repair, nodes));
  const tasks = api ? await peopleToDo({ cp, api, renewed: [], caPem }) : [];
  return { changed, left: tasks, next, remove: [...removable, ...onOtherNodes(others), kits()] };
}

/** The files to remove hold the transcripts; afterwards no old key is left. */
function beforeRemoval(cp: ControlPlaneNode | undefined): Todo[] {
  const report = {
    command: command("report report.html"),
    note: "once, on one control plane node: the page about this repair, of the transcripts in the rescue folders",
    ...(!cp && { on: "a control plane node" }),
  };
  const backup = {
    command: BACKUP,
    note: "once, in a terminal (ssh -t): it shows the passphrase. Then move the file away, and its mark to the others",
  };
  return [
    ...(rescueFolders().length > 0 ? [report] : []),
    ...(cp && !backupState(cp.facts.certificatesDir).fits ? [backup] : []),
  ];
}

/** The newest repair with a copy of etcd's data; it may be over. */
function repairOf(cp: ControlPlaneNode): Repair | undefined {
  const isHere = rescueFolders().some(({ dir }) => dir === cp.rescue.dir) && exists(rescuedEtcd(cp.rescue));
  return cp.earlier ?? (isHere ? cp : undefined);
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

const KINDS: [RegExp, string][] = [
  [/\.(crt|key|pub)$/gm, "certificates and keys"],
  [/\.conf$/gm, "kubeconfigs"],
  [/\/manifests\/[^/\n]+\.yaml$/gm, "manifests"],
];

/** Files that this repair's runs have written here, by their times. */
function fileChanges({ asideDir, earlier }: ControlPlaneNode, { rescue }: Repair): string[] {
  const folder = earlier ? `${earlier.rescue.dir}/aside` : asideDir;
  const time = (path: string) => Number(stat(path)?.modified ?? 0);
  const last = Math.max(0, ...filesBelow(runsIn(rescue)).map(time)) || Infinity;
  const written = filesBelow("/etc/kubernetes")
    .filter((path) => time(path) >= +rescue.made && time(path) <= last)
    .join("\n");
  const counts = KINDS.map(([kind, name]) => `${written.match(kind)?.length ?? 0} ${name}`);
  const moved = filesBelow(folder);
  return [
    `on this node since ${rescue.made.toISOString().slice(0, 16).replace("T", " ")} UTC, in /etc/kubernetes: ${counts.join(", ")}`,
    ...(moved.length > 0 ? [`moved aside, not deleted: ${moved.length} files, in ${folder}`] : []),
  ];
}

function filesBelow(folder: string): string[] {
  return list(folder).flatMap((name) => {
    const path = `${folder}/${name}`;
    const kind = stat(path)?.kind;
    if (kind === "dir") return filesBelow(path);
    return kind === "file" ? [path] : [];
  });
}

/** A kubelet that joins again keeps its Node; a Node that was deleted comes back with another UID. */
function nodeChanges({ data }: Repair, now: readonly { name: string; uid?: string }[]): string[] {
  const oldNodes = readCluster(data).nodes;
  const uidNow = (name: string) => {
    const node = now.find((one) => one.name === name);
    return node && (node.uid ?? "");
  };
  const deleted = oldNodes.filter(({ name }) => uidNow(name) === undefined);
  const recreated = oldNodes.filter((node) => ![undefined, node.uid].includes(uidNow(node.name)));
  const added = now.filter(({ name }) => !oldNodes.some((node) => node.name === name));
  const line = (what: string, nodes: readonly { name: string }[]) =>
    nodes.length > 0 ? [`${what}: ${listed(nodes.map(({ name }) => name))}`] : [];
  return [
    ...line("Nodes that are gone", deleted),
    ...line("Nodes deleted and created again", recreated),
    ...line("new Nodes", added),
  ];
}

/** Text for a terminal: four headings, or fewer. */
export function wrapUpText({ changed, left, next, remove }: WrapUp): string {
  const width = Math.max(...remove.map(({ on }) => `on ${on}`.length));
  const lines = remove.map(({ on, command, why }) => `${`on ${on}`.padEnd(width)}  ${command}   # ${why}`);
  const parts: [string, string[]][] = [
    ["What has changed", changed],
    ["Left for you, beside what the checks say", left],
    ["Next, in this order, before anything is deleted", inLines(next)],
    ["To delete, when nothing is missing any more", lines],
  ];
  const shown = parts.filter(([, items]) => items.length > 0);
  return shown.map(([title, items]) => [title, ...items.map((item) => `  ${item}`)].join("\n")).join("\n");
}
