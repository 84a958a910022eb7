/**
 * All that a script on a control plane node knows before it acts: the node, the cluster as it was, the names
 * to issue, the folders.
 */

import { command } from "../again.ts";
import type { EtcdData, Member } from "../etcd-data/data.ts";
import { type EtcdFolders, isKnown, withHintAboutFolder } from "../etcd-location/etcd-folders.ts";
import { etcdCaOf, etcdHome } from "../etcd-location/etcd-home.ts";
import { etcdDataOf, sayPlace } from "../etcd-location/etcd-place.ts";
import { memberHosts, nodelessMembers, ownMember } from "../etcd-location/reach-etcd.ts";
import { newestContainersOf } from "../etcd-location/static-pod-here.ts";
import { attempt, Fail, Refused } from "../fail.ts";
import { readKeptJson, writeFile } from "../files/files.ts";
import { HASH_ANNOTATION } from "../manifests/from-mirror-pod.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { certificatesDirOn } from "../manifests/on-disk.ts";
import { type Container, containersInTime, type Ran } from "../node/containers.ts";
import { type Node, readNode } from "../node/node.ts";
import { asideOf, newRescue, type Rescue, useRescue } from "../node/rescue-folder.ts";
import { certificatesDirIn, readCluster } from "./cluster.ts";
import type { Cluster } from "./cluster-before.ts";
import { askedEndpoint, type EndpointSeen, endpointSeen, withEndpoint } from "./endpoint.ts";
import { factsFor, HasMoved, natLeadsHere, ownNode } from "./issue-facts.ts";
import type { KnownNode } from "./known-node.ts";
import type { LostFile } from "./lost-file.ts";
import { lostHere } from "./lost-files.ts";
import { controlPlaneWithoutData, isNotForParts, noControlPlane, withoutDataFail } from "./no-etcd-data.ts";
import type { ControlPlaneNode, PartialFacts } from "./node-facts.ts";
import { findRepair, type Repair } from "./repair.ts";

/**
 * Without `node` (a machine that may be none), the look ends with the cluster. `certificatesDir` counts where the
 * cluster cannot be read.
 */
export function lookAtControlPlaneNode(
  etcd: EtcdFolders,
  node?: Node,
  certificatesDir = certificatesDirOn(node),
): PartialFacts {
  const repair = attempt(() => findRepair(etcd));
  if (repair instanceof Fail) {
    const withoutData = node && controlPlaneWithoutData(node, etcd);
    const obstacle = withoutData ? withoutDataFail(withoutData, node, etcd.dir) : (etcd.unreached ?? repair);
    const home = withoutData?.etcd ?? etcdHome({ node, dataDir: etcd.dir, living: etcd.living });
    return { obstacle, etcd, home, certificatesDir, asideDir: asideOf(newRescue()) };
  }
  const asideDir = asideOf(useRescue(repair.rescue));
  const cluster = attempt(() => withOwn(readCluster(repair.data), repair.data, node));
  if (cluster instanceof Fail)
    return {
      ...{ ...repair, etcd, asideDir, obstacle: withHintAboutFolder(cluster, { ...etcd, ...repair }) },
      home: etcdHome({ node, dataDir: etcd.dir, data: repair.data, living: etcd.living }),
      certificatesDir: certificatesDirIn(repair.data, certificatesDir),
    };
  const { dir: dataDir, apiServer, living, unreached } = etcd;
  const home = etcdHome({ node, dataDir, data: repair.data, cluster, apiServer, living });
  const places = { certificatesDir: cluster.certificatesDir, etcdCa: etcdCaOf(home), asideDir };
  const clusterRead = { ...repair, etcd, cluster, home, ...places };
  if (isNotForParts(home))
    return { ...clusterRead, obstacle: withoutDataFail({ etcd: home, from: [], unreached }, node, dataDir) };
  const nodeless = home.runs === "unit" && node && nodelessMembers(repair.data, node.addresses);
  if (nodeless && nodeless.length > 0) return { ...clusterRead, obstacle: nodelessFail(nodeless) };
  return node ? withFacts({ ...clusterRead, ...repair, cluster }, ownNode(node, cluster)) : clusterRead;
}

