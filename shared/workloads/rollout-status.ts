/**
 * How far a rollout is, by the rules of `kubectl rollout status` (kubectl
 * pkg/polymorphichelpers/rollout_status.go), why it may not be begun at all (objectrestarter.go), and why its
 * new pods do not come, in the cluster's own words: nobody should have to look for it in three places.
 */

import type { KubeApi } from "../api/kube-api.ts";
import { isReady, type KubeObject, type LabelSelector, podsPath, selectorOf } from "../api/kube-object.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { Fail } from "../fail.ts";
import { quoteUntrusted } from "../plain.ts";
import { shell } from "../shell-line.ts";
import { type AwayNodes, isThere, label, type PodOwner } from "./pod-owners.ts";

export interface Workload extends KubeObject {
  metadata: KubeObject["metadata"] & { generation: number };
  spec: {
    replicas?: number;
    paused?: boolean;
    minReadySeconds?: number;
    updateStrategy?: { type?: string };
    selector?: LabelSelector;
    template: { metadata?: { annotations?: Record<string, string> } };
  };
  status: Partial<Record<Counter, number>> & {
    updateRevision?: string;
    currentRevision?: string;
    conditions?: { type: string; status: string; reason?: string; message?: string }[];
  };
}

type Counter =
  | "observedGeneration"
  | "replicas"
  | "updatedReplicas"
  | "availableReplicas"
  | "currentNumberScheduled"
  | "desiredNumberScheduled"
  | "updatedNumberScheduled"
  | "numberAvailable";

interface State {
  done: boolean;
  /** Pods that are new plus pods that are available: as long as it grows, the rollout continues. */
  far: number;
  words: string;
  /** It will not continue by itself. */
  late?: boolean;
  wanted: number;
  /** It is not done, and every pod that is not available waits for a node that is away. */
  onlyWaits: boolean;
}

/** `waiting`: of its pods, so many wait for nodes that are away. They count as available. */
export function rolloutState(
  { metadata, spec, status }: Workload,
  kind: PodOwner["controller"],
  waiting = 0,
): State {
  const isSet = kind === "DaemonSet";
  const wanted = isSet ? (status.desiredNumberScheduled ?? 0) : (spec.replicas ?? 1);
  if ((status.observedGeneration ?? 0) < metadata.generation)
    return { done: false, far: 0, words: "no controller has seen the change yet", wanted, onlyWaits: false };
  const updated = (isSet ? status.updatedNumberScheduled : status.updatedReplicas) ?? 0;
  const available = (isSet ? status.numberAvailable : status.availableReplicas) ?? 0;
  const old = isSet ? 0 : (status.replicas ?? 0) - updated;
  const isNew =
    kind === "StatefulSet" ? status.updateRevision === status.currentRevision : updated === wanted;
  const all = (isSet ? status.currentNumberScheduled : status.replicas) ?? 0;
  const late =
    kind === "Deployment" &&
    status.conditions?.some(({ type, reason }) => type === "Progressing" && reason === DEADLINE);
  return {
    done: isNew && available + waiting >= wanted && (isSet || (status.replicas ?? 0) === wanted),
    far: updated + available,
    wanted,
    onlyWaits: waiting > 0 && all - available <= waiting,
    words: `${updated} of ${wanted} pods are new, ${available} available${updated === wanted && old > 0 ? `, ${old} old still end` : ""}`,
    ...(late ? { late } : {}),
  };
}

/** deployment.spec.progressDeadlineSeconds is over (pkg/controller/deployment/util: TimedOutReason). */
const DEADLINE = "ProgressDeadlineExceeded";

export const RUN_AGAIN_HINT = "then run the same line again";

