/** This node's etcd: whether it is a member, and serves the old data. */
import { dirname } from "node:path";
import { again, command, type LeftOut, leftNames } from "../again.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import { isNameless } from "../etcd-data/members.ts";
import { type EtcdClient, etcdClient } from "../etcd-location/client.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { containerEnd } from "../facts/ended-container.ts";
import type { EtcdSeen } from "../facts/next.ts";
import { leftOut, nodesAmong } from "../facts/said.ts";
import { attemptLater, Fail, Refused } from "../fail.ts";
import { withSelinux } from "../files/file-system.ts";
import { copyLargeTree } from "../files/file-tree.ts";
import { exists, readText, writeTogether } from "../files/files.ts";
import { endWords, wordsOf } from "../node/words.ts";
import { registryPrefix } from "../objects/stored.ts";
import type { ClusterFacts, UnitFile } from "../pki/certs.ts";
import { renewLeaf } from "../pki/renew.ts";
import { mode, say } from "../run.ts";
import { told } from "../this-run.ts";
import { type Ended, undefinedOnTimeout, waitFor } from "../wait-for.ts";
import { membersNow, proveMembers, refuseLiving, removeMembers } from "./all-members.ts";
import { proveSameEtcd, wayWithout } from "./identity.ts";
import { refuseLearner, refuseNeverStarted, refuseNoQuorum } from "./other-members.ts";
import {
  ETCD_STARTS,
  isOwnEtcd,
  ownEtcdRuns,
  type Peer,
  peerNames,
  peersOf,
  SOON,
  shownAt,
  survey,
} from "./peers.ts";
import { ASK_UNIT, refuseUnasked, unitSilent, whySilent } from "./unheard.ts";

const limit = (cp: ControlPlaneNode) => ({
  seconds: ETCD_STARTS,
  ended: containerEnd(cp, "etcd", async () => true),
  hint: withSelinux("crictl ps -a --name etcd; crictl logs ID; journalctl -u kubelet -n 50"),
});

/** Once it runs, it talks to its peers. */
export async function waitForOwnEtcd(cp: ControlPlaneNode) {
  await waitFor("etcd to show its new certificate to its peers", () => ownEtcdRuns(cp), limit(cp));
}

/**
 * Step 1.7: this etcd runs, and is the old one once enough members run. Errors: Fail if it is not, or can
 * never answer.
 */
export async function proveOwnEtcd(
  cp: ControlPlaneNode,
): Promise<Pick<EtcdSeen, "peers" | "silent" | "answers">> {
  const { facts, data } = cp;
  if (facts.externalEtcd?.elsewhere) {
    await proveUnit(cp);
    const all = await peersOf(cp);
    return {
      ...seen(
        all,
        all.filter((peer) => !isOwnEtcd(peer)),
      ),
      answers: true,
    };
  }
  const client = etcdClient(facts);
  await waitForOwnEtcd(cp);
  const { peers, silent, quorum } = await survey(cp);
  for (const { name } of silent.filter(({ refuses }) => refuses))
    say(`${name}: its etcd refuses this one's certificate: part 1 there starts it with the current CA`);
  refuseNeverStarted(data.members, silent);
  if (!quorum.isEnough) {
    say(`etcd runs here. It answers when ${quorum.words} run; now ${quorum.running}`);
    return { ...seen(peers, silent), answers: false };
  }
  const status = client && (await toLead(client, limit(cp)));
  if (!client || !status) return { ...seen(peers, silent), answers: true };
  refuseLearner(status, cp);
  const { proofs, members } = await proveSameEtcd(client, cp, status);
  for (const proof of proofs) say(proof);
  told({ what: "proved", subject: "etcd" });
  const membersOf = (some: readonly Peer[]) =>
    some.filter(({ id }) => members.some((member) => member.id === id));
  for (const peer of membersOf(silent)) if (isNameless(peer)) say(wayWithout(peer, "02-control-plane"));
  return { ...seen(membersOf(peers), membersOf(silent)), answers: true };
}

/** Their names: nobody goes to those that never started, or are away. */
function seen(peers: readonly Peer[], silent: readonly Peer[]): Pick<EtcdSeen, "peers" | "silent"> {
  const away = wordsOf("without").map(({ value }) => value);
  const nodes = (some: readonly Peer[]) =>
    some.flatMap((peer) => (isNameless(peer) || away.includes(peer.name) ? [] : peer.name));
  return { peers: nodes(peers), silent: nodes(silent) };
}

