/** Who was away while etcd's CA was made anew cannot know that it is damaged: this node sees it. */
import { type Peer, quorumOf, showsOtherCa } from "../etcd/other-members.ts";
import { answersPeers } from "../etcd/peers.ts";
import { ownMember } from "../etcd-location/reach-etcd.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import type { SeenNode } from "./seen-nodes.ts";

/** What these nodes say, and that one is damaged whose etcd shows a CA that is not this node's, while most members show this node's. */
export function withOtherEtcd(
  nodes: readonly SeenNode[],
  peers: readonly Peer[],
  cp: ControlPlaneNode,
): SeenNode[] {
  const shows = (name: string) =>
    peers.some((peer) => peer.name === name && showsOtherCa(peer.servedPem, cp.facts));
  const own = ownMember(cp.data, cp.node.addresses);
  const isOurs = ({ id }: { id: string }) =>
    id === own?.id || peers.some((peer) => peer.id === id && answersPeers(peer, cp.facts));
  if (!quorumOf(cp.data.members, isOurs).isEnough) return [...nodes];
  return nodes.map((node) =>
    shows(node.name)
      ? { ...node, damaged: true, otherKeys: true, kinds: [...new Set([...node.kinds, "etcd"])] }
      : node,
  );
}
