/**
 * The cluster's objects that hold its CA, once it is renewed on this node. The controller-manager writes
 * kube-root-ca.crt and the token Secrets from the file that it read at its start, so the leader's file
 * decides.
 */
import { AUTHENTICATION, changeClusterInfo } from "../api/cluster-trust.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { hostOfHolder, type KubeObject, nameOf } from "../api/kube-object.ts";
import { leaderNow } from "../api/leader-leases.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { leaderLease } from "../facts/leaders.ts";
import { type CertInfo, certificatesIn } from "../pki/certificate.ts";
import { knowsCa } from "../pki/trusted-keys.ts";
import { listed } from "../plain.ts";
import { mode, say } from "../run.ts";
import { inTime } from "../wait-for.ts";
import { waitForRootCa } from "../workloads/root-ca.ts";
import { tokenSecrets } from "../workloads/token-secrets.ts";
import { type Candidate, renewedText } from "./renewal.ts";

const MANAGER = "kube-controller-manager";

type ConfigMap = KubeObject & { data?: Record<string, string> };

/** The CA and the front proxy's CA in use, by the objects of kube-system. */
export async function casInUse(api: KubeApi): Promise<Record<"ca" | "front-proxy-ca", Candidate[]>> {
  const map = async (path: string, key: string): Promise<Candidate> => {
    const pem = (await api.find<ConfigMap>(path))?.data?.[key] ?? "";
    return { pem, from: path.split("/").at(-1)! };
  };
  return {
    ca: [await map("/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt", "ca.crt")],
    "front-proxy-ca": [await map(AUTHENTICATION, "requestheader-client-ca-file")],
  };
}

/** the very certificate: another one of its key is valid, but not the one to publish */
const holds = (text: string | undefined, caPem: string) => certificatesIn(text ?? "").includes(caPem);

/** Seconds in which the controller-manager's token controller writes them again (measured: 16 s). */
const SECRETS = 60;

/**
 * Writes it to cluster-info, and waits until the controller-manager has written it to all namespaces and
 * token Secrets. If another node's controller-manager leads, returns that node's name instead, as it
 * publishes the file that it has read. Names objects that do not get it: a user with rights in a namespace
 * can prevent it.
 */
export async function publish(
  cp: ControlPlaneNode,
  api: KubeApi,
  ca: Readonly<CertInfo>,
): Promise<string | undefined> {
  if (mode.dryRun) return void say("would put the renewed CA into cluster-info; wait for kube-root-ca.crt");
  await changeClusterInfo(api, (before) => renewedText(before, ca));
  const host = await leadsElsewhere(cp, api);
  const isPublished = (await casInUse(api)).ca.every(({ pem }) => holds(pem, ca.pem));
  if (host !== undefined && !isPublished) {
    say(
      `kube-root-ca.crt: not yet, the ${MANAGER} on ${host} leads, and publishes the CA that it read at its start`,
    );
    return host;
  }
  await waitForRootCa(api, ca.pem, holds);
  const hint = `see whether it leads: kubectl -n kube-system get lease ${MANAGER}; crictl logs ID`;
  let fewest = Number.POSITIVE_INFINITY;
  const all = async () => {
    const { length } = await secretsBehind(api, ca);
    fewest = Math.min(fewest, length);
    return length === 0;
  };
  const what = `the ${MANAGER} to put the renewed CA into token Secrets`;
  await inTime(what, all, { seconds: SECRETS, progress: () => fewest, easing: true, hint });
  const late = await secretsBehind(api, ca);
  say(`token Secrets: ${late.length === 0 ? "the renewed CA" : `not the renewed CA in ${listed(late)}`}`);
  return undefined;
}

/** The other host whose controller-manager leads. */
async function leadsElsewhere({ node }: ControlPlaneNode, api: KubeApi): Promise<string | undefined> {
  const lease = leaderLease(node, MANAGER);
  const holder = lease && (await leaderNow(api, lease));
  const host = holder ? hostOfHolder(holder) : undefined;
  return host === node.hostName ? undefined : host;
}

/** Names of those with another certificate of its key; other content is their owners'. */
async function secretsBehind(api: KubeApi, ca: Readonly<CertInfo>): Promise<string[]> {
  return (await tokenSecrets(api)).flatMap((secret) => {
    const text = Buffer.from(secret.data?.["ca.crt"] ?? "", "base64").toString();
    return knowsCa(text, ca.pem) && !holds(text, ca.pem) ? nameOf(secret) : [];
  });
}
