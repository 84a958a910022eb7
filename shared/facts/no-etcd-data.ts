/**
 * Where parts 1 to 4 do not begin: etcd is no static pod of kubeadm's (a unit of this node, or elsewhere), or
 * its data is lost. Every script says so in the same words. Traces show that this is a control plane node; a
 * deletion of /etc/kubernetes does not remove all of them.
 */
import { command } from "../again.ts";
import type { DamagedData } from "../etcd-data/directory.ts";
import { firstEntryIn } from "../etcd-data/wal.ts";
import { memberFolders } from "../etcd-location/etcd-candidates.ts";
import { type EtcdFolders, isKnown } from "../etcd-location/etcd-folders.ts";
import { type EtcdHome, etcdHome, etcdTrouble } from "../etcd-location/etcd-home.ts";
import {
  controlPlaneTraces,
  isUnitHere,
  ONLY_PROVED,
  UNIT_BY_HAND,
  unitSteps,
} from "../etcd-location/etcd-unit.ts";
import { NoWayToEtcd } from "../etcd-location/living-etcd.ts";
import { type Fail, Refused } from "../fail.ts";
import { exists } from "../files/files.ts";
import { certificatesDirOn } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { shell } from "../shell-line.ts";

export interface NodeWithoutData {
  etcd: EtcdHome;
  /** Shows that this is a control plane node. */
  from: string[];
  /** Why etcd on other machines cannot be read. */
  unreached?: Fail | undefined;
}

type Place = Pick<EtcdFolders, "dir" | "living" | "unreached">;

/** Undefined where there is a data directory, and on a worker. `all`: also containers that have ended. */
export function controlPlaneWithoutData(
  node: Node,
  place: Place,
  all: readonly Container[] = [],
): NodeWithoutData | undefined {
  if (isKnown(place)) return undefined;
  const from = controlPlaneTraces(node, all, certificatesDirOn(node));
  const { dir: dataDir, unreached } = place;
  return from.length > 0 ? { etcd: etcdHome({ node, dataDir, all }), from, unreached } : undefined;
}

/** Whether etcd's certificates and manifest are not kubeadm's, data or not. */
export function isNotKubeadms({ runs }: Pick<EtcdHome, "runs">): boolean {
  return runs === "unit" || runs === "elsewhere";
}

export function isNotForParts(home: EtcdHome): boolean {
  return etcdTrouble(home) !== undefined;
}

/** The hint has the next commands. */
export function withoutDataFail(found: NodeWithoutData, node: Node | undefined, dataDir: string): Fail {
  if (found.etcd.runs === "unit")
    return new Refused(whyWithoutData(found, dataDir), { unchanged: true, hint: UNIT_BY_HAND });
  if (found.unreached) return found.unreached;
  const commands = withoutDataSteps(found, node).map(withoutComment);
  const about = found.etcd.runs === "elsewhere" ? "If etcd is external" : "If a member has no data";
  return new Refused(whyWithoutData(found, dataDir), {
    hint: `${commands.join("; ")}: RUNBOOK-MORE "${about}"`,
  });
}

type HomeSeen = Parameters<typeof etcdHome>[0];

/** The same for scripts that need no facts of this node. `always`: also of a unit that parts 1 to 4 go by. */
export function refuseOtherEtcd(
  { place, ...home }: Pick<HomeSeen, "cluster" | "data"> & { node: Node | undefined; place: Place },
  { always = false } = {},
) {
  const etcd = etcdHome({ ...home, dataDir: place.dir, living: place.living });
  const isOther = always ? isNotKubeadms(etcd) : isNotForParts(etcd);
  // without the cluster's word, only what is here is sure
  if (isOther && (etcd.runs === "unit" || home.cluster))
    throw withoutDataFail({ etcd, from: [], unreached: place.unreached }, home.node, place.dir);
}

