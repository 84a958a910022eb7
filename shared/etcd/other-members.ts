/**
 * Part 1 beside other control plane nodes: keys that may still be there, and members of etcd that would refuse a new
 * CA.
 */
import { again } from "../again.ts";
import { isNameless } from "../etcd-data/members.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { refuseUnknownNodes } from "../facts/typed-options.ts";
import { Refused } from "../fail.ts";
import type { PkiAction } from "../pki/actions.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import type { Finding } from "../pki/examine.ts";
import { isHeard } from "../pki/served.ts";
import { say } from "../run.ts";
import { STOP_ETCD } from "../shell-line.ts";
import {
  isOwnEtcd,
  type Peer,
  peerNames,
  peersOf,
  quorumOf,
  type ServedCertificate,
  SOON,
  settledPeers,
} from "./peers.ts";
import { askAboutStrangers, type Question } from "./unheard.ts";

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
 * CA with this node, and if it is not clear who answers, unless the operator has checked there (`saved`, now
 * or before). New keys are irreversible, so for them only `typed` counts.
 */
export async function lookAtPeers(
  cp: ControlPlaneNode,
  actions: readonly PkiAction[],
  { typed, saved }: { typed: readonly string[]; saved: readonly string[] },
) {
  // naming this node gives up the keys in its processes
  refuseUnknownNodes({ without: [], lost: typed.filter((name) => name !== cp.node.name) }, cp);
  const makesKeys = actions.some(({ todo }) => todo === "make");
  const lostOn = makesKeys ? typed : saved;
  const allPeers = await peersOf(cp);
  const peers = makesKeys ? await heardPeers(allPeers, lostOn, cp.facts) : allPeers;
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
      `look at that node. If the node or its keys are lost for good: Ctrl-C, and ${again({ "lost-on": open.map(({ name }) => name) }, { of: "01-etcd" })}`,
  });
}

function shownWords(shows: ServedCertificate, server: string): string {
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
      "it and this one refuse each other until the keys of one are carried to the other. Every key that is still there was then replaced for nothing",
  };
}

function keysFrom(alive: readonly Peer[], { facts }: WithFacts): string {
  return (
    `bring the shared keys from there: on ${peerNames(alive.slice(0, 1))} ./bunw scripts/hand-over.ts pack, then here ./bunw scripts/hand-over.ts unpack FILE. ` +
    `If it is lost on all of them as well, salvage there first, then stop etcd there: on ${peerNames(alive)}, on each: ${stopEtcd(facts)}. Then here ${again({})}`
  );
}

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
 * Errors: Refused if etcd runs, or may run, on another control plane node that may still have a key to be made new,
 * unless the operator has checked there (`lostOn`).
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
        `type on a node that has the keys: ./bunw scripts/hand-over.ts pack, then here ./bunw scripts/hand-over.ts unpack FILE. ` +
        `If they are lost on all of these nodes as well: ${again({ "lost-on": running.map(({ name }) => name) }, { of: "01-etcd" })}`,
    },
  );
}
