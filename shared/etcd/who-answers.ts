/** Whose etcd it is that answers at a member's address: proved by its certificate, or a question to the operator. */
import { basename, dirname } from "node:path";
import { again } from "../again.ts";
import { isNameless, type Member } from "../etcd-data/members.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { Refused } from "../fail.ts";
import { list, readText } from "../files/files.ts";
import { rescueFolders } from "../node/rescue-folder.ts";
import { certInfo, infoOf, signedBy } from "../pki/certificate.ts";
import { type ClusterFacts, certPath, certRow } from "../pki/certs.ts";
import { say } from "../run.ts";

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

/**
 * What a peer's address shows. Only a certificate of an etcd CA that this node has, or that a script has moved aside here, proves whose etcd
 * it is: anybody may answer at the address of a machine that is off.
 */
export function shownBy({ servedPem }: Pick<Peer, "servedPem">, { certificatesDir }: ClusterFacts): "ours" | "another's" | "nothing" {
  if (servedPem === undefined) return "nothing";
  return etcdCas(certificatesDir).some((pem) => signedBy(servedPem, pem)) ? "ours" : "another's";
}

/** In PEM: the one on disk, and those that took its place before. */
function etcdCas(certificatesDir: string): string[] {
  const path = certPath(certRow("etcd-ca"), certificatesDir);
  const folders = rescueFolders().map(({ dir }) => dirname(`${dir}/aside${path}`));
  const aside = folders.flatMap((dir) => list(dir).flatMap((name) => (name.startsWith(basename(path)) ? `${dir}/${name}` : [])));
  return [path, ...aside].flatMap((each) => readText(each) ?? []).filter((pem) => infoOf(pem) !== undefined);
}

/** What a person has to decide about a peer that nothing here vouches for. */
export interface Question {
  /** Names of nodes, after --lost-on. */
  lostOn: readonly string[];
  /** What it matters for: "it would refuse a new CA". */
  matters: string;
  /** The way on if it is that node's etcd. */
  honest: string;
  /** What is lost if the operator says that it is not, and errs. */
  wrong: string;
  /** The script that takes the word; unset: the one that runs. */
  of?: string;
}

/**
 * Peers whose certificate proves nothing: this says so of those that the operator has looked at (`lostOn`). Errors: Refused with a question
 * for the others: whoever answers at an address can make a script ask, and no more.
 */
export function askAboutStrangers(strangers: readonly Peer[], { facts }: Pick<ControlPlaneNode, "facts">, question: Question) {
  const { lostOn, matters, honest, wrong } = question;
  const open = strangers.filter(({ name }) => !lostOn.includes(name));
  const at = (peer: Peer) => `${peer.host}:${peer.port}`;
  for (const peer of strangers.filter((each) => !open.includes(each)))
    say(`${peer.name}: what answers at ${at(peer)} is not its etcd, as you say. It shows ${shownKey(peer)}`);
  if (open.length === 0) return;
  const [ca] = etcdCas(facts.certificatesDir);
  const own = ca ? `that of etcd's CA here is ${certInfo(ca).publicKeyHash}` : "no CA of etcd is here to compare with";
  const word = again({ "lost-on": open.map(({ name }) => name) }, question.of === undefined ? {} : { of: question.of });
  throw new Refused(
    `What answers at ${open.map(at).join(", ")} may be etcd of ${peerNames(open)}, and nothing here proves it: ${matters}`,
    {
      hint:
        `nothing was changed. It shows ${open.map(shownKey).join(", ")}; ${own}. Look at ${peerNames(open)}. If etcd runs there: ${honest}. ` +
        `If not, somebody else has that address: ${word}. If it is ${peerNames(open)}'s etcd all the same, ${wrong}`,
    },
  );
}

function shownKey({ servedPem }: Peer): string {
  return `the key ${infoOf(servedPem)?.publicKeyHash ?? "of no certificate that can be read"}`;
}

/** For the operator: each by its name, or by its id and where it is. */
export function peerNames(peers: readonly Peer[]): string {
  return peers.map((peer) => (isNameless(peer) ? `${peer.name} at ${peer.host}` : peer.name)).join(", ");
}
