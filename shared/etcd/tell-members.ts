/**
 * Machines have moved: etcd's members learn where the others are now. A member that has moved dials the
 * others and speaks over those connections; only who dials it has to know its new place. So one running
 * member that is found is enough for a majority: one that has not moved, or one that is reached under its old
 * address for as long as that takes, through a relay in this process on this machine's own loopback. Nothing
 * is written to any data directory.
 *
 * Sources: etcd server/etcdserver/api/rafthttp (a stream is opened by the receiver; what has none goes by
 * POST), membership/cluster.go (peerURLs change by UpdateMember alone); with real etcd 3.5 and 3.6:
 * test/lab/checks/moved-members.ts.
 */
import { command } from "../again.ts";
import { memberName } from "../etcd-data/members.ts";
import { hostOf } from "../etcd-location/reach-etcd.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { Fail, Refused } from "../fail.ts";
import { movedHere } from "../node/words.ts";
import { addressBefore, asMoved, isFor, isLoopback, type Moved } from "../pki/addresses.ts";
import { infoOf } from "../pki/certificate.ts";
import { isHeard } from "../pki/served.ts";
import { act, mode, say } from "../run.ts";
import { orUndo } from "../signals.ts";
import { waitFor } from "../wait-for.ts";
import { type EtcdClient, etcdClient, unlessSilent } from "./client.ts";
import { type Peer, quorumOf } from "./other-members.ts";
import { waitForOwnEtcd } from "./own-etcd.ts";
import { peersOf, settledPeers, silentPeers } from "./peers.ts";
import { endLeftRelays, type Relay, startRelay } from "./relay.ts";

/** Whether there is something to tell. */
export function hasMoved(): boolean {
  return movedHere().size > 0;
}

/**
 * Does it once enough members run; before that it says how many are missing. Errors: Refused where no old
 * address can be used; Fail where etcd gets no leader.
 */
export async function tellMembers(cp: ControlPlaneNode) {
  const moved = movedHere();
  const client = etcdClient(cp.facts);
  if (mode.dryRun) return say("would update the peer URLs of etcd's members, when most of them run");
  await endLeftRelays(peerHosts(cp).flatMap((host) => addressBefore(host, moved) ?? []));
  await waitForOwnEtcd(cp);
  const peers = await settledPeers(await peersOf(cp.data, cp.node.addresses), {
    isOpen: ({ isDeaf = false }) => isDeaf,
    to: "to show a certificate",
    seconds: LOOKS,
    hint: () => "crictl logs of etcd there",
  });
  const silent = await silentPeers(peers, cp.facts);
  const running = peers.filter(({ id }) => !silent.some((one) => one.id === id));
  const quorum = quorumOf(cp.data.members, ({ id }) => !silent.some((one) => one.id === id));
  if (!client || !quorum.isEnough) return sayWhoIsMissing(quorum, silent, moved);
  // this machine's own member may be the one that the leader does not find yet
  const clients = [client, ...running.map(({ host }) => etcdClient(cp.facts, host)!)];
  const leading = await withLeader(clients);
  if (leading) return await update(leading, moved);
  let relay: StandIn | undefined;
  const work = async () => {
    relay = await relayFor(running, cp, moved);
    await update((await waitForLeader(clients, relay)) ?? client, moved);
  };
  await orUndo(work, async () => await relay?.end());
  await relay?.end();
  await waitForLeader([client]);
}

/** `name`: the member that is reached through it. */
type StandIn = Relay & { name: string };

function sayWhoIsMissing(
  { words, running }: ReturnType<typeof quorumOf>,
  silent: readonly Peer[],
  moved: Moved,
) {
  say(`etcd's members learn the new addresses when ${words} run; now ${running}`);
  const today = [...moved.values()];
  const untold = silent.filter(({ host }) => !today.includes(host));
  for (const { name, host } of untold)
    say(`${name} at ${host}: has it moved, too? ${command("move", { moved: [`${host}=ITS-ADDRESS`] })}`);
}

/** Seconds. etcd 3.6 looks at each peer before it serves, and shows no certificate until then. */
const LOOKS = 40;

/** The first of these members whose leader answers: one that ended a moment ago is still named. */
async function withLeader(clients: readonly EtcdClient[]): Promise<EtcdClient | undefined> {
  const asked = clients.map(async (client) => {
    const status = await unlessSilent(() => client.status());
    if (status === undefined || status.leaderId === "0") return undefined;
    return (await unlessSilent(() => client.members({ agreed: true }))) && client;
  });
  return (await Promise.all(asked)).find((client) => client !== undefined);
}

