/**
 * Which static pods this node had, and with which manifests, by its mirror pods in etcd's data. Beside
 * kubeadm's own there may be others, such as kube-vip, keepalived or haproxy: without them nobody reaches the
 * API.
 *
 * A node whose kubelet was able to delete its own mirror pods gets the manifests of another control plane node.
 * The two differ in the node's name and address, and in etcd's list of first members (kubeadm's
 * controlplane/manifests.go and etcd/local.go).
 */
import { isIP } from "node:net";
import { memberName } from "../etcd-data/members.ts";
import { ownMember } from "../etcd-location/reach-etcd.ts";
import { believedPeers } from "../facts/known-nodes.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attempt, Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { hostFiles, podFlags } from "../manifests/command.ts";
import { manifestAsItRan, manifestFromMirrorPod } from "../manifests/from-mirror-pod.ts";
import {
  findMirrorPods,
  findStaticPods,
  isTrusted,
  type ProvedPod,
  type UnprovedPod,
} from "../manifests/mirror-pods.ts";
import { isKubeadms, manifestPath, podsOnDisk, readManifest, whereIs } from "../manifests/on-disk.ts";
import { fitOldSaKey } from "../manifests/repair-changes.ts";
import { CONTROL_PLANE } from "../node/containers.ts";
import type { Manifest, PodSpec } from "../objects/objects.ts";
import { asMoved, canonicalIp } from "../pki/addresses.ts";
import { examine, type State } from "../pki/examine.ts";
import { kubeconfigRow } from "../pki/kubeconfigs.ts";
import { restoreFlags, startWithout } from "./without-files.ts";

export interface WantedManifest {
  name: string;
  /** Its origin, in words for the operator. */
  source: string;
  /** An addition to `source`; mostly "". */
  remark: string;
  manifest: Manifest;
  /** The API server's, with the flags that are given up. */
  before?: Manifest;
  /** Differences between its container and its mirror pod. */
  corrections: string[];
}

export const FROM_MIRROR_POD = "from its mirror pod in etcd";

export const SERVERS = CONTROL_PLANE.filter((name) => name !== "etcd");

type Place = Pick<ControlPlaneNode, "data" | "node">;

export interface StaticPod {
  name: string;
  namespace: string;
  pod: { spec: PodSpec };
}

/** Pod names without the node's; undefined means all except etcd. */
function isWantedManifest(name: string, names: readonly string[] | undefined): boolean {
  return names?.includes(name) ?? name !== "etcd";
}

/**
 * The manifests of `names`, as `isWantedManifest` reads them: from this node's mirror pods, and where one of kubeadm's
 * is gone, from another control plane node. A manifest on disk of another namespace than kube-system stays as
 * root wrote it, whatever its mirror pod says. Errors: Fail where there is neither a mirror pod nor a
 * manifest on disk, so that a script can refuse before it changes anything; unless one `mayLack`.
 */
export function wantedManifests(
  cp: ControlPlaneNode,
  asked?: readonly string[],
  { mayLack = false } = {},
): WantedManifest[] {
  // an external etcd is no static pod, and whoever has made one of its name is not kubeadm
  const names = cp.facts.externalEtcd ? asked?.filter((name) => name !== "etcd") : asked;
  const onDisk = podsOnDisk(cp);
  const own = mirrorPods(cp).filter(
    ({ name, namespace }) =>
      isWantedManifest(name, names) && (isTrusted({ namespace }) || !onDisk.has(`${namespace}/${name}`)),
  );
  const ran = cp.data.asToday(structuredClone(cp.ran));
  const manifests: WantedManifest[] = own.map(({ name, pod, from, remark }) => ({
    name,
    source: from === "history" ? `${FROM_MIRROR_POD}'s history` : FROM_MIRROR_POD,
    remark,
    ...manifestAsItRan(manifestFromMirrorPod(pod, cp.node.name), pod, ran),
  }));
  for (const name of names ?? SERVERS) {
    if (manifests.some((wanted) => wanted.name === name) || readManifest(whereIs(manifestPath(cp, name))))
      continue;
    const derived = manifestFromPeer(name, cp);
    if (!derived && mayLack) continue;
    if (!derived)
      throw new Fail(`Cannot find the mirror pod of ${name} on "${cp.node.name}" in etcd's data`, {
        hint: `take ${name}.yaml from another control plane node, and change the node's name and addresses in it. Put the file into ${cp.node.kubelet.staticPodPath}: RUNBOOK-MORE "If a mirror pod is gone"`,
      });
    manifests.push({ name, remark: "", ...derived });
  }
  const pki = cp.facts.certificatesDir;
  return manifests.map((one) => {
    if (one.name !== "kube-apiserver") return one;
    const before = restoreFlags(fitOldSaKey(one.manifest, pki));
    return { ...one, before, manifest: startWithout(before, cp) };
  });
}

