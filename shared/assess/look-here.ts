/** The look at this node of which an assessment is made, and a plan: once for both. Reads only. */
import { etcdDataOf, sayPlace } from "../etcd-location/etcd-place.ts";
import type { EtcdPlace } from "../etcd-location/etcd-proof.ts";
import { askControlPlaneNode, type PartialFacts } from "../facts/control-plane-node.ts";
import { attemptLater, Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { type Container, containers } from "../node/containers.ts";
import { type Node, readNode } from "../node/node.ts";

export interface Looked {
  node: Node;
  /** All containers, or why they cannot be seen: that is no damage of the PKI. */
  all: Container[] | Fail;
  place: EtcdPlace;
  /** Undefined where no etcd data is here. */
  known: PartialFacts | undefined;
}

/**
 * `etcdData`, `endpoint`: as typed. Errors: Fail where this is no kubeadm node at all, and as `etcdDataOf`;
 * Refused where the endpoint is no place.
 */
export async function lookHere(etcdData: string | undefined, endpoint?: string): Promise<Looked> {
  const node = await readNode();
  const all = await attemptLater(() => containers(node.runtimeEndpoint));
  const place = await etcdDataOf(etcdData, { node, all: seen(all) });
  sayPlace(place);
  return {
    node,
    all,
    place,
    known: exists(place.dir)
      ? await askControlPlaneNode(place, node, { given: endpoint, all: seen(all) })
      : undefined,
  };
}

/** Those that can be seen. */
export function seen(all: Container[] | Fail): Container[] {
  return all instanceof Fail ? [] : all;
}
