/**
 * Proves that the etcd that answers is the old one. "Healthy" is no proof: an empty etcd is healthy too, and
 * can even have the same cluster id (etcd derives it from its first members). So its keys, members, Node UIDs
 * and the UID of the namespace kube-system are compared with the data read before.
 */
import { again } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { isNameless, type Member, memberName } from "../etcd-data/members.ts";
import { type EtcdClient, type EtcdStatus, etcdClient, type LiveMember } from "../etcd-location/client.ts";
import { placeOf } from "../etcd-location/reach-etcd.ts";
import type { Cluster } from "../facts/cluster-before.ts";
import { uidOf } from "../facts/known-nodes.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { Fail } from "../fail.ts";
import { registryPrefix } from "../objects/stored.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { say } from "../run.ts";

interface SameEtcd {
  data: EtcdData;
  cluster: Cluster;
  facts: ClusterFacts;
}

/** etcd answers, but holds other data than the old one. */
export class OtherEtcd extends Fail {}

export interface ProvedEtcd extends Asked {
  proofs: string[];
  status: EtcdStatus;
  members: LiveMember[];
}

/** `given`: its status, if it is asked already. Errors: Fail with the first difference. Writes nothing. */
export async function proveSameEtcd(
  client: EtcdClient,
  { data, cluster, facts }: SameEtcd,
  given?: EtcdStatus,
): Promise<ProvedEtcd> {
  const status = given ?? (await client.status());
  const members = await client.members();
  const keys = await client.keys();
  // keys without a lease must still exist however much time has passed
  const lost = data.keys("").filter((key) => !keys.has(key) && data.leaseOf(key) === 0n);

  if (keys.size === 0 || lost.length > data.keyCount / 2) {
    const nodes = `${registryPrefix(data)}/minions/`;
    throw otherEtcd(
      `${keys.size} keys, was ${data.keyCount}${[...keys].some((key) => key.startsWith(nodes)) ? "" : "; no Node object"}`,
    );
  }
  if (status.clusterId !== data.clusterId)
    throw otherEtcd(`cluster id "${status.clusterId}", was "${data.clusterId}"`);
  if (status.revision < data.committed.revision)
    throw otherEtcd(`revision ${status.revision}, was ${data.revision}`);
  const listed = data.elsewhere?.members ?? data.members;
  const strangers = members.filter((member) => !listed.some(({ id }) => id === member.id));
  if (strangers.length > 0) throw otherEtcd(`a member "${memberName(strangers[0]!)}" that was not there`);
  const deleted = await proveDeleted(client, lost, data);
  const nodes = await proveUids(client, data, cluster);

  const { silent, answers } = await askOthers(members, data, facts);
  const leader = members.find((member) => member.id === status.leaderId) ?? { id: status.leaderId, name: "" };
  const proofs = [
    `etcd ${status.version}: healthy, leader ${memberName(leader)}, ${howMany(members, silent)}`,
    `same cluster, revision ${status.revision} (was ${data.revision}), ${data.keyCount - lost.length} of ${data.keyCount} keys${deleted}`,
    `the namespace kube-system and ${nodes} Nodes have the UIDs read before`,
  ];
  return { proofs, status, members, silent, answers };
}

interface Asked {
  /** Listed members that do not answer, or have no leader: being listed is no sign of life. */
  silent: LiveMember[];
  /** Member's id → its own status. */
  answers: ReadonlyMap<string, EtcdStatus>;
}

/** Asks each listed member but this node's own. */
export async function askOthers(
  members: readonly LiveMember[],
  data: EtcdData,
  facts: ClusterFacts,
): Promise<Asked> {
  // the data has the old address of a member that moved and was not updated yet
  const identified = members.map((member) => ({
    ...member,
    ...data.members.find(({ id }) => id === member.id),
  }));
  const others = identified.filter(
    (member) => member.id !== data.memberId && placeOf(member).host !== facts.advertiseAddress,
  );
  const replies = await Promise.allSettled(
    others.map((member) => etcdClient(facts, placeOf(member).host)!.status()),
  );
  const answers = new Map(
    replies.flatMap((answer, i) =>
      answer.status === "rejected" ? [] : [[others[i]!.id, answer.value] as const],
    ),
  );
  const isSilent = ({ id }: LiveMember) => (answers.get(id)?.leaderId ?? "0") === "0";
  return { silent: others.filter(isSilent), answers };
}

