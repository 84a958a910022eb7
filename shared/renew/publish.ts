/**
 * The objects in which the cluster keeps its CA, once it is renewed on this node. kube-root-ca.crt and the token
 * Secrets are the controller-manager's: it gives out what it has read when it started, so the leader decides.
 */
import { changeClusterInfo } from "../api/cluster-trust.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { type KubeObject, nameOf } from "../api/kube-object.ts";
import { hostOfHolder } from "../api/leader.ts";
import { leaderNow } from "../api/leader-leases.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { leaderLease } from "../facts/leaders.ts";
import { type CertInfo, certificatesIn } from "../pki/certificate.ts";
import { listed } from "../plain.ts";
import { mode, say } from "../run.ts";
import { waitFor } from "../wait-for.ts";
import { ROOT_CA_MAPS } from "../workloads/root-ca.ts";
import { tokenSecrets } from "../workloads/token-secrets.ts";
import { type Candidate, renewedText } from "./renewal.ts";

const MANAGER = "kube-controller-manager";
const AUTHENTICATION = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";

type ConfigMap = KubeObject & { data?: Record<string, string> };

/** What the cluster has in use of its CA and of the front proxy's, by the objects of kube-system. */
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

/**
 * Objects that have another certificate of this CA: `namespace/name` of each ConfigMap kube-root-ca.crt and of each
 * token Secret.
 */
async function objectsBehind(api: KubeApi, ca: Readonly<CertInfo>): Promise<string[]> {
  const isBehind = (pem = "") => pem !== "" && !certificatesIn(pem).includes(ca.pem);
  const behind: string[] = [];
  for await (const map of api.items<ConfigMap>(ROOT_CA_MAPS))
    if (isBehind(map.data?.["ca.crt"])) behind.push(nameOf(map));
  for (const secret of await tokenSecrets(api))
    if (isBehind(Buffer.from(secret.data?.["ca.crt"] ?? "", "base64").toString()))
      behind.push(`${nameOf(secret)} (Secret)`);
  return behind;
}

/**
 * Puts it into cluster-info, and waits until the controller-manager has given it to all namespaces and token
 * Secrets; but not where another node's leads, which gives out what it has read: returns that node's name.
 */
export async function publish(
  cp: ControlPlaneNode,
  api: KubeApi,
  ca: Readonly<CertInfo>,
): Promise<string | undefined> {
  if (mode.dryRun) return void say("would: put the renewed CA into cluster-info; wait for kube-root-ca.crt");
  await changeClusterInfo(api, (before) => renewedText(before, ca));
  const lease = leaderLease(cp.node, MANAGER);
  const holder = lease && (await leaderNow(api, lease));
  const host = holder && hostOfHolder(holder);
  let behind = await objectsBehind(api, ca);
  if (behind.length > 0 && host !== undefined && host !== cp.node.hostName) {
    say(
      `kube-root-ca.crt: not yet, the ${MANAGER} on ${host} leads, and gives out what it read when it started`,
    );
    return host;
  }
  await waitFor(
    () => `the ${MANAGER} to give out the renewed CA (missing: ${listed(behind)})`,
    async () => {
      behind = await objectsBehind(api, ca);
      return behind.length === 0;
    },
    { seconds: 120, hint: `does it lead? kubectl -n kube-system get lease ${MANAGER}; crictl logs ID` },
  );
  say("kube-root-ca.crt and all token Secrets: the renewed CA");
  return undefined;
}
