/**
 * The kubelet's records of pods on this node: /var/log/pods/NAMESPACE_NAME_UID, which only root can write
 * (kubernetes pkg/kubelet/kuberuntime/helpers.go, BuildPodLogsDirectory). Neither a namespace nor a pod's
 * name can have an underscore.
 */
import { list } from "../files/files.ts";
import { isStaticUid, nameSuffix } from "../node/containers.ts";
import { podLogsDir } from "../node/kubelet-config.ts";
import type { Node } from "../node/node.ts";
import { may, ofNamespace } from "./sources.ts";

/**
 * A pod that ran on this node, by its kubelet's records. A static pod's `name` ends in the node's name, and
 * its `uid` is its config.hash.
 */
interface PodRecord {
  namespace: string;
  name: string;
  uid: string;
}

/** Every pod that the kubelet's records on this node name; none if there is no such folder. */
export function podRecords(): PodRecord[] {
  return list(podLogsDir()).flatMap((folder) => {
    const [, namespace, name, uid] = /^([a-z0-9-]+)_([a-z0-9.-]+)_([0-9a-f-]+)$/.exec(folder) ?? [];
    return namespace && name && uid ? [{ namespace, name, uid }] : [];
  });
}

/**
 * Only root writes a manifest: the kubelet names such a pod after it and the node, and its UID is an MD5 sum.
 */
export function isStaticPodOf({ namespace, name, uid }: PodRecord, pod: string, node: Node): boolean {
  return (
    may(ofNamespace(namespace), "static pods") &&
    isStaticUid(uid) &&
    name === `${pod}-${node.name.toLowerCase()}`
  );
}

/** Static pods that ran here, as `namespace/name` without the node's name → their UIDs. */
export function staticPodRecords(nodeName: string): Map<string, string[]> {
  const records = new Map<string, string[]>();
  for (const { namespace, name, uid } of podRecords()) {
    if (!isStaticUid(uid) || !name.endsWith(nameSuffix(nodeName))) continue;
    const key = `${namespace}/${name.slice(0, -nameSuffix(nodeName).length)}`;
    records.set(key, [...(records.get(key) ?? []), uid]);
  }
  return records;
}
