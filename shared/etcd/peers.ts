/**
 * The other control plane nodes: whether their etcd runs, and under which CA. They may still have keys that
 * are lost here.
 */
import { again } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { isNameless, memberName } from "../etcd-data/members.ts";
import { ownMember, placeOf } from "../etcd-location/reach-etcd.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { refuseUnknownNodes } from "../facts/said.ts";
import { Refused } from "../fail.ts";
import { readText } from "../files/files.ts";
import type { PkiAction } from "../pki/actions.ts";
import { certInfo, isValidNow, signedBy } from "../pki/certificate.ts";
import { type ClusterFacts, certPath, certRow, keyPath } from "../pki/certs.ts";
import type { Finding } from "../pki/examine.ts";
import { isHeard, NoCertificate, servedPem, takesClient } from "../pki/served.ts";
import { say } from "../run.ts";
import { signalLine } from "../shell-line.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";
import {
  askAboutStrangers,
  type Peer,
  peerNames,
  type Question,
  type Quorum,
  quorumOf,
  shownBy,
} from "./other-members.ts";

/** All members except this machine's own, asked at the same time. */
export async function peersOf(data: EtcdData, ownAddresses: readonly string[]): Promise<Peer[]> {
  const own = ownMember(data, ownAddresses);
  const others = data.members.filter((member) => member !== own);
  return await Promise.all(
    others.map(async (member) => {
      const { id, isLearner } = member;
      const place = placeOf(member);
      return { id, isLearner, name: memberName(member), ...place, ...(await shownAt(place)) };
    }),
  );
}

/**
 * An etcd that accepts no connection does not run, or its machine is off. `timeout`: milliseconds; unset: as
 * `servedPem`.
 */
export async function shownAt(
  { host, port }: { host: string; port: number },
  timeout?: number,
): Promise<Pick<Peer, "servedPem" | "isDeaf">> {
  const [answer] = await Promise.allSettled([servedPem(host, port, timeout)]);
  if (answer.status === "fulfilled") return { servedPem: answer.value };
  return { servedPem: undefined, isDeaf: answer.reason instanceof NoCertificate };
}

interface Doubt {
  /** Whether this peer's answer may soon change. */
  isOpen: (peer: Peer) => boolean | Promise<boolean>;
  /** The awaited event: "to show a certificate". */
  to: string;
  seconds: number;
  /** How to continue without them. */
  hint: (open: readonly Peer[]) => string;
}

/**
 * Waits until no peer is open any more, or the time is over, and names the open ones. Does not wait in a dry
 * run.
 */
export async function settledPeers(
  peers: readonly Peer[],
  { isOpen, to, seconds, hint }: Doubt,
): Promise<readonly Peer[]> {
  const openOf = async (all: readonly Peer[]) => {
    const doubts = await Promise.all(all.map(isOpen));
    return all.filter((_, i) => doubts[i]);
  };
  let [now, open] = [peers, await openOf(peers)];
  const look = async () => {
    now = await Promise.all(now.map(async (peer) => ({ ...peer, ...(await shownAt(peer)) })));
    open = await openOf(now);
    return open.length === 0;
  };
  const what = () => `etcd on ${peerNames(open)} ${to}`;
  if (open.length > 0) await undefinedOnTimeout(waitFor(what, look, { seconds, hint: () => hint(open) }));
  return now;
}

/** Milliseconds: a running server answers sooner. */
export const SOON = 1500;

/** Whether its machine may be off, cut off, or paused: it does not even refuse the connection. */
async function isSilent({ servedPem, isDeaf, host, port }: Peer): Promise<boolean> {
  return servedPem === undefined && !isDeaf && (await isHeard(host, port, SOON)) !== false;
}

/**
 * Seconds from an etcd's start until it shows a certificate. It first reads its whole database
 * (storage/backend/config_linux.go, MAP_POPULATE): 8 GB at 50 MB/s take 160 s. kubeadm's startup probe allows
 * 240.
 */
export const ETCD_STARTS = 300;

/** Whether this machine's own etcd runs, with a certificate of the CA on disk. */
export async function ownEtcdRuns({
  data,
  node,
  facts,
}: Pick<ControlPlaneNode, "data" | "node" | "facts">): Promise<boolean> {
  const own = ownMember(data, node.addresses);
  return own !== undefined && servesOurCa(await shownAt(ownPlace(own, { node, facts })), facts);
}

