/**
 * This node's etcd in part 1: whether it runs and serves the old data. If it is not stopped, its rescue copy is made of
 * a snapshot by its own API.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { type EtcdData, readSnapshotData } from "../etcd-data/data.ts";
import { isNameless } from "../etcd-data/members.ts";
import { type EtcdClient, EtcdRefusal, etcdClient, type LiveMember } from "../etcd-location/client.ts";
import { SNAPSHOT, SNAPSHOT_OF, type SnapshotOf } from "../etcd-location/etcd-folders.ts";
import { writeSnapshot } from "../etcd-location/living-etcd.ts";
import type { EtcdSeen } from "../facts/course.ts";
import { containerEnd } from "../facts/ended-container.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { attemptLater, Fail, failOf, Refused } from "../fail.ts";
import { megabytes, withSelinux } from "../files/file-system.ts";
import { PRIVATE_FOLDER } from "../files/file-tree.ts";
import { hostEntry, makeFolder, renameInto, stat, UNFINISHED } from "../files/files.ts";
import type { Container } from "../node/containers.ts";
import { savedOptionsOf } from "../node/words.ts";
import { decodeObject } from "../objects/storage.ts";
import { registryPrefix } from "../objects/stored.ts";
import { certPath, certRow } from "../pki/certs.ts";
import { examine } from "../pki/examine.ts";
import { Progress } from "../progress.ts";
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { checkSignal, told } from "../this-run.ts";
import { inTime, waitFor } from "../wait-for.ts";
import { OtherEtcd, proveSameEtcd, wayWithout } from "./identity.ts";
import { ETCD_STARTS, isOwnEtcd, ownEtcdRefuses, ownEtcdRuns, type Peer, peersOf, survey } from "./peers.ts";
import {
  ASK_UNIT,
  IF_STOP_HANGS,
  missingEtcdUser,
  noAnswer,
  ownContainer,
  refuseLearner,
  refuseNeverStarted,
  refuseUnasked,
  unitSilent,
} from "./unheard.ts";

const limit = (cp: ControlPlaneNode) => ({
  seconds: ETCD_STARTS,
  ended: containerEnd(cp, "etcd", async () => true),
  hint: cp.facts.externalEtcd
    ? ASK_UNIT
    : withSelinux("crictl ps -a --name etcd; crictl logs ID; journalctl -u kubelet -n 50"),
});

/**
 * It has valid files, and serves the old data, or runs and waits for other members; says which. Errors: Refused if it
 * lives and does not answer us; Fail if it holds other data.
 */
export async function etcdLives(cp: ControlPlaneNode): Promise<boolean> {
  const isClient = examine(certRow("etcd-healthcheck-client"), cp.facts).state === "ok";
  const fail = isClient ? await failOf(() => proveServing(cp)) : NO_CLIENT;
  if (!fail) return true;
  if (fail instanceof OtherEtcd) throw fail;
  const container = await ownContainer(cp);
  const why = fail instanceof EtcdRefusal ? undefined : await whyDead(container, fail, cp);
  if (why) {
    say(why);
    return false;
  }
  return await livesSilently(cp, fail, container);
}

/** Step 1.5 issues it; etcd need not restart for that. */
const NO_CLIENT = new Fail("its client certificate is not valid", {
  hint: "continue: step 1.5 issues the certificate, and step 1.7 asks etcd",
});

async function proveServing(cp: ControlPlaneNode) {
  const { proofs } = await proveSameEtcd(etcdClient(cp.facts)!, cp);
  say(proofs[0]!);
}

/**
 * etcd reads its leaf certificates at each handshake, and its CA only at its start. A newer file proves
 * nothing by itself: it may be a copy of the same CA.
 */
