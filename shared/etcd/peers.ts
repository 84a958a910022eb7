/** The other control plane nodes: whether their etcd runs, and under which CA. They may still have what is lost here. */
import type { EtcdData, Member } from "../etcd-data/data.ts";
import { isNameless, memberName } from "../etcd-data/members.ts";
import { hostOf, ownMember } from "../etcd-home/own-member.ts";
import { refuseStrangers } from "../facts/cluster.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { Refused } from "../fail.ts";
import { readText } from "../files/files.ts";
import type { PkiAction } from "../pki/actions.ts";
import { isLoopback } from "../pki/addresses.ts";
import { certInfo, isValidNow, signedBy } from "../pki/certificate.ts";
import { type ClusterFacts, certPath, certRow } from "../pki/certs.ts";
import type { Finding } from "../pki/examine.ts";
import { servedPem } from "../pki/served.ts";
import { retyped } from "../retyped.ts";
import { say } from "../run.ts";
import { signalLine } from "../shell-line.ts";

export interface Peer extends Pick<Member, "id" | "isLearner"> {
  /** As `memberName`; kubeadm gives a member the node's name. */
  name: string;
  /** The IP address and port of its peer URL. */
  host: string;
  port: number;
  /**
   * The certificate its etcd shows on the peer port; undefined where none answers. Not the client port: etcd serves clients only once it
   * has a quorum.
   */
  servedPem: string | undefined;
}

/** All members except this machine's own. All are asked at the same time. Reads only. */
export async function peersOf(data: EtcdData, ownAddresses: readonly string[]): Promise<Peer[]> {
  const own = ownMember(data, ownAddresses);
  const others = data.members.filter((member) => member !== own);
  return await Promise.all(
    others.map(async (member) => {
      const { id, isLearner } = member;
      return { id, isLearner, name: memberName(member), ...placeOf(member), servedPem: await servedPemOrNone(placeOf(member)) };
    }),
  );
}

/** Whether this machine's own etcd runs, with a certificate of the CA on disk. */
export async function ownEtcdRuns({ data, node, facts }: Pick<ControlPlaneNode, "data" | "node" | "facts">): Promise<boolean> {
  const own = ownMember(data, node.addresses);
  if (!own) return false;
  const { host, port } = placeOf(own);
  // kubeadm has it listen for peers there, whatever URL its data has
  const place = { host: node.addresses.includes(host) ? host : facts.advertiseAddress, port };
  return servesOurCa({ servedPem: await servedPemOrNone(place) }, facts);
}

/** Whether a peer's etcd shows a certificate of the etcd CA on this node's disk. */
export function servesOurCa(peer: Pick<Peer, "servedPem">, facts: ClusterFacts): boolean {
  const ca = readText(certPath(certRow("etcd-ca"), facts.certificatesDir));
  return ca !== undefined && peer.servedPem !== undefined && signedBy(peer.servedPem, ca);
}

/** Whether a peer's etcd answers other members: our CA signed its certificate, and the certificate is valid now. */
export function answersPeers(peer: Pick<Peer, "servedPem">, facts: ClusterFacts): boolean {
  return servesOurCa(peer, facts) && isValidNow(certInfo(peer.servedPem!));
}

/** No answer means here that etcd does not run. */
async function servedPemOrNone({ host, port }: { host: string; port: number }): Promise<string | undefined> {
  const [answer] = await Promise.allSettled([servedPem(host, port)]);
  return answer.status === "fulfilled" ? answer.value : undefined;
}

/** Where a member's peers find it. Where its peer URL is localhost: the machine of its client URLs, if they name one. */
export function placeOf({ peerURLs, clientURLs }: Pick<Member, "peerURLs" | "clientURLs">): Pick<Peer, "host" | "port"> {
  const url = peerURLs.find((one) => !isLoopback(hostOf(one))) ?? peerURLs[0] ?? "https://0.0.0.0:2380";
  const published = isLoopback(hostOf(url)) ? clientURLs.map(hostOf).find((host) => host && !isLoopback(host)) : undefined;
  return { host: published ?? hostOf(url), port: Number(new URL(url).port || 2380) };
}

