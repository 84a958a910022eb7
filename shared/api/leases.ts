/**
 * Leases (coordination.k8s.io/v1): which kubelets are alive: a living kubelet renews its Lease every ten seconds. Source:
 * pkg/kubelet/util/nodelease. Of all nodes at once: node-leases.ts; of leaders: leader-leases.ts.
 *
 * The holder writes renewTime by its own clock, which may be wrong by an hour or a year. So a Lease proves life when it changes while we
 * look, and death when it stands still for as long as our clock says (client-go: observedTime). Its time alone says something only where
 * it is close to ours, and is never later evidence than what was seen.
 */
import { madeAt } from "../pki/certificate.ts";
import { scaledTimeout, waitFor } from "../wait-for.ts";
import { refusalOfOne, unlessRefused } from "./api-error.ts";
import { asDeafWebhook, type DeafWebhook } from "./called-by-api.ts";
import type { KubeApi } from "./kube-api.ts";
import type { KubeObject } from "./kube-object.ts";

/** A kubelet whose last renewal is older than a minute does not run, or cannot reach the API. */
const FRESH_MS = 60_000;

/** As much of one as is looked at here. */
export interface Lease extends KubeObject {
  spec: { holderIdentity?: string; renewTime?: string; leaseDurationSeconds?: number };
}

export const LEASES = "/apis/coordination.k8s.io/v1/namespaces";
export const NODE_LEASES = `${LEASES}/kube-node-lease/leases`;

/** When its holder renewed it last, by the holder's clock; 1970 where it never did. */
export function renewed(lease: Lease | undefined): Date {
  return new Date(lease?.spec.renewTime ?? 0);
}

/** Within a minute of our clock. A time in the future is not: the Lease of a node whose clock is ahead would stay fresh after its death. */
export function isFresh(renewal: Date | undefined): boolean {
  return Math.abs(Date.now() - (renewal?.getTime() ?? 0)) <= FRESH_MS;
}

/** How far a holder's clock is ahead of ours, in milliseconds, if this renewal was just seen; 0 where that is less than a minute. */
export function clockAhead(renewal: Date): number {
  return isFresh(renewal) ? 0 : renewal.getTime() - Date.now();
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

/** Milliseconds between two questions why a Lease is not renewed; the first one comes as late. */
const ASK_EVERY = 5000;

/** Waits until a kubelet has renewed its Lease after `since`. Errors: Fail; with an unreachable webhook's name and way out, where that refuses every renewal. */
export async function waitForRenewal(api: KubeApi, node: string, since: Date, { seconds, hint }: { seconds: number; hint: string }) {
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

/** The webhook for which the API refuses that this Lease is renewed, whoever asks: it is asked for as a trial. Undefined: none does. */
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

/** Whether a kubelet with this last renewal may be alive and trust a CA made at `made`. Clocks may differ: the next renewal proves it. */
export function mayBeAlive(time: Date | undefined, made: Date): boolean {
  return time !== undefined && time >= made && isFresh(time);
}