/**
 * Whether this node's own etcd refuses certificates of the etcd CA on disk, as it has read another CA. No
 * answer is no refusal.
 */
export async function ownEtcdRefuses({
  data,
  node,
  facts,
}: Pick<ControlPlaneNode, "data" | "node" | "facts">): Promise<boolean> {
  const own = ownMember(data, node.addresses);
  const pair = peerPair(facts);
  return own && pair ? (await takesClient(ownPlace(own, { node, facts }), pair)) === false : false;
}

/** Its peer address. kubeadm makes it listen there, whatever URL its data has. */
function ownPlace(
  own: Parameters<typeof placeOf>[0],
  { node, facts }: Pick<ControlPlaneNode, "node" | "facts">,
) {
  const { host, port } = placeOf(own);
  return {
    host: facts.etcdAt?.peer ?? (node.addresses.includes(host) ? host : facts.advertiseAddress),
    port,
  };
}

function peerPair({ certificatesDir }: ClusterFacts): { cert: string; key: string } | undefined {
  const row = certRow("etcd-peer");
  const [cert, key] = [certPath, keyPath].map((path) => readText(path(row, certificatesDir)));
  return cert && key ? { cert, key } : undefined;
}

/** Whether a peer's etcd shows a certificate of the etcd CA on this node's disk. */
export function servesOurCa(peer: Pick<Peer, "servedPem">, facts: ClusterFacts): boolean {
  const ca = readText(certPath(certRow("etcd-ca"), facts.certificatesDir));
  return ca !== undefined && peer.servedPem !== undefined && signedBy(peer.servedPem, ca);
}

/**
 * Whether a peer's etcd answers other members: our CA signed its certificate, and the certificate is valid
 * now.
 */
export function answersPeers(peer: Pick<Peer, "servedPem">, facts: ClusterFacts): boolean {
  return servesOurCa(peer, facts) && isValidNow(certInfo(peer.servedPem!));
}

/**
 * Peers that do not answer this node's etcd, or refuse its certificate. etcd reads its CA once, at its start;
 * if that has expired since, it refuses all certificates (client/pkg/transport, ClientCAs), whatever it shows
 * itself.
 */
export async function silentPeers<P extends Peer>(
  peers: readonly P[],
  facts: ClusterFacts,
): Promise<(P & { refuses: boolean })[]> {
  const pair = peerPair(facts);
  const looked = await Promise.all(
    peers.map(async (peer) => {
      const answers = answersPeers(peer, facts);
      const refuses = answers && pair ? (await takesClient(peer, pair)) === false : false;
      return { ...peer, refuses, isSilent: !answers || refuses };
    }),
  );
  return looked.filter(({ isSilent }) => isSilent);
}

/** Members of etcd on other nodes, as seen from here. */
interface OtherMembers {
  /** Their etcd runs. */
  alive: readonly Peer[];
  /** It may run: it accepts connections, and shows no certificate. */
  deaf: readonly Peer[];
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
  const known = await peersOf(cp.data, cp.node.addresses);
  const peers = makesKeys ? await heardPeers(known, lostOn) : known;
  const seen = peers.map((peer) => ({ peer, shown: shownBy(peer, cp.facts) }));
  for (const { peer, shown } of seen) say(`${peer.name}, ${peer.host}: ${SHOWN[shown]}`);
  const shownAs = (wanted: keyof typeof SHOWN) =>
    seen.flatMap(({ peer, shown }) => (shown === wanted ? peer : []));
  const [alive, deaf] = [shownAs("ours"), shownAs("no certificate")];
  const etcdCa = actions.find(({ row }) => row?.name === "etcd-ca");
  // a renewed CA has the old key: an etcd that restarts with it accepts the others' certificates
  const isKept = etcdCa?.todo === "keep" || etcdCa?.remedy?.do === "renew";
  if (alive.length > 0 && !isKept) throw refuseNewCa(alive);
  // without its files, an etcd still has the CA that it has read
  const strangers = [...shownAs("another's"), ...(isKept ? [] : deaf)];
  askAboutStrangers(strangers, cp, { lostOn, ...(isKept ? otherCa() : newCa(strangers)) });
  const former = alive.filter((peer) => !servesOurCa(peer, cp.facts));
  if (former.length > 0)
    throw new Refused(
      `etcd on ${peerNames(former)} shows a certificate of another CA than etcd/ca.crt here`,
      { hint: otherCa().honest },
    );
  const others = quorumOf(cp.data.members, ({ id }) => alive.some((peer) => peer.id === id));
  return { alive, deaf, others };
}

