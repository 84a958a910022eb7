/**
 * Says to which pod a UID on this node belongs. The API server gives a UID, or, to a static pod, its kubelet; nobody else chooses one. So a
 * folder named by a UID belongs to the pod that has this UID in etcd, or in the kubelet's records: /var/log/pods/NAMESPACE_NAME_UID, which
 * only root can write (kubernetes pkg/kubelet/kuberuntime/helpers.go, BuildPodLogsDirectory). Neither a namespace nor a pod's name can have
 * an underscore.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt } from "../fail.ts";
import { list } from "../files/files.ts";
import { readObjects } from "../k8s/stored.ts";
import { podLogsDir } from "../node/kubelet-config.ts";
import { may, ofNamespace, type SourceName } from "./sources.ts";

/** A pod that ran on this node, by its kubelet's records. Of a static pod `name` ends in the node's name, and `uid` is its config.hash. */
export interface PodRecord {
  namespace: string;
  name: string;
  uid: string;
}

/** Every pod that the kubelet's records on this node name; none where there is no such folder. */
export function podRecords(): PodRecord[] {
  return list(podLogsDir()).flatMap((folder) => {
    const [, namespace, name, uid] = /^([a-z0-9-]+)_([a-z0-9.-]+)_([0-9a-f-]+)$/.exec(folder) ?? [];
    return namespace && name && uid ? [{ namespace, name, uid }] : [];
  });
}

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
