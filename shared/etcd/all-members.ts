/**
 * Proves in part 2 that every member of etcd is the old one: in stacked clusters each API server serves what its own
 * member holds. And removes lost members.
 */

import { again, command, type LeftOut, leftNames } from "../again.ts";
import { renewsWithin, type StoredLease } from "../api/kube-object.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { isNameless, memberName } from "../etcd-data/members.ts";
import { type EtcdClient, etcdClient, type LiveMember, unlessSilent } from "../etcd-location/client.ts";
import { promotion } from "../etcd-location/reach-etcd.ts";
import { isControlPlaneName } from "../facts/known-nodes.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { nodesAmong, nodesToSkip } from "../facts/typed-options.ts";
import { attempt, attemptLater, Fail, Refused } from "../fail.ts";
import { endSavedOptions } from "../node/words.ts";
import { decodeObject } from "../objects/storage.ts";
import { registryPrefix } from "../objects/stored.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { listed } from "../plain.ts";
import { act, mode, say, sayNoUndo } from "../run.ts";
import { STOP_ETCD, shell } from "../shell-line.ts";
import { sayWhile, undefinedOnTimeout, waitFor } from "../wait-for.ts";
import { type ProvedEtcd, proveSameEtcd, wayWithout } from "./identity.ts";
import { isOwnEtcd, type Peer, peerNames, peersOf, quorumOf, SOON, servedCertificateAt } from "./peers.ts";
import { askAboutStrangers, refuseLearner, refuseNoQuorum, refuseUnasked, whySilent } from "./unheard.ts";

const PART_1_FIRST = "run part 1 first: ./bunw scripts/01-etcd.ts";

/** Errors: Fail where no certificate can ask etcd. What else is missing before part 1, part 1 names better. */
export function refuseMissingClientPair(facts: ClusterFacts) {
  if (!etcdClient(facts)) throw noClient();
}

function noClient(): Fail {
  return new Fail("etcd's certificates are not there", { hint: PART_1_FIRST });
}

/**
 * Step 2.1: this etcd is the old one, and so is each other member, except offline and lost ones. Returns whether the
 * database is full, and the nodes that are lost: named now, or taken out before. `takeOut` removes the lost ones: the
 * first change, and one without a way back, so all refusals come before it.
 */
export async function proveEtcd(cp: ControlPlaneNode, named: LeftOut, lostOn: readonly string[]) {
  const { lost } = named;
  const { facts, data } = cp;
  refuseMembersElsewhere(
    facts,
    lost.filter((name) => isControlPlaneName(name, cp)),
  );
  refuseUnasked(cp);
  const peers = await peersOf(cp);
  refuseLiving(peers, { lost, lostOn }, cp);
  const client = etcdClient(facts);
  if (lost.length > 0) refuseNoQuorum(await membersNow(client, data), lost);
  if (mode.dryRun) {
    await sayPlannedRemovals(client, data, lost);
    return { isFull: data.isFull, lost: nodesAmong(lost, cp), takeOut: async () => undefined };
  }
  if (!client) throw noClient();
  const status = await attemptLater(() => toAnswer(client));
  if (status instanceof Fail) throw await whySilent(cp, status);
  refuseLearner(status!, cp);
  const proved = await proveSameEtcd(client, cp, status);
  for (const proof of proved.proofs) say(proof);
  const { members } = proved;
  const current = peers.filter(({ id }) => members.some((member) => member.id === id));
  const out = await nodesToSkip(cp, named, members);
  const without = [...lost, ...leftNames(out)];
  await proveSameData(client, facts, { proved, peers: current, without });
  const same = current.flatMap(({ name }) => (without.includes(name) ? [] : name));
  endSavedOptions(
    ({ option, value }) => option === "lost-on" && same.includes(value),
    "its etcd has the same keys",
  );
  for (const { name } of current.filter((peer) => named.without.includes(peer.name))) sayAway(name, named);
  const removed = current.filter(({ name }) => lost.includes(name));
  await refuseSignsOfLife(client, cp, { gone: removed, lost, lostOn });
  const takeOut = () => removeMembers(members, lost, client);
  return { isFull: await client.isFull(), lost: out.lost, takeOut };
}

async function toAnswer(client: EtcdClient) {
  return await waitFor("etcd to answer", () => client.status(), { seconds: 30, hint: PART_1_FIRST });
}

function sayAway(name: string, { without, lost }: LeftOut) {
  const line = command("02-control-plane", {
    without: without.filter((other) => other !== name),
    lost: [...lost, name],
  });
  say(`${name}: away, so not asked; it stays a member of etcd. If it is lost for good: ${line}`);
}

/* The members that stay: each holds the same keys. */

/**
 * Each other member answers with the current certificates, belongs to the same cluster, and holds the same keys as
 * this one (by etcd's own hash at a common revision; a learner gives none). Leaves out members in `without`. Errors:
 * Fail that names the first member that does not.
 */
