/**
 * Answers of the API server, or of whatever else answers: their bodies; and how the API says no: its errors,
 * their hints, the webhook that does not answer.
 */
import { Fail } from "../fail.ts";
import { orUndefined } from "../pki/certificate.ts";
import { quoteUntrusted } from "../plain.ts";

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
 * The webhook that the API server could not call, by the error with which it refuses (apiserver
 * pkg/util/webhook/error.go); undefined: another.
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

/** `request`: shown where the body says nothing. */
export function refusal(status: number, text: string, request: string): ApiError {
  return new ApiError(status, statusMessage(text) ?? `${request}: HTTP ${status}`);
}

/** Bytes that are read of a refusal. */
const MOST = 1_000_000;

/** The first bytes of an answer as text, at most `most`; the rest is not read. */
export async function firstOf(response: Response, most = MOST): Promise<string> {
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