/** Errors: Fail if a restart would wait for people: a pause, or a changed template that they have not rolled out yet. */
export function refuseHeld({ spec, status }: Workload, owner: PodOwner) {
  const { namespace, name } = owner;
  if (spec.paused)
    throw new Fail("it is paused, and kubectl rollout restart refuses that, too", {
      hint: `${shell`kubectl -n ${namespace} rollout resume deployment/${name}`} (rolls out what was changed meanwhile), ${RUN_AGAIN_HINT}`,
    });
  if (spec.updateStrategy?.type !== "OnDelete") return;
  const isSet = owner.controller === "DaemonSet";
  const [all, updated] = isSet
    ? [status.currentNumberScheduled, status.updatedNumberScheduled]
    : [status.replicas, status.updatedReplicas];
  if ((updated ?? 0) >= (all ?? 0)) return;
  throw new Fail(
    `its updateStrategy is OnDelete, and its template has a change that waits: a new pod would have it`,
    {
      hint: shell`type, if the change is good: kubectl -n ${namespace} delete pod ${owner.pods.map(({ metadata }) => metadata.name)}`,
    },
  );
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

/** Commands that show the operator how far it is, and what is in its way. */
export function howToLookAt(owner: PodOwner): string {
  const { namespace, name, restart, controller = "" } = owner;
  const events = shell`kubectl -n ${namespace} get events`;
  if (restart !== "rollout") return `${shell`kubectl -n ${namespace} get pods -o wide`}; ${events}`;
  return `${shell`kubectl -n ${namespace} rollout status ${controller.toLowerCase()}/${name}`}; ${events}`;
}

/** "5 pods of shop/web (Deployment)" */
export function podsOf(owner: PodOwner): string {
  return `${owner.pods.length} pod${owner.pods.length === 1 ? "" : "s"} of ${label(owner)}`;
}

/** Why its new pods do not come, in one sentence; "" if nothing says it. Errors: as KubeApi. */
export async function whyNot(api: KubeApi, owner: PodOwner, workload: Workload): Promise<string> {
  const refused = workload.status.conditions?.find(
    ({ type, status }) => type === "ReplicaFailure" && status === "True",
  );
  if (refused?.message) return quoteUntrusted(refused.message);
  const selector = selectorOf(workload);
  const pods = selector ? await api.list<RunningPod>(podsPath(owner.namespace, selector)) : [];
  const late = pods.filter((pod) => !isReady(pod));
  for (const pod of late) {
    const why = whyNotReady(pod) ?? (await lastEvent(api, pod.metadata, ({ type }) => type === "Warning"));
    if (why) return quoteUntrusted(`${pod.metadata.name}: ${why}`);
  }
  // a StatefulSet or DaemonSet says only in events that the API refuses its pods
  return quoteUntrusted(await lastEvent(api, owner, ({ reason }) => reason === "FailedCreate"));
}

/** Reasons for which a container waits while all is well. */
const USUAL = ["ContainerCreating", "PodInitializing"];

/** Why a pod is not Ready; undefined if it says nothing itself. */
export function whyNotReady({ metadata, spec, status }: RunningPod): string | undefined {
  if (status?.phase === "Failed")
    return [status.reason, status.message].filter(Boolean).join(": ") || "it failed";
  if (metadata.deletionTimestamp)
    return `the old pod does not terminate: see whether node ${spec.nodeName} is Ready`;
  for (const { state } of status?.containerStatuses ?? []) {
    const { reason, message } = state?.waiting ?? {};
    if (reason && !USUAL.includes(reason)) return message ? `${reason}: ${message}` : reason;
  }
  const unscheduled = status?.conditions?.find(
    ({ type, status: value }) => type === "PodScheduled" && value === "False",
  );
  return unscheduled && `${unscheduled.reason}: ${unscheduled.message}`;
}

type Event = KubeObject & { type?: string; reason?: string; message?: string; lastTimestamp?: string };

/**
 * The message of an object's last event; "" if there is none. A kubelet says so why it cannot start a pod:
 * FailedMount, FailedCreatePodSandBox.
 */
export async function lastEvent(
  api: KubeApi,
  { namespace, name }: { namespace?: string; name: string },
  isWanted: (event: Event) => boolean,
): Promise<string> {
  const about = `fieldSelector=involvedObject.name%3D${encodeURIComponent(name)}`;
  const events = await api.list<Event>(`/api/v1/namespaces/${namespace}/events?${about}`);
  const meant = events
    .filter(isWanted)
    .sort((a, b) => (a.lastTimestamp ?? "").localeCompare(b.lastTimestamp ?? ""));
  return meant.at(-1)?.message ?? "";
}
