/**
 * The configuration that kubeadm's phases take with --config: the cluster's own from etcd's data, with this
 * node's names and addresses.
 */
import { stringify } from "yaml";
import type { EtcdData } from "../etcd-data/data.ts";
import { etcdDataOf } from "../etcd-location/etcd-place.ts";
import { readConfiguration, storedConfiguration } from "../facts/cluster.ts";
import { askControlPlaneNode } from "../facts/control-plane-node.ts";
import { ownNode } from "../facts/issue-facts.ts";
import { apiEndpoint } from "../facts/known-nodes.ts";
import { attempt, Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { type Node, readNode } from "../node/node.ts";
import { configMapIn, readObject } from "../objects/stored.ts";

/**
 * YAML documents: ClusterConfiguration, InitConfiguration and, if the cluster has one, KubeletConfiguration.
 * The kubelet's files are not needed: the phase kubelet-start writes them from it. Errors: Fail if etcd's
 * data or the API server's address cannot be read.
 */
export async function kubeadmConfig(etcdData: string | undefined): Promise<string> {
  const found = await readNode({ mayBeGone: true });
  const { cluster, data, obstacle } = await askControlPlaneNode(
    await etcdDataOf(etcdData, { node: found }),
    found,
    { asRan: false },
  );
  // an unreadable one is printed as it is, to be corrected by hand
  if (data && attempt(() => readConfiguration(data)) instanceof Fail) return storedConfiguration(data);
  if (!cluster || !data) throw obstacle!;
  const node = ownNode(found, cluster);
  const address = apiEndpoint(node.name, data);
  if (!address)
    throw new Fail(
      `Cannot find the API server's mirror pod of node "${node.name}" in etcd's data: its address is not known`,
      {
        hint: 'run it on another control plane node, and write this node\'s localAPIEndpoint by hand: RUNBOOK-MORE "If a mirror pod is gone"',
      },
    );
  const { configuration: stored, endpoint: controlPlaneEndpoint } = cluster;
  const configuration = { ...stored, ...(controlPlaneEndpoint && { controlPlaneEndpoint }) };
  const init = {
    apiVersion: (configuration as { apiVersion?: string }).apiVersion,
    kind: "InitConfiguration",
    localAPIEndpoint: { advertiseAddress: address.host, bindPort: address.port },
    nodeRegistration: { name: node.name, criSocket: socketOf(node, data) },
  };
  const kubelet = configMapIn(data, "kube-system/kubelet-config")?.kubelet;
  const documents = [configuration, init].map((one) => stringify(one, { lineWidth: 0 }));
  return [...documents, ...(kubelet ? [kubelet] : [])].join("---\n");
}

/**
 * This node's own socket if it is known. Else the one that kubeadm annotated on the Node, if it is in a
 * folder of root's: others may write that annotation, too.
 */
function socketOf({ name, runtimeEndpoint }: Node, data: EtcdData): string {
  const isHere = (socket: string) => exists(socket.replace(/^unix:\/\//, ""));
  if (isHere(runtimeEndpoint)) return runtimeEndpoint;
  const object = readObject<{ metadata: { annotations?: Record<string, string> } }>(data, `minions/${name}`);
  const annotated = object?.metadata.annotations?.["kubeadm.alpha.kubernetes.io/cri-socket"];
  return annotated !== undefined &&
    /^unix:\/\/(?:\/var)?\/run\/[\w./-]+\.sock$/.test(annotated) &&
    !annotated.includes("..")
    ? annotated
    : runtimeEndpoint;
}
