/**
 * Leases (coordination.k8s.io/v1). A living kubelet renews its own every ten seconds (pkg/kubelet/util/nodelease):
 * here is one node's, then those of all nodes, then the leaders' (client-go leaderelection).
 *
 * The holder writes renewTime by its own clock, which may be wrong by an hour or a year. So a Lease proves
 * life when it changes while we look, and death when it stands still for as long as our clock says
 * (client-go: observedTime). Its time alone says something only where it is close to ours, and is never later
 * evidence than what was seen.
 */
import { madeAt } from "../pki/certificate.ts";
import { listed } from "../plain.ts";
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { type Ended, scaledTimeout, undefinedOnTimeout, waitFor } from "../wait-for.ts";
import { asDeafWebhook, type DeafWebhook, refusalOfOne, unlessRefused } from "./api-error.ts";
import type { KubeApi } from "./kube-api.ts";
import {
  hostOfHolder,
  type KubeObject,
  type Leader,
  type LeadersSeen,
  leaderIn,
  renewsWithin,
  type StoredLease,
} from "./kube-object.ts";
import { readAll, watch } from "./many.ts";

/** A kubelet whose last renewal is older than a minute does not run, or cannot reach the API: its Lease lasts 40 s. */
const FRESH_MS = 60_000;

/** A time, and the milliseconds for which it counts. */
class Renewal extends Date {
  readonly freshFor: number;

  constructor(spec: Partial<Lease["spec"]> = {}) {
    super(spec.renewTime ?? 0);
    this.freshFor = 5000 * renewsWithin({ spec });
  }
}

const freshFor = (renewal: Date | undefined) => (renewal instanceof Renewal ? renewal.freshFor : FRESH_MS);

export type Lease = KubeObject & Required<StoredLease>;

export const LEASES = "/apis/coordination.k8s.io/v1/namespaces";
const NODE_LEASES = `${LEASES}/kube-node-lease/leases`;

/** The last renewal, by its holder's clock; 1970: none. */
export function renewed(lease: Lease | undefined): Date {
  return new Renewal(lease?.spec);
}

/**
 * Within a minute of our clock, or longer where its Lease lasts longer. A time in the future is not: the Lease of a
 * node whose clock is ahead would stay fresh after its death.
 */
export function isFresh(renewal: Date | undefined): boolean {
  return Math.abs(Date.now() - (renewal?.getTime() ?? 0)) <= freshFor(renewal);
}

/** Milliseconds, if this renewal was just seen; 0 where that is less than a minute. */
export function clockAhead(renewal: Date): number {
  return isFresh(renewal) ? 0 : renewal.getTime() - Date.now();
}

/**
 * From when on a renewal proves that a kubelet trusts this CA: nobody renews with a certificate of another CA
 * after this one was made, nor with an older client certificate after `clientPem` was made.
 */
export function provingSince(caPem: string, clientPem?: string): Date {
  const now = Date.now();
  const made = [caPem, clientPem].flatMap((pem) => (pem ? [Math.min(madeAt(pem).getTime(), now)] : []));
  return new Date(Math.max(...made, now - FRESH_MS));
}

export async function leaseRenewed(api: KubeApi, node: string, since: Date): Promise<boolean> {
  return renewed(await api.find<Lease>(`${NODE_LEASES}/${node}`)) > since;
}

/** Milliseconds before each question why a Lease is not renewed. */
const ASK_EVERY = 5000;

/** Errors: Fail; with an unreachable webhook's name and way out, where that refuses every renewal. */
export async function waitForRenewal(
  api: KubeApi,
  node: string,
  since: Date,
  { seconds, hint }: { seconds: number; hint: string },
) {
  let [asked, deaf]: [number, DeafWebhook | undefined] = [Date.now(), undefined];
  const isRenewed = async () => {
    if (await leaseRenewed(api, node, since)) return true;
    if (Date.now() > asked + scaledTimeout(ASK_EVERY)) {
      deaf = await renewalRefused(api, node);
      asked = Date.now();
    }
    if (deaf) throw deaf;
    return false;
  };
  await waitFor(`the Lease of ${node} to be renewed`, isRenewed, { seconds, hint: () => deaf?.hint ?? hint });
}

