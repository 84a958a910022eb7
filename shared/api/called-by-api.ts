/**
 * Called by the API server itself: admission webhooks and aggregated APIs. While a webhook with
 * failurePolicy Fail does not answer, the API refuses what the webhook would have looked at: new pods,
 * ConfigMaps, Secrets, Leases. Its error names the webhook.
 */
import { Fail } from "../fail.ts";
import { shell } from "../shell-line.ts";
import { deafWebhook, unlessRefused } from "./api-error.ts";
import type { ApiReader, KubeApi } from "./kube-api.ts";
import type { KubeObject } from "./kube-object.ts";

/** How the API server reaches a webhook or an aggregated API, and the CA that it trusts there. */
interface Client {
  service?: { namespace: string; name: string };
  caBundle?: string;
}

type Called = KubeObject & { webhooks?: { name: string; clientConfig: Client }[]; spec?: Client };

const CALLED = {
  ValidatingWebhookConfiguration: "admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
  MutatingWebhookConfiguration: "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
  APIService: "apiregistration.k8s.io/v1/apiservices",
};

/** All of them, `kind name`; of a webhook configuration with the names of its webhooks, in its order. */
export async function calledByApi(api: ApiReader) {
  const found = Object.entries(CALLED).map(async ([kind, path]) =>
    (await api.list<Called>(`/apis/${path}`)).map(({ metadata, webhooks = [], spec }) => ({
      name: `${kind} ${metadata.name}`,
      webhooks: webhooks.map(({ name }) => name),
      clients: [spec, ...webhooks.map(({ clientConfig }) => clientConfig)].filter(
        (client) => client !== undefined,
      ),
    })),
  );
  return (await Promise.all(found)).flat();
}

/**
 * The API refuses something because this webhook does not answer. It may be possible again when the webhook's
 * pods are well.
 */
export class DeafWebhook extends Fail {
  readonly webhook: string;

  constructor(webhook: string, hint: string) {
    super(`the API refuses it, because the webhook "${webhook}" does not answer`, { hint });
    this.webhook = webhook;
  }
}

/** The DeafWebhook behind an error of the API; undefined where it is another error. */
export async function asDeafWebhook(api: KubeApi, err: unknown): Promise<DeafWebhook | undefined> {
  const webhook = deafWebhook(err);
  return webhook === undefined ? undefined : new DeafWebhook(webhook, await howToBypassWebhook(api, webhook));
}

/** Does what may meet a webhook that does not answer. Errors: DeafWebhook, or as `action`. */
export async function pastWebhooks<T>(api: KubeApi, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (err) {
    throw (await asDeafWebhook(api, err)) ?? err;
  }
}

/**
 * Where it is configured, where its pods are, and how it can be made to be passed over: that is the
 * operator's decision.
 */
async function howToBypassWebhook(api: KubeApi, webhook: string): Promise<string> {
  // a kubelet's own client may not read them
  const called = (await unlessRefused([403], () => calledByApi(api))) ?? [];
  const found = called.find(({ webhooks }) => webhooks.includes(webhook));
  if (!found) return "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations";
  const index = found.webhooks.indexOf(webhook);
  const service = found.clients[index]?.service;
  const look = service
    ? `its pods serve ${service.namespace}/${service.name}: ${shell`kubectl -n ${service.namespace} get pods`}. `
    : "";
  const [kind, name] = found.name.split(" ") as [string, string];
  const ignore = { op: "replace", path: `/webhooks/${index}/failurePolicy`, value: "Ignore" };
  const patch = JSON.stringify([ignore]);
  return `${look}If they do not come back, it is your decision to continue unchecked: ${shell`kubectl patch --type=json --patch ${patch} ${kind.toLowerCase()} ${name}`}, this script again, then the same with "Fail"`;
}