/**
 * A machine that is paused for a moment may still have the keys that are made new here, unless the operator
 * has checked there (`lostOn`).
 */
async function heardPeers(peers: readonly Peer[], lostOn: readonly string[]): Promise<readonly Peer[]> {
  return await settledPeers(peers, {
    isOpen: (peer) => !isNameless(peer) && !lostOn.includes(peer.name) && isSilent(peer),
    to: "to answer, whose machine may still have the keys that are made here",
    seconds: 30,
    hint: (open) =>
      `look there. If it is lost for good, or its keys are: Ctrl-C, and ${again({ "lost-on": open.map(({ name }) => name) }, { of: "01-etcd" })}`,
  });
}

const SHOWN = {
  ours: "etcd runs there",
  "no certificate":
    "something takes connections and shows no certificate, as an etcd does whose files are gone",
  "another's": "a server answers, with a certificate that proves nothing here",
  nothing: "no etcd answers",
};

function otherCa(): Pick<Question, "matters" | "honest" | "wrong"> {
  return {
    matters: "its certificate is of another CA than etcd/ca.crt here",
    honest:
      "one etcd needs one CA: which of them is the right one? ./bunw scripts/00-assess.ts on all. On each that has a wrong one: " +
      `${STOP_ETCD}; ./bunw scripts/hand-over.ts unpack --move-aside FILE brings the right one`,
    wrong: "it and this one refuse each other until both have one CA; no data is lost",
  };
}

function newCa(strangers: readonly Peer[]): Pick<Question, "matters" | "honest" | "wrong"> {
  return {
    matters: "it would refuse a new CA",
    honest: keysFrom(strangers),
    wrong:
      "it and this one refuse each other until the keys of one are carried to the other, and every key that is still there was replaced for nothing",
  };
}

function keysFrom(alive: readonly Peer[]): string {
  return (
    `bring the shared keys from there: on ${peerNames(alive.slice(0, 1))} ./bunw scripts/hand-over.ts pack, then here ./bunw scripts/hand-over.ts unpack FILE. ` +
    `If it is lost on all of them as well, salvage there first, then stop etcd there: on ${peerNames(alive)}, on each: ${STOP_ETCD}. Then here ${again({})}`
  );
}

/** The line that stops etcd, for a new CA of etcd on all control plane nodes. */
export const STOP_ETCD = `systemctl stop kubelet; ${signalLine("TERM", ["etcd"])}`;

/** Members under two CAs refuse each other. An expired CA whose key is lost here may be renewed there. */
function refuseNewCa(alive: readonly Peer[]): Refused {
  return new Refused(
    `etcd runs on ${peerNames(alive)}, and the CA of etcd is not here with its key: they would refuse a new CA`,
    { hint: keysFrom(alive) },
  );
}

/**
 * Errors: Refused if etcd runs, or may run, on another control plane node that may still have a key to be
 * made new, unless the operator has checked there (`lostOn`).
 */
export function refuseWhereOthersLive(
  made: readonly Finding[],
  { alive, deaf }: OtherMembers,
  lostOn: readonly string[],
) {
  const running = [...alive, ...deaf];
  const open = running.filter(({ name }) => !lostOn.includes(name));
  if (made.length === 0 || open.length === 0) return;
  const runs = open.some((peer) => deaf.includes(peer)) ? "runs, or seems to," : "runs";
  const keys = made.map(({ name }) => name).join(", ");
  throw new Refused(
    `etcd ${runs} on ${peerNames(open)}, which may still have ${keys}: control plane nodes with different keys refuse each other`,
    {
      hint:
        `type on one that has them: ./bunw scripts/hand-over.ts pack, then here ./bunw scripts/hand-over.ts unpack FILE. ` +
        `If they are lost on all of these nodes as well: ${again({ "lost-on": running.map(({ name }) => name) }, { of: "01-etcd" })}`,
    },
  );
}