type ClusterRead = PartialFacts & Repair & { cluster: Cluster };

function withFacts(clusterRead: ClusterRead, node: Node): PartialFacts {
  const { data, dataFrom, rescue, earlier, cluster, asideDir, etcd } = clusterRead;
  const facts = attempt(() => factsFor(node, cluster, data, clusterRead.home));
  if (facts instanceof Fail) return { ...clusterRead, obstacle: facts };
  const { dir, wal, apiServer, living } = etcd;
  const folders = { dir, wal, apiServer, ...(living && { living }) };
  const repair = { data, dataFrom, rescue, ...(earlier && { earlier }) };
  const place = { ...repair, node, etcd: folders, cluster, facts, asideDir };
  return reachedAt(clusterRead, place, endpointSeen(place));
}

/** The same, where NAT may lead this machine's address here. `given`: the operator's --endpoint. */
export async function lookPastNat(
  etcd: EtcdFolders,
  node: Node | undefined,
  given?: string,
): Promise<PartialFacts> {
  const partialFacts = lookAtControlPlaneNode(etcd, node);
  const { obstacle, ...rest } = partialFacts;
  if (!node || !(obstacle instanceof HasMoved)) return partialFacts;
  const looked = rest as ClusterRead;
  const own = ownNode(node, looked.cluster);
  const isHere = await natLeadsHere(obstacle.at, { ...looked, node: own }, given);
  const nat = obstacle.at.host;
  return isHere ? withFacts(looked, { ...own, nat, addresses: [...own.addresses, nat] }) : partialFacts;
}

interface Asked {
  /** --endpoint. */
  given?: string | undefined;
  /** If they are known already. */
  all?: readonly Container[] | undefined;
  /** Whether it is asked how the static pods ran: who puts no manifest back needs not know. */
  asRan?: boolean;
}

/**
 * The runtime has been asked, too, how the static pods ran; and, where the witnesses of the endpoint disagree, who
 * answers where.
 */
export async function askControlPlaneNode(
  etcd: EtcdFolders,
  node: Node,
  { given, all, asRan = true }: Asked = {},
): Promise<PartialFacts> {
  const looked = await lookPastNat(etcd, node, given);
  const partialFacts = asRan ? await withRan(looked, all) : looked;
  return partialFacts.cp
    ? reachedAt(partialFacts, partialFacts.cp, await askedEndpoint(partialFacts.cp, given))
    : partialFacts;
}

function nodelessFail(members: readonly Member[]): Refused {
  const places = members.map(({ name, peerURLs }) => `"${name}" (${peerURLs.join(", ")})`).join(", ");
  return new Refused(`etcd's members ${places} are of no known control plane node`, {
    unchanged: true,
    hint: `find out whose addresses these are: kubectl get nodes -o wide, or --etcd-servers of the API servers. No API server's mirror pod in etcd's data has one of them alone. If it is a control plane node all the same: ${command("00-assess", { "control-plane": ["NODE"] })}. By hand: RUNBOOK-MORE "If etcd is a unit of this node"`,
  });
}

/** A member of another name, as of a restore, names no node: this machine has its data. */
function withOwn(cluster: Cluster, data: EtcdData, node: Node | undefined): Cluster {
  const name = node && ownNode(node, cluster).name;
  const member = node && ownMember(data, node.addresses);
  const roleOf = ({ onlyLabelled: _, former: __, ...fields }: KnownNode): KnownNode => ({
    ...fields,
    controlPlane: true,
    places: [...new Set([...fields.places, ...(member ? memberHosts(member) : [])])],
  });
  return {
    ...cluster,
    nodes: cluster.nodes.map((knownNode) => (knownNode.name === name ? roleOf(knownNode) : knownNode)),
  };
}

