/**
 * Says to which pod a UID on this node belongs. The API server gives a UID, or, to a static pod, its kubelet; nobody else chooses one. So a
 * folder named by a UID belongs to the pod that has this UID in etcd, or in the kubelet's records: /var/log/pods/NAMESPACE_NAME_UID, which
 * only root can write (kubernetes pkg/kubelet/kuberuntime/helpers.go, BuildPodLogsDirectory). Neither a namespace nor a pod's name can have
 * an underscore.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt } from "../fail.ts";
import { readObjects } from "../objects/stored.ts";
import { podRecords } from "./pod-records.ts";
import { may, ofNamespace, type SourceName } from "./sources.ts";

/**
 * UIDs of kube-system's pods: by etcd's data where it can be read, and by the kubelet's records. Annotations do not count: any kubelet may
 * write a mirror pod into kube-system that claims the UID of a tenant's pod as its hash.
 */
export function kubeSystemUids(data: EtcdData | undefined): Set<string> {
  const known = data ? attempt(() => uidsBelow("pods/kube-system/", data), []) : [];
  return new Set([...known, ...podRecords().flatMap(({ namespace, uid }) => (may(ofNamespace(namespace), "keys") ? [uid] : []))]);
}

function uidsBelow(path: string, data: EtcdData): string[] {
  const uids = readObjects<{ metadata?: { uid?: unknown } }>(data, path).map(({ metadata }) => metadata?.uid);
  return uids.filter((uid) => typeof uid === "string").toArray();
}

/** The source that volumes in the folder of this pod are. */
export function ofPodFolder(uid: string, kubeSystem: ReadonlySet<string>): SourceName {
  return kubeSystem.has(uid) ? "a pod of kube-system" : "a pod";
}
