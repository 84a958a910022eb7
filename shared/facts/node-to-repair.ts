/**
 * A control plane node that is to be repaired: what must hold before anything is made, what is
 * known of its release, and whether workers can join by a bootstrap token at all.
 */
import { command } from "../again.ts";
import { memberName } from "../etcd-data/members.ts";
import { ownMember } from "../etcd-location/reach-etcd.ts";
import { clockIsSynchronized } from "../evidence/server-clock.ts";
import { Refused } from "../fail.ts";
import { say } from "../run.ts";
import { refuseWrongClock } from "./clock.ts";
import { type HowToRead, readControlPlaneNode } from "./control-plane-node.ts";
import { sayEndpoint } from "./endpoint.ts";
import type { ControlPlaneNode } from "./node-facts.ts";
import { refuseDockershim } from "./releases.ts";
import { refuseOwnCertificate } from "./signed-elsewhere.ts";

/** Errors: as `readControlPlaneNode`; Fail where this node's clock is proved wrong, and as `refuseDockershim`. */
export async function controlPlaneToRepair(
  typed: string | undefined,
  how: HowToRead = {},
): Promise<ControlPlaneNode> {
  // timedatectl may have to start a service first
  const isSynchronized = clockIsSynchronized();
  const cp = await readControlPlaneNode(typed, how);
  refuseDockershim(cp);
  refuseOwnCertificate(cp);
  await refuseWrongClock(cp, await isSynchronized);
  return cp;
}

export function sayFacts(cp: ControlPlaneNode) {
  const { cluster, data, dataFrom, facts, node } = cp;
  const { keyCount, revision, lastWrite } = data;
  const { members } = data.elsewhere ?? data;
  const name = `node ${node.name} (from ${node.nameFrom}), ${facts.advertiseAddress}`;
  const release = `Kubernetes ${cluster.kubernetesVersion}, ${facts.keyAlgorithm}`;
  const written = `revision ${revision}, last write ${lastWrite.toISOString()}`;
  say(`${name}; ${cluster.name}, ${release}`);
  say(`${dataFrom}: ${members.length} member(s), ${keyCount} keys, ${written}`);
  for (const warning of data.warnings) say(`warning: ${warning}`);
  sayEndpoint(cp);
}

/** Errors: as `refuseNoMember`; DamagedData where etcd would not start on its log, or without a part of it. */
export function refuseUnfitData(cp: ControlPlaneNode) {
  refuseUnlessMember(cp);
  if (cp.data.damage) throw cp.data.damage;
}

/**
 * Errors: Refused if etcd's data belongs to another machine's member, or this member's network has other
 * addresses.
 */
export function refuseUnlessMember({ data, node: { addresses, name } }: ControlPlaneNode) {
  if (ownMember(data, addresses)) return;
  const { members, memberId } = data;
  const own = members.find(({ id }) => id === memberId) ?? { id: memberId, name: "", peerURLs: [] };
  const addressList = addresses.join(", ");
  if (memberName(own) === name)
    throw new Refused(`etcd's member "${name}" is at ${own.peerURLs}, and this machine has ${addressList}`, {
      unchanged: true,
      hint: `type, if that network has other addresses: ${command("move --moved OLD=NEW")}. If an address is only missing for now: wait until ip addr shows it, then run the same line again`,
    });
  throw new Refused(
    `etcd's data is of no member at this machine's addresses (${addressList}), but of "${memberName(own)}"`,
    {
      hint: `run this on one of its members: ${members.map((member) => `"${memberName(member)}" ${member.peerURLs}`).join(", ")}`,
    },
  );
}