async function whyDead(
  container: Container | undefined,
  { message }: Fail,
  cp: ControlPlaneNode,
): Promise<string | undefined> {
  if (!container) return `etcd does not serve yet: ${message}`;
  const ca = certPath("etcd-ca", cp.facts.certificatesDir);
  return stat(ca)!.modified > container.created && (await ownEtcdRefuses(cp))
    ? `etcd runs, and has not read ${ca}, which is younger: it refuses its certificates`
    : undefined;
}

/** It lives and did not answer: other members are missing, it has just started, or it cannot be asked. */
async function livesSilently(
  cp: ControlPlaneNode,
  fail: Fail,
  container: Container | undefined,
): Promise<boolean> {
  refuseUnasked(cp);
  const shows = () => ownEtcdRuns(cp);
  if (
    !(fail instanceof EtcdRefusal) &&
    !(await happensInTime("etcd to show its certificate", shows, ETCD_STARTS))
  )
    throw showsNothing(container!);
  const { quorum } = await survey(cp);
  if (!quorum.isEnough) {
    say(`etcd runs, and is not stopped: it answers when ${quorum.words} run; now ${quorum.running}`);
    return true;
  }
  if (fail === NO_CLIENT) {
    say("etcd runs, and is not stopped: step 1.5 issues our certificate for it");
    return true;
  }
  const withoutUser = missingEtcdUser(cp, fail);
  if (withoutUser) throw withoutUser;
  let last = fail;
  const probe = async () => {
    const now = await failOf(() => proveServing(cp));
    last = now ?? last;
    return !now;
  };
  if (await happensInTime("etcd to answer", probe, 30)) return true;
  throw last instanceof OtherEtcd ? last : noAnswer(last, container);
}

async function happensInTime(what: string, probe: () => Promise<boolean>, seconds: number): Promise<boolean> {
  return (await inTime(what, probe, { seconds, hint: "crictl ps -a --name etcd; crictl logs ID" })) === true;
}

function showsNothing({ id, created }: Container): Refused {
  return new Refused(
    `etcd's container runs since ${created.toISOString().slice(0, 19)}Z, and its port shows no certificate yet`,
    {
      unchanged: true,
      hint: `see whether etcd still reads its data: ${shell`crictl logs --tail 20 ${id}`}. ${IF_STOP_HANGS}; ${shell`crictl stop ${id}`}; then run the same line again`,
    },
  );
}

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
      ...peersSeen(
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
    return { ...peersSeen(peers, silent), answers: false };
  }
  const status = client && (await toLead(client, limit(cp)));
  if (!client || !status) return { ...peersSeen(peers, silent), answers: true };
  refuseLearner(status, cp);
  const { proofs, members } = await proveSameEtcd(client, cp, status);
  for (const proof of proofs) say(proof);
  told({ what: "proved", subject: "etcd" });
  const membersOf = (some: readonly Peer[]) =>
    some.filter(({ id }) => members.some((member) => member.id === id));
  for (const peer of membersOf(silent)) if (isNameless(peer)) say(wayWithout(peer, "02-control-plane"));
  return { ...peersSeen(membersOf(peers), membersOf(silent)), answers: true };
}

/** Their names: nobody goes to those that never started, or are away. */
function peersSeen(peers: readonly Peer[], silent: readonly Peer[]): Pick<EtcdSeen, "peers" | "silent"> {
  const away = savedOptionsOf("without").map(({ value }) => value);
  const nodes = (some: readonly Peer[]) =>
    some.flatMap((peer) => (isNameless(peer) || away.includes(peer.name) ? [] : peer.name));
  return { peers: nodes(peers), silent: nodes(silent) };
}

/**
 * An etcd that kubeadm did not make lives, has a leader, and is the one whose data was read. Nothing here starts it.
 * Errors: Refused if it does not answer; Fail if it is another.
 */
export async function proveUnit(cp: ControlPlaneNode) {
  const client = etcdClient(cp.facts)!;
  const status = await attemptLater(() => toLead(client, { seconds: 30, hint: ASK_UNIT }));
  if (status instanceof Fail) throw unitSilent(client, status);
  for (const proof of (await proveSameEtcd(client, cp, status)).proofs) say(proof);
}

