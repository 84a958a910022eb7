/**
 * Pods on nodes that are away. No kubelet ends an old one there, so some rollouts would not go on. And the
 * scheduler may put a new one there, if it tolerates every taint (Calico's Typha does): no kubelet starts it,
 * and nothing moves it, so whoever waits for it waits for the node.
 */
import type { KubeApi } from "../api/kube-api.ts";
import { isReady, podsPath, selectorOf } from "../api/kube-object.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { listed } from "../plain.ts";
import { label, type PodOwner } from "./pod-owners.ts";
import type { Workload } from "./rollout-status.ts";

/** Names of nodes that are away. */
export type AwayNodes = ReadonlySet<string>;

/** Whether a pod counts as there: it is Ready, or it waits for its node. One that ends does not count. */
export function isThere(pod: RunningPod, away: AwayNodes): boolean {
  return !pod.metadata.deletionTimestamp && (isReady(pod) || isOn(pod, away));
}

export function isOn({ spec: { nodeName = "" } }: RunningPod, away: AwayNodes): boolean {
  return away.has(nodeName);
}

/** A workload's pods that wait for their nodes. Errors: as KubeApi. */
export async function waitingPods(
  api: KubeApi,
  { namespace }: PodOwner,
  workload: Workload,
  away: AwayNodes,
): Promise<RunningPod[]> {
  const selector = selectorOf(workload);
  if (away.size === 0 || !selector) return [];
  const pods = await api.list<RunningPod>(podsPath(namespace, selector));
  return pods.filter((pod) => isThere(pod, away) && !isReady(pod));
}

/** "w3, which is away" */
export function awayNames(pods: readonly RunningPod[]): string {
  const names = [...new Set(pods.map(({ spec }) => spec.nodeName ?? ""))].sort();
  return `${listed(names)}, which ${names.length === 1 ? "is" : "are"} away`;
}

/**
 * An owner, as far as its pods can be restarted while nodes are away, and what is left of it, for the
 * operator.
 */
interface Reachable {
  owner: PodOwner;
  left: string[];
}

/**
 * No kubelet ends a pod on a node that is away. A rollout that has to end such a pod does not go on (a
 * DaemonSet's and a StatefulSet's stop at it, Recreate even takes the others away before), so the pods on the
 * other nodes are restarted by themselves. A rolling update of a Deployment goes on without it.
 */
export function withoutAway(owner: PodOwner, away: AwayNodes): Reachable {
  const gone = owner.pods.filter((pod) => isOn(pod, away));
  const here = owner.pods.filter((pod) => !isOn(pod, away));
  if (gone.length === 0 || (here.length === 0 && startsElsewhere(owner))) return { owner, left: [] };
  const pods = owner.newPodsWaitFor === "lower numbers" ? below(here, gone) : here;
  const wait = here.filter((pod) => !pods.includes(pod)).map(({ metadata }) => metadata.name);
  const [what, back] = [`left: ${label(owner)}`, `${awayNames(gone)}: when it is back, this script again`];
  const left = [
    `${what} on ${back}`,
    ...(wait.length > 0 ? [`${what}: a new ${listed(wait)} would wait for ${back}`] : []),
  ];
  return { owner: { ...owner, pods, restart: howWithoutAway(owner) }, left };
}

function howWithoutAway({ controller, path, restart, newPodsWaitFor }: PodOwner): PodOwner["restart"] {
  if (!path || restart !== "rollout") return restart;
  if (controller === "DaemonSet") return "replace";
  return controller === "StatefulSet" || newPodsWaitFor ? "evict" : restart;
}

/** The pods of a StatefulSet whose number is lower than all of these. */
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