function reachedAt(
  partialFacts: PartialFacts,
  place: Omit<ControlPlaneNode, "endpoint">,
  endpoint: EndpointSeen,
): PartialFacts {
  const cluster = { ...place.cluster, endpoint: endpoint.value };
  const facts = withEndpoint(place, endpoint);
  return { ...partialFacts, cluster, facts, cp: { ...place, cluster, facts, endpoint } };
}

async function withRan(partialFacts: PartialFacts, all: Asked["all"]): Promise<PartialFacts> {
  const { cp } = partialFacts;
  const pods = cp && attempt(() => findMirrorPods(cp.data, cp.node.name));
  if (!pods || pods instanceof Fail) return partialFacts;
  const uids = new Set(pods.flatMap(({ pod }) => pod.metadata.annotations?.[HASH_ANNOTATION] ?? []));
  const ran = await newestContainersOf(uids, { node: cp.node, all });
  // what part 1 has kept says more than a container that tells nothing
  const kept = readKeptJson<Ran[]>(ranFile(cp.rescue)) ?? [];
  const [told, silent] = [true, false].map((is) => ran.filter(({ args }) => args.length > 0 === is));
  return { ...partialFacts, cp: { ...cp, ran: [...told!, ...kept, ...silent!] } };
}

/** A kubelet that starts removes the containers of pods that it does not know any more. */
export function keepContainerRecords({ ran = [], rescue }: ControlPlaneNode) {
  const modes = { mode: 0o600, folderMode: 0o700 };
  if (ran.length > 0)
    writeFile(ranFile(rescue), JSON.stringify(ran), { ...modes, note: "how its static pods ran" });
}

function ranFile({ dir }: Rescue): string {
  return `${dir}/containers.json`;
}

/**
 * This node, and where its etcd has its data. `typed`: --etcd-data. The containers are asked for once, by whoever needs
 * to know how the static pods ran. Errors: Fail as `readNode` and `etcdDataOf`.
 */
export async function placeHere(typed: string | undefined, { asRan = true }: Pick<Asked, "asRan"> = {}) {
  const node = await readNode();
  const all = asRan ? await containersInTime(node) : undefined;
  return { node, all, place: await etcdDataOf(typed, { node, all }) };
}

type PlaceHere = Awaited<ReturnType<typeof placeHere>>;

/** `placeRead`: where it was looked at already. */
export type HowToRead = Pick<Asked, "given" | "asRan"> & { placeRead?: PlaceHere };

/** The same where all must be known. `typed`: --etcd-data. Errors: Fail as `placeHere`, and the obstacle. */
export async function readControlPlaneNode(
  typed: string | undefined,
  { placeRead, ...asked }: HowToRead = {},
): Promise<ControlPlaneNode> {
  const { node, place, all } = placeRead ?? (await placeHere(typed, asked));
  const { cp, obstacle, data, cluster, certificatesDir } = await askControlPlaneNode(place, node, {
    ...asked,
    all,
  });
  if (obstacle && !isKnown(place) && !controlPlaneWithoutData(node, place) && !place.unreached)
    throw noControlPlane(place.dir);
  sayPlace(place);
  if (obstacle)
    throw data && !cluster
      ? withLostFiles(obstacle, lostHere({ data, node, certificatesDir, etcd: place }))
      : obstacle;
  return cp!;
}

/** Encrypted data cannot be read without a file that may be lost: all that are lost are named at once. */
function withLostFiles(obstacle: Fail, all: readonly LostFile[]): Fail {
  const lost = all.filter(({ kind }) => kind !== "socket");
  if (lost.length === 0) return obstacle;
  const files = lost.map(({ path, program, namedBy }) => `${path} (${program} ${namedBy})`).join(", ");
  const hint = `${obstacle.hint}. These files are lost here, and only copies bring them back: ${files}. To restore all of them at once: ${command("00-salvage files")} --backup DIR`;
  return new Fail(obstacle.message, { hint, cause: obstacle, exitCode: obstacle.exitCode });
}
