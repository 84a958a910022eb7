/** How the API says no: its errors, their hints, and the webhook that does not answer. */
import { Fail } from "../fail.ts";
import { strangers } from "../plain.ts";
import { statusMessage } from "./bodies.ts";

/** The hint where the API server answers, and is in trouble; and the one where it does not answer. */
export const IS_IT_WELL =
  "is the API server well? kubectl get --raw '/readyz?verbose'. Then run this script again: what is done stays done";
export const NO_ANSWER_HINT = "crictl ps -a --name kube-apiserver; crictl logs ID. Then run this script again: what is done stays done";

const FAILED_CALL = /failed calling webhook "([^"]+)"/;
const DEAF_HINT =
  "this webhook does not answer: do its pods run? kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations. To go on unchecked (its failurePolicy: Ignore) is your decision. Then run this script again";

/** The API answered, and refused. `status` is the HTTP status, `message` the API's own sentence, as one short line. */
export class ApiError extends Fail {
  readonly status: number;

  constructor(status: number, message: string) {
    super(strangers(message), { hint: FAILED_CALL.test(message) ? DEAF_HINT : IS_IT_WELL });
    this.status = status;
  }
}

/** The webhook that the API server could not call, by the error with which it refuses (apiserver pkg/util/webhook/error.go); undefined: another. */
export function deafWebhook(err: unknown): string | undefined {
  return err instanceof ApiError ? FAILED_CALL.exec(err.message)?.[1] : undefined;
}

/**
 * Not as it is: a policy, a quota or a size forbids it, it is immutable, or somebody else always writes first. What users of one namespace
 * can bring about says nothing of the others.
 */
const REFUSED = [400, 403, 409, 413, 422];

/** The API refuses this one object, whoever asks. Undefined: another error. */
export function refusalOfOne(err: unknown): ApiError | undefined {
  return err instanceof ApiError && REFUSED.includes(err.status) ? err : undefined;
}

/** What the API gives; undefined where it refuses with one of these: 404, it is gone; 409, somebody else was faster. Errors: as `ask`. */
export async function unlessRefused<T>(statuses: readonly number[], ask: () => Promise<T>): Promise<T | undefined> {
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