/**
 * The webhook for which the API refuses that this Lease is renewed, whoever asks: it is asked for as a trial.
 * Undefined: none does.
 */
export async function renewalRefused(api: KubeApi, node: string): Promise<DeafWebhook | undefined> {
  const renewTime = new Date().toISOString().replace("Z", "000Z");
  try {
    await unlessRefused([404], () => api.patch(`${NODE_LEASES}/${node}?dryRun=All`, { spec: { renewTime } }));
    return undefined;
  } catch (err) {
    const deaf = await asDeafWebhook(api, err);
    // what a policy says of our client says nothing of the kubelet
    if (deaf || refusalOfOne(err)) return deaf;
    throw err;
  }
}

/**
 * Whether a kubelet with this last renewal may be alive and trust a CA made at `made`. Clocks may differ: the
 * next renewal proves it.
 */
export function mayBeAlive(time: Date | undefined, made: Date): boolean {
  return time !== undefined && time >= made && isFresh(time);
}

/* The Leases of all nodes. */

/**
 * Seconds in which a living kubelet renews its Lease, even if the API was unavailable and has just come back: it does
 * so four times while that lasts.
 */
export function secondsToRenew(last: Date | undefined): number {
  return Math.max(25, freshFor(last) / 5000);
}

export async function allRenewals(api: KubeApi): Promise<Map<string, Date>> {
  const renewals = new Map<string, Date>();
  await readAll("Leases", api.items<Lease>(NODE_LEASES), (lease) =>
    renewals.set(lease.metadata.name, renewed(lease)),
  );
  return renewals;
}

/**
 * Node → whether somebody listens at the kubelet's port; undefined where that cannot be told. A
 * kubelet whose certificate has expired does not start, so its port is closed; and a port that is open shows
 * that the kubelet of a last renewal still runs.
 */
export type Listening = (nodes: readonly string[]) => Promise<ReadonlyMap<string, boolean | undefined>>;

/** Looks in a row (about two seconds) at a closed port; a kubelet that starts has opened it by then. */
const CLOSED_LOOKS = 12;

interface LooksAt {
  since: Date;
  onlyNew?: boolean;
  listening?: Listening;
  notAwaited?: readonly string[];
}

/**
 * When each kubelet last renewed its Lease, `deaf`: the webhook for which nobody can, and `notRenewed`: which
 * of these nodes do not renew theirs, neither within the last minute nor while we look (that node's clock may
 * differ from ours). A kubelet that must first find the API gets the time for it, unless its port is closed.
 * `onlyNew`: a kubelet may have died since its last renewal, so only one while we look counts, or one of the
 * last minute where the port is open; a dry run does not wait and takes all. `since`: an older renewal proves
 * nothing, as that kubelet may not trust the current CA. `notAwaited`: these are looked at, and nobody waits for
 * them.
 */