/**
 * Part 1, of an etcd that kubeadm did not make: it lives, has a leader, and is the one whose data was read. Nothing
 * here starts it. Errors: Refused if it does not answer; Fail if it is another.
 */
async function proveUnit(cp: ControlPlaneNode) {
  const client = etcdClient(cp.facts)!;
  const status = await attemptLater(() => toLead(client, { seconds: 30, hint: ASK_UNIT }));
  if (status instanceof Fail) throw unitSilent(client, status);
  for (const proof of (await proveSameEtcd(client, cp, status)).proofs) say(proof);
}

/** Its proof; where some of its files are to be made first, what they are. Errors: as `proveUnit`. */
export async function lookAtUnit(cp: ControlPlaneNode) {
  const { toMake } = cp.facts.externalEtcd!;
  if (!toMake) return await proveUnit(cp);
  for (const { cert, renewal } of toMake)
    say(
      `${cert}: ${renewal ? "has expired, and is renewed" : "is lost, and becomes a copy of etcd's own"} in 1.3`,
    );
}

/**
 * Files of an etcd that is a unit of this node, before the rescue copy: with expired certificates etcd gives none. It
 * reads certificate and key at each handshake (client/pkg/transport/listener.go), and so do the API servers: nothing
 * restarts. The folders as they were are kept first. Errors: as `proveUnit`.
 */
export async function makeUnitFiles(cp: ControlPlaneNode) {
  const { facts, rescue } = cp;
  const files = facts.externalEtcd?.toMake ?? [];
  const folders = new Set(files.map(({ cert }) => dirname(cert)).filter((folder) => exists(folder)));
  for (const folder of folders) await copyLargeTree(folder, `${rescue.dir}/before${folder}`);
  for (const file of files) make(file);
  if (files.length > 0 && !mode.dryRun) await proveUnit(cp);
}

function make({ cert, renewal, copy }: UnitFile) {
  const read = (path: string) => readText(path) ?? "";
  if (renewal) {
    const ca = { cert: read(renewal.ca), key: read(renewal.caKey) };
    const content = renewLeaf(read(cert), ca);
    writeTogether([{ path: cert, content, note: "as it was, with its key; until later" }]);
  }
  if (!copy) return;
  // a key before its certificate
  const [ca, own, key] = copy.map(({ from, to }) => ({ path: to, content: read(from), folderMode: 0o755 }));
  writeTogether([
    { ...key!, mode: 0o600, note: "etcd's own: any certificate of its CA will do" },
    { ...ca!, mode: 0o644 },
    { ...own!, mode: 0o644 },
  ]);
}

const PART_1_FIRST = "run part 1 first: ./bunw scripts/01-etcd.ts";

/**
 * Step 2.1: this etcd is the old one, and so is each other member, except offline and lost ones; lost ones
 * are removed. Returns whether the database is full, and the nodes that are lost: named now, or taken out before.
 */
export async function proveEtcd(
  cp: ControlPlaneNode,
  named: LeftOut,
  lostOn: readonly string[],
): Promise<{ isFull: boolean; lost: readonly string[] }> {
  const { lost } = named;
  const { facts, data } = cp;
  refuseMembersElsewhere(facts, lost);
  refuseUnasked(cp);
  const peers = await peersOf(cp);
  refuseLiving(peers, { lost, lostOn }, cp);
  const client = etcdClient(facts);
  if (lost.length > 0) refuseNoQuorum(await membersNow(client, data), lost);
  if (mode.dryRun) {
    await sayPlannedRemovals(client, data, lost);
    return { isFull: data.isFull, lost: nodesAmong(lost, cp) };
  }
  if (!client) throw new Fail("etcd's certificates are not there", { hint: PART_1_FIRST });
  const status = await attemptLater(() => toAnswer(client));
  if (status instanceof Fail) throw await whySilent(cp, status);
  refuseLearner(status!, cp);
  const proved = await proveSameEtcd(client, cp, status);
  for (const proof of proved.proofs) say(proof);
  const { members } = proved;
  const current = peers.filter(({ id }) => members.some((member) => member.id === id));
  const out = await leftOut(cp, named, members);
  const without = [...lost, ...leftNames(out)];
  await proveMembers(client, facts, { proved, peers: current, without });
  const same = current.flatMap(({ name }) => (without.includes(name) ? [] : name));
  endWords(({ option, value }) => option === "lost-on" && same.includes(value), "its etcd has the same keys");
  for (const { name } of current.filter((peer) => named.without.includes(peer.name))) sayAway(name, named);
  const removed = current.filter(({ name }) => lost.includes(name));
  await refuseSignsOfLife(client, cp, { gone: removed, lost, lostOn });
  await removeMembers(members, lost, client);
  return { isFull: await client.isFull(), lost: out.lost };
}

