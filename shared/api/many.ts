/**
 * Thousands of requests: some at the same time, not all, and none is lost. Thousands of objects: none of it
 * is silent.
 */
import { count } from "../progress.ts";
import { sayWhile, waitFor } from "../wait-for.ts";
import { ApiError, deafWebhook, IS_IT_WELL, NO_ANSWER_HINT } from "./api-error.ts";

/**
 * Gives all items of a collection to `take`, which does not wait. A large one, or a slow API, takes long
 * although each page comes at once: then it is said how far it is. `what`: "Leases". Errors: as `items`.
 */
export async function readAll<T>(what: string, items: AsyncIterable<T>, take: (item: T) => unknown) {
  let read = 0;
  const words = () => `the rest of the ${what}, ${count(read)} are read`;
  const readOn = async () => {
    for await (const item of items) {
      take(item);
      read++;
    }
  };
  await sayWhile(words, NO_ANSWER_HINT, readOn, { within: true });
}

/**
 * Runs `action` for all items, `width` at a time. After the first error no other is started, and running ones
 * are waited for.
 */
export async function inParallel<T>(
  items: Iterable<T> | AsyncIterable<T>,
  width: number,
  action: (item: T) => Promise<unknown>,
) {
  // one generator for all workers: each takes from it, and the first that leaves it ends it for all
  const queue = (async function* () {
    yield* items;
  })();
  const worker = async () => {
    for await (const item of queue) await action(item);
  };
  const ends = await Promise.allSettled(Array.from({ length: width }, worker));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
}

/**
 * The same for work that mostly waits: an item that takes longer than `milliseconds` gives its place to the
 * next, and is waited for at the end. So a hundred that wait in vain take hardly longer than one.
 */
export async function inParallelWithTimeSlots<T>(
  items: Iterable<T>,
  { width, milliseconds }: { width: number; milliseconds: number },
  action: (item: T) => Promise<unknown>,
) {
  const begun: Promise<unknown>[] = [];
  await inParallel(items, width, async (item) => {
    const work = action(item);
    begun.push(work);
    const late = Promise.withResolvers<unknown>();
    AbortSignal.timeout(milliseconds).addEventListener("abort", late.resolve);
    await Promise.race([work, late.promise]);
  }).finally(() => Promise.allSettled(begun));
  await Promise.all(begun);
}

/**
 * Repeats `action` until the API accepts it: a lost answer, or "too many requests", does not end the work on
 * thousands. `failsWhereDeaf`: the caller has another way where a webhook does not answer. Errors: ApiError
 * at once if the API refuses for good, or so; Fail after half a minute.
 */
export async function retry<T>(
  what: string,
  action: () => Promise<T>,
  { failsWhereDeaf = false } = {},
): Promise<T> {
  const attempt = async () => {
    try {
      return { value: await action() };
    } catch (err) {
      const isFinal = err instanceof ApiError && err.status !== 429 && err.status < 500;
      if (isFinal || (failsWhereDeaf && deafWebhook(err) !== undefined)) return { err };
      throw err;
    }
  };
  const outcome = await waitFor(what, attempt, { seconds: 30, hint: IS_IT_WELL });
  if (!outcome || "err" in outcome) throw outcome?.err ?? new Error(`${what}: not in a dry run`);
  return outcome.value;
}
