/**
 * Updates the peer URLs of etcd's members after machines have moved. A member that has moved dials the others
 * and uses those connections; only members that dial it need its new address. So one running member that
 * others find is enough for a majority: one that has not moved, or one that is reached at its old address for
 * that time, through a relay in this process on loopback.
 *
 * Writes to no data directory. Sources: etcd server/etcdserver/api/rafthttp (the receiver opens a stream;
 * without one it uses POST), membership/cluster.go (peerURLs change by UpdateMember alone); with real etcd
 * 3.5 and 3.6: test/lab/checks/moved-members.ts.
 */
import { connect, createServer, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { $ } from "zx/core";
import { command } from "../again.ts";
import { memberName } from "../etcd-data/members.ts";
import { type EtcdClient, etcdClient, unlessSilent } from "../etcd-location/client.ts";
import { hostOf } from "../etcd-location/reach-etcd.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { Fail, Refused } from "../fail.ts";
import { hostAddresses } from "../node/node.ts";
import { movedHere } from "../node/words.ts";
import { addressBefore, asMoved, canonicalIp, isFor, isLoopback, type Moved } from "../pki/addresses.ts";
import { infoOf } from "../pki/certificate.ts";
import { isHeard } from "../pki/served.ts";
import { act, mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { noteUnfinished, orUndo } from "../this-run.ts";
import { waitFor } from "../wait-for.ts";
import { waitForOwnEtcd } from "./own-etcd.ts";
import { type Peer, peersOf, type Survey, settledPeers, survey } from "./peers.ts";

export function hasMoved(): boolean {
  return movedHere().size > 0;
}

/**
 * Updates the URLs once enough members run; before that, says how many are missing. Errors: Refused if no old
 * address can be used; Fail if etcd gets no leader.
 */
export async function updatePeerUrls(cp: ControlPlaneNode) {
  const moved = movedHere();
  const client = etcdClient(cp.facts);
  if (mode.dryRun) return say("would update the peer URLs of etcd's members, when most of them run");
  await endLeftRelays(peerHosts(cp).flatMap((host) => addressBefore(host, moved) ?? []));
  await waitForOwnEtcd(cp);
  const settled = await settledPeers(await peersOf(cp), {
    ...{ pki: cp.facts, isOpen: ({ shows }) => shows === "no certificate" },
    to: "to show a certificate",
    seconds: LOOKS,
    hint: () => "run on that node: crictl logs $(crictl ps -a -q --name etcd | head -n 1)",
  });
  const { peers, silent, quorum } = await survey(cp, settled);
  const running = peers.filter(({ id }) => !silent.some((one) => one.id === id));
  if (!client || !quorum.isEnough) return sayWhoIsMissing(quorum, silent, moved);
  // this machine's own member may be the one that the leader cannot find yet
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

function sayWhoIsMissing({ words, running }: Survey["quorum"], silent: readonly Peer[], moved: Moved) {
  say(`etcd's members learn the new addresses when ${words} run; now ${running}`);
  const newAddresses = [...moved.values()];
  const untold = silent.filter(({ host }) => !newAddresses.includes(host));
  for (const { name, host } of untold)
    say(`${name} at ${host}: has it moved, too? ${command("move", { moved: [`${host}=ITS-ADDRESS`] })}`);
}

/** Seconds. At its start etcd 3.6 probes each peer, and shows no certificate until then. */
const LOOKS = 40;

/** The first of these members whose leader answers: a leader that has just stopped is still named. */
async function withLeader(clients: readonly EtcdClient[]): Promise<EtcdClient | undefined> {
  const answers = clients.map(async (client) => {
    const status = await unlessSilent(() => client.status());
    if (status === undefined || status.leaderId === "0") return undefined;
    return (await unlessSilent(() => client.members({ agreed: true }))) && client;
  });
  return (await Promise.all(answers)).find((client) => client !== undefined);
}

/**
 * At its start etcd 3.6 probes each peer for seconds: an old address may swallow the packets. A member that
 * was offline for long receives all it is missing before there is a leader, and only a member that has it can
 * send it. So this waits while data flows through the relay; without data, the missing part is on the other
 * machine.
 */
async function waitForLeader(
  clients: readonly EtcdClient[],
  relay?: StandIn,
): Promise<EtcdClient | undefined> {
  const before = relay?.carried() ?? 0;
  const hint = relay
    ? `part 1 once more on ${relay.name}: was this machine away for long, only from there its etcd gets what is missing. Or: ${LOGS}`
    : LOGS;
  const waiting = waitFor("etcd to have a leader", () => withLeader(clients), { seconds: 180, hint });
  try {
    return await waiting;
  } catch (err) {
    if (!(err instanceof Fail && relay && relay.carried() - before > MUCH)) throw err;
    return await waitForLeader(clients, relay);
  }
}

const LOGS = "crictl ps -a --name etcd; crictl logs ID, on each control plane node";

/** Bytes in three minutes: more than heartbeats. */
const MUCH = 8 << 20;

async function update(client: EtcdClient, moved: Moved) {
  for (const member of await client.members()) {
    const urls = member.peerURLs.map((url) => asMoved(url, moved));
    if (urls.join() === member.peerURLs.join()) continue;
    const line = `${memberName(member)}: ${member.peerURLs} → ${urls}`;
    // before etcd 3.6.12 an update of a learner gives it a vote (etcd-io/etcd#21736)
    if (member.isLearner) say(`unchanged ${line}: its join was cut off and it has no vote`);
    else await act("update", line, () => client.updateMember(member.id, urls));
  }
}

function peerHosts({ data }: ControlPlaneNode): string[] {
  return data.members.flatMap(({ peerURLs }) => peerURLs.map(hostOf));
}

/** Needed if this machine and all others with a running member have moved. */
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
  const usedAddresses = [
    ...moved.values(),
    ...peerHosts(cp),
    ...(await answeringOldAddresses(running, moved)),
  ];
  const { peer, from } = relayMember(running, moved, usedAddresses);
  say(`${peer.name}: reached under its old address ${from} from here, until the others know the new one`);
  const relay = await startRelay({ from, to: peer.host, port: peer.port });
  return { ...relay, name: peer.name };
}

/**
 * Old addresses at which a machine answers, if only by refusing the connection; one on loopback is this
 * machine's.
 */
export async function answeringOldAddresses(
  running: readonly Pick<Peer, "host" | "port">[],
  moved: Moved,
): Promise<string[]> {
  const answers = running.map(async ({ host, port }) => {
    const old = addressBefore(host, moved);
    if (old === undefined) return [];
    const answer = await isHeard(old, port, KNOCK_MS);
    return answer === true || (answer === false && !isLoopback(old)) ? [old] : [];
  });
  return (await Promise.all(answers)).flat();
}

/** Milliseconds for an answer at an old address; most networks give none if no machine has it. */
const KNOCK_MS = 3000;

/**
 * No machine has its old address now (`taken`), and its etcd's certificate names it. Errors: Refused if there is
 * none.
 */
export function relayMember<P extends Pick<Peer, "id" | "name" | "host" | "servedPem">>(
  running: readonly P[],
  moved: Moved,
  taken: readonly string[],
) {
  for (const peer of running) {
    const address = addressBefore(peer.host, moved);
    const sans = infoOf(peer.servedPem)?.sans;
    if (address && !taken.includes(address) && sans && isFor(sans, address)) return { peer, from: address };
  }
  throw new Refused(
    `None of the old addresses of ${running.map(({ name }) => name).join(", ")} can be used for its machine`,
    {
      hint: "see which machine has each address now. If an address is only missing in the certificate of that machine's etcd: run part 1 on that machine first",
    },
  );
}

interface Relay {
  /** Bytes forwarded so far, both ways. */
  carried(): number;
  end(): Promise<void>;
}

/**
 * `from`: the address to take, with its port; `to`: the machine. Errors: Fail if the address cannot be taken.
 */
export async function startRelay(way: { from: string; to: string; port: number }): Promise<Relay> {
  const link = linkOf(way.from);
  const open = new Set<Socket>();
  let carried = 0;
  const server = createServer({ allowHalfOpen: true }, (near) => {
    if (!isOwn(near.remoteAddress, way.from)) return near.destroy();
    const far = connect({ port: way.port, host: way.to, allowHalfOpen: true });
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(one);
      one.on("error", () => other.destroy());
      one.on("close", () => open.delete(one));
      one.on("data", ({ length }) => {
        carried += length;
      });
      one.pipe(other);
    }
  });
  const end = async () => {
    server.close();
    for (const socket of open) socket.destroy();
    await giveBack(link);
    noteUnfinished("relay", undefined);
  };
  // scope host: programs that ask for this machine's addresses do not get it
  await act("add", `${link} to lo`, () => ip(["addr", "replace", link, "dev", "lo", "scope", "host"]));
  noteUnfinished("relay", `${link} is still on this machine's loopback: ip addr del ${link} dev lo`);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(way.port, way.from, resolve);
    });
  } catch (cause) {
    await end();
    throw new Fail(`Cannot listen on ${way.from}:${way.port}: ${(cause as Error).message}`, {
      hint: shell`see whether another program has that port: ss -ltnp sport = :${String(way.port)}`,
      cause,
    });
  }
  return { end, carried: () => carried };
}

/** A local sender to an own address has that address as its source, or has chosen another own one. */
function isOwn(remote: string | undefined, from: string): boolean {
  const addresses = Object.values(networkInterfaces()).flatMap((all = []) =>
    all.map(({ address }) => address),
  );
  return remote !== undefined && [from, ...addresses].map(canonicalIp).includes(canonicalIp(remote));
}

/** Removes addresses of members, in canonical form, that a killed run has left on loopback. */
export async function endLeftRelays(old: readonly string[]) {
  const addresses = (await hostAddresses()).map(canonicalIp);
  for (const address of new Set(old)) if (addresses.includes(address)) await giveBack(linkOf(address));
}

function linkOf(address: string): string {
  return `${address}/${address.includes(":") ? 128 : 32}`;
}

async function giveBack(link: string) {
  await act("remove", `${link} from lo`, () => ip(["addr", "del", link, "dev", "lo"]));
}

async function ip(words: readonly string[]) {
  const { exitCode, stderr } = await $({ quiet: true, nothrow: true })`ip ${words}`;
  if (exitCode === 0) return;
  throw new Fail(`ip ${words.join(" ")} exited ${exitCode}: ${stderr.trim()}`, {
    hint: "run this as root; see the addresses: ip addr show dev lo",
  });
}
