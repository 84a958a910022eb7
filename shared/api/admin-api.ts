/** The API, used as admin: at this node's own API server, and at the cluster's endpoint, which everybody else uses. */
import { Fail, failOf, Refused } from "../fail.ts";
import { withSelinux } from "../files/selinux.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import { clusterServer, localServer, readKubeconfig } from "../pki/kubeconfigs.ts";
import { isServerOf, servedPem } from "../pki/served.ts";
import { say } from "../run.ts";
import { waitFor } from "../wait-for.ts";
import { KubeApi } from "./kube-api.ts";

const ADMIN_CONF = "/etc/kubernetes/admin.conf";
const CONTAINER = "crictl ps -a --name kube-apiserver; crictl logs ID";

/** A client with admin.conf, even if the API does not answer. Errors: Fail if admin.conf is not there (part 2 writes it), or unreadable. */
export function adminClient(facts: ClusterFacts, server = localServer(facts)): KubeApi {
  const admin = readKubeconfig(ADMIN_CONF);
  if (!admin) throw new Fail(`There is no ${ADMIN_CONF}`, { hint: "part 2 first: ./bunw scripts/02-control-plane.ts" });
  return KubeApi.from({ ...admin, caPem: `${admin.caPem}\n${facts.shown ?? ""}` }, server);
}

/** The same, once this node's API is ready: a node that has just booted takes a moment. Errors: as `adminClient` and `apiReady`. */
export async function adminApi({ facts }: { facts: ClusterFacts }): Promise<KubeApi> {
  const api = adminClient(facts);
  await apiReady(api, { seconds: 90, hint: `${CONTAINER}; or part 2 again: ./bunw scripts/02-control-plane.ts` });
  return api;
}

/** Waits until an API server is ready; the default hint is for this node's own. Errors: Fail if it is not ready in time. */
export async function apiReady(api: KubeApi, { seconds, hint }: { seconds: number; hint?: string }) {
  await waitFor(`${api.server}/readyz`, () => api.ready(), {
    seconds,
    hint: hint ?? withSelinux(`${CONTAINER}; journalctl -u kubelet -n 50`),
  });
}

interface OwnApi {
  facts: ClusterFacts;
  cluster: { oldCaPem: string };
}

/**
 * Waits until this node's API server is ready. Errors: Fail if it is not; Refused where nothing of it was `changed` and it runs: that it says
 * no is another thing than that it does not start.
 */
export async function ownApiReady(api: KubeApi, { facts, cluster }: OwnApi, { changed }: { changed: boolean }) {
  const fail = await failOf(() => apiReady(api, { seconds: 180 }));
  if (!fail) return;
  const [served] = await Promise.allSettled([servedPem(facts.advertiseAddress, facts.bindPort)]);
  const isOurs = served.status === "fulfilled" && isServerOf(served.value, facts.advertiseAddress, cluster.oldCaPem);
  throw changed || !isOurs
    ? fail
    : new Refused(`kube-apiserver runs here, its files are sound, and it is not ready: ${fail.message}`, {
        hint: "nothing was changed. What lacks: kubectl --kubeconfig /etc/kubernetes/admin.conf get --raw '/readyz?verbose'; crictl logs ID. Then this again",
      });
}

/**
 * Says whether the cluster's endpoint is ready: kubelets, pods and people use it. That it does not answer us stops nothing: a balancer may
 * need more control plane nodes, or be one that this node does not reach.
 */
export async function sayEndpointReady(facts: ClusterFacts) {
  const api = adminClient(facts, clusterServer(facts));
  const hint = "does the load balancer run, and does the name resolve on this node?";
  const late = await failOf(() => apiReady(api, { seconds: 20, hint }));
  say(late ? `warning: ${late.message}; ${hint}` : `${api.server}: ready`);
  const isAway = late && readKubeconfig(ADMIN_CONF)!.server === api.server;
  say(`kubectl${isAway ? ` --server ${localServer(facts)}` : ""} works here: export KUBECONFIG=${ADMIN_CONF}`);
}
