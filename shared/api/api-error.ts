/**
 * Answers of the API server, or of whatever else answers; and how the API says no: its errors, and their hints. The
 * API server itself calls admission webhooks and aggregated APIs. While a webhook with failurePolicy Fail does not
 * answer, the API refuses what the webhook would have looked at: new pods, ConfigMaps, Secrets, Leases.
 */
import { Fail } from "../fail.ts";
import { orUndefined } from "../pki/certificate.ts";
import { quoteUntrusted } from "../plain.ts";
import { shell } from "../shell-line.ts";
import type { KubeObject } from "./kube-object.ts";

/** Hints: the API server answers, and is in trouble; and it does not answer. */
export const IS_IT_WELL =
  "see whether the API server is well: kubectl get --raw '/readyz?verbose'. Then run the same line again: what is done stays done";
export const NO_ANSWER_HINT =
  "crictl ps -a --name kube-apiserver; crictl logs ID. Then run the same line again: what is done stays done";

const FAILED_CALL = /failed calling webhook "([^"]+)"/;
const DEAF_HINT =
  "see whether the pods of this webhook run, which does not answer: kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations. To continue unchecked (its failurePolicy: Ignore) is your decision. Then run the same line again";

/**
 * The API answered, and refused. `status` is the HTTP status, `message` the API's own sentence, as one short
 * line.
 */
export class ApiError extends Fail {
  readonly status: number;

  constructor(status: number, message: string) {
    super(quoteUntrusted(message), { hint: FAILED_CALL.test(message) ? DEAF_HINT : IS_IT_WELL });
    this.status = status;
  }
}

/**
 * The error with which the API server refuses names it (apiserver pkg/util/webhook/error.go); undefined: another.
 */
export function deafWebhook(err: unknown): string | undefined {
  return err instanceof ApiError ? FAILED_CALL.exec(err.message)?.[1] : undefined;
}

/**
 * Not as it is: a policy, a quota or a size forbids it, it is immutable, or somebody else always writes
 * first. What users of one namespace can bring about says nothing of the others.
 */
const REFUSED = [400, 403, 409, 413, 422];

/** The API refuses this one object, whoever asks. Undefined: another error. */
export function refusalOfOne(err: unknown): ApiError | undefined {
  return err instanceof ApiError && REFUSED.includes(err.status) ? err : undefined;
}

/** Undefined where the API refuses with one of these: 404, it is gone; 409, somebody else was faster. Errors: as `ask`. */
export async function unlessRefused<T>(
  statuses: readonly number[],
  ask: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await ask();
  } catch (err) {
    if (err instanceof ApiError && statuses.includes(err.status)) return undefined;
    throw err;
  }
}

/** In a wait: an API server that starts refuses every path until it has read its roles. Errors: as `ask`. */
export async function orStarting<T>(ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (cause) {
    if (!(cause instanceof ApiError && cause.status === 403)) throw cause;
    throw new Fail("the API server has not read its roles yet, or has lost them (403)", {
      hint: cause.hint,
      cause,
    });
  }
}

/** `request`: shown where the body says nothing. */
export function refusal(status: number, text: string, request: string): ApiError {
  return new ApiError(status, statusMessage(text) ?? `${request}: HTTP ${status}`);
}

/** Bytes that are read of a refusal. */
const MOST = 1_000_000;

/** The first bytes of an answer as text, at most `most`; the rest is not read. */
export async function firstBytesText(response: Response, most = MOST): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk.subarray(0, most - size));
    size += chunk.length;
    if (size >= most) break;
  }
  return Buffer.concat(chunks).toString();
}

/** Errors: Fail that names the server. */
export function parseJson(text: string, server: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new Fail(`${server} did not answer with JSON: "${quoteUntrusted(text.slice(0, 100))}"`, {
      hint: "see whether the API server or something else listens there: curl -k SERVER/version",
      cause,
    });
  }
}

/**
 * The API's own sentence; of the page of its health checks what fails; if it is another server: its whole
 * answer.
 */
function statusMessage(text: string): string | undefined {
  const failing = [...text.matchAll(/^\[-\](.+)$/gm)].map(([, check]) => check);
  if (failing.length > 0) return `not ready: ${failing.join(", ")}`;
  const answer = orUndefined(() => JSON.parse(text) as { message?: unknown } | null);
  if (answer === undefined) return text.trim() || undefined;
  return typeof answer?.message === "string" ? answer.message : undefined;
}

/** The part of the client that this file needs: the client itself imports this file. */
interface Lister {
  list<T>(path: string): Promise<T[]>;
}

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

/** Returns all webhook configurations and API services as `kind name`, a webhook configuration with the names of its webhooks in their order. */
export async function apiExtensions(api: Lister) {
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

/** It may be possible again when the webhook's pods are well. */
export class DeafWebhook extends Fail {
  readonly webhook: string;

  constructor(webhook: string, hint: string) {
    super(`the API refuses it, because the webhook "${webhook}" does not answer`, { hint });
    this.webhook = webhook;
  }
}

/** The DeafWebhook behind an error of the API; undefined where it is another error. */
export async function asDeafWebhook(api: Lister, err: unknown): Promise<DeafWebhook | undefined> {
  const webhook = deafWebhook(err);
  return webhook === undefined ? undefined : new DeafWebhook(webhook, await howToBypassWebhook(api, webhook));
}

/** Does what may meet a webhook that does not answer. Errors: DeafWebhook, or as `action`. */
export async function pastWebhooks<T>(api: Lister, action: () => Promise<T>): Promise<T> {
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
async function howToBypassWebhook(api: Lister, webhook: string): Promise<string> {
  // a kubelet's own client may not read them
  const called = (await unlessRefused([403], () => apiExtensions(api))) ?? [];
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
