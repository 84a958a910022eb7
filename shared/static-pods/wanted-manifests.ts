/**
 * Which static pods this node had, and with which manifests, by its mirror pods in etcd's data. Beside
 * kubeadm's own there may be others, such as kube-vip, keepalived or haproxy: without them nobody reaches the
 * API.
 */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { believedPeers } from "../facts/known-nodes.ts";
import { attempt, Fail } from "../fail.ts";
import { exists, stat } from "../files/files.ts";
import { asItRan } from "../manifests/as-it-ran.ts";
import { hostFiles } from "../manifests/command.ts";
import { manifestFromMirrorPod } from "../manifests/from-mirror-pod.ts";
import { findMirrorPods, findStaticPods, isTrusted, type ProvedPod } from "../manifests/mirror-pods.ts";
import { isKubeadms, manifestPath, podsOnDisk, readManifest, whereIs } from "../manifests/on-disk.ts";
import { fitOldSaKey } from "../manifests/repair-changes.ts";
import { CONTROL_PLANE, type Container, isStaticUid, nameSuffix } from "../node/containers.ts";
import { wasDuringRun } from "../node/kept-run.ts";
import type { Manifest, PodSpec } from "../objects/objects.ts";
import { CERTS, certPath } from "../pki/certs.ts";
import { KUBECONFIGS, kubeconfigRow } from "../pki/kubeconfigs.ts";
import { mode } from "../run.ts";
import { withFlagsBack } from "./flags-back.ts";
import { manifestFromPeer } from "./from-other-control-plane.ts";
import { startWithout } from "./without-files.ts";

export interface WantedManifest {
  name: string;
  /** Where it comes from, for the operator. */
  source: string;
  /** What to add to `source`; mostly "". */
  remark: string;
  manifest: Manifest;
  /** The API server's, with the flags that are given up. */
  before?: Manifest;
  /** Where its container ran otherwise than its mirror pod says: in words, for the operator. */
  said: string[];
}

export const FROM_MIRROR_POD = "from its mirror pod in etcd";

/** kubeadm's static pods, except etcd. */
export const SERVERS = CONTROL_PLANE.filter((name) => name !== "etcd");

type Place = Pick<ControlPlaneNode, "data" | "node">;

/** Whether `names` means this static pod: pod names without the node's; undefined means all except etcd. */
export function isMeant(name: string, names: readonly string[] | undefined): boolean {
  return names?.includes(name) ?? name !== "etcd";
}

/**
 * The manifests of `names`, as `isMeant` reads them: from this node's mirror pods, and where one of kubeadm's
 * is gone, from another control plane node. A manifest on disk of another namespace than kube-system stays as
 * root wrote it, whatever its mirror pod says. Errors: Fail where there is neither a mirror pod nor a
 * manifest on disk, so that a script can refuse before it changes anything.
 */
export function wantedManifests(cp: ControlPlaneNode, names?: readonly string[]): WantedManifest[] {
  const onDisk = podsOnDisk(cp);
  const own = mirrorPods(cp).filter(
    ({ name, namespace }) =>
      isMeant(name, names) && (isTrusted({ namespace }) || !onDisk.has(`${namespace}/${name}`)),
  );
  const ran = cp.data.asToday(structuredClone(cp.ran));
  const manifests: WantedManifest[] = own.map(({ name, pod, from, remark }) => ({
    name,
    source: from === "history" ? `${FROM_MIRROR_POD}'s history` : FROM_MIRROR_POD,
    remark,
    ...asItRan(manifestFromMirrorPod(pod, cp.node.name), pod, ran),
  }));
  for (const name of names ?? SERVERS) {
    if (manifests.some((wanted) => wanted.name === name) || readManifest(whereIs(manifestPath(cp, name))))
      continue;
    const derived = manifestFromPeer(name, cp);
    if (!derived) throw noMirrorPod(name, cp);
    manifests.push({ name, remark: "", ...derived });
  }
  const pki = cp.facts.certificatesDir;
  return manifests.map((one) => {
    if (one.name !== "kube-apiserver") return one;
    const before = withFlagsBack(fitOldSaKey(one.manifest, pki));
    return { ...one, before, manifest: startWithout(before, cp) };
  });
}