/**
 * etcd 3.6 looks at each peer for seconds before it serves: an old address may swallow what is sent there. A member
 * that was away for long gets all that it lacks before there is a leader, and only who has it can send it: so this
 * goes on as long as much comes through the relay here, and where nothing does, it has to stand on the other machine.
 */
async function waitForLeader(
  clients: readonly EtcdClient[],
  relay?: StandIn,
): Promise<EtcdClient | undefined> {
  const before = relay?.carried() ?? 0;
  const hint = relay ? `${behind(relay)}. Or: ${LOGS}` : LOGS;
  const waiting = waitFor("etcd to have a leader", () => withLeader(clients), { seconds: 180, hint });
  try {
    return await waiting;
  } catch (err) {
    if (!(err instanceof Fail && relay && relay.carried() - before > MUCH)) throw err;
    return await waitForLeader(clients, relay);
  }
}

const LOGS = "crictl ps -a --name etcd; crictl logs ID, on each control plane node";
const behind = ({ name }: StandIn) =>
  `part 1 once more on ${name}: was this machine away for long, only from there its etcd gets what is missing`;

/** Bytes in three minutes: more than heartbeats. */
const MUCH = 8 << 20;

async function update(client: EtcdClient, moved: Moved) {
  for (const member of await client.members()) {
    const urls = member.peerURLs.map((url) => asMoved(url, moved));
    if (urls.join() === member.peerURLs.join()) continue;
    const line = `${memberName(member)}: ${member.peerURLs} → ${urls}`;
    // an update of a learner gives it a vote before etcd 3.6.12 (etcd-io/etcd#21736)
    if (member.isLearner) say(`unchanged ${line}: its join was cut off and it has no vote`);
    else await act("update", line, () => client.updateMember(member.id, urls));
  }
}

function peerHosts({ data }: ControlPlaneNode): string[] {
  return data.members.flatMap(({ peerURLs }) => peerURLs.map(hostOf));
}

/** Needed where this machine and every other one whose member runs has moved. */
async function relayFor(
  running: readonly Peer[],
  cp: ControlPlaneNode,
  moved: Moved,
): Promise<StandIn | undefined> {
  const hasMoved = (host: string) => addressBefore(host, moved) !== undefined;
  if (
    running.length === 0 ||
    !hasMoved(cp.facts.advertiseAddress) ||
    running.some(({ host }) => !hasMoved(host))
  )
    return undefined;
  const taken = [...moved.values(), ...peerHosts(cp), ...(await heardAt(running, moved))];
  const { peer, from } = standIn(running, moved, taken);
  say(`${peer.name}: reached under its old address ${from} from here, until the others know the new one`);
  const relay = await startRelay({ from, to: peer.host, port: peer.port });
  return { ...relay, name: peer.name };
}

/** Old addresses at which a machine answers, if only that nobody listens: on loopback that is this machine. */
export async function heardAt(
  running: readonly Pick<Peer, "host" | "port">[],
  moved: Moved,
): Promise<string[]> {
  const asked = running.map(async ({ host, port }) => {
    const old = addressBefore(host, moved);
    if (old === undefined) return [];
    const answer = await isHeard(old, port, KNOCK_MS);
    return answer === true || (answer === false && !isLoopback(old)) ? [old] : [];
  });
  return (await Promise.all(asked)).flat();
}

/** Milliseconds for an answer at an old address; where none of its machines is, most networks give none. */
const KNOCK_MS = 3000;

/**
 * Whose old address can be used: no machine has it now (`taken`), and its etcd's certificate is for it.
 * Errors: Refused where there is none.
 */
export function standIn<P extends Pick<Peer, "id" | "name" | "host" | "servedPem">>(
  running: readonly P[],
  moved: Moved,
  taken: readonly string[],
): { peer: P; from: string } {
  for (const peer of running) {
    const from = addressBefore(peer.host, moved);
    const sans = infoOf(peer.servedPem)?.sans;
    if (from && !taken.includes(from) && sans && isFor(sans, from)) return { peer, from };
  }
  throw new Refused(
    `None of the old addresses of ${running.map(({ name }) => name).join(", ")} can stand for its machine`,
    {
      hint: "see whose each address is now. If it is right, and only missing in the certificate of its etcd: part 1 there first",
    },
  );
}
