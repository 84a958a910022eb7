/** The etcd of this node: is it a member, and does it serve the data from before? */
import type { EtcdData } from "../etcd-data/data.ts";
import { ownMember } from "../etcd-home/own-member.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import type { EtcdSeen } from "../facts/next.ts";
import { Fail, Refused } from "../fail.ts";
import { retyped } from "../retyped.ts";
import { mode, say } from "../run.ts";
import { waitFor } from "../wait-for.ts";
import { leftOut, proveMembers, refuseLiving, refuseNoQuorum, removeMembers, takenOut } from "./all-members.ts";
import type { EtcdClient } from "./client.ts";
import { etcdClient, proveSameEtcd, silentMembers } from "./identity.ts";
import { answersPeers, ownEtcdRuns, peersOf, quorumOf } from "./peers.ts";

/** Errors: Refused where etcd's data is of another machine's member. */
export function refuseNoMember({ data, node: { addresses } }: ControlPlaneNode) {
  if (ownMember(data, addresses)) return;
  const { members, memberId } = data;
  const other = members.find(({ id }) => id === memberId)?.name || memberId;
  throw new Refused(`etcd's data is of no member at this machine's addresses (${addresses.join(", ")}), but of "${other}"`, {
    hint: `its members are ${members.map(({ name, peerURLs }) => `"${name}" ${peerURLs}`).join(", ")}: run this on one of them`,
  });
}

/** Whether it already serves the data from before, with the certificates on disk. */
export async function servesSameData(cp: ControlPlaneNode): Promise<boolean> {
  try {
    const proofs = await proveSameEtcd(etcdClient(cp.facts)!, cp);
    say(proofs[0]!);
    return true;
  } catch (err) {
    say(`etcd does not serve yet: ${(err as Error).message}`);
    return false;
  }
}

const PATIENCE = { seconds: 120, hint: "crictl ps -a --name etcd; crictl logs ID; journalctl -u kubelet -n 50" };

/** Step 1.7: it runs, and once enough members run, it is the one from before. Errors: Fail where it is not. */
export async function proveOwnEtcd(cp: ControlPlaneNode): Promise<Pick<EtcdSeen, "peers" | "silent" | "answers">> {
  const { facts, data, node } = cp;
  const client = etcdClient(facts);
  await waitFor("etcd to show its new certificate to its peers", () => ownEtcdRuns(cp), PATIENCE);
  const found = await peersOf(data, node.addresses);
  const peers = found.map(({ name }) => name);
  const silent = found.filter((peer) => !answersPeers(peer, facts)).map(({ name }) => name);
  const [members, running] = [data.members.length, peers.length - silent.length + 1];
  if (running < quorumOf(members)) {
    say(`etcd runs here. It answers when ${quorumOf(members)} of its ${members} members run; now ${running}`);
    return { peers, silent, answers: false };
  }
  await waitFor("etcd to answer, and to have a leader", async () => (await client?.status())?.leaderId !== "0", PATIENCE);
  if (!client || mode.dryRun) return { peers, silent, answers: true };
  for (const proof of await proveSameEtcd(client, cp)) say(proof);
  const out = await takenOut(cp);
  const [stay, stillSilent] = [peers, silent].map((names) => names.filter((name) => !out.includes(name)));
  return { peers: stay!, silent: stillSilent!, answers: true };
}

const PART_1_FIRST = "part 1 first: ./bunw scripts/01-etcd.ts";

/** Step 2.1: it is the one from before, and so is each other member but those of `without`, which are taken out. */
export async function proveEtcd(cp: ControlPlaneNode, without: readonly string[]) {
  const { facts, data, node } = cp;
  const peers = await peersOf(data, node.addresses);
  refuseLiving(peers, without);
  if (without.length > 0) refuseNoQuorum(data, { without, out: await takenOut(cp) });
  const client = etcdClient(facts);
  if (mode.dryRun) return await foretell(client, data, without);
  if (!client) throw new Fail("etcd's certificates are not there", { hint: PART_1_FIRST });
  await waitFor("etcd to answer", () => client.status(), { seconds: 30, hint: PART_1_FIRST });
  for (const proof of await proveSameEtcd(client, cp)) say(proof);
  await proveMembers(client, facts, { peers, without: await leftOut(cp, without) });
  await removeMembers(await client.members(), without, client);
}

/** The members are etcd's own where it answers already, and else those that its data names. */
async function foretell(client: EtcdClient | undefined, data: EtcdData, without: readonly string[]) {
  if (client) await waitFor("etcd to answer", () => client.status(), { seconds: 30, hint: PART_1_FIRST });
  else say("etcd: has to answer before part 2 (part 1)");
  if (without.length === 0) return;
  const [live] = await Promise.allSettled([client?.members()]);
  await removeMembers((live.status === "fulfilled" && live.value) || data.members, without, client);
}

/** Names members of etcd that do not answer, each with the way on without it: `words` again. Says nothing where this etcd does not answer. */
export async function saySilentMembers({ facts, data }: ControlPlaneNode, words: string, without: readonly string[]) {
  const client = etcdClient(facts);
  const [members] = await Promise.allSettled([client?.members()]);
  if (members.status === "rejected" || !members.value) return;
  const silent = (await silentMembers(members.value, data, facts)).filter((name) => !without.includes(name));
  for (const name of silent)
    say(`${name} does not answer. If its data is lost, go on without it: ${retyped({ without: [...without, name] }, { of: words })}`);
}
