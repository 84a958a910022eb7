/**
 * Says who owns a process, whatever its name: by its cgroup (/proc/PID/cgroup, cgroups(7)), which no container can leave. A container's
 * cgroup has the pod's UID and the container's id in its path (kubelet pkg/kubelet/cm, containerd, CRI-O); a unit of the host is in a slice
 * right below the root.
 */
import { hostText } from "../files/untrusted-file.ts";
import { CONTROL_PLANE, type Container } from "../node/containers.ts";
import { podRecords } from "./pod-owner.ts";
import { may, ofNamespace, type SourceName } from "./sources.ts";

/** `is`, for the operator: "the container kube-apiserver of kube-system/kube-apiserver-cp1". */
interface ProcessOwner {
  source: SourceName;
  is: string;
}

export type KnownPods = ReturnType<typeof knownHere>;

/**
 * By what pods are told apart: the runtime's containers, and the kubelet's records, which are there also where no runtime answers. `first`:
 * the cgroup of this node's first process, as a node may itself be a container.
 */
export function knownHere(containers: readonly Container[]) {
  return { containers, records: podRecords(), first: cgroupOf(1) };
}

/** Who owns a process with the name `name`: "kube-apiserver", "kubelet". A process that has ended is "another process". */
export function processOwner(pid: number, name: string, known: KnownPods): ProcessOwner {
  const path = pathBelow(known.first, cgroupOf(pid));
  if (path === undefined) return { source: "another process", is: "a process without a cgroup" };
  if (isUnit(path, name)) return { source: "a control plane process", is: `the unit ${name}.service of this node` };
  const pod = podIn(path, known);
  if (!pod) return { source: "another process", is: `a process of no pod that this node knows (cgroup "${path}")` };
  const own = may(ofNamespace(pod.namespace), "static pods") && pod.container === name && pod.name.startsWith(`${name}-`);
  const is = `the container ${pod.container} of ${pod.namespace}/${pod.name}`;
  return { source: own ? "a control plane process" : "another process", is };
}

/** Only root puts a unit into a slice right below the root; a user's own units are in user.slice/user-N.slice/…, pods in kubepods.slice. */
function isUnit(path: string, name: string): boolean {
  const [, slice, unit] = /^\/([a-z]+)\.slice\/([\w-]+)\.service$/.exec(path) ?? [];
  return unit === name && slice !== undefined && !["user", "machine", "kubepods"].includes(slice);
}

/** The pod of a cgroup's path. Only the first UID and the first id count: a container may have made and named what is below them. */
function podIn(path: string, { containers, records }: KnownPods): { namespace: string; name: string; container: string } | undefined {
  const uid = /[/-]pod([0-9a-f][0-9a-f_-]{31,35})(?=[./])/.exec(path)?.[1]?.replaceAll("_", "-");
  const id = /[0-9a-f]{64}/.exec(path)?.[0];
  const container = containers.find((one) => one.id === id);
  if (container) return { namespace: container.namespace, name: container.pod, container: container.name };
  const record = records.find((one) => one.uid === uid);
  const name = record && CONTROL_PLANE.find((one) => record.name.startsWith(`${one}-`));
  return record && { ...record, container: name ?? "" };
}

/** Its path in systemd's own hierarchy, or in that of version 2; undefined where the process has ended. */
function cgroupOf(pid: number): string | undefined {
  const lines = (hostText(`/proc/${pid}/cgroup`) ?? "").split("\n").map((line) => /^(\d+):([^:]*):(.*)$/.exec(line) ?? []);
  const line = lines.find(([, , controllers]) => controllers === "name=systemd") ?? lines.find(([, number]) => number === "0");
  return line?.[3];
}

/** A node may itself be a container: then all its paths begin with the path of its first process. */
function pathBelow(first: string | undefined, path: string | undefined): string | undefined {
  const root = (first ?? "").replace(/\/init\.scope$/, "").replace(/\/$/, "");
  return path?.startsWith(`${root}/`) ? path.slice(root.length) : path;
}