/**
 * Errors: Refused if members of an etcd that kubeadm did not make are to be taken out: its settings and certificates
 * name all of them, and only its maker writes those.
 */
export function refuseMembersElsewhere(
  { externalEtcd }: Pick<ClusterFacts, "externalEtcd">,
  lost: readonly string[],
) {
  if (!externalEtcd || lost.length === 0) return;
  throw new Refused(`${lost.join(", ")}: this kit takes no member out of an etcd that kubeadm did not make`, {
    unchanged: true,
    hint: `remove it by its maker's own means (kubespray: remove-node.yml, recover-control-plane.yml), then run the same line without it: ${again({}, { of: "02-control-plane", less: lost })}`,
  });
}

function sayAway(name: string, { without, lost }: LeftOut) {
  const line = command("02-control-plane", {
    without: without.filter((other) => other !== name),
    lost: [...lost, name],
  });
  say(`${name}: away, so not asked; it stays a member of etcd. If it is lost for good: ${line}`);
}

/** Seconds: a living kubelet renews its Lease every ten, through any API server that runs. */
const RENEWS = 12;

/**
 * A machine that pauses for a moment, or has just started, may miss one question. So members that are to be
 * removed are asked as long as their Lease is watched. Errors: Refused if one of them shows a sign of life
 * meanwhile.
 */
async function refuseSignsOfLife(
  client: EtcdClient,
  cp: ControlPlaneNode,
  { gone, ...said }: { gone: readonly Peer[]; lost: readonly string[]; lostOn: readonly string[] },
) {
  // a member that never started has no data and no kubelet
  const nodes = gone.filter((peer) => !isNameless(peer));
  if (nodes.length === 0) return;
  const silent = nodes.filter(({ shows }) => shows === "nothing");
  const prefix = `${registryPrefix(cp.data)}/leases/kube-node-lease`;
  const leaseOf = async ({ name }: Peer) =>
    Buffer.from((await client.get(`${prefix}/${name}`)) ?? "").toString("hex");
  const leases = () => Promise.all(nodes.map(leaseOf));
  const before = await leases();
  const sign = async () => {
    const pending = silent.map(async (peer) => ({ ...peer, ...(await shownAt(peer, cp.facts, SOON)) }));
    const [now, shown] = await Promise.all([leases(), Promise.all(pending)]);
    const renews = nodes.find((_, i) => now[i] !== before[i])?.name;
    const answers = shown.filter(
      (peer) => isOwnEtcd(peer) || (peer.shows !== "nothing" && !said.lostOn.includes(peer.name)),
    );
    return (renews !== undefined || answers.length > 0) && { renews, answers };
  };
  const options = { seconds: RENEWS, hint: "wait: it ends by itself" };
  const seen = await undefinedOnTimeout(waitFor(`a sign of life of ${peerNames(nodes)}`, sign, options));
  if (!seen) return;
  refuseLiving(seen.answers, said, cp);
  throw new Refused(`${seen.renews} is not lost: its kubelet renews its Lease`, {
    unchanged: true,
    hint: `type without it: ${again({}, { of: "02-control-plane", less: [seen.renews!] })}. If it shall go all the same, first there: systemctl stop kubelet`,
  });
}

async function toLead(client: EtcdClient, options: Parameters<typeof waitFor>[2]) {
  const leads = async () => {
    const status = await client.status();
    return status.leaderId !== "0" && status;
  };
  return await waitFor("etcd to answer, and to have a leader", leads, options);
}

async function toAnswer(client: EtcdClient) {
  return await waitFor("etcd to answer", () => client.status(), { seconds: 30, hint: PART_1_FIRST });
}

async function sayPlannedRemovals(client: EtcdClient | undefined, data: EtcdData, lost: readonly string[]) {
  if (client) await toAnswer(client);
  else say("etcd does not run yet: part 1 first");
  if (lost.length === 0) return;
  await removeMembers(await membersNow(client, data), lost, client);
}

/** A `containerEnd` for the API server: it needs etcd. */
export function apiServerEnd(cp: ControlPlaneNode): Ended {
  return containerEnd(cp, "kube-apiserver", async () => (await etcdClient(cp.facts)?.status()) !== undefined);
}