/** The static pods that kubeadm did not make. */
export function otherStaticPods(place: Place): { name: string; namespace: string }[] {
  return readable(place).flatMap(({ name, namespace }) => (isKubeadms(name) ? [] : [{ name, namespace }]));
}

/**
 * If this node's mirror pods are gone: other static pods of the other control plane nodes. This node may have
 * had them, too.
 */
export function onlyOnPeers({ data, node, cluster }: ControlPlaneNode): { name: string; peer: string }[] {
  if (findMirrorPods(data, node.name).some(({ name, from }) => from === "live" && name !== "etcd")) return [];
  const peers = believedPeers(cluster, { node });
  const found = peers.flatMap(({ name: peer }) =>
    findMirrorPods(data, peer).map((pod) => ({ ...pod, peer })),
  );
  const own = new Set(otherStaticPods({ data, node }).map(({ name }) => name));
  const missing = found.filter(
    (pod) =>
      pod.from === "live" &&
      !isKubeadms(pod.name) &&
      !own.has(pod.name) &&
      !exists(manifestPath({ node }, pod.name)),
  );
  return [...new Map(missing.map(({ name, peer }) => [name, { name, peer }])).values()];
}

/**
 * kubeadm itself does not use super-admin.conf; since 1.29, kube-vip mounts it on the first control plane
 * node (kube-vip/kube-vip#684).
 */
export function mountsSuperAdmin(place: Place): boolean {
  return readable(place).some(({ pod }) =>
    hostFiles(pod).some(({ path }) => path === kubeconfigRow("super-admin").path),
  );
}

/**
 * For each pod that kubeadm did not make: which of these files it mounts, itself or by a folder. It has read
 * them when it started.
 */
function mountedOf(
  place: Place,
  files: readonly string[],
): { name: string; namespace: string; files: string[] }[] {
  return readable(place).flatMap(({ name, namespace, pod }) => {
    if (isKubeadms(name)) return [];
    const mounts = hostFiles(pod).map(({ path }) => path);
    return [
      {
        name,
        namespace,
        files: files.filter((file) => mounts.some((path) => file === path || file.startsWith(`${path}/`))),
      },
    ];
  });
}

/**
 * A container of a static pod that started before a certificate or kubeconfig of its was changed: it reads
 * these files only once.
 */
export interface StaleReader {
  container: Container;
  file: string;
  /**
   * A run of this kit has changed it, this one or one that was cut off, and so the pod starts again. What
   * others change is theirs.
   */
  isOurs: boolean;
}

/** `written`: paths of what this run writes, or is about to: whoever reads one of them has read another. */
export function staleReaders(
  cp: ControlPlaneNode,
  running: readonly Container[],
  written: readonly string[] = [],
): StaleReader[] {
  const { certificatesDir } = cp.facts;
  const certs = CERTS.map((row) => certPath(row, certificatesDir));
  const readers = [
    ...SERVERS.map((name) => ({ name, namespace: "kube-system", files: readBy(name, cp) })),
    ...mountedOf(cp, [...certs, ...KUBECONFIGS.map(({ path }) => path)]),
  ];
  return readers.flatMap(({ name, namespace, files }) => {
    const ours = written.find((path) => files.includes(path) || (isKubeadms(name) && isAllServers(path, cp)));
    const changes = files.flatMap((file) => ({ file, time: stat(file)?.modified ?? new Date(0) }));
    const isIts = ({ podUid, ...one }: Container) =>
      one.namespace === namespace && isStaticUid(podUid) && one.pod === `${name}${nameSuffix(cp.node.name)}`;
    return running.filter(isIts).flatMap((container): StaleReader[] => {
      const later = changes.filter(({ time }) => time > container.created);
      const own = ours ?? later.find(({ time }) => time >= mode.began || wasDuringRun(time))?.file;
      const file = own ?? later[0]?.file;
      return file === undefined ? [] : [{ container, file, isOurs: own !== undefined }];
    });
  });
}

