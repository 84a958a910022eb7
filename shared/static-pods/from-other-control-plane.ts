/**
 * A manifest made from the same manifest of another control plane node. The two differ in the node's name and
 * address, and in etcd's list of first members (kubeadm's controlplane/manifests.go and etcd/local.go). For a
 * node whose kubelet was able to delete its own mirror pods.
 */

import { isIP } from "node:net";
import { memberName } from "../etcd-data/members.ts";
import { ownMember } from "../etcd-location/reach-etcd.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { believedPeers } from "../facts/known-nodes.ts";
import { asItRan } from "../manifests/as-it-ran.ts";
import { commandOf, flags } from "../manifests/command.ts";
import { manifestFromMirrorPod } from "../manifests/from-mirror-pod.ts";
import { findMirrorPods } from "../manifests/mirror-pods.ts";
import type { Manifest } from "../objects/objects.ts";
import { asMoved, canonicalIp } from "../pki/addresses.ts";

/**
 * The manifest of a static pod, from the first other node that has its mirror pod, and its source; undefined
 * where no node has it.
 */
export function manifestFromPeer(
  name: string,
  cp: ControlPlaneNode,
): { manifest: Manifest; source: string; said: string[] } | undefined {
  const { data, cluster, node, facts } = cp;
  for (const peer of believedPeers(cluster, { node })) {
    const mirror = findMirrorPods(data, peer.name).find((pod) => pod.name === name);
    if (!mirror) continue;
    const { manifest: theirs, said } = asItRan(manifestFromMirrorPod(mirror.pod, peer.name), mirror.pod);
    const manifest = renamed(
      theirs,
      peer.places.filter((host) => isIP(host)).map((ip) => [ip, facts.advertiseAddress] as const),
    );
    if (name === "etcd") asMember(manifest, cp);
    return { manifest, said, source: `made from the manifest of ${peer.name}: check it` };
  }
  return undefined;
}

/** Replaces every whole address of the other node by this node's: in flags, probes, annotations. */
function renamed(manifest: Manifest, addresses: readonly (readonly [string, string])[]): Manifest {
  const moved = new Map(addresses.map(([from, to]) => [canonicalIp(from), to]));
  return JSON.parse(asMoved(JSON.stringify(manifest), moved)) as Manifest;
}

/** etcd reads its members from its data; the flags only have to name this one. */
function asMember(manifest: Manifest, { data, node }: ControlPlaneNode) {
  const command = flags(commandOf(manifest));
  const own = ownMember(data, node.addresses);
  const here = `${node.name}=${command.get("initial-advertise-peer-urls") ?? own?.peerURLs[0]}`;
  command.set("name", node.name);
  command.set(
    "initial-cluster",
    data.members.map((one) => (one === own ? here : `${memberName(one)}=${one.peerURLs[0]}`)).join(","),
  );
  command.set("initial-cluster-state", "existing");
}
