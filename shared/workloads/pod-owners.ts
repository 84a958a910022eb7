/** Who restarts a pod: its owner, or nobody here. */
import type { KubeApi, KubeObject } from "../api/kube-api.ts";
import { controllerOf, type RunningPod, reasonToLeave } from "../facts/pod-trust.ts";

/** How a pod is restarted, or why it is not. */
export interface PodOwner {
  kind: "Deployment" | "DaemonSet" | "StatefulSet" | "replace" | "evict" | "report";
  namespace: string;
  name: string;
  /** For the operator: why nothing is restarted. */
  reason?: string;
  /** Since when the trust that its pods mount is today's. */
  since: Date;
  pods: RunningPod[];
}

type Find = <T = KubeObject>(path: string) => Promise<T | undefined>;

/** Asks the API only once for each owner, for all of its pods. */
export function once(api: KubeApi, answers: Map<string, Promise<unknown>>): Find {
  return <T>(path: string) => {
    const answer = answers.get(path) ?? api.find<T>(path);
    answers.set(path, answer);
    return answer as Promise<T | undefined>;
  };
}

/** The Deployment, DaemonSet or StatefulSet behind a pod, or the pod alone. Errors: as KubeApi. */
export async function podOwner(find: Find, pod: RunningPod, since: Date): Promise<PodOwner> {
  const namespace = pod.metadata.namespace!;
  const reference = controllerOf(pod);
  const owner = (kind: PodOwner["kind"], name: string, reason?: string): PodOwner => ({
    kind,
    namespace,
    name,
    since,
    pods: [pod],
    ...(reason ? { reason } : {}),
  });
  const reason = reasonToLeave(pod);
  if (!reference || reason) return owner("report", pod.metadata.name, reason);
  if (reference.kind === "ReplicaSet") {
    const set = await find(`/apis/apps/v1/namespaces/${namespace}/replicasets/${reference.name}`);
    const deployment = set?.metadata.ownerReferences?.find((parent) => parent.controller && parent.kind === "Deployment");
    return deployment ? owner("Deployment", deployment.name) : owner("evict", pod.metadata.name);
  }
  if (reference.kind === "DaemonSet" || reference.kind === "StatefulSet") {
    const path = reference.kind === "DaemonSet" ? "daemonsets" : "statefulsets";
    const set = await find<KubeObject & { spec: { updateStrategy?: { type?: string } } }>(
      `/apis/apps/v1/namespaces/${namespace}/${path}/${reference.name}`,
    );
    return set?.spec.updateStrategy?.type === "OnDelete" ? owner("evict", pod.metadata.name) : owner(reference.kind, reference.name);
  }
  return owner("evict", pod.metadata.name);
}
