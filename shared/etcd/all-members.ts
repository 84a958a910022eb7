/**
 * Checks every member of etcd, not only this node's: in stacked clusters each API server serves what its own
 * member holds.
 */
import { again } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { memberName } from "../etcd-data/members.ts";
import { type EtcdClient, etcdClient, type LiveMember, unlessSilent } from "../etcd-location/client.ts";
import { promotion } from "../etcd-location/reach-etcd.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { Fail, Refused } from "../fail.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { listed } from "../plain.ts";
import { forGood } from "../prompt.ts";
import { act, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { sayWhile, waitFor } from "../wait-for.ts";
import { type ProvedEtcd, wayWithout } from "./identity.ts";
import { askAboutStrangers, STOP_ETCD } from "./other-members.ts";
import { isOwnEtcd, type Peer, quorumOf } from "./peers.ts";

/**
 * Proves that each other member answers with the current certificates, belongs to the same cluster, and holds
 * the same keys as this one (by etcd's own hash at a common revision). Leaves out members in `without`. A
 * learner gives no hash, so its keys are not compared. Errors: Fail that names the first member that does
 * not.
 */
export async function proveMembers(
  own: EtcdClient,
  facts: ClusterFacts,
  {
    peers,
    without,
    proved,
  }: { peers: readonly Peer[]; without: readonly string[]; proved: Pick<ProvedEtcd, "status" | "answers"> },
) {
  const { clusterId, revision } = proved.status;
  const voting = new Map<Peer, EtcdClient>();
  for (const peer of peers.filter(({ name }) => !without.includes(name))) {
    const { name, host } = peer;
    const client = etcdClient(facts, host)!;
    const status = proved.answers.get(peer.id) ?? (await answerOf(peer, () => client.status()));
    if (status.clusterId !== clusterId) {
      throw new Fail(`etcd on ${name} is another cluster: "${status.clusterId}", here "${clusterId}"`, {
        hint: `type on ${name}, which was started without its data: mv /etc/kubernetes/manifests/etcd.yaml /root/, then RUNBOOK-MORE "If a member has no data"`,
      });
    }
    if (status.isLearner) sayLearner(peer, facts);
    else voting.set(peer, client);
  }
  if (voting.size > 0) await proveSameKeys(own, voting, revision);
}

function sayLearner(peer: Peer, facts: ClusterFacts) {
  say(
    `${peer.name}: same cluster, but no vote, as its join was cut off: no API server can use its etcd. To complete the join:`,
  );
  say(`  ${promotion(peer, facts)}`);
  say(`or, once its etcd is stopped, to remove it: ${lostAlso([peer.name])}`);
}

/**
 * One after the other, and each once: a member reads its whole database for its hash, and accepts no write
 * meanwhile (storage/mvcc/kvstore.go, hashByRev).
 */
async function proveSameKeys(own: EtcdClient, voting: ReadonlyMap<Peer, EtcdClient>, now: number) {
  let revision = now;
  for (const [{ name }, theirs] of voting) await caughtUp(name, theirs, revision);
  const same = new Map<string, boolean>();
  const compare = async () => {
    ({ revision } = await own.status());
    for (const theirs of voting.values()) if ((await theirs.status()).revision < revision) return false;
    const ownHash = await own.hashAt(revision);
    for (const [peer, theirs] of voting) {
      const otherHash = await answerOf(peer, () => theirs.hashAt(revision));
      if (otherHash.compacted !== ownHash.compacted) return false;
      same.set(peer.name, otherHash.hash === ownHash.hash);
    }
    return true;
  };
  const names = [...voting.keys()].map(({ name }) => name);
  await waitFor(`etcd on ${listed(names)} and here to have compacted to the same revision`, compare, {
    seconds: 60,
    hint: "run the same line again: the API server compacts every five minutes",
  });
  for (const name of names) {
    if (!same.get(name))
      throw new Fail(`etcd on ${name} holds other keys at revision ${revision} than this one`, {
        hint: `stop here: one of the two is damaged. If it is that one: on ${name} ${STOP_ETCD}; here ${lostAlso([name])}; then RUNBOOK-MORE "The same machine comes back"`,
      });
    say(`${name}: same cluster, the same keys at revision ${revision}`);
  }
}

/**
 * A member that was offline first receives all that was written meanwhile. Until then it does not know this
 * revision.
 */
async function caughtUp(name: string, theirs: EtcdClient, revision: number) {
  let seen = 0;
  const isThere = async () => {
    seen = (await theirs.status()).revision;
    return seen >= revision;
  };
  await waitFor(`etcd on ${name} to catch up with revision ${revision}`, isThere, {
    seconds: 120,
    progress: () => seen,
    hint: shell`crictl logs of etcd on ${name}; then run the same line again`,
  });
}

/**
 * Errors: Refused if a member that is said to be lost answers: it may hold data that no other member has.
 * `lostOn`: nodes that the operator has checked; an unproved server at their addresses is another machine.
 */
export function refuseLiving(
  peers: readonly Peer[],
  { lost, lostOn }: { lost: readonly string[]; lostOn: readonly string[] },
  cp: ControlPlaneNode,
) {
  const peersLost = peers.filter(({ name }) => lost.includes(name));
  const repair = (living: readonly Peer[]) =>
    `repair it: parts 1 and 2 there, and here ${lostAlso(
      lost,
      living.map(({ name }) => name),
    )}. If it shall go all the same, stop it first: there ${STOP_ETCD}`;
  const alive = peersLost.find(isOwnEtcd);
  const strangers = ["another's", "no certificate"].flatMap((shown) =>
    peersLost.filter(({ shows }) => shows === shown),
  );
  if (alive)
    throw new Refused(`${alive.name} is not lost: its etcd answers at ${alive.host}:${alive.port}`, {
      unchanged: true,
      hint: repair([alive]),
    });
  askAboutStrangers(strangers, cp, {
    lostOn,
    matters: "if it is, it is not lost",
    honest: repair(strangers),
    wrong: "what only its disk holds is lost for good",
  });
}

/**
 * Removes lost members from etcd, so that a new machine can take their place, and says who remains. A member
 * that is gone already is no error. `own`: unset in a dry run before etcd has its certificates.
 */
export async function removeMembers(
  members: readonly Pick<LiveMember, "id" | "name" | "isLearner">[],
  names: readonly string[],
  own: EtcdClient | undefined,
) {
  for (const name of names) {
    const member = members.find((candidate) => memberName(candidate) === name);
    if (!member) {
      say(`${name}: is no member of etcd any more`);
      continue;
    }
    forGood("memberOut", { NODE: name });
    await act("remove", `${name} from etcd's members`, () => own!.removeMember(member.id));
  }
  const remaining = members.filter((member) => !names.includes(memberName(member)));
  const words = remaining.map(memberName).join(", ");
  if (names.length > 0 && remaining.length > 1)
    say(`then etcd has the members ${words}, and answers while ${quorumOf(remaining, () => true).words} run`);
  else if (names.length > 0) say(`then etcd has the member ${words}, and answers while it runs`);
}

/** etcd's own member list if it answers, else that of its data. */
export async function membersNow(
  client: EtcdClient | undefined,
  data: EtcdData,
): Promise<readonly Omit<LiveMember, "peerURLs">[]> {
  return (await unlessSilent(async () => client?.members())) ?? data.members;
}

/** `living`: no longer lost. */
function lostAlso(lost: readonly string[], living: readonly string[] = []): string {
  return again({ lost }, { of: "02-control-plane", less: living });
}

async function answerOf<T>(peer: Peer, ask: () => Promise<T>): Promise<T> {
  const hint = wayWithout(peer, "02-control-plane");
  try {
    return await sayWhile(`etcd on ${peer.name} to answer`, hint, ask);
  } catch (err) {
    throw new Refused(`etcd on ${peer.name} does not answer: ${(err as Error).message}`, {
      hint,
      cause: err,
    });
  }
}
