/**
 * One survey of etcd's members, as this node sees them: what each member's machine shows at its peer URL, which of
 * them talk to this node's etcd, and whether they are enough. Decides nothing.
 */
import { basename, dirname } from "node:path";
import { isNameless, type Member, memberName } from "../etcd-data/members.ts";
import { ownMember, placeOf } from "../etcd-location/reach-etcd.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { list, readText } from "../files/files.ts";
import { rescueFolders } from "../node/rescue-folder.ts";
import { certInfo, infoOf, isValidNow, signedBy } from "../pki/certificate.ts";
import { type ClusterFacts, certPath, certRow, etcdClientFiles, keyPath } from "../pki/certs.ts";
import { acceptsClientCertificate, NoCertificate, servedPem } from "../pki/served.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";

/**
 * Whose certificate a server at a member's peer URL shows. Only an etcd CA that is here, or was moved aside here,
 * proves it: anybody may answer at the address of a machine that is off. "no certificate": it accepts connections,
 * as an etcd does whose files are gone; none of its answers gets through.
 */
export type ServedCertificate =
  | "ours"
  | "ours, expired"
  | "of an older CA"
  | "another's"
  | "no certificate"
  | "nothing";

/** Seen at the peer port: etcd serves clients only once it has a quorum. */
interface Shown {
  shows: ServedCertificate;
  servedPem: string | undefined;
}

export interface Peer extends Shown, Pick<Member, "id" | "isLearner"> {
  /** As `memberName`; kubeadm gives a member the node's name. */
  name: string;
  /** The IP address and port of its peer URL. */
  host: string;
  port: number;
}

type Here = Pick<ControlPlaneNode, "data" | "node" | "facts">;
type Pki = Pick<ClusterFacts, "certificatesDir" | "externalEtcd">;

/** All members except this machine's own, asked at the same time; of an etcd on other machines, API servers. */
export async function peersOf({ data, node, facts }: Here): Promise<Peer[]> {
  const own = ownMember(data, node.addresses);
  const others = data.members.filter((member) => member !== own);
  return await Promise.all(
    others.map(async (member) => {
      const { id, isLearner } = member;
      const place = placeOf(member);
      return {
        id,
        isLearner,
        name: memberName(member),
        ...place,
        ...(await servedCertificateAt(place, facts)),
      };
    }),
  );
}

/**
 * An etcd that accepts no connection does not run, or its machine is off. `timeout`: milliseconds; unset: as
 * `servedPem`.
 */
export async function servedCertificateAt(
  { host, port }: Pick<Peer, "host" | "port">,
  pki: Pki,
  timeout?: number,
): Promise<Shown> {
  const [answer] = await Promise.allSettled([servedPem(host, port, timeout)]);
  if (answer.status === "fulfilled")
    return { shows: readServedCertificate(answer.value, pki), servedPem: answer.value };
  const isDeaf = answer.reason instanceof NoCertificate;
  return { shows: isDeaf ? "no certificate" : "nothing", servedPem: undefined };
}

export function readServedCertificate(pem: string, pki: Pki): ServedCertificate {
  const signers = etcdCas(pki).filter((ca) => signedBy(pem, ca));
  // where API servers are the peers, their CA has signed the certificates of kubelets as well
  const isApis = pki.externalEtcd?.elsewhere && !certInfo(pem).cn.startsWith("system:node:");
  if (signers.length === 0 || isApis === false) return "another's";
  if (!isApis && !signers.includes(readText(etcdClientFiles(pki).ca) ?? "")) return "of an older CA";
  return isValidNow(certInfo(pem)) ? "ours" : "ours, expired";
}

/**
 * PEM: the etcd CA on disk, and those moved aside. Where etcd is on other machines, the peers are API servers: the
 * cluster's CA, also that of before.
 */
export function etcdCas(pki: Pki): string[] {
  const { elsewhere } = pki.externalEtcd ?? {};
  const path = elsewhere ? certPath("ca", pki.certificatesDir) : etcdClientFiles(pki).ca;
  const folders = rescueFolders().map(({ dir }) => dirname(`${dir}/aside${path}`));
  const oldPems = folders.flatMap((dir) =>
    list(dir).flatMap((name) => (name.startsWith(basename(path)) ? `${dir}/${name}` : [])),
  );
  return [...[path, ...oldPems].flatMap((each) => readText(each) ?? []), elsewhere?.ca]
    .flatMap((pem) => pem ?? [])
    .filter((pem) => infoOf(pem) !== undefined);
}

/** Whether it is proved to be the member's own etcd: some CA of this node's, now or before, has signed it. */
export function isOwnEtcd({ shows }: Shown): boolean {
  return isOfCa(shows) || shows === "of an older CA";
}

/** Whether it may be an etcd with another CA than this node's. It proves nothing, and only selects a line. */
export function showsOtherCa({ shows }: Shown): boolean {
  return shows === "of an older CA" || shows === "another's";
}

const isOfCa = (shows: ServedCertificate) => shows === "ours" || shows === "ours, expired";

