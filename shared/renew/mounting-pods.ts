/**
 * Static pods beside kubeadm's own that have a kubeconfig, such as kube-vip: client-go reads its CA once. Nothing says
 * what such a program does with it later, so it may hold an older one, and no more is said of it. Reads only.
 */
import { hostFiles } from "../manifests/command.ts";
import { isKubeadms, podsOnDisk } from "../manifests/on-disk.ts";
import { type Container, isStaticUid, nameSuffix } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import { KUBECONFIGS } from "../pki/kubeconfigs.ts";

interface Mounting {
  /** Of the container. */
  name: string;
  path: string;
  started: Date;
}

export function mountingPods(node: Node, all: readonly Container[]): Mounting[] {
  const configs = new Set([...KUBECONFIGS.map(({ path }) => path), node.kubelet.kubeconfig]);
  return [...podsOnDisk({ node })].flatMap(([key, manifest]) => {
    const [namespace, name = ""] = key.split("/");
    const paths = new Set(hostFiles(manifest).flatMap(({ path }) => (configs.has(path) ? path : [])));
    if (isKubeadms(name)) return [];
    const own = all.filter(
      (one) =>
        one.running &&
        one.namespace === namespace &&
        isStaticUid(one.podUid) &&
        one.pod === `${name}${nameSuffix(node.name)}`,
    );
    return own.flatMap((one) => [...paths].map((path) => ({ name: one.name, path, started: one.created })));
  });
}
