/**
 * New pods that the scheduler has put on nodes that are away: a pod that tolerates every taint may come there (Calico's Typha does). No kubelet
 * starts it, and nothing moves it, so whoever waits for it waits for the node.
 */
import type { KubeApi } from "../api/kube-api.ts";
import { isReady } from "../api/pod-ready.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { listed } from "../plain.ts";
import type { PodOwner } from "./pod-owners.ts";
import type { Workload } from "./rollout-status.ts";
import { podsPath, selectorOf } from "./selector.ts";

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
export async function waitingPods(api: KubeApi, { namespace }: PodOwner, workload: Workload, away: AwayNodes): Promise<RunningPod[]> {
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
