/**
 * Says to which pod a UID on this node belongs. The API server gives a UID, or, to a static pod, its kubelet; nobody else chooses one. So a
 * folder named by a UID belongs to the pod that has this UID in etcd, or in the kubelet's records: /var/log/pods/NAMESPACE_NAME_UID, which
 * only root can write (kubernetes pkg/kubelet/kuberuntime/helpers.go, BuildPodLogsDirectory). Neither a namespace nor a pod's name can have
 * an underscore.
 */
import type { EtcdData } from "../etcd-data/data.ts";
import { attempt, Fail } from "../fail.ts";
import { list } from "../files/files.ts";
import { readObjects } from "../k8s/stored.ts";
import { may, ofNamespace, type SourceName } from "./sources.ts";

const RECORDS = "/var/log/pods";

/**
 * Every pod that ran on this node, by the kubelet's records; none where there is no such folder. Of a static pod `name` ends in the node's
 * name, and `uid` is its config.hash.
 */
export function podRecords(): { namespace: string; name: string; uid: string }[] {
  return list(RECORDS).flatMap((folder) => {
    const [, namespace, name, uid] = /^([a-z0-9-]+)_([a-z0-9.-]+)_([0-9a-f-]+)$/.exec(folder) ?? [];
    return namespace && name && uid ? [{ namespace, name, uid }] : [];
  });
}

/** A UID that a kubelet gives to a static pod: an MD5 sum (pkg/kubelet/config/common.go). The API server's have dashes. */
export function isStaticUid(uid: string): boolean {
  return /^[0-9a-f]{32}$/.test(uid);
}

/**
 * UIDs of kube-system's pods: by etcd's data where it can be read, and by the kubelet's records. Annotations do not count: any kubelet may
 * write a mirror pod into kube-system that claims the UID of a tenant's pod as its hash.
 */
export function kubeSystemUids(data: EtcdData | undefined): Set<string> {
  const pods = data && attempt(() => readObjects<{ metadata?: { uid?: string } }>(data, "pods/kube-system/"));
  const known = pods === undefined || pods instanceof Fail ? [] : pods;
  return new Set([
    ...known.flatMap(({ metadata }) => (typeof metadata?.uid === "string" ? [metadata.uid] : [])),
    ...podRecords().flatMap(({ namespace, uid }) => (may(ofNamespace(namespace), "keys") ? [uid] : [])),
  ]);
}

/** The source that volumes in the folder of this pod are. */
export function ofPodFolder(uid: string, kubeSystem: ReadonlySet<string>): SourceName {
  return kubeSystem.has(uid) ? "a pod of kube-system" : "a pod";
}