/**
 * The manifest of a static pod, from the first other node that has its mirror pod, and its source; undefined
 * where no node has it.
 */
export function manifestFromPeer(
  name: string,
  cp: ControlPlaneNode,
): { manifest: Manifest; source: string; corrections: string[] } | undefined {
  const { data, cluster, node, facts } = cp;
  for (const peer of believedPeers(cluster, { node })) {
    const mirror = findMirrorPods(data, peer.name).find((pod) => pod.name === name);
    if (!mirror) continue;
    const { manifest: theirs, corrections } = manifestAsItRan(
      manifestFromMirrorPod(mirror.pod, peer.name),
      mirror.pod,
    );
    // whole addresses of the other node: in flags, probes, annotations
    const addresses = peer.places.filter((host) => isIP(host)).map(canonicalIp);
    const moved = new Map(addresses.map((address) => [address, facts.advertiseAddress]));
    const manifest = JSON.parse(asMoved(JSON.stringify(theirs), moved)) as Manifest;
    if (name === "etcd") asMember(manifest, cp);
    return { manifest, corrections, source: `made from the manifest of ${peer.name}: check it` };
  }
  return undefined;
}

/** etcd reads its members from its data; the flags only have to name this one. */
function asMember(manifest: Manifest, { data, node }: ControlPlaneNode) {
  const command = podFlags(manifest);
  const own = ownMember(data, node.addresses);
  const ownEntry = `${node.name}=${command.get("initial-advertise-peer-urls") ?? own?.peerURLs[0]}`;
  command.set("name", node.name);
  command.set(
    "initial-cluster",
    data.members.map((one) => (one === own ? ownEntry : `${memberName(one)}=${one.peerURLs[0]}`)).join(","),
  );
  command.set("initial-cluster-state", "existing");
}

export function otherStaticPods(place: Place): { name: string; namespace: string }[] {
  const pods = readableStaticPods(place).filter(({ name }) => !isKubeadms(name));
  return pods.map(({ name, namespace }) => ({ name, namespace }));
}

/**
 * If this node's mirror pods are gone: other static pods of the other control plane nodes. This node may have
 * had them, too. Each pod is named once, with the last node that has it.
 */
export function onlyOnPeers({ data, node, cluster }: ControlPlaneNode): { name: string; peer: string }[] {
  if (findMirrorPods(data, node.name).some(({ name, from }) => from === "live" && name !== "etcd")) return [];
  const own = new Set(otherStaticPods({ data, node }).map(({ name }) => name));
  const missing = new Map<string, { name: string; peer: string }>();
  for (const { name: peer } of believedPeers(cluster, { node }))
    for (const { name, from } of findMirrorPods(data, peer)) {
      const isHere = own.has(name) || exists(manifestPath({ node }, name));
      if (from === "live" && !isKubeadms(name) && !isHere) missing.set(name, { name, peer });
    }
  return [...missing.values()];
}

/**
 * Part 2 writes super-admin.conf where a static pod mounts it: since 1.29, kube-vip does on the first control plane node
 * (kube-vip/kube-vip#684). One of another CA, too: `kubeadm init` and `certs renew all` read each that is there. An
 * expired one harms nobody. Where ca.key is elsewhere, nobody here could write another.
 */
export function wantsSuperAdmin(cp: Place & Pick<ControlPlaneNode, "facts">): boolean {
  const row = kubeconfigRow("super-admin");
  if (readableStaticPods(cp).some(({ pod }) => hostFiles(pod).some(({ path }) => path === row.path)))
    return true;
  return !cp.facts.externalCa && STRANGE.includes(examine(row, cp.facts).state);
}

const STRANGE: readonly State[] = ["wrong CA", "does not match its key"];

/**
 * Manifests on disk, else mirror pods. No mirror pods where pods are encrypted in etcd: `wantedManifests`
 * fails then.
 */
export function readableStaticPods(place: Place): StaticPod[] {
  const pods = new Map<string, { spec: PodSpec }>();
  for (const { namespace, name, pod } of attempt(() => mirrorPods(place), []))
    pods.set(`${namespace}/${name}`, pod);
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

/** There may be thousands: everybody who may create a pod can make them. */
const UNPROVED = 20;

/**
 * Those that `names` means, kube-system's first, and how many more there are. A manifest on disk is root's
 * own and needs no mirror pod.
 */
export function unprovedPods(
  place: Pick<ControlPlaneNode, "data" | "node">,
  names?: readonly string[],
): { pods: UnprovedPod[]; more: number } {
  const podsHere = podsOnDisk(place);
  const found = findStaticPods(place.data, place.node.name).unproved.filter(
    ({ name, namespace }) =>
      isWantedManifest(name, names) && (isKubeadms(name) || !podsHere.has(`${namespace}/${name}`)),
  );
  return { pods: found.slice(0, UNPROVED), more: Math.max(0, found.length - UNPROVED) };
}