/** Whether one of kubeadm's servers reads one of these files, which part 2 writes. */
export function areReadByServers(cp: ControlPlaneNode, written: readonly string[]): boolean {
  return written.some(
    (path) => isAllServers(path, cp) || SERVERS.some((name) => readBy(name, cp).includes(path)),
  );
}

/** What part 2 issues that is somebody's own: certificates that a CA has signed, and kubeconfigs. */
function leavesOf({ facts: { certificatesDir } }: ControlPlaneNode): string[] {
  const certs = CERTS.filter((row) => row.ca).map((row) => certPath(row, certificatesDir));
  return [...certs, ...KUBECONFIGS.map(({ path }) => path)];
}

/** A CA, sa.key, or a file with a copy of a CA. */
function isAllServers(path: string, cp: ControlPlaneNode): boolean {
  return !leavesOf(cp).includes(path);
}

/**
 * What part 2 issues for one of kubeadm's servers: the API server's own certificates, or the kubeconfig of
 * one of its clients; and what else its flags name.
 */
function readBy(server: string, cp: ControlPlaneNode): string[] {
  const isOwn = (name: string) => `kube-${name}` === server;
  const usual =
    server === "kube-apiserver"
      ? CERTS.filter((row) => row.ca && !row.file.startsWith("etcd/")).map((row) =>
          certPath(row, cp.facts.certificatesDir),
        )
      : KUBECONFIGS.filter(({ name }) => isOwn(name)).map(({ path }) => path);
  const named = readable(cp).flatMap(({ name, pod }) => (name === server ? hostFiles(pod) : []));
  const leaves = leavesOf(cp);
  return [...usual, ...named.flatMap(({ path }) => (leaves.includes(path) ? path : []))];
}

/**
 * Manifests on disk, else mirror pods. No mirror pods where pods are encrypted in etcd: `wantedManifests`
 * fails then.
 */
function readable(place: Place): { name: string; namespace: string; pod: { spec: PodSpec } }[] {
  const mirrors = attempt(() => mirrorPods(place));
  const pods = new Map<string, { spec: PodSpec }>();
  if (!(mirrors instanceof Fail))
    for (const { namespace, name, pod } of mirrors) pods.set(`${namespace}/${name}`, pod);
  for (const [key, manifest] of podsOnDisk(place)) pods.set(key, manifest);
  return [...pods].map(([key, pod]) => {
    const [namespace = "", name = ""] = key.split("/");
    return { name, namespace, pod };
  });
}

/**
 * A pod that kubeadm did not make and that is deleted may have been removed on purpose, unless kubeadm's own
 * pods are gone as well.
 */
function mirrorPods({ data, node }: Place): ProvedPod[] {
  const pods: readonly ProvedPod[] = findStaticPods(data, node.name).proved;
  const isWreck =
    !apiServerMayLive({ node }) || pods.some(({ from, name }) => from === "history" && isKubeadms(name));
  return pods.filter(({ from, name }) => from === "live" || isWreck || isKubeadms(name));
}

/** Whether its manifest is there, whatever is in it: a running one outlives a manifest that is cut off. */
export function apiServerMayLive({ node }: Pick<Place, "node">): boolean {
  return exists(whereIs(manifestPath({ node }, "kube-apiserver")));
}

function noMirrorPod(name: string, { node }: ControlPlaneNode): Fail {
  return new Fail(`Cannot find the mirror pod of ${name} on "${node.name}" in etcd's data`, {
    hint: `take ${name}.yaml from another control plane node, change the node's name and addresses in it, put it into ${node.kubelet.staticPodPath}: RUNBOOK-MORE "If a mirror pod is gone"`,
  });
}
