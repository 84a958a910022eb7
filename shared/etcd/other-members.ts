/**
 * Decisions on a survey of etcd's members: a question where no certificate proves whose etcd answers; keys
 * that may still be on the other control plane nodes; how to continue without members that do not answer or have no
 * vote.
 */
import { again, command } from "../again.ts";
import { isNameless, type Member, memberName } from "../etcd-data/members.ts";
import type { EtcdStatus } from "../etcd-location/client.ts";
import { promotion } from "../etcd-location/reach-etcd.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { refuseUnknownNodes } from "../facts/said.ts";
import { Fail, Refused } from "../fail.ts";
import type { PkiAction } from "../pki/actions.ts";
import { certInfo, infoOf } from "../pki/certificate.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import type { Finding } from "../pki/examine.ts";
import { isHeard } from "../pki/served.ts";
import { quoteUntrusted } from "../plain.ts";
import { say } from "../run.ts";
import { signalLine } from "../shell-line.ts";
import type { Named } from "./identity.ts";
import {
  etcdCas,
  isOwnEtcd,
  type Peer,
  peerNames,
  peersOf,
  type Quorum,
  quorumOf,
  type Shows,
  SOON,
  settledPeers,
} from "./peers.ts";

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

type Voter = Named & Pick<Member, "isLearner">;

