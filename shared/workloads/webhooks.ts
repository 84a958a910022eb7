/** Pods that serve webhooks and aggregated APIs, and whether a webhook would refuse a new pod. */
import { asDeafWebhook, calledByApi } from "../api/called-by-api.ts";
import type { ApiReader, KubeApi } from "../api/kube-api.ts";
import { type KubeObject, selects } from "../api/kube-object.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { Fail } from "../fail.ts";

/**
 * Those of these pods that serve webhooks, and those that serve aggregated APIs, by the selectors of their
 * Services: their UIDs.
 */
export async function servingPods(
  api: ApiReader,
  pods: readonly RunningPod[],
): Promise<{ webhooks: Set<string>; apis: Set<string> }> {
  const serving = { webhooks: new Set<string>(), apis: new Set<string>() };
  for (const { name: called, clients } of await calledByApi(api)) {
    const uids = called.startsWith("APIService ") ? serving.apis : serving.webhooks;
    for (const { namespace, name } of clients.flatMap(({ service }) => service ?? [])) {
      const service = await api.find<KubeObject & { spec: { selector?: Record<string, string> } }>(
        `/api/v1/namespaces/${encodeURIComponent(namespace)}/services/${encodeURIComponent(name)}`,
      );
      const selector = service?.spec.selector ?? {};
      if (Object.keys(selector).length === 0) continue;
      for (const pod of pods)
        if (pod.metadata.namespace === namespace && selects({ matchLabels: selector }, pod))
          uids.add(pod.metadata.uid ?? "");
    }
  }
  return serving;
}

/**
 * Asks the API, without making it, for a pod like this one. Errors: DeafWebhook. What else the API says of so
 * bare a pod proves nothing.
 */
export async function refuseDeafWebhook(api: KubeApi, { metadata: { namespace, labels } }: RunningPod) {
  const metadata = { generateName: "kube-pki-repair-", namespace, labels };
  const spec = { containers: [{ name: "none", image: "none" }] };
  try {
    await api.create(`/api/v1/namespaces/${namespace}/pods?dryRun=All`, {
      apiVersion: "v1",
      kind: "Pod",
      metadata,
      spec,
    });
  } catch (err) {
    const deaf = await asDeafWebhook(api, err);
    if (deaf) throw deaf;
    if (!(err instanceof Fail)) throw err;
  }
}
