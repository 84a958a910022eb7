/**
 * The other members of etcd: whether a member's address is answered by its own etcd, proved by the
 * certificate or asked of the operator; how many members have to run; and how to continue without members
 * that do not answer or have no vote. Source: etcd's raft, quorum/majority.go; membership, VotingMembers.
 */

import { basename, dirname } from "node:path";
import { again, command } from "../again.ts";
import { isNameless, type Member, memberName } from "../etcd-data/members.ts";
import { etcdctlLine } from "../etcd-location/reach-etcd.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { Fail, Refused } from "../fail.ts";
import { list, readText } from "../files/files.ts";
import { rescueFolders } from "../node/rescue-folder.ts";
import { certInfo, infoOf, signedBy } from "../pki/certificate.ts";
import { type ClusterFacts, certPath, certRow } from "../pki/certs.ts";
import { quoteUntrusted } from "../plain.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { type EtcdClient, etcdClient } from "./client.ts";
import { silentMembers } from "./identity.ts";

export interface Quorum {
  running: number;
  isEnough: boolean;
  /** How many have to run: "2 of its 3 members". */
  words: string;
}

type Voter = Pick<Member, "id" | "name" | "isLearner">;

/** More than half of the voting members, and how many of them run by `runs`. A learner has no vote. */
export function quorumOf<M extends Pick<Member, "isLearner">>(
  members: readonly M[],
  runs: (member: M) => boolean,
): Quorum {
  const voters = members.filter(({ isLearner }) => !isLearner);
  const needed = Math.floor(voters.length / 2) + 1;
  const running = voters.filter(runs).length;
  const words = `${needed} of its ${voters.length} ${voters.length < members.length ? "voting members" : "members"}`;
  return { running, isEnough: running >= needed, words };
}

const BEGINS_ANEW =
  'If nobody can, this member continues alone with all that it has: RUNBOOK-MORE "Only a snapshot is left"';

/**
 * Removing a member needs a majority of all members, lost ones included. Errors: Refused if the others can
 * never be a majority.
 */
export function refuseNoQuorum(members: readonly Voter[], without: readonly string[]) {
  const isLost = (member: Voter) => without.includes(memberName(member));
  const quorum = quorumOf(members, (member) => !isLost(member));
  if (quorum.isEnough) return;
  const lost = members.filter((member) => isLost(member) && !member.isLearner).map(memberName);
  throw new Refused(
    `etcd cannot answer without ${lost.join(", ")}: ${quorum.words} have to run, and ${quorum.running} would be left`,
    {
      hint: `bring one of them back: what it needs is its etcd data. ${BEGINS_ANEW}`,
    },
  );
}

/**
 * Errors: Fail if etcd can never answer, as members that never started have a vote. `silent`: the other
 * members that do not run.
 */
export function refuseNeverStarted(members: readonly Voter[], silent: readonly Peer[]) {
  const neverStarted = silent.filter((peer) => isNameless(peer) && !peer.isLearner);
  const quorum = quorumOf(members, ({ id }) => !neverStarted.some((peer) => peer.id === id));
  if (quorum.isEnough) return;
  const names = neverStarted.map(({ name, host }) => `${name} at ${host}`).join(", ");
  throw new Fail(
    `etcd runs here, and cannot answer: ${quorum.words} have to run, and ${names} never started`,
    {
      hint: `start etcd by hand where a join was cut off, with certificates of the etcd CA that is here. ${BEGINS_ANEW}`,
    },
  );
}

type Named = Pick<Member, "id" | "name">;

/**
 * How to continue without a member that does not answer; `of`: the script that continues. A member that never
 * started is no node, so no script can run there; only part 2 removes it from etcd.
 */
export function wayWithout(member: Named, of: string): string {
  const name = memberName(member);
  const lost = (words: string) => again({ lost: [name] }, { of: words });
  if (isNameless(member))
    return `${name} never started: a join was cut off. Take it out, and that machine can join again: ${lost("02-control-plane")}`;
  return `${name} does not answer: part 1 there first. If it is away for now: ${again({ without: [name] }, { of })}. If its data is lost for good: ${lost(of)}`;
}

/**
 * Names members of etcd that do not answer, each with the line that runs `of` without it. Says nothing if
 * this etcd does not answer.
 */
export async function saySilentMembers(
  { facts, data }: ControlPlaneNode,
  of: string,
  without: readonly string[],
) {
  const client = etcdClient(facts);
  const [members] = await Promise.allSettled([client?.members()]);
  if (members.status === "rejected" || !members.value) return;
  const silent = await silentMembers(members.value, data, facts);
  for (const member of silent) if (!without.includes(memberName(member))) say(wayWithout(member, of));
}

/** The command that completes the join of a learner, for a node where etcd answers. */
export function promotion(
  { id }: Pick<Member, "id">,
  { certificatesDir }: Pick<ClusterFacts, "certificatesDir">,
): string {
  return etcdctlLine(shell`member promote ${id}`, { certificatesDir });
}

/** Errors: Fail if this node's own member is a learner: etcd answers no client there. */
export async function refuseLearner(
  client: EtcdClient,
  { data, facts }: Pick<ControlPlaneNode, "data" | "facts">,
) {
  if (!(await client.status()).isLearner) return;
  const own = data.members.find(({ id }) => id === data.memberId);
  const removal = command("02-control-plane", { lost: [own ? memberName(own) : data.memberId] });
  throw new Fail(
    "This node's etcd has no vote, and answers no client: its join was cut off before etcd promoted it",
    {
      hint:
        `type on a control plane node that is repaired: ${promotion({ id: data.memberId }, facts)}; then run the same line here again. ` +
        `Or stop its kubelet and its etcd, take it out there with ${removal}, and RUNBOOK-MORE "The same machine comes back"`,
    },
  );
}

