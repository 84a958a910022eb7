/** What is left of a static pod of this node, also where its manifest and its container are gone. Reads only. */
import { exists, list } from "../files/files.ts";
import { manifestPath } from "../manifests/on-disk.ts";
import type { Container } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { podRecords } from "../trust/pod-owner.ts";
import { may, ofNamespace } from "../trust/sources.ts";
import { isStaticPodOf } from "./static-pod-here.ts";

/**
 * Traces of a static pod: its manifest, its container, and the kubelet's folder for it, which stays while the kubelet does not run. Where
 * the kubelet has stopped it: the container that has ended, and the kubelet's record of the pod, the folder of its logs.
 */
export function tracesOf(name: string, node: Node, all: readonly Container[]): string[] {
  const manifest = manifestPath({ node }, name);
  const { podsDir } = node.kubelet;
  // any pod may give its container this name
  const records = podRecords();
  const others = new Set(records.flatMap(({ namespace, uid }) => (may(ofNamespace(namespace), "static pods") ? [] : [uid])));
  const uids = list(podsDir).filter((uid) => !others.has(uid));
  const folders = uids.map((uid) => `${podsDir}/${uid}/containers/${name}`);
  return [
    ...[manifest, ...folders].filter((path) => exists(path)),
    ...(all.some((one) => one.name === name && one.namespace === "kube-system") ? [`the container ${name}`] : []),
    ...(records.some((one) => isStaticPodOf(one, name, node)) ? [`the kubelet's record of ${name}`] : []),
  ];
}