export async function nodeLeases(
  api: KubeApi,
  nodes: readonly string[],
  { onlyNew = false, listening, since, notAwaited = [] }: LooksAt,
) {
  const first = await allRenewals(api);
  const ports = portsSeen(listening);
  const compare = (renewals: Map<string, Date>) => {
    const isGood = (name: string) => {
      const [time, last] = [renewals.get(name), first.get(name)];
      // another time, not a later one: a clock may have been set back
      const isNew = time !== undefined && time.getTime() !== last?.getTime();
      return isNew || (mayBeAlive(time, since) && (!onlyNew || mode.dryRun || ports.isOpen(name)));
    };
    return { renewals, notRenewed: nodes.filter((name) => !isGood(name)) };
  };
  let leases = compare(first);
  const awaited = () => leases.notRenewed.filter((name) => !notAwaited.includes(name));
  const nothingToWaitFor = async () => {
    await ports.look(leases.notRenewed);
    leases = compare(await allRenewals(api));
    return awaited().every(ports.isClosed);
  };
  const seconds = Math.max(...leases.notRenewed.map((name) => secondsToRenew(first.get(name))));
  const options = { seconds, hint: "run on that node: journalctl -u kubelet" };
  const what = () => `the kubelets of ${listed(awaited())} to renew their Leases`;
  if (leases.notRenewed.length > 0) await undefinedOnTimeout(waitFor(what, nothingToWaitFor, options));
  const [silent] = leases.notRenewed;
  return { ...leases, deaf: silent === undefined ? undefined : await renewalRefused(api, silent) };
}

/** The kubelets' ports. A port that is open, or of which nothing can be told, is asked once. */
function portsSeen(listening: Listening | undefined) {
  const open = new Map<string, boolean | undefined>();
  const closedLooks = new Map<string, number>();
  return {
    async look(nodes: readonly string[]) {
      const asked = nodes.filter((name) => !open.has(name) || open.get(name) === false);
      for (const [name, isOpen] of (await listening?.(asked)) ?? []) {
        open.set(name, isOpen);
        closedLooks.set(name, isOpen === false ? (closedLooks.get(name) ?? 0) + 1 : 0);
      }
    },
    isOpen: (name: string) => open.get(name) === true,
    isClosed: (name: string) => (closedLooks.get(name) ?? 0) >= CLOSED_LOOKS,
  };
}

/** Each node at the moment its kubelet renews its Lease. `since`: as `nodeLeases`; `onListed`: as `watch`. */
export async function* watchRenewals(api: KubeApi, since: Date, signal: AbortSignal, onListed: () => void) {
  for await (const { type, object } of watch<Lease>(api, NODE_LEASES, signal, onListed)) {
    const time = renewed(object);
    // A change while we watch is a renewal now, whatever that node's clock says. A Lease that was there
    // before is judged by its time.
    const isGood = type === "MODIFIED" || (type !== "DELETED" && mayBeAlive(time, since));
    if (isGood) yield { name: object.metadata.name, time };
  }
}

/* Leaders': a Lease is named by NAME in kube-system, or by NAMESPACE/NAME, as flags of the component may say. */

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

/** `dropLease`, if `last` was a process of this host that has ended. */
export async function dropOwnLease(api: KubeApi, name: string, last: Leader | undefined, own: OwnProcesses) {
  if (last && hasEnded(last, own)) await dropLease(api, name, last.holder);
}

/**
 * Removes the Leases of dead leaders, for which the new ones would wait for 15 to 20 s: those that have stood still
 * since `leadersBefore` for longer than they last, by our clock; and those of this host's processes that have ended, from before
 * `since`, when its control plane was restarted.
 */
export async function dropDeadLeaders(
  api: KubeApi,
  { hostName, since, leadersBefore }: { hostName: string; since: Date; leadersBefore: LeadersSeen },
) {
  for (const name of leadersBefore.leases) {
    const lease = await api.find<Lease>(leaderPath(name));
    const leader = leaderIn(lease);
    if (!lease || !leader) continue;
    const lasts = (lease.spec.leaseDurationSeconds ?? 15) * 1000;
    const stoodStill =
      isSame(leader, leadersBefore.leaders.get(name)) && Date.now() - leadersBefore.at.getTime() > lasts;
    const own = { hostName, started: leadersBefore.started.get(name) };
    const ownAndOld = hasEnded(leader, own) && renewed(lease) < since;
    if (stoodStill || ownAndOld) await dropLease(api, name, leader.holder);
  }
}

export const DOES_IT_LEAD =
  "see whether it leads: kubectl -n kube-system get lease kube-controller-manager; crictl ps -a --name kube-controller-manager";
