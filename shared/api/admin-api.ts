/**
 * The API, used as admin: at this node's own API server, and at the cluster's endpoint, which everybody else
 * uses.
 */
import { Fail, failOf, Refused } from "../fail.ts";
import { withSelinux } from "../files/file-system.ts";
import { readText } from "../files/files.ts";
import { type ClusterFacts, keyPath } from "../pki/certs.ts";
import { clusterCa, pkiFindings, wholePki, withAdminElsewhere } from "../pki/examine.ts";
import { issueClient } from "../pki/issue.ts";
import { clusterServer, localServer, readKubeconfig } from "../pki/kubeconfigs.ts";
import { isServerOf, servedPem } from "../pki/served.ts";
import { say } from "../run.ts";
import { type Ended, waitFor } from "../wait-for.ts";
import { orStarting } from "./api-error.ts";
import { KubeApi } from "./kube-api.ts";

export const ADMIN_CONF = "/etc/kubernetes/admin.conf";
const CONTAINER = "crictl ps -a --name kube-apiserver; crictl logs ID";

/**
 * A client even if the API does not answer. Where admin.conf runs a program or the like, it stays as it is, and the
 * client has a certificate of its own; so it has where admin.conf alone was taken away. Errors: Fail if admin.conf is
 * not there (part 2 writes it), or unreadable; Refused where the CA's key is not here for that.
 */
export async function adminClient(facts: ClusterFacts, server = localServer(facts)): Promise<KubeApi> {
  const admin = readKubeconfig(ADMIN_CONF);
  if (admin && (!admin.signsInBy || admin.token))
    return KubeApi.from({ ...admin, caPem: `${admin.caPem}\n${facts.shown ?? ""}` }, server);
  const own = admin || isElsewhere(facts) ? await superUser(facts, server) : undefined;
  if (own) return own;
  if (!admin)
    throw new Fail(`There is no ${ADMIN_CONF}`, {
      hint: "run part 2 first: ./bunw scripts/02-control-plane.ts",
    });
  const key = keyPath("ca", facts.certificatesDir);
  throw new Refused(
    `${ADMIN_CONF} signs in by ${admin.signsInBy}, and "${key}" is not here to sign a certificate for this kit`,
    {
      unchanged: true,
      hint: "put that key here for the time of the repair, then run the same line again",
    },
  );
}

function isElsewhere(facts: ClusterFacts): boolean {
  return withAdminElsewhere(pkiFindings(wholePki(facts), facts), facts).every(({ state }) => state === "ok");
}

/** A client of the API as a user of system:masters; undefined where the CA's key is not here to sign it. */
export async function superUser(facts: ClusterFacts, server: string): Promise<KubeApi | undefined> {
  const key = readText(keyPath("ca", facts.certificatesDir));
  if (!key) return undefined;
  const cert = clusterCa(facts.certificatesDir);
  const user = { cn: "kube-pki-repair", o: "system:masters" };
  const pair = await issueClient(user, { cert, key }, { ...facts, certificateValidityHours: 1 });
  return new KubeApi({ server, ca: `${cert}\n${facts.shown ?? ""}`, ...pair });
}

/**
 * Waits until this node's API is ready: a node that has just booted takes a moment. `ended`: as `waitFor` takes it.
 * Errors: as `adminClient` and `apiReady`.
 */
export async function adminApi({ facts }: { facts: ClusterFacts }, ended?: Ended): Promise<KubeApi> {
  const api = await adminClient(facts);
  const hint = `${CONTAINER}. Or part 2 again: ./bunw scripts/02-control-plane.ts`;
  await apiReady(api, { seconds: 90, ended, hint });
  return api;
}

/** The default hint is for this node's own. Errors: Fail if it is not ready in time, or has `ended`. */
export async function apiReady(
  api: KubeApi,
  how: { seconds: number; hint?: string; ended?: Ended | undefined },
) {
  const hint = how.hint ?? withSelinux(`${CONTAINER}; journalctl -u kubelet -n 50`);
  await waitFor(`${api.server}/readyz`, () => orStarting(() => api.ready()), { ...how, hint });
}

/**
 * Errors: Fail if it is not; Refused where nothing of it was `changed` and it runs: that it says no is another thing
 * than that it does not start.
 */
export async function ownApiReady(
  api: KubeApi,
  { facts, cluster }: { facts: ClusterFacts; cluster: { oldCaPem: string } },
  { changed, ended }: { changed: boolean; ended: Ended },
) {
  const fail = await failOf(() => apiReady(api, { seconds: 180, ended }));
  if (!fail) return;
  const [served] = await Promise.allSettled([servedPem(facts.advertiseAddress, facts.bindPort)]);
  const isOurs =
    served.status === "fulfilled" && isServerOf(served.value, facts.advertiseAddress, cluster.oldCaPem);
  throw changed || !isOurs
    ? fail
    : new Refused(`kube-apiserver runs here, its files are valid, and it is not ready: ${fail.message}`, {
        unchanged: true,
        hint: "see what is missing: kubectl --kubeconfig /etc/kubernetes/admin.conf get --raw '/readyz?verbose'; crictl logs ID. Then run the same line again",
      });
}

/**
 * Kubelets, pods and people use it. That it does not answer us stops nothing: a balancer may need more control plane
 * nodes, or be one that this node does not reach.
 */
export async function sayEndpointReady(facts: ClusterFacts) {
  const api = await adminClient(facts, clusterServer(facts));
  const hint = "check that the load balancer runs, and that the name resolves on this node";
  const late = await failOf(() => apiReady(api, { seconds: 20, hint }));
  say(late ? `warning: ${late.message}; ${hint}` : `${api.server}: ready`);
  const isAway = late && readKubeconfig(ADMIN_CONF)!.server === api.server;
  const server = isAway ? ` --server ${localServer(facts)}` : "";
  say(`kubectl${server} works here: export KUBECONFIG=${ADMIN_CONF}`);
}
