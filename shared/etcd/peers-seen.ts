/** What other members of etcd show at their addresses, asked once, or until there is no doubt. Reads only. */
import type { EtcdData } from "../etcd-data/data.ts";
import { memberName } from "../etcd-data/members.ts";
import { ownMember, placeOf } from "../etcd-location/reach-etcd.ts";
import { isHeard, NoCertificate, servedPem } from "../pki/served.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";
import { type Peer, peerNames } from "./other-members.ts";

/** All members except this machine's own. All are asked at the same time. */
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
 * Where not even a connection is taken, etcd does not run, or is away. `timeout`: milliseconds; unset: as
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
  /** Whether what this one shows may be another thing soon. */
  isOpen: (peer: Peer) => boolean | Promise<boolean>;
  /** "to show a certificate" */
  to: string;
  seconds: number;
  /** How to go on without them. */
  hint: (open: readonly Peer[]) => string;
}

/** As they are when none is in doubt any more, or the time is over. Who is in doubt is named. Not in a dry run. */
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

/** Milliseconds: whoever is there answers sooner. */
export const SOON = 1500;

/** Whether its machine may be off, cut off, or stand still for a moment: it does not even say that nobody listens. */
export async function isSilent({ servedPem, isDeaf, host, port }: Peer): Promise<boolean> {
  return servedPem === undefined && !isDeaf && (await isHeard(host, port, SOON)) !== false;
}
