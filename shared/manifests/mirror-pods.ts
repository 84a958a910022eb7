/**
 * The static pods of a node, by their mirror pods in etcd's data. Everybody who may create a pod can make one
 * that looks like a mirror pod of any node, and a static pod runs with root's rights. So the namespace
 * decides (shared/evidence): pods of kube-system count, unless the kubelet's records on this node contradict. A
 * kubelet may create mirror pods in every namespace, but only for its own node
 * (plugin/pkg/admission/noderestriction).
 */
import { type Budget, Spent } from "../budget.ts";
import type { EtcdData, KeyValue } from "../etcd-data/data.ts";
import { may, ofNamespace, staticPodRecords } from "../evidence/sources.ts";
import { attempt, Fail } from "../fail.ts";
import { nameSuffix } from "../node/containers.ts";
import { asPod, type Pod } from "../objects/objects.ts";
import { decodeObject } from "../objects/storage.ts";
import { registryPrefix, rowsBudget } from "../objects/stored.ts";
import { isDnsName } from "../pki/addresses.ts";
import { say } from "../run.ts";
import { HASH_ANNOTATION, MIRROR_ANNOTATION } from "./from-mirror-pod.ts";
import { isKubeadms } from "./on-disk.ts";

/**
 * `name` is the static pod's own, without the node's. `from` "history": deleted in etcd, but not yet removed
 * by a compaction.
 */
export interface MirrorPod {
  namespace: string;
  name: string;
  from: "live" | "history";
  pod: Pod;
}

/** A mirror pod that counts. `remark`: words for the operator about its origin; mostly "". */
export interface ProvedPod extends MirrorPod {
  remark: string;
}

/** `alike`: another static pod, or one of kubeadm's, has its name. */
export interface UnprovedPod extends MirrorPod {
  why: string;
  alike: boolean;
}

/** Existing ones in kube-system, then deleted ones that are still in etcd's history. */
export function findMirrorPods(
  data: EtcdData,
  nodeName: string,
  budget = rowsBudget(data, OWN_PODS),
): MirrorPod[] {
  const places = placesBelow("kube-system/", data, nodeName);
  return places.flatMap((place) => newest(place, data, budget) ?? []).sort(liveFirst);
}

const OWN_PODS = "pods/kube-system/";

export function mirrorPod(data: EtcdData, nodeName: string, name: string): Pod | undefined {
  return findMirrorPods(data, nodeName).find((one) => one.name === name)?.pod;
}

/** The same for several nodes, even thousands: node → its static pods. */
export function mirrorPodsOf(
  data: EtcdData,
  nodeNames: readonly string[],
  budget = rowsBudget(data, OWN_PODS),
): Map<string, MirrorPod[]> {
  const byEnd = new Map(nodeNames.map((name) => [name.toLowerCase(), name]));
  const prefix = `${registryPrefix(data)}/pods/`;
  const keys = [...data.keys(`${prefix}kube-system/`), ...data.deletedKeys(`${prefix}kube-system/`)];
  const found = keys.flatMap((key) => {
    const ends = [...key.matchAll(/-/g)].map(({ index }) => byEnd.get(key.slice(index + 1)));
    const places = ends.flatMap((nodeName) =>
      nodeName === undefined ? [] : (placeOf(key, prefix, nodeName) ?? []),
    );
    return places.flatMap((place) => {
      const pod = newest(place, data, budget);
      return pod ? [[place.nodeName, pod] as const] : [];
    });
  });
  return new Map(
    [...Map.groupBy(found, ([name]) => name)].map(([name, pods]) => [name, pods.map(([, pod]) => pod)]),
  );
}

/**
 * The static pods of this node, in kube-system. One that is not kubeadm's does not count if the kubelet's
 * records name another pod of its name. Those of other namespaces never count, record or not: the hash does
 * not protect their image and arguments, and a tenant may change them.
 */
export function findStaticPods(data: EtcdData, nodeName: string, budget?: Budget) {
  const records = staticPodRecords(nodeName);
  const all = [...findMirrorPods(data, nodeName, budget), ...tenantsPods(data, nodeName, budget)];
  const found = all.map((one) => ({
    ...one,
    why: undefined,
    remark: "",
    ...judge(one, records),
  }));
  const proved = new Map<string, ProvedPod>();
  for (const { why, ...one } of found.sort(byTrust)) {
    if (why === undefined && !proved.has(one.name)) proved.set(one.name, one);
  }
  const byName = Map.groupBy(found, ({ name }) => name);
  const unproved = found.flatMap(({ remark: _, ...one }) => {
    const other = proved.get(one.name);
    if (other?.namespace === one.namespace && one.why === undefined) return [];
    const why = one.why ?? `the static pod ${other!.namespace}/${one.name} has its name`;
    const isAlike =
      other !== undefined ||
      isKubeadms(one.name) ||
      byName.get(one.name)!.some(({ namespace }) => namespace !== one.namespace);
    return [{ ...one, why, alike: isAlike }];
  });
  return { proved: [...proved.values()].sort(liveFirst), unproved };
}

const byTrust = (a: MirrorPod, b: MirrorPod) => Number(isTrusted(b)) - Number(isTrusted(a));
const liveFirst = (a: MirrorPod, b: MirrorPod) => Number(b.from === "live") - Number(a.from === "live");

/** Whether the namespace alone decides. */
export function isTrusted({ namespace }: Pick<MirrorPod, "namespace">): boolean {
  return may(ofNamespace(namespace), "static pods");
}

