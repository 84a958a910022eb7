/** Checks of the trust that the cluster itself holds: its copies of the CA, and its token Secrets. */
import type { KubeApi } from "../api/kube-api.ts";
import { API_SERVER_BUNDLES, type KubeObject } from "../api/kube-object.ts";
import type { Answer, CheckRow } from "../checks/check.ts";
import { severalCas } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { saKeyIsNew } from "../facts/sa-key.ts";
import { saidAt, type Word } from "../node/word-kinds.ts";
import { wordsOf } from "../node/words.ts";
import { caIn } from "../pki/kubeconfig-fields.ts";
import { trustsCa } from "../pki/trusted-keys.ts";
import { listed } from "../plain.ts";
import { apiServerBundles, namespacesWithOldCa } from "../workloads/root-ca.ts";
import {
  holdsCa,
  isCurrent,
  isFilled,
  type TokenSecret,
  type TokenTrust,
  tokenSecrets,
} from "../workloads/token-secrets.ts";

export async function* clusterChecks(
  cp: ControlPlaneNode,
  api: KubeApi,
  trust: TokenTrust,
): AsyncGenerator<CheckRow> {
  yield {
    id: "root-ca",
    look: async () => {
      const old = await namespacesWithOldCa(api, trust.caPem);
      const failed = `another CA in ${old.join(", ")}: the controller-manager writes it`;
      return old.length === 0 ? (severalCas(cp) ?? "current CA") : { failed };
    },
  };
  const { all, old } = await apiServerBundles(api, trust.caPem);
  if (all.length > 0)
    yield {
      id: "trust-bundle",
      of: API_SERVER_BUNDLES,
      look: () =>
        old.length === 0
          ? "current CA"
          : { failed: `another CA in ${listed(old)}: the controller-manager writes it` },
    };
  yield { id: "cluster-info", look: () => clusterInfo(api, trust) };
  yield* await tokenChecks(cp, api, trust);
}

async function clusterInfo(api: KubeApi, { caPem }: TokenTrust): Promise<Answer> {
  const map = await api.find<KubeObject & { data: { kubeconfig: string } }>(
    "/api/v1/namespaces/kube-public/configmaps/cluster-info",
  );
  if (!map) return "not there: nobody joins by it";
  return trustsCa(caIn(map.data.kubeconfig), caPem) ? "current CA" : { failed: "another CA" };
}

/** `givenUp`: the word that one of the keys is. */
function tokenAnswer(secret: TokenSecret, trust: TokenTrust, givenUp: Word | undefined): Answer {
  if (!isFilled(secret)) return "no token yet: the controller-manager fills it";
  if (isCurrent(secret, trust)) return "verifies";
  if (trust.oldSaPub && isCurrent(secret, { ...trust, saPub: trust.oldSaPub }))
    return { warning: "of the old key: accepted until retire takes sa-old.pub out" };
  if (givenUp && holdsCa(secret, trust))
    return { warning: `${saidAt(givenUp)}: refused while the key that signed it is given up` };
  return { failed: "does not verify, or holds another CA" };
}

async function tokenChecks(cp: ControlPlaneNode, api: KubeApi, trust: TokenTrust): Promise<CheckRow[]> {
  const [word] = wordsOf("start-without").filter(({ value }) => value === "service-account-key-file");
  // where sa.key is new as well, any of the old tokens may be its predecessor's
  const givenUp = word && !saKeyIsNew(cp) ? word : undefined;
  try {
    return (await tokenSecrets(api)).map((secret) => ({
      id: "token-secret",
      of: `${secret.metadata.namespace}/${secret.metadata.name}`,
      look: () => tokenAnswer(secret, trust, givenUp),
    }));
  } catch (err) {
    const failed = (err as Error).message;
    return [{ id: "token-secrets", look: () => ({ failed }) }];
  }
}
