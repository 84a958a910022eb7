/** The API as this control plane node's admin: at its own API server, and at the cluster's endpoint, by way of which everybody else comes. */
import { Fail } from "../fail.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { clusterServer, localServer, readKubeconfig } from "../pki/kubeconfigs.ts";
import { mode, say, waitFor } from "../run.ts";
import { KubeApi } from "./kube-api.ts";

const ADMIN_CONF = "/etc/kubernetes/admin.conf";
const CONTAINER = "crictl ps -a --name kube-apiserver; crictl logs ID";

/**
 * Its client, whether the API answers or not; `server`: another one than this control plane node's own. Reads only. Errors: Fail where part 2 has not
 * been here, or admin.conf cannot be read.
 */
export function adminClient(facts: ClusterFacts, server = localServer(facts)): KubeApi {
  const admin = readKubeconfig(ADMIN_CONF);
  if (!admin) throw new Fail(`There is no ${ADMIN_CONF}`, { hint: "part 2 first: ./bunw scripts/02-control-plane.ts" });
  return KubeApi.from(admin, server);
}

/** Its client once this control plane node's API is ready: a machine that has just booted takes a moment. Errors: as `adminClient` and `apiReady`. */
export async function adminApi({ facts }: { facts: ClusterFacts }): Promise<KubeApi> {
  const api = adminClient(facts);
  await apiReady(api, { seconds: 90, hint: `${CONTAINER}; or part 2 again: ./bunw scripts/02-control-plane.ts` });
  return api;
}

/** Waits until an API server is ready: this control plane node's own, which the kubelet has just started. Errors: Fail where it does not come. */
export async function apiReady(api: KubeApi, { seconds, hint }: { seconds: number; hint?: string }) {
  await waitFor(`${api.server}/readyz`, () => api.ready(), { seconds, hint: hint ?? `${CONTAINER}; journalctl -u kubelet -n 50` });
}

/** Waits until the cluster's endpoint is ready, and says so: by way of it kubelets, pods and people come. Errors: Fail where it does not answer. */
export async function endpointReady(facts: ClusterFacts) {
  const api = adminClient(facts, clusterServer(facts));
  await apiReady(api, { seconds: 60, hint: "is the balancer up, and does the name resolve on this node?" });
  if (!mode.dryRun) say(`${api.server}: ready`);
}
