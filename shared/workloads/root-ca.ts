/** kube-root-ca.crt: the ConfigMap in each namespace by which pods know the CA. The controller-manager writes it (rootcacertpublisher). */
import { ApiError, refusalOfOne } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import type { KubeObject } from "../api/kube-object.ts";
import { apiServerBundles } from "../api/trust-bundles.ts";
import { Fail } from "../fail.ts";
import { trustsCa } from "../pki/trusted-keys.ts";
import { FEW, listed } from "../plain.ts";
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { waitFor } from "../wait-for.ts";
import { DeafWebhook, pastWebhooks } from "./webhooks.ts";

const NAME = "kube-root-ca.crt";

export const ROOT_CA_MAPS = `/api/v1/configmaps?fieldSelector=metadata.name%3D${NAME}`;

/** Namespaces whose kube-root-ca.crt does not have today's CA; it may have others beside it. */
export async function namespacesWithOldCa(api: KubeApi, caPem: string): Promise<string[]> {
  const old = new Set<string>();
  for await (const { metadata, status } of api.items<KubeObject & { status?: { phase?: string } }>("/api/v1/namespaces")) {
    if (status?.phase === "Active") old.add(metadata.name);
  }
  for await (const { metadata, data } of api.items<KubeObject & { data?: Record<string, string> }>(ROOT_CA_MAPS)) {
    if (trustsCa(data?.["ca.crt"], caPem)) old.delete(metadata.namespace ?? "");
  }
  return [...old];
}

/** Milliseconds between two questions why a namespace has the old CA. */
const ASK_EVERY = 5000;

/**
 * A pod that starts after that has today's CA at once; one that runs already, within a minute. Namespaces for which the API refuses it are
 * named, and not waited for: nobody knows when a webhook answers again, and whoever may write ConfigMaps in a namespace can make this one
 * immutable.
 */
export async function waitForRootCa(api: KubeApi, caPem: string) {
  let [old, asked, bundles]: [string[], number, string[]] = [[], 0, []];
  const isEverywhere = async () => {
    old = await namespacesWithOldCa(api, caPem);
    bundles = (await apiServerBundles(api, caPem)).old;
    if (bundles.length > 0) return undefined;
    if (old.length === 0) return [];
    if (Date.now() < asked + ASK_EVERY) return undefined;
    asked = Date.now();
    return await allRefused(api, old, caPem);
  };
  const what = () => {
    const missing = [...old, ...bundles.map((name) => `ClusterTrustBundle ${name}`)];
    return `the controller-manager to give every namespace today's CA${missing.length > 0 ? ` (missing: ${listed(missing)})` : ""}`;
  };
  const refused = await waitFor(what, isEverywhere, {
    seconds: 120,
    hint: () =>
      [
        "does it lead? kubectl -n kube-system get lease kube-controller-manager; crictl ps -a --name kube-controller-manager",
        ...(bundles.length > 0 ? [shell`If it no longer publishes bundles: kubectl delete clustertrustbundle ${bundles}`] : []),
      ].join(". "),
  });
  if (refused?.length === 0 && !mode.dryRun) say(`${NAME}: today's CA in every namespace`);
  if (refused) sayRefused(old, refused);
}

function sayRefused(namespaces: readonly string[], refused: readonly Fail[]) {
  if (refused.length === 0) return;
  say(`${NAME}: today's CA in every namespace but ${listed(namespaces)}: there the API refuses it. Going on without them`);
  for (const [message, { hint }] of new Map(refused.map((one) => [one.message, one]))) say(`${message}: ${hint}`);
}

/** Why these namespaces have the old CA, if the API refuses the new one in all of them (of many, a few are asked); undefined: it is on its way. */
async function allRefused(api: KubeApi, namespaces: readonly string[], caPem: string): Promise<Fail[] | undefined> {
  const refused: Fail[] = [];
  for (const namespace of namespaces.slice(0, FEW)) {
    const why = await refusalIn(api, namespace, caPem);
    if (!why) return undefined;
    refused.push(why);
  }
  return refused;
}

async function refusalIn(api: KubeApi, namespace: string, caPem: string): Promise<Fail | undefined> {
  try {
    await publishRootCa(api, namespace, { caPem, dryRun: true });
  } catch (err) {
    if (err instanceof DeafWebhook) return err;
    const why = refusalOfOne(err);
    if (why)
      return new Fail(`in ${namespace} the API says: ${why.message}`, {
        hint: shell`who made it so? If it is immutable, the controller-manager makes it anew: kubectl --kubeconfig /etc/kubernetes/admin.conf -n ${namespace} delete configmap ${NAME}`,
      });
  }
  return undefined;
}

/** Writes what the controller-manager would; it waits for longer and longer after each refusal. Errors: Fail, DeafWebhook. */
export async function publishRootCa(api: KubeApi, namespace: string, { caPem, dryRun = mode.dryRun }: { caPem: string; dryRun?: boolean }) {
  const maps = `/api/v1/namespaces/${namespace}/configmaps`;
  const query = dryRun ? "?dryRun=All" : "";
  const data = { "ca.crt": caPem };
  await pastWebhooks(api, async () => {
    try {
      await api.patch(`${maps}/${NAME}${query}`, { data });
    } catch (err) {
      if (!(err instanceof ApiError && err.status === 404)) throw err;
      await api.create(`${maps}${query}`, { apiVersion: "v1", kind: "ConfigMap", metadata: { name: NAME, namespace }, data });
    }
  });
}
