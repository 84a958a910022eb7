/**
 * How far a rollout is, by the rules of `kubectl rollout status` (kubectl pkg/polymorphichelpers/rollout_status.go), and why it may not
 * be begun at all (objectrestarter.go).
 */
import type { KubeObject } from "../api/kube-object.ts";
import { Fail } from "../fail.ts";
import { shell } from "../shell-line.ts";
import { label, type PodOwner } from "./pod-owners.ts";
import type { LabelSelector } from "./selector.ts";

export interface Workload extends KubeObject {
  metadata: KubeObject["metadata"] & { generation: number };
  spec: {
    replicas?: number;
    paused?: boolean;
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
  /** Pods that are new plus pods that are available: as long as it grows, the rollout goes on. */
  far: number;
  /** For the operator. */
  words: string;
  /** It will not go on by itself. */
  late?: boolean;
  wanted: number;
  /** It is not done, and every pod that is not available waits for a node that is away. */
  onlyWaits: boolean;
}

/** `waiting`: of its pods, so many wait for nodes that are away. They count as available. */
export function rolloutState({ metadata, spec, status }: Workload, kind: PodOwner["controller"], waiting = 0): State {
  const isSet = kind === "DaemonSet";
  const wanted = isSet ? (status.desiredNumberScheduled ?? 0) : (spec.replicas ?? 1);
  if ((status.observedGeneration ?? 0) < metadata.generation)
    return { done: false, far: 0, words: "no controller has seen the change yet", wanted, onlyWaits: false };
  const updated = (isSet ? status.updatedNumberScheduled : status.updatedReplicas) ?? 0;
  const available = (isSet ? status.numberAvailable : status.availableReplicas) ?? 0;
  const old = isSet ? 0 : (status.replicas ?? 0) - updated;
  const isNew = kind === "StatefulSet" ? status.updateRevision === status.currentRevision : updated === wanted;
  const all = (isSet ? status.currentNumberScheduled : status.replicas) ?? 0;
  const late = kind === "Deployment" && status.conditions?.some(({ type, reason }) => type === "Progressing" && reason === DEADLINE);
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

export const AGAIN = "then run this script again";

/** Errors: Fail where a restart would wait for people: a pause, or a changed template that they have not rolled out yet. */
export function refuseHeld({ spec, status }: Workload, owner: PodOwner) {
  const { namespace, name } = owner;
  if (spec.paused)
    throw new Fail("it is paused, and kubectl rollout restart refuses that, too", {
      hint: `${shell`kubectl -n ${namespace} rollout resume deployment/${name}`} (rolls out what was changed meanwhile), ${AGAIN}`,
    });
  if (spec.updateStrategy?.type !== "OnDelete") return;
  const isSet = owner.controller === "DaemonSet";
  const [all, updated] = isSet ? [status.currentNumberScheduled, status.updatedNumberScheduled] : [status.replicas, status.updatedReplicas];
  if ((updated ?? 0) >= (all ?? 0)) return;
  throw new Fail(`its updateStrategy is OnDelete, and a change of its template waits: a new pod would have that change`, {
    hint: shell`is the change good? kubectl -n ${namespace} delete pod ${owner.pods.map(({ metadata }) => metadata.name)}`,
  });
}

/** Where the operator sees how far it is, and what is in its way. */
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
