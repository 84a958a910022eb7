/**
 * Says who owns a process or a pod's folder on this node, whatever its name.
 *
 * A process: by its cgroup (/proc/PID/cgroup, cgroups(7)), which no container can leave. A container's cgroup
 * has the pod's UID and the container's id in its path (kubelet pkg/kubelet/cm, containerd, CRI-O); a unit of
 * the host is in a slice right below the root.
 *
 * A folder named by a UID: the API server gives a UID, or, to a static pod, its kubelet; nobody else chooses
 * one. So the folder belongs to the pod that has this UID in etcd, or in the kubelet's records.
 */

import type { EtcdData } from "../etcd-data/data.ts";
import { attempt } from "../fail.ts";
import { list } from "../files/files.ts";
import { hostText } from "../files/untrusted-file.ts";
import { CONTROL_PLANE, type Container, isStaticUid } from "../node/containers.ts";
import { readObjects } from "../objects/stored.ts";
import { COMM } from "../shell-line.ts";
import { podRecords } from "./pod-records.ts";
import { may, ofNamespace, type SourceName } from "./sources.ts";

/** `is`, for the operator: "the container kube-apiserver of kube-system/kube-apiserver-cp1". */
interface ProcessOwner {
  source: SourceName;
  is: string;
}

export type KnownPods = ReturnType<typeof knownHere>;

/**
 * By what pods are told apart: the runtime's containers, and the kubelet's records, which are there also
 * where no runtime answers. `first`: the cgroup of this node's first process, as a node may itself be a
 * container.
 */
export function knownHere(containers: readonly Container[]) {
  return { containers, records: podRecords(), first: cgroupOf(1) };
}

/**
 * Who owns a process with the name `name`: "kube-apiserver", "kubelet". A process that has ended is "another
 * process".
 */
export function processOwner(pid: number, name: string, known: KnownPods): ProcessOwner {
  const path = pathBelow(known.first, cgroupOf(pid));
  if (path === undefined) return { source: "another process", is: "a process without a cgroup" };
  if (isUnit(path, name))
    return { source: "a control plane process", is: `the unit ${name}.service of this node` };
  const pod = podIn(path, known);
  if (!pod)
    return { source: "another process", is: `a process of no pod that this node knows (cgroup "${path}")` };
  return { source: isOf(pod, name) ? "a control plane process" : "another process", is: inWords(pod) };
}

interface PodOfProcess {
  namespace: string;
  name: string;
  uid: string;
  container: string;
}

/** Whether it is this static pod of kubeadm's. */
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

/** A process of a pod that a signal has stopped: it does nothing, and does not end by SIGTERM either. */
export interface StoppedProcess {
  pid: number;
  /** Its name, of 15 letters at most. */
  comm: string;
  /** Its pod, for the operator. */
  of: string;
  /** The controller-manager of this node's static pod: part 0 has paused it. */
  isManager: boolean;
  inKubeSystem: boolean;
}

/**
 * Processes of this node's pods in state T (/proc/PID/stat, proc(5)), as after SIGSTOP. Nothing in a cluster
 * sees it, and nothing continues them: a probe may only read a file. Not those of a terminal: there somebody
 * has typed Ctrl-Z.
 */
export function stoppedProcesses(known: KnownPods): StoppedProcess[] {
  const pids = list("/proc").filter((pid) => /^\d+$/.test(pid));
  return pids.flatMap((pid) => {
    const [, comm = "", state, terminal] =
      /^\d+ \((.*)\) (\S) \S+ \S+ \S+ (\S+) /s.exec(hostText(`/proc/${pid}/stat`) ?? "") ?? [];
    const path =
      state === "T" && terminal === "0" ? pathBelow(known.first, cgroupOf(Number(pid))) : undefined;
    if (path === undefined || !uidIn(path)) return [];
    const pod = podIn(path, known);
    const isManager = comm === MANAGER.slice(0, COMM) && pod !== undefined && isOf(pod, MANAGER);
    const of = pod ? inWords(pod) : `the pod with the UID ${uidIn(path)}`;
    return [{ pid: Number(pid), comm, of, isManager, inKubeSystem: pod?.namespace === "kube-system" }];
  });
}

const MANAGER = "kube-controller-manager";

/**
 * Only root puts a unit into a slice right below the root; a user's own units are in
 * user.slice/user-N.slice/…, pods in kubepods.slice.
 */
function isUnit(path: string, name: string): boolean {
  const [, slice, unit] = /^\/([a-z]+)\.slice\/([\w-]+)\.service$/.exec(path) ?? [];
  return unit === name && slice !== undefined && !["user", "machine", "kubepods"].includes(slice);
}

/**
 * The pod of a cgroup's path. Only the first UID and the first id count: a container may have made and named
 * what is below them.
 */
function podIn(path: string, { containers, records }: KnownPods): PodOfProcess | undefined {
  const uid = uidIn(path);
  const id = /[0-9a-f]{64}/.exec(path)?.[0];
  const container = containers.find((one) => one.id === id);
  if (container)
    return {
      namespace: container.namespace,
      name: container.pod,
      uid: container.podUid,
      container: container.name,
    };
  const record = records.find((one) => one.uid === uid);
  const name = record && CONTROL_PLANE.find((one) => record.name.startsWith(`${one}-`));
  return record && { ...record, container: name ?? "" };
}

function uidIn(path: string): string | undefined {
  return /[/-]pod([0-9a-f][0-9a-f_-]{31,35})(?=[./])/.exec(path)?.[1]?.replaceAll("_", "-");
}

/** Its path in systemd's own hierarchy, or in that of version 2; undefined where the process has ended. */
function cgroupOf(pid: number): string | undefined {
  const lines = (hostText(`/proc/${pid}/cgroup`) ?? "")
    .split("\n")
    .map((line) => /^(\d+):([^:]*):(.*)$/.exec(line) ?? []);
  const line =
    lines.find(([, , controllers]) => controllers === "name=systemd") ??
    lines.find(([, number]) => number === "0");
  return line?.[3];
}

/** A node may itself be a container: then all its paths begin with the path of its first process. */
function pathBelow(first: string | undefined, path: string | undefined): string | undefined {
  const root = (first ?? "").replace(/\/init\.scope$/, "").replace(/\/$/, "");
  return path?.startsWith(`${root}/`) ? path.slice(root.length) : path;
}

/**
 * UIDs of kube-system's pods: by etcd's data where it can be read, and by the kubelet's records. Annotations
 * do not count: any kubelet may write a mirror pod into kube-system that claims the UID of a tenant's pod as
 * its hash.
 */
export function kubeSystemUids(data: EtcdData | undefined): Set<string> {
  const known = data ? attempt(() => uidsBelow("pods/kube-system/", data), []) : [];
  return new Set([
    ...known,
    ...podRecords().flatMap(({ namespace, uid }) => (may(ofNamespace(namespace), "keys") ? [uid] : [])),
  ]);
}

function uidsBelow(path: string, data: EtcdData): string[] {
  const uids = readObjects<{ metadata?: { uid?: unknown } }>(data, path).map(({ metadata }) => metadata?.uid);
  return uids.filter((uid) => typeof uid === "string").toArray();
}

/** The source that volumes in the folder of this pod are. */
export function ofPodFolder(uid: string, kubeSystem: ReadonlySet<string>): SourceName {
  return kubeSystem.has(uid) ? "a pod of kube-system" : "a pod";
}