/** Why it does not count, or a remark about one that counts; `{}`: neither. */
function judge(one: MirrorPod, records: Map<string, string[]>): { why?: string; remark?: string } {
  const trusted = isTrusted(one);
  if (!isPlainName(one.name)) return { why: "its name cannot be the name of a file" };
  if (isKubeadms(one.name)) return trusted ? {} : { why: "kubeadm's static pods are in kube-system" };
  const uids = records.get(`${one.namespace}/${one.name}`) ?? [];
  if (uids.includes(one.pod.metadata.annotations?.[HASH_ANNOTATION] ?? ""))
    return trusted
      ? {}
      : { why: `it ran here, but whoever may change pods in ${one.namespace} can have changed it since` };
  if (uids.length > 0)
    return { why: `another pod ran here under its name, by the kubelet's records: ${uids.join(", ")}` };
  return trusted
    ? { remark: ", no record of it on this node" }
    : { why: "the kubelet has no record of it on this node" };
}

/** Mirror pods of other namespaces never count: if tenants have made too many of them, the rest is not read. */
function tenantsPods(data: EtcdData, nodeName: string, budget = rowsBudget(data, "pods/")): MirrorPod[] {
  const found: MirrorPod[] = [];
  try {
    for (const place of placesBelow("", data, nodeName).filter((one) => !isTrusted(one)))
      found.push(...[newest(place, data, budget) ?? []].flat());
  } catch (err) {
    if (!(err instanceof Spent)) throw err;
    say(`warning: ${err.message}. The other pods of tenants there are not read: they never count`);
  }
  return found.sort(liveFirst);
}

function placesBelow(path: string, data: EtcdData, nodeName: string): Place[] {
  const prefix = `${registryPrefix(data)}/pods/`;
  return [data.keys(prefix + path), data.deletedKeys(prefix + path)].flatMap((keys) =>
    keys.flatMap((key) => placeOf(key, prefix, nodeName) ?? []),
  );
}

/** The key of a possible mirror pod of this node; `fullName` ends in the node's. */
type Place = { key: string; namespace: string; fullName: string; nodeName: string };

/** Undefined if the name is not for this node, or no API server stores a pod under it. */
function placeOf(key: string, prefix: string, nodeName: string): Place | undefined {
  const [namespace = "", fullName = "", ...more] = key.slice(prefix.length).split("/");
  const isNamed =
    more.length === 0 &&
    isPlainName(namespace) &&
    isPlainName(fullName) &&
    fullName.endsWith(nameSuffix(nodeName));
  return isNamed ? { key, namespace, fullName, nodeName } : undefined;
}

/** As all these names are, a DNS subdomain: it never begins with a dot, so it is safe as a file's name. */
function isPlainName(name: string): boolean {
  return isDnsName(name) && !name.includes("*");
}

/** The existing pod; if it is gone, or now belongs to another node: the last one that was this node's. */
function newest(place: Place, data: EtcdData, budget: Budget): MirrorPod | undefined {
  budget.ask();
  const live = data.get(place.key);
  const pod = live && readMirrorPod(live, place, data);
  const { namespace, fullName, nodeName } = place;
  const found = (pod: Pod, from: MirrorPod["from"]) => ({
    namespace,
    name: fullName.slice(0, -nameSuffix(nodeName).length),
    from,
    pod,
  });
  if (pod) return found(pod, "live");
  if (live && !isTrusted(place)) return undefined;
  for (const revision of data.history(place.key)) {
    budget.ask();
    const older = revision.deleted ? undefined : readMirrorPod(revision, place, data);
    if (older) return found(older, "history");
  }
  return undefined;
}

/**
 * Undefined if the pod only has a mirror pod's name. Errors: Fail if a pod of kube-system cannot be read;
 * any other is skipped.
 */
function readMirrorPod(stored: KeyValue, place: Place, data: EtcdData): Pod | undefined {
  const pod = attempt(() => decodeMirrorPod(stored, place, data));
  if (pod instanceof Fail && isTrusted(place)) throw pod;
  return pod instanceof Fail ? undefined : pod;
}

function decodeMirrorPod(
  stored: KeyValue,
  { namespace, fullName, nodeName }: Place,
  data: EtcdData,
): Pod | undefined {
  const unreadable = (why: string, hint = UNREADABLE) =>
    new Fail(`Cannot read the pod "${namespace}/${fullName}" in etcd: ${why}`, { hint });
  const object: unknown = attempt(() => data.asToday(decodeObject(stored.value)));
  if (object instanceof Fail) throw unreadable(object.message, object.hint);
  const { encrypted, undecoded, metadata, spec } = object as Record<
    "encrypted" | "undecoded" | "metadata" | "spec",
    Loose
  >;
  if (typeof encrypted === "string") throw unreadable(`pods are encrypted with "${encrypted}"`, ENCRYPTED);
  if (typeof undecoded === "string") throw unreadable(`it is no pod${undecoded && `, but ${undecoded}`}`);
  if (!metadata?.annotations?.[MIRROR_ANNOTATION] || spec?.nodeName !== nodeName) return undefined;
  const pod = asPod(object, (why) => unreadable(why));
  if (pod.metadata.name !== fullName || (pod.metadata.namespace ?? namespace) !== namespace)
    throw unreadable("it has another name inside");
  if (pod.spec.containers.length === 0) throw unreadable("it has no containers");
  return pod;
}

// biome-ignore lint/suspicious/noExplicitAny: nothing is known about it yet
type Loose = any;

const UNREADABLE =
  "use the data directory of another etcd member, or write the manifests with `kubeadm init phase control-plane all --config`: RUNBOOK 1";

const ENCRYPTED =
  "put back the file of --encryption-provider-config; without it, write the manifests with `kubeadm init phase control-plane all --config`";