/** Errors: Fail if this node's own member is a learner: etcd answers no client there. */
export function refuseLearner(
  { isLearner }: EtcdStatus,
  { data, facts }: Pick<ControlPlaneNode, "data" | "facts">,
) {
  if (!isLearner) return;
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

/** A question about a peer that no certificate proves. */
interface Question {
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
  { facts }: { facts: Pick<ClusterFacts, "certificatesDir" | "externalEtcd"> },
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
  const [ca] = etcdCas(facts);
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

/** Members of etcd on other nodes, as seen from here. */
interface OtherMembers {
  /** Their etcd runs. */
  alive: readonly Peer[];
  /** It may run: it accepts connections, and shows no certificate. */
  deaf: readonly Peer[];
  /** "etcd"; if that is on other machines, "kube-apiserver" answers. */
  server: string;
}

/**
 * Names the other control plane nodes on which etcd runs. Errors: Refused if one of them cannot share an etcd
 * CA with this node, and if it is not clear who answers, unless the operator has checked there (`said`, now
 * or before). New keys are irreversible, so for them only `typed` counts.
 */
export async function lookAtPeers(
  cp: ControlPlaneNode,
  actions: readonly PkiAction[],
  { typed, said }: { typed: readonly string[]; said: readonly string[] },
): Promise<OtherMembers & { others: Quorum }> {
  // naming this node gives up the keys in its processes
  refuseUnknownNodes({ without: [], lost: typed.filter((name) => name !== cp.node.name) }, cp);
  const makesKeys = actions.some(({ todo }) => todo === "make");
  const lostOn = makesKeys ? typed : said;
  const known = await peersOf(cp);
  const peers = makesKeys ? await heardPeers(known, lostOn, cp.facts) : known;
  const server = cp.facts.externalEtcd?.elsewhere ? "kube-apiserver" : "etcd";
  for (const { name, host, shows } of peers) say(`${name}, ${host}: ${shownWords(shows, server)}`);
  const alive = peers.filter(isOwnEtcd);
  const deaf = peers.filter(({ shows }) => shows === "no certificate");
  const etcdCa = actions.find(({ row }) => row?.name === "etcd-ca");
  // a renewed CA has the old key: an etcd that restarts with it accepts the others' certificates
  const isKept = !etcdCa || etcdCa.todo === "keep" || etcdCa.remedy?.do === "renew";
  if (alive.length > 0 && !isKept) throw refuseNewCa(alive, cp);
  // without its files, an etcd still has the CA that it has read
  const strangers = [...peers.filter(({ shows }) => shows === "another's"), ...(isKept ? [] : deaf)];
  askAboutStrangers(strangers, cp, { lostOn, ...(isKept ? otherCa(cp) : newCa(strangers, cp)) });
  const former = alive.filter(({ shows }) => shows === "of an older CA");
  if (former.length > 0)
    throw new Refused(
      `etcd on ${peerNames(former)} shows a certificate of another CA than etcd/ca.crt here`,
      { hint: otherCa(cp).honest },
    );
  const others = quorumOf(cp.data.members, ({ id }) => alive.some((peer) => peer.id === id));
  return { alive, deaf, server, others };
}

/**
 * A machine that is paused for a moment, and does not even refuse the connection, may still have the keys that are
 * made new here, unless the operator has checked there (`lostOn`).
 */
async function heardPeers(peers: readonly Peer[], lostOn: readonly string[], pki: ClusterFacts) {
  const isOpen = async (peer: Peer) =>
    !isNameless(peer) &&
    !lostOn.includes(peer.name) &&
    peer.shows === "nothing" &&
    (await isHeard(peer.host, peer.port, SOON)) !== false;
  return await settledPeers(peers, {
    ...{ pki, isOpen },
    to: "to answer, whose machine may still have the keys that are made here",
    seconds: 30,
    hint: (open) =>
      `look there. If it is lost for good, or its keys are: Ctrl-C, and ${again({ "lost-on": open.map(({ name }) => name) }, { of: "01-etcd" })}`,
  });
}

/** `server`: "etcd". */
function shownWords(shows: Shows, server: string): string {
  if (shows === "nothing") return `no ${server} answers`;
  if (shows === "another's") return "a server answers, with a certificate that proves nothing here";
  if (shows !== "no certificate") return `${server} runs there`;
  return `something takes connections and shows no certificate, as ${server === "etcd" ? "an etcd" : server} does whose files are gone`;
}

type WithFacts = Pick<ControlPlaneNode, "facts">;

function otherCa({ facts }: WithFacts): Pick<Question, "matters" | "honest" | "wrong"> {
  return {
    matters: "its certificate is of another CA than etcd/ca.crt here",
    honest:
      "one etcd needs one CA: which of them is the right one? ./bunw scripts/00-assess.ts on all. On each that has a wrong one: " +
      `${stopEtcd(facts)}; ./bunw scripts/hand-over.ts unpack --move-aside FILE brings the right one`,
    wrong: "it and this one refuse each other until both have one CA; no data is lost",
  };
}

function newCa(strangers: readonly Peer[], cp: WithFacts): Pick<Question, "matters" | "honest" | "wrong"> {
  return {
    matters: "it would refuse a new CA",
    honest: keysFrom(strangers, cp),
    wrong:
      "it and this one refuse each other until the keys of one are carried to the other, and every key that is still there was replaced for nothing",
  };
}

function keysFrom(alive: readonly Peer[], { facts }: WithFacts): string {
  return (
    `bring the shared keys from there: on ${peerNames(alive.slice(0, 1))} ./bunw scripts/hand-over.ts pack, then here ./bunw scripts/hand-over.ts unpack FILE. ` +
    `If it is lost on all of them as well, salvage there first, then stop etcd there: on ${peerNames(alive)}, on each: ${stopEtcd(facts)}. Then here ${again({})}`
  );
}

/** The line that stops etcd, for a new CA of etcd on all control plane nodes. */
export const STOP_ETCD = `systemctl stop kubelet; ${signalLine("TERM", ["etcd"])}`;

/** The same; a unit of the node's is stopped as one. */
const stopEtcd = ({ externalEtcd }: Pick<ClusterFacts, "externalEtcd">) =>
  externalEtcd ? "systemctl stop kubelet etcd" : STOP_ETCD;

/** Members under two CAs refuse each other. An expired CA whose key is lost here may be renewed there. */
function refuseNewCa(alive: readonly Peer[], cp: WithFacts): Refused {
  return new Refused(
    `etcd runs on ${peerNames(alive)}, and the CA of etcd is not here with its key: they would refuse a new CA`,
    { hint: keysFrom(alive, cp) },
  );
}

/**
 * Errors: Refused if etcd runs, or may run, on another control plane node that may still have a key to be
 * made new, unless the operator has checked there (`lostOn`).
 */
export function refuseWhereOthersLive(
  made: readonly Finding[],
  { alive, deaf, server }: OtherMembers,
  lostOn: readonly string[],
) {
  const running = [...alive, ...deaf];
  const open = running.filter(({ name }) => !lostOn.includes(name));
  if (made.length === 0 || open.length === 0) return;
  const runs = open.some((peer) => deaf.includes(peer)) ? "runs, or seems to," : "runs";
  const keys = made.map(({ name }) => name).join(", ");
  throw new Refused(
    `${server} ${runs} on ${peerNames(open)}, which may still have ${keys}: control plane nodes with different keys refuse each other`,
    {
      hint:
        `type on one that has them: ./bunw scripts/hand-over.ts pack, then here ./bunw scripts/hand-over.ts unpack FILE. ` +
        `If they are lost on all of these nodes as well: ${again({ "lost-on": running.map(({ name }) => name) }, { of: "01-etcd" })}`,
    },
  );
}
