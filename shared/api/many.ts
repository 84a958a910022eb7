/** Thousands of requests: some at the same time, but not all of them, and none of them lost. */
import { waitFor } from "../run.ts";
import { ApiError } from "./kube-api.ts";

/**
 * Runs `action` over all items, `width` at a time, and asks for no more of them than that. The first error ends it: nothing else is begun, what
 * is under way is waited for.
 */
export async function inParallel<T>(items: Iterable<T> | AsyncIterable<T>, width: number, action: (item: T) => Promise<unknown>) {
  const queue = one(items);
  const worker = async () => {
    for await (const item of queue) await action(item);
  };
  const ends = await Promise.allSettled(Array.from({ length: width }, worker));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
}

/** A generator, so that several can take from it, and that whoever leaves it ends it for all. */
async function* one<T>(items: Iterable<T> | AsyncIterable<T>): AsyncGenerator<T> {
  yield* items;
}

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
