/** One request among thousands. */

import { waitFor } from "../run.ts";
import { ApiError } from "./kube-api.ts";

/**
 * Does `action` until the API takes it: one answer among thousands that is lost, or "too many requests", does not end the whole.
 * Errors: ApiError at once where the API says no for good; Fail after half a minute.
 */
export async function insist<T>(what: string, action: () => Promise<T>): Promise<T> {
  const attempt = async () => {
    try {
      return { value: await action() };
    } catch (err) {
      if (err instanceof ApiError && err.status !== 429 && err.status < 500) return { err };
      throw err;
    }
  };
  const outcome = await waitFor(what, attempt, {
    seconds: 30,
    hint: "is the API server well? kubectl get --raw '/readyz?verbose'. Then run this script again: what is done stays done",
  });
  if (!outcome || "err" in outcome) throw outcome?.err ?? new Error(`${what}: not in a dry run`);
  return outcome.value;
}
