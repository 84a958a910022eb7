/**
 * A control plane node that is to be repaired: what must hold before anything is made, what is
 * known of its release, and whether workers can join by a bootstrap token at all.
 */
import { command } from "../again.ts";
import { memberName } from "../etcd-data/members.ts";
import { ownMember } from "../etcd-location/reach-etcd.ts";
import { clockIsSynchronized } from "../evidence/server-clock.ts";
import { Refused } from "../fail.ts";
import { podFlags } from "../manifests/command.ts";
import { manifestPath, readableManifest } from "../manifests/on-disk.ts";
import type { Manifest } from "../objects/objects.ts";
import { minorOf } from "../pki/certs.ts";
import { say } from "../run.ts";
import { refuseWrongClock } from "./clock.ts";
import { type HowToRead, readControlPlaneNode } from "./control-plane-node.ts";
import { refuseUndecided, sayEndpoint } from "./endpoint.ts";
import type { ControlPlaneNode } from "./node-facts.ts";
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

/** Minor versions: the first that is rehearsed, and the first without Docker inside of the kubelet. */
const [REHEARSED, WITHOUT_DOCKERSHIM] = [29, 24];

/** Undefined for a release that is rehearsed. */
export function releaseNote(version: string): string | undefined {
  const minor = minorOf(version);
  if (minor >= REHEARSED) return undefined;
  const tried =
    minor >= WITHOUT_DOCKERSHIM
      ? "1.24 and later with containerd or CRI-O seem to work"
      : "nothing is known of it";
  return `Kubernetes ${version}: releases before 1.${REHEARSED} are not rehearsed, but for one all-lost with 1.28.15; ${tried}. Try --dry-run first`;
}

/**
 * Errors: Refused where the kubelet itself runs the containers with Docker: they are gone with it, and crictl
 * cannot ask it.
 */
export function refuseDockershim({ node, cluster }: Pick<ControlPlaneNode, "node" | "cluster">) {
  const { containerRuntime } = node.kubelet;
  const isOld = minorOf(cluster.kubernetesVersion) < WITHOUT_DOCKERSHIM;
  const isDocker = containerRuntime === "docker" || (isOld && containerRuntime !== "remote");
  if (!isDocker && !node.runtimeEndpoint.includes("dockershim.sock")) return;
  throw new Refused(
    `The kubelet runs Docker by its own dockershim (Kubernetes ${cluster.kubernetesVersion}, --container-runtime=${containerRuntime ?? "docker"}): this kit is for a runtime with a CRI socket`,
    {
      unchanged: true,
      hint:
        "see what of etcd and which keys are here: ./bunw scripts/00-assess.ts. " +
        'By hand: RUNBOOK names for each step the kubeadm phase that does it ("by hand")',
    },
  );
}

const FLAG = "enable-bootstrap-token-auth";

/** Why no worker can join here; undefined where one can. Without `manifest`: the one on disk. */
export function joiningTrouble(
  cp: Pick<ControlPlaneNode, "node">,
  manifest?: Pick<Manifest, "spec">,
): Refused | undefined {
  const path = manifestPath(cp, "kube-apiserver");
  const now = manifest ?? readableManifest(path);
  if (!now || /^(1|t|true)$/i.test(podFlags(now).get(FLAG) ?? "")) return undefined;
  return new Refused(
    `The API server takes no bootstrap tokens (no --${FLAG}), so no worker can join with one`,
    {
      unchanged: true,
      hint:
        `add --${FLAG}=true to ${path} until close is done, on each control plane node; its kubelet restarts the API server. ` +
        "Then run the same line again",
    },
  );
}

export function refuseNoJoining(cp: Pick<ControlPlaneNode, "node" | "endpoint">) {
  refuseUndecided(cp);
  const trouble = joiningTrouble(cp);
  if (trouble) throw trouble;
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