/** Each by its name, else by its id and address; for the operator. */
export function peerNames(peers: readonly Pick<Peer, "id" | "name" | "host">[]): string {
  return peers.map((peer) => (isNameless(peer) ? `${peer.name} at ${peer.host}` : peer.name)).join(", ");
}

interface Doubt {
  /** Whether this peer's answer may soon change. */
  isOpen: (peer: Peer) => boolean | Promise<boolean>;
  /** The awaited event: "to show a certificate". */
  to: string;
  seconds: number;
  hint: (open: readonly Peer[]) => string;
  pki: Pki;
}

/** Waits until no peer is open any more, or the time is over, and names the open ones. Not in a dry run. */
export async function settledPeers(
  peers: readonly Peer[],
  { isOpen, to, seconds, hint, pki }: Doubt,
): Promise<readonly Peer[]> {
  const openOf = async (all: readonly Peer[]) => {
    const doubts = await Promise.all(all.map(isOpen));
    return all.filter((_, i) => doubts[i]);
  };
  let [now, open] = [peers, await openOf(peers)];
  const look = async () => {
    now = await Promise.all(
      now.map(async (peer) => ({ ...peer, ...(await servedCertificateAt(peer, pki)) })),
    );
    open = await openOf(now);
    return open.length === 0;
  };
  const what = () => `etcd on ${peerNames(open)} ${to}`;
  if (open.length > 0) await undefinedOnTimeout(waitFor(what, look, { seconds, hint: () => hint(open) }));
  return now;
}

/** Milliseconds: a running server answers sooner. */
export const SOON = 1500;

/**
 * Seconds from an etcd's start until it shows a certificate. It first reads its whole database
 * (storage/backend/config_linux.go, MAP_POPULATE): 8 GB at 50 MB/s take 160 s. kubeadm's startup probe allows
 * 240.
 */
export const ETCD_STARTS = 300;

/** Whether this machine's own etcd runs, with a certificate of the CA on disk. */
export async function ownEtcdRuns(cp: Here): Promise<boolean> {
  return isOfCa(await ownEtcdShows(cp));
}

export async function ownEtcdShows(cp: Here): Promise<ServedCertificate> {
  const place = ownPlace(cp);
  return place ? (await servedCertificateAt(place, cp.facts)).shows : "nothing";
}

/**
 * Whether this node's own etcd refuses certificates of the etcd CA on disk, as it has read another CA. No
 * answer is no refusal.
 */
export async function ownEtcdRefuses(cp: Here): Promise<boolean> {
  const place = ownPlace(cp);
  return place !== undefined && (await refusesUs(place, cp.facts));
}

/** Its peer address. kubeadm makes it listen there, whatever URL its data has. */
function ownPlace({ data, node, facts }: Here): Pick<Peer, "host" | "port"> | undefined {
  const own = ownMember(data, node.addresses);
  if (!own) return undefined;
  const { host, port } = placeOf(own);
  const ownHost = node.addresses.includes(host) ? host : facts.advertiseAddress;
  return { host: facts.etcdAt?.peer ?? ownHost, port };
}

/**
 * Whether it takes no certificate of this node's, as another member. Of an etcd that kubeadm did not make, the API
 * server's: its CA has signed both.
 */
async function refusesUs(place: Pick<Peer, "host" | "port">, pki: Pki): Promise<boolean> {
  const own = pki.externalEtcd;
  const paths = [certPath, keyPath].map((path) => path(certRow("etcd-peer"), pki.certificatesDir));
  const [cert, key] = (own ? [own.cert, own.key] : paths).map((path) => readText(path));
  return cert && key ? (await acceptsClientCertificate(place, { cert, key })) === false : false;
}

export interface Survey {
  peers: readonly Peer[];
  /**
   * Those that do not answer this node's etcd, or refuse its certificate (`refuses`). etcd reads its CA once, at its
   * start; if that has expired since, it refuses all certificates (client/pkg/transport, ClientCAs), whatever it shows
   * itself.
   */
  silent: readonly (Peer & { refuses: boolean })[];
  quorum: Quorum;
}

/** `peers`: where they are asked already. */
export async function survey(cp: Here, peers?: readonly Peer[]): Promise<Survey> {
  const answers = await Promise.all(
    (peers ?? (await peersOf(cp))).map(async (peer) => ({
      ...peer,
      refuses: peer.shows === "ours" && (await refusesUs(peer, cp.facts)),
    })),
  );
  const silent = answers.filter(({ shows, refuses }) => shows !== "ours" || refuses);
  const quorum = quorumOf(cp.data.members, ({ id }) => !silent.some((peer) => peer.id === id));
  return { peers: answers, silent, quorum };
}

interface Quorum {
  running: number;
  isEnough: boolean;
  /** How many have to run: "2 of its 3 members". */
  words: string;
}

/**
 * More than half of the voting members, and how many of them run by `runs`. A learner has no vote (etcd's raft,
 * quorum/majority.go; membership, VotingMembers).
 */
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
