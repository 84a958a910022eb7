/** The configuration that kubeadm's phases take with --config: the cluster's own, out of etcd's data, and this node's names and addresses. */
import { stringify } from "yaml";
import { etcdDataOf } from "../etcd-home/etcd-place.ts";
import { lookAtControlPlaneNode } from "../facts/control-plane-node.ts";
import { apiEndpoint, ownNode } from "../facts/issue-facts.ts";
import { Fail } from "../fail.ts";
import { readNode } from "../node/node.ts";

/** Two YAML documents: ClusterConfiguration and InitConfiguration. Errors: Fail where etcd's data, or the API server's address, is not to be had. */
export async function kubeadmConfig(etcdData: string | undefined): Promise<string> {
  const found = await readNode();
  const { cluster, data, obstacle } = lookAtControlPlaneNode(await etcdDataOf(etcdData, { node: found }), found);
  if (!cluster || !data) throw obstacle!;
  const node = ownNode(found, cluster, data);
  const address = apiEndpoint(node.name, data);
  if (!address)
    throw new Fail(`Cannot find the API server's mirror pod of node "${node.name}" in etcd's data: its address is not known`, {
      hint: 'run it on another control plane node, and write this node\'s localAPIEndpoint by hand: RUNBOOK 1, "If a mirror pod is gone"',
    });
  const { configuration } = cluster;
  const init = {
    apiVersion: (configuration as { apiVersion?: string }).apiVersion,
    kind: "InitConfiguration",
    localAPIEndpoint: { advertiseAddress: address.host, bindPort: address.port },
    nodeRegistration: { name: node.name, criSocket: node.runtimeEndpoint },
  };
  return [configuration, init].map((one) => stringify(one, { lineWidth: 0 })).join("---\n");
}
