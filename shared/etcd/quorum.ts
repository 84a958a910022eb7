/** How many of etcd's members have to run for it to answer. Source: etcd's raft, quorum/majority.go; membership, VotingMembers. */
import type { Member } from "../etcd-data/data.ts";
import { isNameless, memberName } from "../etcd-data/members.ts";
import { Fail, Refused } from "../fail.ts";
import type { Peer } from "./who-answers.ts";

interface Quorum {
  running: number;
  isEnough: boolean;
  /** "2 of its 3 members": how many have to run. */
  words: string;
}

type Voter = Pick<Member, "id" | "name" | "isLearner">;

/** More than half of those with a vote, of which those run that `runs` says. A learner has none. */
export function quorumOf<M extends Pick<Member, "isLearner">>(members: readonly M[], runs: (member: M) => boolean): Quorum {
  const voters = members.filter(({ isLearner }) => !isLearner);
  const needed = Math.floor(voters.length / 2) + 1;
  const running = voters.filter(runs).length;
  const words = `${needed} of its ${voters.length} ${voters.length < members.length ? "voting members" : "members"}`;
  return { running, isEnough: running >= needed, words };
}

const BEGINS_ANEW = "If nobody can, no part repairs it: etcd begins anew, from a snapshot or this member's data (RUNBOOK 0)";

/**
 * A member is taken out by the majority of all members, those that are lost, too. Errors: Refused where the others are too few for etcd to
 * answer, ever.
 */
export function refuseNoQuorum(members: readonly Voter[], without: readonly string[]) {
  const isLost = (member: Voter) => without.includes(memberName(member));
  const quorum = quorumOf(members, (member) => !isLost(member));
  if (quorum.isEnough) return;
  const lost = members.filter((member) => isLost(member) && !member.isLearner).map(memberName);
  throw new Refused(`etcd cannot answer without ${lost.join(", ")}: ${quorum.words} have to run, and ${quorum.running} would be left`, {
    hint: `bring one of them back: what it needs is its etcd data. ${BEGINS_ANEW}`,
  });
}

/** Errors: Fail where etcd never answers, as members that have never started had a vote. `silent`: the other members that do not run. */
export function refuseNeverStarted(members: readonly Voter[], silent: readonly Peer[]) {
  const never = silent.filter((peer) => isNameless(peer) && !peer.isLearner);
  const quorum = quorumOf(members, ({ id }) => !never.some((peer) => peer.id === id));
  if (quorum.isEnough) return;
  const names = never.map(({ name, host }) => `${name} at ${host}`).join(", ");
  throw new Fail(`etcd runs here, and cannot answer: ${quorum.words} have to run, and ${names} never started`, {
    hint: `a join was cut off there. Start etcd there by hand, with certificates of the etcd CA that is here. ${BEGINS_ANEW}`,
  });
}
