/** Why a workload's new pods do not come, in the cluster's own words: nobody should have to look for it in three places. */
import type { KubeApi } from "../api/kube-api.ts";
import { isReady, type KubeObject } from "../api/kube-object.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { quoteUntrusted } from "../plain.ts";
import type { PodOwner } from "./pod-owners.ts";
import type { Workload } from "./rollout-status.ts";
import { podsPath, selectorOf } from "./selector.ts";

/** One sentence; "" where nothing says it. Errors: as KubeApi. */
export async function whyNot(api: KubeApi, owner: PodOwner, workload: Workload): Promise<string> {
  const refused = workload.status.conditions?.find(({ type, status }) => type === "ReplicaFailure" && status === "True");
  if (refused?.message) return quoteUntrusted(refused.message);
  const selector = selectorOf(workload);
  const pods = selector ? await api.list<RunningPod>(podsPath(owner.namespace, selector)) : [];
  const late = pods.filter((pod) => !isReady(pod));
  for (const pod of late) {
    const why = whyNotReady(pod) ?? (await lastEvent(api, pod.metadata, ({ type }) => type === "Warning"));
    if (why) return quoteUntrusted(`${pod.metadata.name}: ${why}`);
  }
  return await whyNoPod(api, owner);
}

/** What a container waits for while all is well. */
const USUAL = ["ContainerCreating", "PodInitializing"];

/** Of a pod that is not Ready; undefined where it says nothing itself. */
export function whyNotReady({ metadata, spec, status }: RunningPod): string | undefined {
  if (status?.phase === "Failed") return [status.reason, status.message].filter(Boolean).join(": ") || "it failed";
  if (metadata.deletionTimestamp) return `it does not end: is ${spec.nodeName} Ready?`;
  for (const { state } of status?.containerStatuses ?? []) {
    const { reason, message } = state?.waiting ?? {};
    if (reason && !USUAL.includes(reason)) return message ? `${reason}: ${message}` : reason;
  }
  const unscheduled = status?.conditions?.find(({ type, status: value }) => type === "PodScheduled" && value === "False");
  return unscheduled && `${unscheduled.reason}: ${unscheduled.message}`;
}

/** A StatefulSet or DaemonSet says only in events that the API refuses its pods. */
async function whyNoPod(api: KubeApi, { namespace, name }: PodOwner): Promise<string> {
  return quoteUntrusted(await lastEvent(api, { namespace, name }, ({ reason }) => reason === "FailedCreate"));
}

export type Event = KubeObject & { type?: string; reason?: string; message?: string; lastTimestamp?: string };

/** What is said of an object last; "" where nothing is. A kubelet says so why it cannot start a pod: FailedMount, FailedCreatePodSandBox. */
export async function lastEvent(
  api: KubeApi,
  about: { namespace?: string; name: string },
  isMeant: (event: Event) => boolean,
): Promise<string> {
  const { namespace, name } = about;
  const events = await api.list<Event>(
    `/api/v1/namespaces/${namespace}/events?fieldSelector=involvedObject.name%3D${encodeURIComponent(name)}`,
  );
  const meant = events.filter(isMeant).sort((a, b) => (a.lastTimestamp ?? "").localeCompare(b.lastTimestamp ?? ""));
  return meant.at(-1)?.message ?? "";
}