async function toLead(client: EtcdClient, options: Parameters<typeof waitFor>[2]) {
  const leads = async () => {
    const status = await client.status();
    return status.leaderId !== "0" && status;
  };
  return await waitFor("etcd to answer, and to have a leader", leads, options);
}

const HINT = "see whether etcd is well: ./bunw scripts/05-verify.ts. Then run the same line again";

/**
 * The rescue copy, in the folder `to`: the snapshot, and what it does not have, the ids and the members. It gets its
 * name when it is whole, and can be read as the cluster that was read before. Errors: Fail if it cannot.
 */
export async function copyBySnapshot(
  client: EtcdClient,
  { data, cluster }: Pick<ControlPlaneNode, "data" | "cluster">,
  to: string,
) {
  if (mode.dryRun) return say(`would save a snapshot of etcd at ${client.endpoint} to ${to}`);
  const { revision } = await client.status();
  const live = await client.members();
  const memberInData = ({ id }: LiveMember) => data.members.find((member) => member.id === id);
  const members = live.map((member) => ({ ...member, ...memberInData(member), name: member.name }));
  const about: SnapshotOf = {
    ...{ clusterId: data.clusterId, memberId: data.memberId, members },
    ...(data.elsewhere && { elsewhere: { ...data.elsewhere, members } }),
  };
  const partial = `${to}${UNFINISHED}`;
  const host = hostEntry(partial);
  fs.rmSync(host, { recursive: true, force: true });
  makeFolder(host, PRIVATE_FOLDER);
  const progress = new Progress("a snapshot of etcd", undefined, process.stderr.isTTY, "MB");
  try {
    const size = await toFile(join(host, SNAPSHOT), client, (bytes) => {
      progress.show(Math.ceil(bytes / 1e6));
      checkSignal();
    });
    fs.writeFileSync(join(host, SNAPSHOT_OF), JSON.stringify(about), { mode: 0o600, flush: true });
    using copy = readSnapshotData(join(host, SNAPSHOT));
    refuseOtherData(copy, { data, cluster, revision });
    renameInto(host, hostEntry(to));
    told({ what: "act", line: `saved a snapshot of etcd to ${to}` });
    say(`saved a snapshot of etcd to ${to} (${megabytes(size)} MB, revision ${copy.revision}): etcd runs on`);
  } finally {
    progress.clear();
    fs.rmSync(host, { recursive: true, force: true });
  }
}

async function toFile(path: string, client: EtcdClient, show: (bytes: number) => void): Promise<number> {
  const file = fs.openSync(path, "wx", 0o600);
  try {
    const size = await writeSnapshot(file, client, show);
    fs.fsyncSync(file);
    return size;
  } finally {
    fs.closeSync(file);
  }
}

/** Its sum says that it is whole; this says whose it is. */
function refuseOtherData(
  copy: EtcdData,
  { data, cluster, revision }: Pick<ControlPlaneNode, "data" | "cluster"> & { revision: number },
) {
  const kubeSystem = copy.get(`${registryPrefix(data)}/namespaces/kube-system`);
  type Namespace = { metadata?: { uid?: string } };
  const stored = kubeSystem && decodeObject(data.shown(kubeSystem.key, kubeSystem.value));
  const uid = (stored as Namespace | undefined)?.metadata?.uid;
  if (uid === cluster.kubeSystemUid && copy.revision >= revision) return;
  throw new Fail(
    `The snapshot of etcd is of another cluster, or older: revision ${copy.revision}, kube-system ${uid ?? "is missing"}`,
    { hint: HINT },
  );
}

/** The rescue copy of such an etcd. Errors: as `copyBySnapshot`. */
export async function copyUnit(cp: ControlPlaneNode, to: string) {
  await copyBySnapshot(etcdClient(cp.facts)!, cp, to);
}