/** "2 of 3 members answer, not cp3" */
export function howMany(members: readonly LiveMember[], silent: readonly LiveMember[]): string {
  const answer = `${members.length - silent.length} of ${members.length} members answer`;
  return silent.length > 0 ? `${answer}, not ${silent.map(memberName).join(", ")}` : answer;
}

/**
 * Missing keys may have been deleted since the data was read. etcd says whether they existed at the revision that was
 * read, as long as that is not compacted away.
 */
async function proveDeleted(client: EtcdClient, lost: string[], data: EtcdData): Promise<string> {
  for (const key of lost) {
    const wasThere = await client.wasThere(key, data.committed.revision);
    if (wasThere === "compacted") return ` (${lost.length} deleted since)`;
    if (!wasThere) throw otherEtcd(`${lost.length} keys are missing, for instance "${key}"`);
  }
  return lost.length > 0 ? ` (${lost.length} deleted since)` : "";
}

/** Maximum number of concurrent reads: each goes through the leader, and there may be thousands of Nodes. */
const AT_ONCE = 50;

/** How many Nodes still have their old UIDs, as text. Deleted and recreated Nodes do not count. */
async function proveUids(
  client: EtcdClient,
  data: EtcdData,
  { kubeSystemUid, nodes }: Cluster,
): Promise<string> {
  const kubeSystem = await uidOf(client, data, "namespaces/kube-system");
  if (kubeSystem !== kubeSystemUid)
    throw otherEtcd(
      `the namespace kube-system ${kubeSystem ? `has the UID "${kubeSystem}", was "${kubeSystemUid}"` : "is missing"}`,
    );
  let same = 0;
  for (let at = 0; at < nodes.length; at += AT_ONCE) {
    const batch = nodes.slice(at, at + AT_ONCE);
    const now = await Promise.all(batch.map(({ name }) => uidOf(client, data, `minions/${name}`)));
    same += batch.filter(({ uid }, i) => uid === now[i]).length;
  }
  return same < nodes.length ? `${same} of ${nodes.length}` : `${same}`;
}

function otherEtcd(what: string): OtherEtcd {
  return new OtherEtcd(`etcd answers, but it is not the old one: ${what}`, {
    hint:
      "move etcd's manifest out again, as nothing was written to this etcd (mv /etc/kubernetes/manifests/etcd.yaml /root/). Compare the manifest's --data-dir with the " +
      'folder that step 1.1 read, then RUNBOOK-MORE "If etcd comes up empty"',
  });
}

export type MemberId = Pick<Member, "id" | "name">;

/**
 * `of`: the script that continues. A member that never started is no node, so no script can run there; only part 2
 * removes it from etcd.
 */
export function wayWithout(member: MemberId, of: string): string {
  const name = memberName(member);
  const lost = (words: string) => again({ lost: [name] }, { of: words });
  if (isNameless(member))
    return `${name} never started: a join was cut off. Take it out, and that machine can join again: ${lost("02-control-plane")}`;
  return `${name} does not answer: run part 1 on that node first. If it is away for now: ${again({ without: [name] }, { of })}. If its data is lost for good: ${lost(of)}`;
}

/** Prints each with the line that runs `of` without it. Says nothing if this etcd does not answer. */
export async function saySilentMembers(
  { facts, data }: ControlPlaneNode,
  of: string,
  without: readonly string[],
) {
  // members on other machines are no nodes
  const client = facts.externalEtcd?.elsewhere ? undefined : etcdClient(facts);
  const [members] = await Promise.allSettled([client?.members()]);
  if (members.status === "rejected" || !members.value) return;
  const { silent } = await askOthers(members.value, data, facts);
  for (const member of silent) if (!without.includes(memberName(member))) say(wayWithout(member, of));
}
