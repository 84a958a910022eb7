/**
 * Says who owns a process or a pod's folder on this node, whatever its name.
 *
 * A process: by its cgroup (/proc/PID/cgroup, cgroups(7)), which it can leave only for one that its user may
 * write to. A container's cgroup has the pod's UID and the container's id in its path (kubelet pkg/kubelet/cm,
 * containerd, CRI-O); a unit of the host is in a slice right below the root. A path is a claim: systemd gives
 * each user a folder (user@UID.service), and below it he chooses the names. So each folder down to the pod's
 * has to belong to root.
 *
 * A folder named by a UID: the API server gives a UID, or, to a static pod, its kubelet; nobody else chooses
 * one. So the folder belongs to the pod that has this UID in etcd, or in the kubelet's records.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt } from "../fail.ts";
import { list } from "../files/files.ts";
import { hostText, isRoots } from "../files/untrusted-file.ts";
import { CONTROL_PLANE, type Container, isStaticUid } from "../node/containers.ts";
import type { StoredObject } from "../objects/objects.ts";
import { decodeStored, registryPrefix, rowsBudget } from "../objects/stored.ts";
import { COMM } from "../shell-line.ts";
import { may, ofNamespace, podRecords, type SourceName } from "./sources.ts";

/** `is`, for the operator: "the container kube-apiserver of kube-system/kube-apiserver-cp1". */
interface ProcessOwner {
  source: SourceName;
  is: string;
}

export type KnownPods = ReturnType<typeof knownHere>;

/**
 * The facts that tell pods apart: the runtime's containers, and the kubelet's records, which exist even if no
 * runtime answers. `first`: the cgroup of this node's first process, as a node may itself be a container.
 */
export function knownHere(containers: readonly Container[]) {
  return { containers, records: podRecords(), first: cgroupOf(1) };
}

/**
 * The owner of a process with the name `name`: "kube-apiserver", "kubelet". A process that has exited is
 * "another process".
 */
export function processOwner(pid: number, name: string, knownPods: KnownPods): ProcessOwner {
  const folders = foldersOf(pid, knownPods);
  if (!folders) return { source: "another process", is: "a process without a cgroup" };
  if (isUnit(folders, name, knownPods))
    return { source: "a control plane process", is: `the unit ${name}.service of this node` };
  const pod = podOf(namedBy(folders, knownPods), knownPods);
  if (!pod)
    return {
      source: "another process",
      is: `a process of no pod that this node knows (cgroup "/${folders.join("/")}")`,
    };
  return { source: isOf(pod, name) ? "a control plane process" : "another process", is: inWords(pod) };
}

interface PodOfProcess {
  namespace: string;
  name: string;
  uid: string;
  container: string;
}

/** Whether it is kubeadm's static pod of this name. */
function isOf({ namespace, name: pod, uid, container }: PodOfProcess, name: string): boolean {
  return (
    may(ofNamespace(namespace), "static pods") &&
    isStaticUid(uid) &&
    container === name &&
    pod.startsWith(`${name}-`)
  );
}

function inWords({ namespace, name, container }: PodOfProcess): string {
  return container ? `the container ${container} of ${namespace}/${name}` : `${namespace}/${name}`;
}

/** A process of a pod that a signal has stopped: it does nothing, and ignores SIGTERM. */
export interface StoppedProcess {
  pid: number;
  /** Its name, cut to 15 letters. */
  comm: string;
  /** Its pod, for the operator. */
  of: string;
  /** The controller-manager of this node's static pod: part 0 has paused it. */
  isManager: boolean;
  inKubeSystem: boolean;
}

/**
 * Processes of this node's pods in state T (/proc/PID/stat, proc(5)), as after SIGSTOP. A cluster does not
 * notice them, and nothing continues them: a probe may only read a file. Leaves out processes of a terminal,
 * where somebody has typed Ctrl-Z.
 */
export function stoppedProcesses(knownPods: KnownPods): StoppedProcess[] {
  const pids = list("/proc").filter((pid) => /^\d+$/.test(pid));
  return pids.flatMap((pid) => {
    const [, comm = "", state, terminal] =
      /^\d+ \((.*)\) (\S) \S+ \S+ \S+ (\S+) /s.exec(hostText(`/proc/${pid}/stat`) ?? "") ?? [];
    if (state !== "T" || terminal !== "0") return [];
    const named = namedBy(foldersOf(Number(pid), knownPods) ?? [], knownPods);
    if (!named?.uid) return [];
    const pod = podOf(named, knownPods);
    const isManager = comm === MANAGER.slice(0, COMM) && pod !== undefined && isOf(pod, MANAGER);
    const podWords = pod ? inWords(pod) : `the pod with the UID ${named.uid}`;
    return [
      { pid: Number(pid), comm, of: podWords, isManager, inKubeSystem: pod?.namespace === "kube-system" },
    ];
  });
}

const MANAGER = "kube-controller-manager";

/**
 * Only root puts a unit into a slice right below the root; a user's own units are in
 * user.slice/user-N.slice/…, pods in kubepods.slice.
 */
