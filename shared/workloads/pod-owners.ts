/**
 * The owner keeps a pod running, and so decides how the pod is restarted: by a rollout, by eviction, or not at all; and
 * which of its pods can be restarted while nodes are away.
 */

import type { KubeApi } from "../api/kube-api.ts";
import { isReady, type KubeObject } from "../api/kube-object.ts";
import { controllerOf, groupOfApi, type RunningPod, reasonToLeave } from "../facts/pod-trust.ts";
import type { Fail } from "../fail.ts";
import { isDnsName } from "../pki/addresses.ts";
import { listed } from "../plain.ts";
import { fewLines, type LineOfMany } from "../progress.ts";
import { shell } from "../shell-line.ts";

/** The maker of new pods of one kind. */
export interface PodOwner {
  /** `replace`: many pods of a DaemonSet at the same time, see `atOnce`. `report`: not at all. */
  restart: "rollout" | "replace" | "evict" | "report";
  namespace: string;
  /** The pod's own, if nothing restarts it. */
  name: string;
  /** In the words of the cluster: "Deployment", "Rollout"; unset for `report`. */
  controller?: string;
  /** If it is a Deployment, DaemonSet or StatefulSet of Kubernetes' own. */
  path?: string;
  /** `replace`: unset: a tenth of them. */
  atOnce?: "all";
  /** Recreate waits for the end of all old ones, OrderedReady until those of lower numbers are Ready. */
  newPodsWaitFor?: "all old ones" | "lower numbers";
  /** It belongs to kube-system, or to the network plugin. */
  system?: boolean;
  webhook?: boolean;
  reason?: string | undefined;
  /** When the trust that its pods mount became the current one. */
  since: Date;
  pods: RunningPod[];
}

export function label({ namespace, name, controller }: PodOwner): string {
  return `${namespace}/${name}${controller ? ` (${controller})` : ""}`;
}

export function ownerName({ namespace, name }: PodOwner): string {
  return `${namespace}/${name}`;
}

/** Its names, its pods', their makers' and their nodes' are its own. */
export function lineOf(owner: PodOwner, text: string): LineOfMany {
  const { namespace, name, pods } = owner;
  const ofPods = pods.flatMap((pod) => [pod.metadata.name, pod.spec.nodeName, controllerOf(pod)?.name]);
  return { name: label(owner), own: [namespace, name, ...ofPods], text };
}

export function howToRestart({ restart, namespace, name, controller, pods }: PodOwner): string {
  if (restart === "evict" || !controller)
    return shell`kubectl -n ${namespace} delete pod ${pods.map(({ metadata }) => metadata.name)}`;
  return shell`kubectl -n ${namespace} rollout restart ${controller.toLowerCase()}/${name}`;
}

/** A bare pod's definition is saved first, in a new folder: in another one a file of that name may be another user's link. */
export function byOperator(reported: readonly PodOwner[], still = ""): string[] {
  const lines = reported.map((owner) => {
    const { namespace, name, reason, pods } = owner;
    const save = shell`kubectl -n ${namespace} get pod -o yaml ${name}`;
    const line = `: d=$(mktemp -d) && ${save} > "$d/pod.yaml" && kubectl replace --force -f "$d/pod.yaml"`;
    const how = pods.some((pod) => controllerOf(pod)) ? "" : line;
    return lineOf(
      owner,
      `${label(owner)}${still} (${reason}): restart it, unless it never calls the API${how}`,
    );
  });
  return fewLines(lines);
}

type Find = KubeApi["find"];

/** Asks the API only once for each owner, for all of its pods. */
export function once(api: KubeApi): Find {
  const answers = new Map<string, Promise<unknown>>();
  return <T>(path: string) => {
    const answer = answers.get(path) ?? api.find<T>(path);
    answers.set(path, answer);
    return answer as Promise<T | undefined>;
  };
}

type PodSet = KubeObject & {
  spec?: {
    strategy?: { type?: string };
    podManagementPolicy?: string;
    updateStrategy?: { type?: string; rollingUpdate?: { partition?: number } };
  };
};

/**
 * Pods of a controller that is not Kubernetes' own (an operator's) are evicted, as `kubectl drain` does every day: its
 * operator is told so by the API, and may refuse it. Argo Rollouts restarts its pods by evictions, Strimzi's Drain
 * Cleaner waits for them. Errors: as KubeApi.
 */
export async function podOwner(find: Find, pod: RunningPod, since: Date): Promise<PodOwner> {
  const namespace = pod.metadata.namespace!;
  const reference = controllerOf(pod);
  const { name } = pod.metadata;
  const left = (reason: string | undefined): PodOwner => {
    return { restart: "report", namespace, name, reason, since, pods: [pod] };
  };
  const reason = reasonToLeave(pod);
  if (!reference || reason) return left(reason);
  const orphan = (gone: Reference) => left(`its ${whereabouts(gone)}: nothing would bring it back`);
  const owned = (
    restart: PodOwner["restart"],
    { kind, name }: Reference,
    its?: { object: PodSet; path: string },
  ): PodOwner => ({
    ...{ restart, namespace, name, since, pods: [pod] },
    controller: isKind(kind) ? kind : "an owner without a valid kind",
    ...(its ? { path: its.path, ...waitsFor(kind, its.object) } : {}),
  });
  if (groupOfApi(reference.apiVersion) !== "apps") return owned("evict", reference);
  const set = await ownerObject(find, namespace, reference);
  if (!set) return orphan(reference);
  if (reference.kind !== "ReplicaSet")
    return owned(isRolledByHand(set.object) ? "evict" : "rollout", reference, set);
  const parent = controllerOf(set.object);
  if (parent?.kind !== "Deployment" || groupOfApi(parent.apiVersion) !== "apps")
    return owned("evict", parent ?? reference);
  const deployment = await ownerObject(find, namespace, parent);
  return deployment ? owned("rollout", parent, deployment) : orphan(parent);
}

