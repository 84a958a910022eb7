/**
 * Static pods beside kubeadm's own that have a kubeconfig, such as kube-vip: client-go reads its CA once. Nothing says
 * what such a program does with it later, so it may hold an older one. It does hold it where the file alone is mounted:
 * then its process sees the one from its start for as long as it runs. Reads only.
 */
import { processesOf, processStart } from "../etcd-location/static-pod-here.ts";
import { textBelow } from "../files/untrusted-file.ts";
import { hostFiles } from "../manifests/command.ts";
import { isKubeadms, podsOnDisk } from "../manifests/on-disk.ts";
import { type Container, isStaticUid, nameSuffix } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { KUBECONFIGS } from "../pki/kubeconfigs.ts";

interface Mounting {
  /** Of the container. */
  name: string;
  path: string;
  /** By each clock that says it. */
  starts: readonly Date[];
  /** As its process sees the file. */
  seen?: string | undefined;
}

export function mountingPods(node: Node, all: readonly Container[]): Mounting[] {
  const configs = new Set([...KUBECONFIGS.map(({ path }) => path), node.kubelet.kubeconfig]);
  return [...podsOnDisk({ node })].flatMap(([key, manifest]) => {
    const [namespace, name = ""] = key.split("/");
    const files = new Map(
      hostFiles(manifest).flatMap(({ path, inside }) => (configs.has(path) ? [[path, inside] as const] : [])),
    );
    if (isKubeadms(name)) return [];
    const own = all.filter(
      (one) =>
        one.running &&
        one.namespace === namespace &&
        isStaticUid(one.podUid) &&
        one.pod === `${name}${nameSuffix(node.name)}`,
    );
    return own.flatMap(({ name, created }) => {
      const pids = processesOf(name, all).map(({ pid }) => pid);
      const starts = [created, ...pids.flatMap((pid) => processStart(pid) ?? [])];
      return [...files].map(([path, inside]) => ({ name, path, starts, seen: seenBy(pids, inside) }));
    });
  });
}

/** Of the first that has it. */
function seenBy(pids: readonly number[], inside: string): string | undefined {
  return inside === "" ? undefined : pids.flatMap((pid) => textBelow(pid, inside) ?? [])[0];
}