export async function proveSameData(
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
 * One after the other: a member reads its whole database for its hash, and accepts no write meanwhile
 * (storage/mvcc/kvstore.go, hashByRev).
 */
async function proveSameKeys(own: EtcdClient, voting: ReadonlyMap<Peer, EtcdClient>, now: number) {
  let [revision, compacted] = [now, ""];
  for (const [{ name }, theirs] of voting) await caughtUp(name, theirs, revision);
  const same = new Map<string, boolean>();
  const compare = async () => {
    ({ revision } = await own.status());
    for (const theirs of voting.values()) if ((await theirs.status()).revision < revision) return false;
    const ownHash = await own.hashAt(revision);
    ({ compacted } = ownHash);
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
    progress: () => compacted,
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
 * A member that was offline does not know this revision until it has received all that was written meanwhile.
 */
async function caughtUp(name: string, theirs: EtcdClient, revision: number) {
  let count = 0;
  const isThere = async () => {
    count = (await theirs.status()).revision;
    return count >= revision;
  };
  await waitFor(`etcd on ${name} to catch up with revision ${revision}`, isThere, {
    seconds: 120,
    progress: () => count,
    hint: shell`crictl logs of etcd on ${name}; then run the same line again`,
  });
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

/* The members that are lost for good. */

/**
 * Errors: Refused if members of an etcd that kubeadm did not make are to be taken out: its settings and certificates
 * name all of them, and only its maker writes those.
 */
export function refuseMembersElsewhere(
  { externalEtcd }: Pick<ClusterFacts, "externalEtcd">,
  lost: readonly string[],
) {
  if (!externalEtcd || lost.length === 0) return;
  const names = lost.join(", ");
  if (externalEtcd.elsewhere)
    throw new Refused(
      `${names}: no member of etcd, which is on other machines: there is nothing to take out`,
      {
        unchanged: true,
        hint: `leave it out as a node that is away: ${command("02-control-plane", { without: lost })}. After part 5: ${shell`kubectl delete node ${lost}`}`,
      },
    );
  throw new Refused(`${names}: this kit takes no member out of an etcd that kubeadm did not make`, {
    unchanged: true,
    hint: `remove the member by the means of etcd's maker (kubespray: remove-node.yml, recover-control-plane.yml), then run the same line without that name: ${again({}, { of: "02-control-plane", less: lost })}`,
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

/** A living kubelet renews its Lease through any API server that runs. */
export function renewalSeconds(lease: Uint8Array): number {
  return Math.ceil(
    renewsWithin(attempt<StoredLease, StoredLease>(() => decodeObject(lease) as StoredLease, {})),
  );
}

/**
 * A machine that pauses for a moment, or has just started, may miss one question: members that are to be removed are
 * asked as long as their Lease is watched. Errors: Refused if one of them shows a sign of life.
 */
async function refuseSignsOfLife(
  client: EtcdClient,
  cp: ControlPlaneNode,
  { gone, ...lostOptions }: { gone: readonly Peer[]; lost: readonly string[]; lostOn: readonly string[] },
) {
  // a member that never started has no data and no kubelet
  const nodes = gone.filter((peer) => !isNameless(peer));
  if (nodes.length === 0) return;
  const silent = nodes.filter(({ shows }) => shows === "nothing");
  const prefix = `${registryPrefix(cp.data)}/leases/kube-node-lease`;
  const leaseOf = async ({ name }: Peer) => Buffer.from((await client.get(`${prefix}/${name}`)) ?? "");
  const leases = () => Promise.all(nodes.map(leaseOf));
  const before = await leases();
  const sign = async () => {
    const pending = silent.map(async (peer) => ({
      ...peer,
      ...(await servedCertificateAt(peer, cp.facts, SOON)),
    }));
    const [now, shown] = await Promise.all([leases(), Promise.all(pending)]);
    const renews = nodes.find((_, i) => !now[i]!.equals(before[i]!))?.name;
    const answers = shown.filter(
      (peer) => isOwnEtcd(peer) || (peer.shows !== "nothing" && !lostOptions.lostOn.includes(peer.name)),
    );
    return (renews !== undefined || answers.length > 0) && { renews, answers };
  };
  const options = { seconds: Math.max(...before.map(renewalSeconds)), hint: "wait: it ends by itself" };
  const signs = await undefinedOnTimeout(waitFor(`a sign of life of ${peerNames(nodes)}`, sign, options));
  if (!signs) return;
  refuseLiving(signs.answers, lostOptions, cp);
  throw new Refused(`${signs.renews} is not lost: its kubelet renews its Lease`, {
    unchanged: true,
    hint: `type the line without that name: ${again({}, { of: "02-control-plane", less: [signs.renews!] })}. If that node shall go all the same, first run there: systemctl stop kubelet`,
  });
}

async function sayPlannedRemovals(client: EtcdClient | undefined, data: EtcdData, lost: readonly string[]) {
  if (client) await toAnswer(client);
  else say("etcd does not run yet: part 1 first");
  if (lost.length === 0) return;
  await removeMembers(await membersNow(client, data), lost, client);
}

/**
 * A new machine can take their place then; says who remains. A member that is gone already is no error. `own`: unset
 * in a dry run before etcd has its certificates.
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
    sayNoUndo("memberOut", { NODE: name });
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

function lostAlso(lost: readonly string[], living: readonly string[] = []): string {
  return again({ lost }, { of: "02-control-plane", less: living });
}
