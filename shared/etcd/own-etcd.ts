/** The etcd of this node, and the other members: is it a member, do all of them serve the data from before? */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { command, type EtcdSeen } from "../facts/next.ts";
import { Fail } from "../fail.ts";
import { endpointHost } from "../pki/addresses.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { act, mode, say, waitFor } from "../run.ts";
import type { EtcdClient } from "./client.ts";
import { etcdClient, proveSameEtcd } from "./identity.ts";
import { answersPeers, ownEtcdRuns, type Peer, peersOf, quorumOf } from "./peers.ts";

/** Errors: Fail where etcd's data names no member at this machine's addresses. */
export function refuseNoMember({ data: { members }, node: { addresses } }: ControlPlaneNode) {
  const isHere = (url: string) => addresses.includes(endpointHost(new URL(url).host));
  if (members.some(({ peerURLs }) => peerURLs.some(isHere))) return;
  throw new Fail(`etcd's data names no member at this machine's addresses (${addresses.join(", ")})`, {
    hint: `its members are ${members.map(({ name, peerURLs }) => `"${name}" ${peerURLs}`).join(", ")}: run this on one of them`,
  });
}

/** Whether it already serves the data from before, with the certificates on disk. */
export async function servesSameData({ facts, data, cluster }: ControlPlaneNode): Promise<boolean> {
  try {
    const proofs = await proveSameEtcd(etcdClient(facts)!, data, cluster);
    say(proofs[0]!);
    return true;
  } catch (err) {
    say(`etcd does not serve yet: ${(err as Error).message}`);
    return false;
  }
}

const PATIENCE = { seconds: 120, hint: "crictl ps -a --name etcd; crictl logs ID; journalctl -u kubelet -n 50" };

/** Step 1.7: it runs, and once enough members run, it is the one from before. Errors: Fail where it is not. */
export async function proveOwnEtcd({ facts, data, cluster, node }: ControlPlaneNode): Promise<Omit<EtcdSeen, "makesKeys">> {
  const client = etcdClient(facts);
  const peers = data.members.filter(({ id }) => id !== data.memberId).map(({ name }) => name);
  await waitFor("etcd to show its new certificate to its peers", () => ownEtcdRuns(data, node.addresses, facts), PATIENCE);
  const members = data.members.length;
  const running = (await peersOf(data, node.addresses)).filter((peer) => answersPeers(peer, facts)).length + 1;
  if (running < quorumOf(members)) {
    say(`etcd runs here. It answers when ${quorumOf(members)} of its ${members} members run; now ${running}`);
    return { peers, running: "too few" };
  }
  await waitFor("etcd to answer, and to have a leader", async () => (await client?.status())?.leaderId !== "0", PATIENCE);
  if (client && !mode.dryRun) for (const proof of await proveSameEtcd(client, data, cluster)) say(proof);
  return { peers, running: running < members ? "enough" : "all" };
}

const PART_1_FIRST = "part 1 first: ./bunw scripts/01-etcd.ts";

/** Step 2.1: it is the one from before, and so is each other member but those of `without`, which are taken out. */
export async function proveEtcd({ facts, data, node, cluster }: ControlPlaneNode, without: readonly string[]) {
  const client = etcdClient(facts);
  if (!client) {
    if (mode.dryRun) return say("etcd: has to answer before part 2 (part 1)");
    throw new Fail("etcd's certificates are not there", { hint: PART_1_FIRST });
  }
  await waitFor("etcd to answer", () => client.status(), { seconds: 30, hint: PART_1_FIRST });
  if (mode.dryRun) return;
  for (const proof of await proveSameEtcd(client, data, cluster)) say(proof);
  await proveMembers(client, facts, { peers: await peersOf(data, node.addresses), without });
  await removeMembers(client, without);
}

/**
 * Every member counts, not only this node's: in stacked clusters each API server serves what its own member holds.
 * Proves that each other member answers with today's certificates, belongs to the same cluster, and holds the same keys as this one (by
 * etcd's own hash at a common revision). Members in `without` are left out.
 * Errors: Fail that names the first one that does not.
 */
export async function proveMembers(own: EtcdClient, facts: ClusterFacts, options: { peers: readonly Peer[]; without: readonly string[] }) {
  const { clusterId } = await own.status();
  const { without } = options;
  for (const { name, host } of options.peers.filter((peer) => !without.includes(peer.name))) {
    const theirs = etcdClient(facts, host)!;
    const status = await answerOf({ name, without }, () => theirs.status());
    if (status.clusterId !== clusterId) {
      throw new Fail(`etcd on ${name} is another cluster: "${status.clusterId}", here "${clusterId}"`, {
        hint: `it was started without its data. On ${name}: mv /etc/kubernetes/manifests/etcd.yaml /root/, then RUNBOOK 1, "If a member has no data"`,
      });
    }
    const { revision } = await own.status();
    // A member that was away first takes in what was written meanwhile. Until then it does not know this revision.
    await waitFor(`etcd on ${name} to catch up with revision ${revision}`, async () => (await theirs.status()).revision >= revision, {
      seconds: 120,
      hint: `crictl logs of etcd on ${name}; then run this script again`,
    });
    const [here, there] = await Promise.all([own.hashAt(revision), answerOf({ name, without }, () => theirs.hashAt(revision))]);
    if (here !== there) {
      throw new Fail(`etcd on ${name} holds other keys at revision ${revision} than this one`, {
        hint: "stop here; restore one of them from the other: RUNBOOK 1",
      });
    }
    say(`${name}: same cluster, the same keys at revision ${revision}`);
  }
}

/** Takes out members that are lost for good, so that a new machine can take their place. A member that is out already is no error. */
async function removeMembers(own: EtcdClient, names: readonly string[]) {
  const members = await own.members();
  for (const name of names) {
    const member = members.find((candidate) => candidate.name === name);
    if (!member) say(`${name}: is no member of etcd any more`);
    else await act(`${name}: taken out of etcd's members`, () => own.removeMember(member.id));
  }
}

async function answerOf<T>({ name, without }: { name: string; without: readonly string[] }, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (err) {
    throw new Fail(`etcd on ${name} does not answer: ${(err as Error).message}`, {
      hint: `part 1 there first; if ${name} is lost for good: ${command("02-control-plane", [...without, name])}`,
      cause: err,
    });
  }
}
