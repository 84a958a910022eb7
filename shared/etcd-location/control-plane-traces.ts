/**
 * Signs that this is, or was, a control plane node: traces of its static pods, which stay after manifests and
 * containers are gone, files that kubeadm makes only there, and the usual paths of etcd's data. Reads no
 * data.
 */
import { isStaticPodOf, may, ofNamespace, podRecords } from "../evidence/sources.ts";
import { exists, list } from "../files/files.ts";
import { type Container, isServerContainer, isStaticUid } from "../node/containers.ts";
import type { Node } from "../node/node.ts";

/**
 * Traces of a static pod: its manifest, its container, and the kubelet's folder for it, which stays while the
 * kubelet does not run. After the kubelet has stopped it: the exited container, and its folder of logs.
 */
export function tracesOf(name: "etcd" | "kube-apiserver", node: Node, all: readonly Container[]): string[] {
  const { podsDir, staticPodPath } = node.kubelet;
  // any pod may give its container this name, even in kube-system: Cilium's clustermesh-apiserver has an etcd
  const records = podRecords();
  const others = new Set(
    records.flatMap(({ namespace, uid }) => (may(ofNamespace(namespace), "static pods") ? [] : [uid])),
  );
  const uids = list(podsDir).filter((uid) => isStaticUid(uid) && !others.has(uid));
  const folders = uids.map((uid) => `${podsDir}/${uid}/containers/${name}`);
  return [
    ...[`${staticPodPath}/${name}.yaml`, ...folders].filter((path) => exists(path)),
    ...(all.some((one) => one.name === name && isServerContainer(one)) ? [`the container ${name}`] : []),
    ...(records.some((one) => isStaticPodOf(one, name, node)) ? [`the kubelet's record of ${name}`] : []),
  ];
}

/**
 * Traces of the API server and etcd, and files that kubeadm makes only on control plane nodes. Not
 * admin.conf: workers may have a copy.
 */
export function controlPlaneTraces(node: Node, all: readonly Container[], certificatesDir: string): string[] {
  const inPki = ["ca.key", "sa.key", "apiserver.crt"].map((file) => `${certificatesDir}/${file}`);
  const files = ["/etc/kubernetes/controller-manager.conf", ...inPki].filter((path) => exists(path));
  return [...tracesOf("kube-apiserver", node, all), ...tracesOf("etcd", node, all), ...files];
}

/**
 * Folders that only root writes to: kubeadm's default, those of Red Hat's and Debian's packages, Cluster
 * API's on Azure, and the one that kubeadm guides use for a disk of its own.
 */
export const USUAL_DATA = [
  "/var/lib/etcd",
  "/var/lib/etcd/default.etcd",
  "/var/lib/etcd/default",
  "/var/lib/etcddisk/etcd",
  "/data/etcd",
];
