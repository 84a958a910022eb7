/** The check of a control plane node on which only the kubelet can be looked at: etcd's data is not here, or not kubeadm's. */
import type { CheckRow } from "../checks/check.ts";
import type { PartialFacts } from "../facts/control-plane-node.ts";
import { controlPlaneWithoutData, isNotKubeadms, whyWithoutData } from "../facts/no-etcd-data.ts";
import type { Node } from "../node/node.ts";

/** Undefined where everything can be looked at, and on a worker. Where etcd is not kubeadm's, that is no damage. */
export function withoutDataCheck(node: Node, known: PartialFacts | undefined, dataDir: string): CheckRow | undefined {
  // etcd is not kubeadm's, so neither are its certificates
  const found = known && isNotKubeadms(known.home) ? { etcd: known.home, from: [] } : controlPlaneWithoutData(node, dataDir);
  if (!found) return undefined;
  const why = whyWithoutData(found, dataDir);
  const warning = `${why}; only this node's kubelet was checked`;
  return { id: "etcd-data", look: () => (isNotKubeadms(found.etcd) ? { warning } : { failed: why }) };
}
