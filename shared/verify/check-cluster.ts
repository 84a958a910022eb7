/** Checks of the trust that the cluster itself holds: its copies of the CA, and its token Secrets. */
import type { KubeApi, KubeObject } from "../api/kube-api.ts";
import { API_SERVER_BUNDLES, apiServerBundles } from "../api/trust-bundles.ts";
import { listed } from "../plain.ts";
import { namespacesWithOldCa } from "../workloads/root-ca.ts";
import { isCurrent, type TokenTrust, tokenSecrets } from "../workloads/token-secrets.ts";
import type { Answer, CheckRow } from "./checks.ts";

export async function* clusterChecks(api: KubeApi, trust: TokenTrust): AsyncGenerator<CheckRow> {
  yield {
    area: "cluster",
    what: "kube-root-ca.crt in every namespace",
    look: async () => {
      const old = await namespacesWithOldCa(api, trust.caPem);
      return old.length === 0 ? "today's CA" : { failed: `another CA in ${old.join(", ")}: the controller-manager writes it` };
    },
    hint: "./bunw scripts/04-sa-tokens.ts waits for it",
  };
  const { all, old } = await apiServerBundles(api, trust.caPem);
  if (all.length > 0)
    yield {
      area: "cluster",
      what: `ClusterTrustBundle ${API_SERVER_BUNDLES}*`,
      look: () => (old.length === 0 ? "today's CA" : { failed: `another CA in ${listed(old)}: the controller-manager writes it` }),
      hint: "./bunw scripts/04-sa-tokens.ts waits for it",
    };
  yield { area: "cluster", what: "cluster-info", look: () => clusterInfo(api, trust), hint: "./bunw scripts/02-control-plane.ts" };
  yield* await tokenChecks(api, trust);
}

async function clusterInfo(api: KubeApi, { caPem }: TokenTrust): Promise<Answer> {
  const map = await api.get<KubeObject & { data: { kubeconfig: string } }>("/api/v1/namespaces/kube-public/configmaps/cluster-info");
  return map.data.kubeconfig.includes(Buffer.from(caPem).toString("base64")) ? "today's CA" : { failed: "another CA" };
}

async function tokenChecks(api: KubeApi, trust: TokenTrust): Promise<CheckRow[]> {
  try {
    return (await tokenSecrets(api)).map((secret) => ({
      area: "tokens",
      what: `${secret.metadata.namespace}/${secret.metadata.name}`,
      look: () => (isCurrent(secret, trust) ? "verifies" : { failed: "does not verify, or holds another CA" }),
      hint: "./bunw scripts/04-sa-tokens.ts renews it",
    }));
  } catch (err) {
    const failed = (err as Error).message;
    return [{ area: "tokens", what: "Secrets can be read", look: () => ({ failed }) }];
  }
}
