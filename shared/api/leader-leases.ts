/**
 * The Leases of the components that elect a leader: who leads, and which leaders are dead. Source: client-go
 * leaderelection.
 */
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { type Ended, undefinedOnTimeout, waitFor } from "../wait-for.ts";
import { unlessRefused } from "./api-error.ts";
import type { KubeApi } from "./kube-api.ts";
import { hostOfHolder, type Leader, type LeadersSeen, leaderIn } from "./kube-object.ts";
import { isFresh, LEASES, type Lease, renewed } from "./leases.ts";

/** `name`: that of a Lease in kube-system, or "NAMESPACE/NAME" (flags of the component may say so). */
function leaderPath(name: string): string {
  const [own, namespace = "kube-system"] = name.split("/").reverse() as [string, string?];
  return `${LEASES}/${namespace}/leases/${own}`;
}

export async function leaderOf(api: KubeApi, name: string): Promise<Leader | undefined> {
  return leaderIn(await api.find<Lease>(leaderPath(name)));
}

function isSame(one: Leader | undefined, other: Leader | undefined): boolean {
  const timeOf = (leader: Leader | undefined) => leader && Date.parse(leader.renewTime);
  return one?.holder === other?.holder && timeOf(one) === timeOf(other);
}

/**
 * Waits until somebody leads who is not, or has renewed since, `last`: what the Lease said before. Returns
 * the holder.
 */
export async function nextLeader(
  api: KubeApi,
  name: string,
  last: Leader | undefined,
  options: { seconds: number; hint: string; ended?: Ended },
) {
  const look = async () => {
    const leader = await leaderOf(api, name);
    return leader && !isSame(leader, last) ? leader.holder : undefined;
  };
  return await waitFor(`a ${name} to lead`, look, options);
}

/**
 * The leader: the holder of a Lease that was renewed in the last minute, or is renewed while we look.
 * Undefined if nobody renews it within half a minute: a new leader needs no longer.
 */
export async function leaderNow(api: KubeApi, name: string): Promise<string | undefined> {
  const last = await leaderOf(api, name);
  if (last && isFresh(new Date(last.renewTime))) return last.holder;
  const hint = shell`crictl ps -a --name ${name}`;
  return await undefinedOnTimeout(nextLeader(api, name, last, { seconds: 30, hint }));
}

/** Removes the Lease of a leader that no longer runs, so that the next one need not wait. */
export async function dropLease(api: KubeApi, name: string, holder: string) {
  const path = leaderPath(name);
  const lease = await api.find<Lease>(path);
  if (!lease || lease.spec.holderIdentity !== holder) return;
  const preconditions = { resourceVersion: lease.metadata.resourceVersion };
  const removed = await unlessRefused([404, 409], () => api.delete(path, { preconditions }));
  if (removed === undefined) say(`unchanged Lease ${name}: another holder has just taken it`);
  else say(`removed Lease ${name}: its holder "${holder}" no longer runs`);
}

interface OwnProcesses {
  hostName: string;
  /** Since when the oldest one runs that may hold the Lease; undefined: none runs. */
  started: Date | undefined;
}

/**
 * Whether a process of this host that has ended renewed it last: none that runs did so then. One by hand counts, too,
 * and one that was only without its API server for a while.
 */
function hasEnded({ holder, renewTime }: Leader, { hostName, started }: OwnProcesses): boolean {
  const mayRun = started !== undefined && started.getTime() <= Date.parse(renewTime);
  return hostOfHolder(holder) === hostName && !mayRun;
}

/** The same where `last` held it before and was a process of this host, which has ended. */
export async function dropOwnLease(api: KubeApi, name: string, last: Leader | undefined, own: OwnProcesses) {
  if (last && hasEnded(last, own)) await dropLease(api, name, last.holder);
}

/**
 * Removes the Leases of leaders that are surely dead; the new controller-manager and scheduler would wait for
 * another 15 to 20 s. These are Leases that have stood still since `seen` for longer than they last, by our
 * clock; and those of this host's processes that have ended, from before `since`, when its control plane was
 * restarted.
 */
export async function dropDeadLeaders(
  api: KubeApi,
  { hostName, since, seen }: { hostName: string; since: Date; seen: LeadersSeen },
) {
  for (const name of seen.leases) {
    const lease = await api.find<Lease>(leaderPath(name));
    const leader = leaderIn(lease);
    if (!lease || !leader) continue;
    const lasts = (lease.spec.leaseDurationSeconds ?? 15) * 1000;
    const stoodStill = isSame(leader, seen.leaders.get(name)) && Date.now() - seen.at.getTime() > lasts;
    const own = { hostName, started: seen.started.get(name) };
    const ownAndOld = hasEnded(leader, own) && renewed(lease) < since;
    if (stoodStill || ownAndOld) await dropLease(api, name, leader.holder);
  }
}
