/**
 * Members of etcd that do not answer our client, this node's own too, prove nothing of themselves, or have no vote:
 * the refusal or the question, each with the way on. Who does not answer may still live.
 */
import { again, command } from "../again.ts";
import { isNameless, type Member, memberName } from "../etcd-data/members.ts";
import { type EtcdClient, EtcdRefusal, type EtcdStatus } from "../etcd-location/client.ts";
import { etcdctlLine, gatewayTrouble, promotion } from "../etcd-location/reach-etcd.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { Fail, Refused } from "../fail.ts";
import { manifestPath, readableManifest } from "../manifests/on-disk.ts";
import { type Container, controlPlaneContainers } from "../node/containers.ts";
import { certInfo, infoOf } from "../pki/certificate.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { quoteUntrusted } from "../plain.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import type { MemberId } from "./identity.ts";
import { etcdCas, ownEtcdRuns, type Peer, peerNames, quorumOf, survey } from "./peers.ts";

export async function ownContainer({ node }: ControlPlaneNode): Promise<Container | undefined> {
  return (await controlPlaneContainers(node.runtimeEndpoint)).find(({ name }) => name === "etcd");
}

/** Errors: Refused if etcd's manifest on disk shows that this kit cannot ask it. */
export function refuseUnasked(cp: ControlPlaneNode) {
  const trouble = refusalToAsk(cp);
  if (trouble) throw trouble;
}

function refusalToAsk(cp: ControlPlaneNode): Refused | undefined {
  const path = manifestPath(cp, "etcd");
  const manifest = readableManifest(path);
  return manifest && gatewayTrouble(manifest, path);
}

/**
 * It accepted our certificate and refused, or its manifest has no port for us. Undefined if it may be in trouble.
 * Whether it serves others, only they can say.
 */
export async function accessRefusal(cp: ControlPlaneNode, fail: Fail): Promise<Fail | undefined> {
  const refusal = refusalToAsk(cp) ?? missingEtcdUser(cp, fail);
  if (!refusal && !(fail instanceof EtcdRefusal)) return undefined;
  return (await ownEtcdRuns(cp)) ? (refusal ?? fail) : undefined;
}

/** Why etcd did not answer part 2, if it lives; else the same Fail. */
export async function whySilent(cp: ControlPlaneNode, fail: Fail): Promise<Fail> {
  const cause = fail.cause instanceof Fail ? fail.cause : fail;
  const refusal = missingEtcdUser(cp, cause);
  if (refusal) return refusal;
  const lives = cause instanceof EtcdRefusal && (await survey(cp)).quorum.isEnough;
  return lives ? noAnswer(cause, await ownContainer(cp)) : fail;
}

/**
 * The gateway has no client certificate of its own, so etcd treats it as nobody (server/auth/store.go,
 * AuthInfoFromTLS).
 */
const AUTH = /user name is empty|permission denied|invalid auth token|authentication failed/;

export function missingEtcdUser({ facts }: ControlPlaneNode, { message }: Fail): Refused | undefined {
  if (!AUTH.test(message)) return undefined;
  const disable = etcdctlLine("--user root auth disable", facts, "-it");
  return new Refused(`etcd's own authentication is on, and this kit has no user there: ${message}`, {
    unchanged: true,
    hint: `type for the time of the repair: ${disable}; then run the same line again. auth enable when 05-verify is well`,
  });
}

export const IF_STOP_HANGS = "If it hangs: systemctl stop kubelet";

export function noAnswer({ message }: Fail, container: Container | undefined): Refused {
  const id = container?.id ?? "ID";
  return new Refused(`etcd runs here, its files are valid, and it does not answer this kit: ${message}`, {
    unchanged: true,
    hint: `see why: ${shell`crictl logs --tail 20 ${id}`}. ${IF_STOP_HANGS}; ${shell`crictl stop ${id}`}; then run the same line again`,
  });
}

export const ASK_UNIT = "systemctl status etcd; journalctl -u etcd -n 50";

export function unitSilent({ endpoint }: Pick<EtcdClient, "endpoint">, { message }: Fail): Refused {
  return new Refused(`etcd at ${endpoint} does not answer: ${message}`, {
    unchanged: true,
    hint: `repair etcd where it runs, as this kit starts only the etcd that kubeadm makes: ${ASK_UNIT}; on its other members, too. If etcd has stopped: systemctl start etcd on each. Then run the same line again`,
  });
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
      hint: `bring one of these nodes back: it needs its etcd data. ${BEGINS_ANEW}`,
    },
  );
}

/**
 * Errors: Fail if members that never started have so many votes that etcd can never answer. `silent`: the other
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

type Voter = MemberId & Pick<Member, "isLearner">;

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
