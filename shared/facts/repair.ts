/**
 * The current repair, and etcd's data from before it. Its rescue folder and the certificates on disk show
 * which repair that is.
 */

import type { Budget } from "../budget.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import {
  type EtcdFolders,
  linksToCurrentData,
  readFolders,
  readRescued,
} from "../etcd-location/etcd-folders.ts";
import { attempt, Fail } from "../fail.ts";
import { refuseNoMemory } from "../files/file-system.ts";
import { exists, readText } from "../files/files.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import { isKubeadms } from "../manifests/on-disk.ts";
import { isReduced } from "../manifests/repair-changes.ts";
import { CONTROL_PLANE } from "../node/containers.ts";
import { foldersWithData, newRescue, type Rescue, rescuedEtcd } from "../node/rescue-folder.ts";
import { asPod } from "../objects/objects.ts";
import { readObjects, registryPrefix } from "../objects/stored.ts";
import { foreignCa } from "../pki/actions.ts";
import { knowsCa, madeAt, type TrustedKeys, trustedKeys } from "../pki/certificate.ts";
import { CERTS } from "../pki/certs.ts";
import { clusterCa } from "../pki/examine.ts";
import { certificatesDirIn, readCluster, readConfiguration } from "./cluster.ts";
import type { Cluster } from "./cluster-before.ts";
import type { KnownNode } from "./known-node.ts";
import { controlPlaneNames } from "./known-nodes.ts";
import { type CutOff, mountedBefore, type RunningPod, reasonToLeave } from "./pod-trust.ts";

/** It may only begin now. */
export interface Repair {
  rescue: Rescue;
  data: EtcdData;
  /** Where the data was read: the rescue folder's copy, or the data directory. */
  dataFrom: string;
  /** A repair that is over and whose rescue folder is still here. */
  earlier?: Repair;
}

/**
 * Finds the current repair, without a progress file. The newest rescue folder belongs to it in three cases: etcd's
 * certificate on disk is newer than the folder (under a new CA, part 1 issues it even where it is sound), or, where kubeadm
 * did not make etcd, one of kubeadm's own; or etcd has written nothing since; or the folder is newer than the CA on disk,
 * and its data names another CA: somebody had begun before us. Otherwise, and where that repair is over, a new one begins,
 * from the data directory. A folder with a link to etcd's data instead of a copy does not count. Reads only. Errors: as
 * `readEtcdData`, and Fail where there is too little memory for it.
 */
export function findRepair(place: EtcdFolders): Repair {
  const rescue = foldersWithData().find((candidate) => !linksToCurrentData(candidate, place));
  refuseNoMemory(`read etcd's data in "${place.dir}"`);
  const repair: Repair | undefined = rescue && {
    rescue,
    data: readRescued(rescue, place.apiServer),
    dataFrom: rescuedEtcd(rescue),
  };
  if (repair && isCurrent(repair)) {
    const live = attempt(() => readFolders(place));
    const { data } = repair;
    // an etcd that kubeadm did not make runs on and may be written to between parts 1 and 2: then it proves nothing
    const isPart2Done = !isExternal(data) || exists(`${certificatesDirIn(data)}/apiserver.crt`);
    const ended = !(live instanceof Fail) && isPart2Done && hasEnded(data, live, repair.rescue.made);
    return ended ? { rescue: newRescue(), data: live, dataFrom: place.dir, earlier: repair } : repair;
  }
  const data = readFolders(place);
  return repair?.data.revision === data.revision
    ? repair
    : { rescue: newRescue(), data, dataFrom: place.dir };
}

/** With a copy of etcd's data; it may be over. */
export function keptRepair(cp: Repair): Repair | undefined {
  return cp.earlier ?? (cp.dataFrom === rescuedEtcd(cp.rescue) ? cp : undefined);
}

export function clusterCasBefore({ cluster, earlier }: Before): string[] {
  return [cluster.oldCaPem, ...(earlier ? [readCluster(earlier.data).oldCaPem] : [])];
}

interface Before {
  cluster: Pick<Cluster, "oldCaPem">;
  earlier?: Repair | undefined;
}

/**
 * The keys of the CA that this repair has replaced, or the last repair as long as its rescue folder is here.
 * None where the cluster trusted the CA that signs before, and none that it still trusts.
 */
export function replacedCa({ cluster, earlier }: Before, caPem: string): TrustedKeys {
  const before = clusterCasBefore({ cluster, earlier }).find((text) => !knowsCa(text, caPem));
  const today = trustedKeys(caPem, ...(knowsCa(cluster.oldCaPem, caPem) ? [cluster.oldCaPem] : []));
  return trustedKeys(before).difference(today);
}