/** Says on which other control plane nodes etcd runs. Errors: Refused where one of them cannot share an etcd CA with this node. */
export async function lookAtPeers({ data, node, facts }: ControlPlaneNode, actions: readonly PkiAction[]): Promise<Peer[]> {
  const peers = await peersOf(data, node.addresses);
  for (const peer of peers) say(`${peer.name}, ${peer.host}: ${peer.servedPem ? "etcd runs there" : "no etcd answers"}`);
  const alive = peers.filter((peer) => peer.servedPem);
  const etcdCa = actions.find(({ row }) => row?.name === "etcd-ca");
  if (alive.length > 0 && etcdCa?.todo !== "keep") throw refuseNewCa(alive, etcdCa?.finding);
  const foreign = alive.filter((peer) => !servesOurCa(peer, facts));
  if (foreign.length > 0) {
    throw new Refused(`etcd on ${names(foreign)} shows a certificate of another CA than etcd/ca.crt here`, {
      hint:
        "one etcd needs one CA: which of them is the right one? ./bunw scripts/00-assess.ts on all. On each that has a wrong one: " +
        `${STOP_ETCD}; ./bunw scripts/hand-over.ts unpack --move-aside FILE brings the right one`,
    });
  }
  return alive;
}

/** What an operator types where etcd has to end, as a new CA of etcd takes the old one's place on all control plane nodes. */
export const STOP_ETCD = `systemctl stop kubelet; ${signalLine("TERM", ["etcd"])}`;

/** Members under two CAs refuse each other. An expired CA is the same everywhere: a copy of it helps nobody. */
function refuseNewCa(alive: readonly Peer[], etcdCa: Finding | undefined): Refused {
  const stop = `on ${names(alive)}, on each: ${STOP_ETCD}. Then here ${retyped({})}`;
  if (etcdCa?.state === "expired")
    return new Refused(`etcd runs on ${names(alive)}, and its CA has expired: they would refuse a new CA`, {
      hint: `their copy of it has expired, too. Stop etcd there, it cannot go on: ${stop}`,
    });
  return new Refused(`etcd runs on ${names(alive)}, and the CA of etcd is not here: they would refuse a new CA`, {
    hint:
      `bring the shared keys from there: on ${names(alive.slice(0, 1))} ./bunw scripts/hand-over.ts pack, then here ./bunw scripts/hand-over.ts unpack FILE. ` +
      `If it is lost on all of them as well, salvage there first, then stop etcd there: ${stop}`,
  });
}

/**
 * A control plane node whose etcd runs has the shared keys, or had them a moment ago. They are copied, not replaced, unless the operator
 * says that they are lost there, too (`lostOn`). Errors: Refused, with the names of these nodes.
 */
export function refuseWhereOthersLive(made: readonly Finding[], alive: readonly Peer[], lostOn: readonly string[], cp: ControlPlaneNode) {
  refuseStrangers({ without: [], lost: lostOn }, cp);
  const open = alive.filter(({ name }) => !lostOn.includes(name));
  if (made.length === 0 || open.length === 0) return;
  const keys = made.map(({ name }) => name).join(", ");
  throw new Refused(
    `etcd runs on ${names(open)}, which may still have ${keys}: with keys of their own, control plane nodes refuse each other`,
    {
      hint:
        `if one has them: there ./bunw scripts/hand-over.ts pack, then here ./bunw scripts/hand-over.ts unpack FILE. ` +
        `If they are lost on all of these nodes as well: ${retyped({ "lost-on": alive.map(({ name }) => name) }, { of: "01-etcd" })}`,
    },
  );
}

function names(peers: readonly Peer[]): string {
  return peers.map((peer) => (isNameless(peer) ? `${peer.name} at ${peer.host}` : peer.name)).join(", ");
}
