/** Leases (coordination.k8s.io/v1): who leads, and which kubelets are alive. Source: pkg/kubelet/util/nodelease, client-go leaderelection. */
import { madeAt } from "../pki/certificate.ts";
import { mode, say, unlessLate, waitFor } from "../run.ts";
import { ApiError, type KubeApi, type KubeObject } from "./kube-api.ts";
import { watch } from "./watch.ts";

/** A kubelet renews its Lease every ten seconds; one that has not for a minute is not there. */
const FRESH_MS = 60_000;

function isFresh(renewal: Date | undefined): boolean {
  return (renewal?.getTime() ?? 0) >= Date.now() - FRESH_MS;
}

interface Lease extends KubeObject {
  spec: { holderIdentity?: string; renewTime?: string; leaseDurationSeconds?: number };
}

const LEASES = "/apis/coordination.k8s.io/v1/namespaces";
const NODE_LEASES = `${LEASES}/kube-node-lease/leases`;

/**
 * From when on a renewal proves that a kubelet trusts this CA: after the CA was made nobody can do it with a certificate of another; nor, after
 * its own certificate was made, with the one from before.
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

/** Seconds in which a kubelet that lives finds an API that was away and has just come back. */
const TAKE_UP_SECONDS = 20;

interface Heard {
  renewals: Map<string, Date>;
  /** Of the nodes asked for, those that did not renew their Lease. */
  silent: string[];
}

/**
 * Which of these nodes are heard: each that renewed its Lease within the last minute, or does while we look, as its clock may be another. A kubelet
 * that has to find the API first is given the time.
 */
export async function hearNodes(api: KubeApi, nodes: readonly string[]): Promise<Heard> {
  const first = await allRenewals(api);
  let heard: Heard = { renewals: first, silent: nodes.filter((name) => !isFresh(first.get(name))) };
  const allHeard = async () => {
    const renewals = await allRenewals(api);
    const isRenewed = (name: string) => (renewals.get(name) ?? 0) > (first.get(name) ?? 0);
    heard = { renewals, silent: nodes.filter((name) => !isFresh(renewals.get(name)) && !isRenewed(name)) };
    return heard.silent.length === 0;
  };
  if (heard.silent.length > 0) {
    const hint = "journalctl -u kubelet there";
    await unlessLate(waitFor("every kubelet to renew its Lease", allHeard, { seconds: TAKE_UP_SECONDS, hint }));
  }
  return heard;
}

/** A living kubelet renews its Lease every ten seconds; an API that has just come back may be slow to take it. */
export const RENEWAL_SECONDS = 25;

/**
 * Of these nodes those that do not renew their Lease, given the time in which each living kubelet would. What was renewed before proves nothing: a
 * kubelet may have died since. Only what changes counts, as the nodes' clocks may differ.
 */
export async function silentNodes(api: KubeApi, nodes: readonly string[]): Promise<string[]> {
  const before = await allRenewals(api);
  const time = (renewals: Map<string, Date>, name: string) => renewals.get(name)?.getTime() ?? 0;
  if (mode.dryRun) return nodes.filter((name) => time(before, name) < Date.now() - RENEWAL_SECONDS * 1000);
  let silent = [...nodes];
  const heard = async () => {
    const now = await allRenewals(api);
    silent = silent.filter((name) => time(now, name) <= time(before, name));
    return silent.length === 0;
  };
  await unlessLate(waitFor("every kubelet to renew its Lease", heard, { seconds: RENEWAL_SECONDS, hint: "journalctl -u kubelet there" }));
  return silent;
}

/** Whether what renewed its Lease then may trust a CA made at `made`, and live. That node's clock may be another: what it does next proves it. */
export function mayBeAlive(time: Date | undefined, made: Date): boolean {
  return time !== undefined && time >= made && isFresh(time);
}

interface Renewal {
  name: string;
  time: Date;
}

/** The nodes whose kubelets renew their Lease, as they do it: each comes again and again. */
export async function* watchRenewals(api: KubeApi, caPem: string, signal: AbortSignal): AsyncGenerator<Renewal> {
  const made = madeAt(caPem);
  for await (const { type, object } of watch<Lease>(api, NODE_LEASES, signal)) {
    const time = renewed(object);
    // What comes while we watch was renewed now, whatever that node's clock says; what was there already is only as good as its time.
    const isGood = type === "MODIFIED" || (type !== "DELETED" && mayBeAlive(time, made));
    if (isGood) yield { name: object.metadata.name, time };
  }
}

/** The holder of a leader's Lease if it renewed it after `since`, for instance `cp1_1b2c…`. */
export async function leaderSince(api: KubeApi, name: string, since: Date): Promise<string | undefined> {
  const lease = await api.find<Lease>(`${LEASES}/kube-system/leases/${name}`);
  return lease && renewed(lease) > since ? lease.spec.holderIdentity : undefined;
}

/**
 * Who leads: the holder of a Lease that was renewed lately, or is renewed while we look, as the holder's clock may be another. Undefined where
 * nobody does within half a minute, which a new leader needs at most.
 */
export async function leaderNow(api: KubeApi, name: string): Promise<string | undefined> {
  const last = renewed(await api.find<Lease>(`${LEASES}/kube-system/leases/${name}`)).getTime();
  const since = new Date(Math.min(last, Date.now() - FRESH_MS));
  const options = { seconds: 30, hint: `crictl ps -a --name ${name}` };
  return await unlessLate(waitFor(`a ${name} to lead`, () => leaderSince(api, name, since), options));
}

/**
 * Removes a leader's Lease whose holder is known to have ended, so that the next one need not wait until it runs out. Someone who took it
 * over in this moment keeps it.
 */
export async function dropLease(api: KubeApi, name: string, holder: string) {
  const path = `${LEASES}/kube-system/leases/${name}`;
  const lease = await api.find<Lease>(path);
  if (!lease || lease.spec.holderIdentity !== holder) return;
  try {
    await api.delete(path, { preconditions: { resourceVersion: lease.metadata.resourceVersion } });
    say(`Lease ${name}: dropped, its holder "${holder}" is no more`);
  } catch (err) {
    if (!(err instanceof ApiError && (err.status === 409 || err.status === 404))) throw err;
    say(`Lease ${name}: taken over already`);
  }
}

/**
 * Removes leader Leases of holders that are surely dead, so that the new controller-manager and scheduler need not watch them for another
 * 15 to 20 s: those that ran out, and those of this host's processes from before `since`, when its control plane was started anew.
 */
export async function dropDeadLeaders(api: KubeApi, { hostName, since }: { hostName: string; since: Date }) {
  for (const name of ["kube-controller-manager", "kube-scheduler"]) {
    const lease = await api.find<Lease>(`${LEASES}/kube-system/leases/${name}`);
    if (!lease) continue;
    const ranOut = renewed(lease).getTime() + (lease.spec.leaseDurationSeconds ?? 15) * 1000 < Date.now();
    const ownAndOld = lease.spec.holderIdentity?.startsWith(`${hostName}_`) && renewed(lease) < since;
    if (ranOut || ownAndOld) await dropLease(api, name, lease.spec.holderIdentity ?? "");
  }
}

function renewed(lease: Lease | undefined): Date {
  return new Date(lease?.spec.renewTime ?? 0);
}