function isUnit([slice = "", ...unit]: readonly string[], name: string, knownPods: KnownPods): boolean {
  return (
    /^[a-z]+\.slice$/.test(slice) &&
    slice !== "kubepods.slice" &&
    unit.join("/") === `${name}.service` &&
    areRoots([slice], knownPods)
  );
}

/** The name of a cgroup's folder holds a pod's UID, or else a container's id. */
const POD = /(?:^|-)pod([0-9a-f][0-9a-f_-]{31,35})(?:\.|$)/;
const CONTAINER = /[0-9a-f]{64}/;

type OwnerIds = Record<"uid" | "id", string | undefined>;

/**
 * Only the first folder with such a name counts, and the first id: a container may have made and named the
 * folders below, and its own may be its user namespace's. Undefined if a user may have made one of the
 * folders above.
 */
function namedBy(folders: readonly string[], knownPods: KnownPods): OwnerIds | undefined {
  const at = folders.findIndex((one) => POD.test(one) || CONTAINER.test(one));
  const uid = POD.exec(folders[at] ?? "")?.[1]?.replaceAll("_", "-");
  // a process is never directly in the pod's folder, only in a container's below it
  if (at < 0 || (uid && at === folders.length - 1)) return undefined;
  const id = CONTAINER.exec(folders.slice(at).join("/"))?.[0];
  return areRoots(folders.slice(0, uid ? at + 1 : at), knownPods) ? { uid, id } : undefined;
}

function podOf(named: OwnerIds | undefined, { containers, records }: KnownPods): PodOfProcess | undefined {
  if (!named) return undefined;
  const container = containers.find(({ id }) => id === named.id);
  if (container)
    return {
      namespace: container.namespace,
      name: container.pod,
      uid: container.podUid,
      container: container.name,
    };
  const record = records.find(({ uid }) => uid === named.uid);
  const name = record && CONTROL_PLANE.find((one) => record.name.startsWith(`${one}-`));
  return record && { ...record, container: name ?? "" };
}

/** Systemd's own hierarchy of version 1, and that of version 2 beside it, or alone. */
const HIERARCHIES = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/**
 * Whether root has made each of these folders, one below the other; not in user.slice, nor in that of
 * machines, whose root is another. False if they are not mounted. A node that is a container may see its own
 * folder or the folders in it; its own may belong to the user that runs it.
 */
function areRoots(folders: readonly string[], { first }: KnownPods): boolean {
  if (["user.slice", "machine.slice"].includes(folders[0] ?? "")) return false;
  const paths = folders.map((_, i) => folders.slice(0, i + 1).join("/"));
  return HIERARCHIES.flatMap((one) => [one + ownFolder(first), one]).some((top) =>
    paths.every((one) => isRoots(`${top}/${one}`)),
  );
}

/** Its path in systemd's own hierarchy, or in that of version 2; undefined if the process has ended. */
function cgroupOf(pid: number): string | undefined {
  const lines = (hostText(`/proc/${pid}/cgroup`) ?? "")
    .split("\n")
    .map((line) => /^(\d+):([^:]*):(.*)$/.exec(line) ?? []);
  const line =
    lines.find(([, , controllers]) => controllers === "name=systemd") ??
    lines.find(([, number]) => number === "0");
  return line?.[3];
}

/** Its cgroup as folders below the node's own: a node may itself be a container. */
function foldersOf(pid: number, { first }: KnownPods): string[] | undefined {
  const [own, path] = [ownFolder(first), cgroupOf(pid)];
  const below = path?.startsWith(`${own}/`) ? path.slice(own.length) : path;
  return below?.split("/").slice(1);
}

/**
 * The path of this node's first process: on a node that is a container, all paths begin with it. "": none.
 */
function ownFolder(first: string | undefined): string {
  return (first ?? "").replace(/\/init\.scope$/, "").replace(/\/$/, "");
}

/**
 * UIDs of kube-system's pods, from etcd's data if it can be read, and from the kubelet's records. Annotations
 * do not count: any kubelet may write a mirror pod into kube-system that claims the UID of a tenant's pod as
 * its hash. Errors: Spent where there are too many.
 */
export function kubeSystemUids(
  data: EtcdData | undefined,
  budget = data && rowsBudget(data, KUBE_SYSTEM),
): Set<string> {
  const uids = new Set<string>();
  // one at a time, as kubelets may have made gigabytes
  for (const one of data?.list(`${registryPrefix(data)}/${KUBE_SYSTEM}`) ?? []) {
    budget?.ask();
    // an unreadable object does not hide the others
    const uid = attempt(() => (decodeStored(data!, one) as StoredObject).metadata.uid, undefined);
    if (typeof uid === "string") uids.add(uid);
  }
  const records = podRecords().filter(({ namespace }) => may(ofNamespace(namespace), "keys"));
  return new Set([...uids, ...records.map(({ uid }) => uid)]);
}

const KUBE_SYSTEM = "pods/kube-system/";

/** The source of volumes in this pod's folder. */
export function ofPodFolder(uid: string, kubeSystem: ReadonlySet<string>): SourceName {
  return kubeSystem.has(uid) ? "a pod of kube-system" : "a pod";
}