type Reference = NonNullable<ReturnType<typeof controllerOf>>;

/** A kind as API servers accept it: a DNS label, with capitals. */
const isKind = (kind: string) => isDnsName(kind.toLowerCase());

/** The creator of a pod writes both kind and name: they are printed only if they are valid names. */
function whereabouts({ kind, name }: Reference): string {
  return isKind(kind) && isDnsName(name)
    ? `${kind} ${name} is no longer there`
    : "owner has no valid name, and is not there";
}

const RESOURCES = new Map([
  ["ReplicaSet", "replicasets"],
  ["Deployment", "deployments"],
  ["DaemonSet", "daemonsets"],
  ["StatefulSet", "statefulsets"],
]);

/**
 * The owner that a reference means, where there is one of this kind, name and UID. No other name gets into a
 * path, nor into a line to type.
 */
async function ownerObject(find: Find, namespace: string, { kind, name, uid }: Reference) {
  const resource = RESOURCES.get(kind);
  if (!resource || !isDnsName(name)) return undefined;
  const path = `/apis/apps/v1/namespaces/${namespace}/${resource}/${name}`;
  const object = await find<PodSet>(path);
  return object?.metadata.uid === uid ? { object, path } : undefined;
}

/**
 * Whether a rollout would not come to its end: OnDelete waits for each pod to be deleted, a partition leaves the pods
 * below it as they are.
 */
function isRolledByHand({ spec }: PodSet): boolean {
  const { type, rollingUpdate } = spec?.updateStrategy ?? {};
  return type === "OnDelete" || (rollingUpdate?.partition ?? 0) > 0;
}

function waitsFor(kind: string, { spec }: PodSet): Pick<PodOwner, "newPodsWaitFor"> {
  if (kind === "Deployment" && spec?.strategy?.type === "Recreate") return { newPodsWaitFor: "all old ones" };
  // Unset means OrderedReady.
  if (kind === "StatefulSet" && spec?.podManagementPolicy !== "Parallel")
    return { newPodsWaitFor: "lower numbers" };
  return {};
}

export interface Left {
  owner: PodOwner;
  why: Fail;
}

export type AwayNodes = ReadonlySet<string>;

/**
 * Whether a pod counts as there: it is Ready, or it waits for its node. One that ends does not count. The scheduler may
 * put a new pod on a node that is away, if it tolerates every taint (Calico's Typha does): no kubelet starts it, and
 * nothing moves it, so whoever waits for it waits for the node.
 */
export function isThere(pod: RunningPod, away: AwayNodes): boolean {
  return !pod.metadata.deletionTimestamp && (isReady(pod) || isOn(pod, away));
}

export function isOn({ spec: { nodeName = "" } }: RunningPod, away: AwayNodes): boolean {
  return away.has(nodeName);
}

/** "w3, which is away" */
export function awayNames(pods: readonly RunningPod[]): string {
  const names = [...new Set(pods.map(({ spec }) => spec.nodeName ?? ""))].sort();
  return `${listed(names)}, which ${names.length === 1 ? "is" : "are"} away`;
}

/**
 * The owner, as far as its pods can be restarted while nodes are away, and what is `left`, in words for the operator.
 *
 * No kubelet ends a pod on a node that is away. A rollout that has to end such a pod does not continue (a
 * DaemonSet's and a StatefulSet's stop at it, Recreate even takes the others away before), so the pods on the
 * other nodes are restarted by themselves. A rolling update of a Deployment continues without it.
 */
export function withoutAway(owner: PodOwner, away: AwayNodes): { owner: PodOwner; left: string[] } {
  const unreached = owner.pods.filter((pod) => isOn(pod, away));
  const reached = owner.pods.filter((pod) => !isOn(pod, away));
  if (unreached.length === 0 || (reached.length === 0 && startsElsewhere(owner))) return { owner, left: [] };
  const pods = owner.newPodsWaitFor === "lower numbers" ? below(reached, unreached) : reached;
  const wait = reached.filter((pod) => !pods.includes(pod)).map(({ metadata }) => metadata.name);
  const [what, back] = [
    `left: ${label(owner)}`,
    `${awayNames(unreached)}: when it is back, this script again`,
  ];
  const left = [`${what} on ${back}`];
  if (wait.length > 0) left.push(`${what}: a new ${listed(wait)} would wait for ${back}`);
  return { owner: { ...owner, pods, restart: howWithoutAway(owner) }, left };
}

function howWithoutAway({ controller, path, restart, newPodsWaitFor }: PodOwner): PodOwner["restart"] {
  if (!path || restart !== "rollout") return restart;
  if (controller === "DaemonSet") return "replace";
  return controller === "StatefulSet" || newPodsWaitFor ? "evict" : restart;
}

/** The pods with a lower ordinal than all of these. */
export function below(pods: readonly RunningPod[], those: readonly RunningPod[]): RunningPod[] {
  const numberOf = ({ metadata }: RunningPod) => Number(/(?<!\d)\d+$/.exec(metadata.name)?.[0] ?? 0);
  const lowest = Math.min(...those.map(numberOf));
  return pods.filter((pod) => numberOf(pod) < lowest);
}

/**
 * A Deployment of the system with no pod left here, such as Calico's only Typha: its rolling update starts
 * one elsewhere, without which its agents are never Ready. Others stay: a volume may still be where they
 * were.
 */
function startsElsewhere({ controller, restart, system, newPodsWaitFor }: PodOwner): boolean {
  return controller === "Deployment" && restart === "rollout" && system === true && !newPodsWaitFor;
}