function withoutComment(line: string): string {
  return line.replace(/(?<! ) +# .*/, "");
}

/** Most likely a worker. */
export function noControlPlane(dataDir: string): Fail {
  return new Refused(
    `This is no control plane node: nothing of a control plane is here, and there is no "${dataDir}"`,
    {
      hint: `run this script on a control plane node; for a worker there is only ./bunw scripts/03-join.ts. If this is a control plane node, find the disk or folder with etcd's data: ${[...whereDataIs(), ON_OTHERS].map(withoutComment).join("; ")}`,
    },
  );
}

/**
 * Errors: Refused where nothing of a control plane is here, and this node is none of the cluster's control
 * plane nodes: the CAs' keys do not belong on a worker. A control plane node may have lost everything, so
 * that its traces alone do not tell. Where the bundle does not name them (one of an earlier kit, or packed by
 * hand or without etcd's data), the operator does: `force`.
 */
export function refuseWorker(
  node: Node | undefined,
  place: Place,
  { named, force }: { named?: readonly string[] | undefined; force?: boolean | undefined },
) {
  if (!node || named?.includes(node.name) || isKnown(place) || controlPlaneWithoutData(node, place)) return;
  const worker =
    "remove the bundle here: the CAs' keys belong on control plane nodes only, and a worker joins with ./bunw scripts/03-join.ts";
  if (named)
    throw new Refused(
      `This is a worker: "${node.name}" is none of the control plane nodes ${named.join(", ")}`,
      { unchanged: true, hint: worker },
    );
  if (force) return;
  throw new Refused(
    `Nothing shows that "${node.name}" is a control plane node: it has no trace of one, and the bundle names no control plane nodes`,
    {
      unchanged: true,
      hint: `${worker}. If this is a control plane node that has lost everything: the same line with --force`,
    },
  );
}

/**
 * The same for a script that goes on all the same: the steps in one line. Undefined where the data is here,
 * or this is no such node.
 */
export function stepsWhereDataIsLost(node: Node | undefined, place: Place): string | undefined {
  const found = node && controlPlaneWithoutData(node, place);
  const steps =
    found && withoutDataSteps(found, node).map((line) => line.split(/(?<! ) +# /) as [string, string?]);
  return steps
    ?.map(([command, note]) =>
      /^(?:on|if) /.test(note ?? "") ? `${note!.split(":")[0]}: ${command}` : command,
    )
    .join(", then ");
}

export function whyWithoutData({ etcd, from, unreached }: NodeWithoutData, dataDir: string): string {
  const { runs, servers, unit } = etcd;
  if (unreached && runs === "elsewhere") return unreached.message;
  if (unit && runs === "unit") return isUnitHere(unit, etcdTrouble(etcd) ?? ONLY_PROVED);
  if (runs === "elsewhere")
    return `This cluster's etcd is external: it does not run on this node${servers.length > 0 ? `, but at ${servers.join(", ")}` : ""}`;
  const reason =
    runs === "static pod" ? "its etcd data is lost" : "its etcd data is lost, or its etcd is external";
  return `This is a control plane node (${from.slice(0, 2).join(", ")}), and there is no "${dataDir}": ${reason}`;
}

/**
 * Parts 1 to 4 need kubeadm's etcd. An external one is repaired where it runs, and kubeadm's own phases do
 * the rest.
 */
export function withoutDataSteps({ etcd, unreached }: NodeWithoutData, node: Node | undefined): string[] {
  if (etcd.runs === "unit") return unitSteps(etcd.unit, etcd.client);
  if (etcd.runs === "elsewhere")
    return [...stepsToEtcd({ etcd, unreached }), ...keysFirst(certificatesDirOn(node))];
  const outside = etcd.runs === "static pod" ? [] : [ON_OTHERS];
  return [
    ...whereDataIs(),
    ...outside,
    withoutNode(node?.name ?? "NODE"),
    snapshotLeft(node?.name ?? "NODE"),
  ];
}

const ON_OTHERS =
  "./bunw scripts/00-assess.ts --etcd-data https://HOST:2379   # if etcd is on other machines";

function snapshotLeft(name: string): string {
  return shell`./bunw scripts/restore.ts SNAPSHOT --as ${name} --dry-run   # here, if it was the only one, or all are lost: RUNBOOK-MORE "Only a snapshot is left"`;
}

function stepsToEtcd({ etcd, unreached }: Pick<NodeWithoutData, "etcd" | "unreached">): readonly string[] {
  if (unreached instanceof NoWayToEtcd) return unreached.steps;
  const files = etcd.client.join(", ");
  return [
    unreached?.hint ??
      `repair etcd where it runs, and put back the files that the API server needs to reach it: ${files}`,
  ];
}

function keysFirst(folder: string): string[] {
  if (["ca.key", "front-proxy-ca.key", "sa.key"].every((file) => exists(`${folder}/${file}`))) return [];
  return [
    `./bunw scripts/00-salvage.ts memory   # lost CA keys; or copy ca.*, front-proxy-ca.*, sa.* in ${folder} from another control plane node (scp -p)`,
  ];
}

/** Folders that `etcdDataOf` did not take, as nothing names them. */
function whereDataIs(): string[] {
  const found = memberFolders().map(
    (dir) =>
      `${command("00-assess", { "etcd-data": dir })}   # etcd's data is in it, and nothing here says whose`,
  );
  const none =
    "lsblk -f   # no folder of this machine holds etcd's data. Is a disk not mounted? Mount it, then ./bunw scripts/00-assess.ts";
  return found.length > 0 ? found : [none];
}

/** Left to do where etcd's data here is damaged: sentences, as what the others have decides. */
export function damagedDataSteps(name: string, { dir }: DamagedData): string[] {
  const leftOut = shell`./bunw scripts/02-control-plane.ts --lost ${name}`;
  const exact = shell`./bunw scripts/restore.ts --from DIR --as ${name} --dry-run`;
  return [
    `look at the other control plane nodes, there: ${command("00-assess")}. If etcd's data is whole on most of them, leave this node out on one of them: ${leftOut}`,
    `else make new data of the members' folders, damaged or not: ${exact}. It says first whether all keys are there; ${restoreWays(dir)}. If they are not: of a snapshot, ${shell`./bunw scripts/restore.ts SNAPSHOT --as ${name}`}`,
    'leave the damaged data as it is until then: RUNBOOK-MORE "If etcd\'s data is damaged"',
  ];
}

/** Restore would try this on the folder; whether it leads to all keys takes longer to tell. */
function restoreWays(dir: string): string {
  const first = firstEntryIn(`${dir}/member/wal`);
  if (first === undefined) return "of this folder alone they are not, as its log is gone";
  const alone = first === 1 ? ", then the log alone" : "";
  return `of this folder it tries older trees of the database and the log, which begins with entry ${first}${alone}`;
}

export function withoutNode(name: string): string {
  return shell`./bunw scripts/02-control-plane.ts --lost ${name}   # on another control plane node, if the data is lost for good: RUNBOOK-MORE "If a member has no data"`;
}