function isExternal(data: EtcdData): boolean {
  return attempt(() => readConfiguration(data).etcd?.external !== undefined, false);
}

/** Part 1 has issued etcd's certificate since, or somebody had begun before us. */
function isCurrent({ rescue, data }: Repair): boolean {
  const folder = certificatesDirIn(data);
  const issued = isExternal(data) ? CERTS.map(({ file }) => file) : ["etcd/server"];
  const isSince = (file: string) => rescue.made <= madeAt(readText(`${folder}/${file}.crt`) ?? "");
  if (issued.some((file) => attempt(() => isSince(file), false))) return true;
  return attempt(() => {
    const ca = clusterCa(folder);
    return rescue.made >= madeAt(ca) && !knowsCa(readCluster(data).oldCaPem, ca);
  }, false);
}

/**
 * Whether a repair is over, by etcd's data of today: the rescue folder has the facts of its own day, and not what has
 * changed since (a manifest, a node, a release). True where the nodes have all the static pods that they had in
 * `before`, the copy from the repair's beginning at `began`, and, under a new CA, parts 3 and 4 are finished.
 * Unreadable (encrypted) data counts as not finished.
 */
export function hasEnded(before: EtcdData, live: EtcdData, began: Date): boolean {
  if (live.revision === before.revision) return false;
  const clusters = attempt(() => [before, live].map((data) => readCluster(data)));
  if (clusters instanceof Fail) return false;
  const [was, today] = clusters as [Cluster, Cluster];
  const [old, now] = [was.oldCaPem, today.oldCaPem];
  const here = attempt(() => clusterCa(today.certificatesDir));
  const isKnown = here instanceof Fail ? here : attempt(() => knowsCa(now, here));
  if (isKnown === false && !foreignCa(here as string, now)) return false;
  // who is lost for good has no Node any more, and who joins in its place has static pods later
  const { nodes } = today;
  const isNew = ({ name, uid }: KnownNode) =>
    was.nodes.some((node) => node.name === name && node.uid !== uid);
  const controlPlanes = controlPlaneNames(nodes.filter((node) => !isNew(node)));
  const lacksPods = (name: string) =>
    staticPods(before, name).some((pod) => !staticPods(live, name).includes(pod));
  if (controlPlanes.some(lacksPods)) return false;
  const ca = isKnown === true ? (here as string) : now;
  if (knowsCa(old, ca)) return true;
  const since = new Date(Math.max(began.getTime(), madeAt(ca).getTime()));
  // Pods of other namespaces do not count: everybody who may create a pod there could hold up the end of the repair
  // for ever. Part 4 asks the API for those. Token Secrets are not read: they are often encrypted, and part 4 restarts
  // the pods that mount one as well.
  const cutOff: CutOff = { rootCa: () => since, token: () => undefined };
  const isThrough = () =>
    !controlPlanes.some((name) => runsReduced(live, name)) &&
    !stalePods(live, new Set(nodes.map(({ name }) => name)), cutOff, "pods/kube-system/");
  return attempt(isThrough, false);
}

/** Which of kubeadm's static pods a node has; by their keys alone where pods are encrypted. */
function staticPods(data: EtcdData, cp: string): string[] {
  const pods = attempt(() => findMirrorPods(data, cp));
  if (!(pods instanceof Fail))
    return pods.flatMap(({ name, from }) => (from === "live" && isKubeadms(name) ? [name] : []));
  const key = (name: string) => `${registryPrefix(data)}/pods/kube-system/${name}-${cp.toLowerCase()}`;
  return CONTROL_PLANE.filter((name) => data.get(key(name)));
}

function runsReduced(data: EtcdData, cp: string): boolean {
  return findMirrorPods(data, cp).some(
    ({ name, from, pod }) => name === "kube-controller-manager" && from === "live" && isReduced(pod),
  );
}

/**
 * Whether part 4 would restart a pod of these nodes that is stored there; one that it only names may stay for ever.
 * Errors: Fail where one cannot be read.
 */
export function stalePods(
  data: EtcdData,
  nodes: ReadonlySet<string>,
  cutOff: CutOff,
  path: string,
  budget?: Budget,
): boolean {
  return readObjects<unknown>(data, path, budget).some((object) => {
    const hint = "finish the repair: it counts as not finished";
    const unreadable = (why: string) => new Fail(`Cannot read a pod in etcd: ${why}`, { hint });
    const pod = asPod(object, unreadable) as RunningPod;
    const isStale = nodes.has(pod.spec.nodeName ?? "") && mountedBefore(pod, cutOff) !== undefined;
    return isStale && reasonToLeave(pod) === undefined;
  });
}
