/**
 * Leases (coordination.k8s.io/v1): who is the leader, and which kubelets are alive: a living kubelet renews its Lease every ten seconds.
 * Source: pkg/kubelet/util/nodelease, client-go leaderelection.
 */
import { madeAt } from "../pki/certificate.ts";
import { listed } from "../plain.ts";
import { mode, say, unlessLate, waitFor } from "../run.ts";
import { type KubeApi, type KubeObject, unlessRefused } from "./kube-api.ts";
import { watch } from "./watch.ts";

/** A kubelet whose last renewal is older than a minute does not run, or cannot reach the API. */
const FRESH_MS = 60_000;

/** Seconds in which every living kubelet renews its Lease, even if the API was away and has just come back. */
export const RENEWAL_SECONDS = 25;

interface Lease extends KubeObject {
  spec: { holderIdentity?: string; renewTime?: string; leaseDurationSeconds?: number };
}

const LEASES = "/apis/coordination.k8s.io/v1/namespaces";
const NODE_LEASES = `${LEASES}/kube-node-lease/leases`;

function leaderPath(name: string): string {
  return `${LEASES}/kube-system/leases/${name}`;
}

function renewed(lease: Lease | undefined): Date {
  return new Date(lease?.spec.renewTime ?? 0);
}

function isFresh(renewal: Date | undefined): boolean {
  return (renewal?.getTime() ?? 0) >= Date.now() - FRESH_MS;
}

/**
 * From when on a renewal proves that a kubelet trusts this CA: nobody renews with a certificate of another CA after this one was made, nor
 * with an older client certificate after `clientPem` was made.
 */
export function provingSince(caPem: string, clientPem?: string): Date {
  const made = [caPem, clientPem].flatMap((pem) => (pem ? [Math.min(madeAt(pem).getTime(), Date.now())] : []));
  return new Date(Math.max(...made, Date.now() - FRESH_MS));
}

/** Whether a kubelet renewed its Lease after `since`. Errors: as KubeApi. */
export async function leaseRenewed(api: KubeApi, node: string, since: Date): Promise<boolean> {
  return renewed(await api.find<Lease>(`${NODE_LEASES}/${node}`)) > since;
}

/** When each kubelet last renewed its Lease, by node name. */
export async function allRenewals(api: KubeApi): Promise<Map<string, Date>> {
  const renewals = new Map<string, Date>();
  for await (const lease of api.items<Lease>(NODE_LEASES)) renewals.set(lease.metadata.name, renewed(lease));
  return renewals;
}

/**
 * When each kubelet last renewed its Lease, and `notRenewed`: which of these nodes do not renew theirs, neither within the last minute nor
 * while we look (that node's clock may differ from ours). A kubelet that must first find the API gets the time for it. `onlyNew`: only a
 * renewal while we look counts, because a kubelet may have died since its last one; a dry run does not wait and takes both.
 */
export async function nodeLeases(api: KubeApi, nodes: readonly string[], { onlyNew = false } = {}) {
  const first = await allRenewals(api);
  const compare = (renewals: Map<string, Date>) => {
    const isGood = (name: string) =>
      (renewals.get(name) ?? 0) > (first.get(name) ?? 0) || ((!onlyNew || mode.dryRun) && isFresh(renewals.get(name)));
    return { renewals, notRenewed: nodes.filter((name) => !isGood(name)) };
  };
  let leases = compare(first);
  const allRenewed = async () => {
    leases = compare(await allRenewals(api));
    return leases.notRenewed.length === 0;
  };
  const options = { seconds: RENEWAL_SECONDS, hint: "journalctl -u kubelet there" };
  const what = () => `the kubelets of ${listed(leases.notRenewed)} to renew their Leases`;
  if (leases.notRenewed.length > 0) await unlessLate(waitFor(what, allRenewed, options));
  return leases;
}

/** Whether a kubelet with this last renewal may be alive and trust a CA made at `made`. Clocks may differ: the next renewal proves it. */
export function mayBeAlive(time: Date | undefined, made: Date): boolean {
  return time !== undefined && time >= made && isFresh(time);
}

/** The nodes whose kubelets renew their Lease, at the moment they do: each node comes again and again. */
export async function* watchRenewals(api: KubeApi, caPem: string, signal: AbortSignal) {
  const made = madeAt(caPem);
  for await (const { type, object } of watch<Lease>(api, NODE_LEASES, signal)) {
    const time = renewed(object);
    // A change while we watch is a renewal now, whatever that node's clock says. A Lease that was there before is judged by its time.
    const isGood = type === "MODIFIED" || (type !== "DELETED" && mayBeAlive(time, made));
    if (isGood) yield { name: object.metadata.name, time };
  }
}

/** The holder of a leader's Lease, for instance `cp1_1b2c…`, if it renewed the Lease after `since`. */
export async function leaderSince(api: KubeApi, name: string, since: Date): Promise<string | undefined> {
  const lease = await api.find<Lease>(leaderPath(name));
  return lease && renewed(lease) > since ? lease.spec.holderIdentity : undefined;
}

/**
 * The leader: the holder of a Lease that was renewed in the last minute, or is renewed while we look (the holder's clock may differ from
 * ours). Undefined if nobody renews it within half a minute: a new leader needs no longer.
 */
export async function leaderNow(api: KubeApi, name: string): Promise<string | undefined> {
  const last = renewed(await api.find<Lease>(leaderPath(name))).getTime();
  const since = new Date(Math.min(last, Date.now() - FRESH_MS));
  const options = { seconds: 30, hint: `crictl ps -a --name ${name}` };
  return await unlessLate(waitFor(`a ${name} to lead`, () => leaderSince(api, name, since), options));
}

/** Removes the Lease of a leader that no longer runs, so that the next one need not wait. If another has just taken it, it stays. */
export async function dropLease(api: KubeApi, name: string, holder: string) {
  const path = leaderPath(name);
  const lease = await api.find<Lease>(path);
  if (!lease || lease.spec.holderIdentity !== holder) return;
  const preconditions = { resourceVersion: lease.metadata.resourceVersion };
  const removed = await unlessRefused([404, 409], () => api.delete(path, { preconditions }));
  say(
    `Lease ${name}: ${removed === undefined ? "kept, another holder has just taken it" : `removed, its holder "${holder}" no longer runs`}`,
  );
}

/**
 * Removes the Leases of leaders that are surely dead; the new controller-manager and scheduler would wait for another 15 to 20 s. These are
 * Leases that ran out, and those of this host's processes from before `since`, when its control plane was restarted.
 */
export async function dropDeadLeaders(api: KubeApi, { hostName, since }: { hostName: string; since: Date }) {
  for (const name of ["kube-controller-manager", "kube-scheduler"]) {
    const lease = await api.find<Lease>(leaderPath(name));
    if (!lease) continue;
    const ranOut = renewed(lease).getTime() + (lease.spec.leaseDurationSeconds ?? 15) * 1000 < Date.now();
    const ownAndOld = lease.spec.holderIdentity?.startsWith(`${hostName}_`) && renewed(lease) < since;
    if (ranOut || ownAndOld) await dropLease(api, name, lease.spec.holderIdentity ?? "");
  }
}