export interface Peer extends Pick<Member, "id" | "isLearner"> {
  /** As `memberName`; kubeadm gives a member the node's name. */
  name: string;
  /** The IP address and port of its peer URL. */
  host: string;
  port: number;
  /**
   * The certificate that its etcd shows on the peer port; undefined if it shows none. Not the client port:
   * etcd serves clients only once it has a quorum.
   */
  servedPem: string | undefined;
  /**
   * It accepts connections and shows no certificate: an etcd whose files are gone keeps running so, and none
   * of its answers gets through.
   */
  isDeaf?: boolean;
}

/**
 * The proved owner of the etcd at a peer's address. Only a certificate of an etcd CA that is here, or was
 * moved aside here, proves it: anybody may answer at the address of a machine that is off.
 */
export function shownBy(
  { servedPem, isDeaf = false }: Pick<Peer, "servedPem" | "isDeaf">,
  { certificatesDir }: Pick<ClusterFacts, "certificatesDir">,
): "ours" | "another's" | "no certificate" | "nothing" {
  if (servedPem === undefined) return isDeaf ? "no certificate" : "nothing";
  return etcdCas(certificatesDir).some((pem) => signedBy(servedPem, pem)) ? "ours" : "another's";
}

/** Whether its certificate is of another CA than the etcd CA on disk, or of one that was moved aside here. */
export function showsOtherCa(
  servedPem: string | undefined,
  { certificatesDir }: Pick<ClusterFacts, "certificatesDir">,
): boolean {
  const ca = readText(certPath(certRow("etcd-ca"), certificatesDir));
  return servedPem !== undefined && infoOf(ca ?? "") !== undefined && !signedBy(servedPem, ca!);
}

/** PEM: the etcd CA on disk, and those moved aside. */
function etcdCas(certificatesDir: string): string[] {
  const path = certPath(certRow("etcd-ca"), certificatesDir);
  const folders = rescueFolders().map(({ dir }) => dirname(`${dir}/aside${path}`));
  const oldPems = folders.flatMap((dir) =>
    list(dir).flatMap((name) => (name.startsWith(basename(path)) ? `${dir}/${name}` : [])),
  );
  return [path, ...oldPems]
    .flatMap((each) => readText(each) ?? [])
    .filter((pem) => infoOf(pem) !== undefined);
}

/** A question about a peer that no certificate proves. */
export interface Question {
  /** Names of nodes, after --lost-on. */
  lostOn: readonly string[];
  /** Why it matters: "it would refuse a new CA". */
  matters: string;
  /** The next step if it is that node's etcd. */
  honest: string;
  /** The loss if the operator is wrong to say that it is not. */
  wrong: string;
  /** The script that takes the answer; unset: the running one. */
  of?: string;
  /** The server that it may be if it is not etcd, and what its certificate shows. */
  server?: { name: string; shows: string };
}

/**
 * Peers whose certificate proves nothing. Names those that the operator has checked (`lostOn`). Errors:
 * Refused with a question for the others: whoever answers at an address can make a script ask, and no more.
 */
export function askAboutStrangers(
  strangers: readonly Stranger[],
  { facts }: { facts: Pick<ClusterFacts, "certificatesDir"> },
  question: Question,
) {
  const { lostOn, matters, honest, wrong, server } = question;
  const serverName = server?.name ?? "etcd";
  const open = strangers.filter(({ name }) => !lostOn.includes(name));
  const at = (peer: Stranger) => `${peer.host}:${peer.port}`;
  for (const peer of strangers.filter((each) => !open.includes(each)))
    say(
      `${peer.name}: the server at ${at(peer)} is not its ${serverName}, by your --lost-on. It shows ${shownKey(peer)}`,
    );
  if (open.length === 0) return;
  const [ca] = etcdCas(facts.certificatesDir);
  const own =
    server?.shows ??
    (ca
      ? `that of etcd's CA here is ${certInfo(ca).publicKeyHash}`
      : "no CA of etcd is here to compare with");
  const word = again(
    { "lost-on": open.map(({ name }) => name) },
    question.of === undefined ? {} : { of: question.of },
  );
  throw new Refused(
    `The server at ${[...new Set(open.map(at))].join(", ")} may be ${serverName} of ${peerNames(open)}, but nothing here proves it: ${matters}`,
    {
      unchanged: true,
      hint:
        `look at ${peerNames(open)}. It shows ${[...new Set(open.map(shownKey))].join(", ")}; ${own}. If ${serverName} runs there: ${honest}. ` +
        `If not, or if that machine is off, somebody else has that address: ${word}. If it is ${peerNames(open)}'s ${serverName} all the same, ${wrong}`,
    },
  );
}

/** A machine that answers at a node's address. */
export type Stranger = Pick<Peer, "id" | "name" | "host" | "port" | "servedPem">;

function shownKey({ servedPem }: Stranger): string {
  if (servedPem === undefined) return "no certificate, as an etcd does whose files are gone";
  const info = infoOf(servedPem);
  if (info === undefined) return "a certificate that cannot be read";
  return `the name "${quoteUntrusted(info.cn ?? "")}" and the key ${info.publicKeyHash}`;
}

/** Each by its name, else by its id and address; for the operator. */
export function peerNames(peers: readonly Pick<Peer, "id" | "name" | "host">[]): string {
  return peers.map((peer) => (isNameless(peer) ? `${peer.name} at ${peer.host}` : peer.name)).join(", ");
}
