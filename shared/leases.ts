/** Leases (coordination.k8s.io/v1): who leads, and which kubelets are alive. Source: pkg/kubelet/util/nodelease, client-go leaderelection. */
import { ApiError, type KubeApi, type KubeObject } from "./kube-api.ts";
import { say } from "./run.ts";

interface Lease extends KubeObject {
  spec: { holderIdentity?: string; renewTime?: string; leaseDurationSeconds?: number };
}

const LEASES = "/apis/coordination.k8s.io/v1/namespaces";

/** Whether a kubelet renewed its Lease after `since`. Errors: as KubeApi. */
export async function leaseRenewed(api: KubeApi, node: string, since: Date): Promise<boolean> {
  return (await nodeRenewals(api, node)) > since;
}

/** When a kubelet last renewed its Lease; 1970 where it has none. */
async function nodeRenewals(api: KubeApi, node: string): Promise<Date> {
  return renewed(await api.find<Lease>(`${LEASES}/kube-node-lease/leases/${node}`));
}

/** When each kubelet last renewed its Lease, by node name. */
export async function allRenewals(api: KubeApi): Promise<Map<string, Date>> {
  const leases = await api.list<Lease>(`${LEASES}/kube-node-lease/leases`);
  return new Map(leases.map((lease) => [lease.metadata.name, renewed(lease)]));
}

/** The holder of a leader's Lease if it renewed it after `since`, for instance `cp1_1b2c…`. */
export async function leaderSince(api: KubeApi, name: string, since: Date): Promise<string | undefined> {
  const lease = await api.find<Lease>(`${LEASES}/kube-system/leases/${name}`);
  return lease && renewed(lease) > since ? lease.spec.holderIdentity : undefined;
}

/**
 * Removes leader Leases that nobody renews any more. Without that a new controller-manager or scheduler watches them for another
 * 15 to 20 s before it takes them over.
 */
export async function dropStaleLeaders(api: KubeApi) {
  for (const name of ["kube-controller-manager", "kube-scheduler"]) {
    const path = `${LEASES}/kube-system/leases/${name}`;
    const lease = await api.find<Lease>(path);
    if (!lease || renewed(lease).getTime() + (lease.spec.leaseDurationSeconds ?? 15) * 1000 > Date.now()) continue;
    try {
      // The resourceVersion guards against a leader that took it over in this moment.
      await api.delete(path, { preconditions: { resourceVersion: lease.metadata.resourceVersion } });
      say(`Lease ${name}: dropped, its holder "${lease.spec.holderIdentity}" is no more`);
    } catch (err) {
      if (!(err instanceof ApiError && (err.status === 409 || err.status === 404))) throw err;
      say(`Lease ${name}: taken over already`);
    }
  }
}

function renewed(lease: Lease | undefined): Date {
  return new Date(lease?.spec.renewTime ?? 0);
}
