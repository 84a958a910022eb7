/**
 * Thousands of requests: some at the same time, not all, and none is lost. And a collection can be followed as the
 * API's own controllers do: first everything that is there, then every change, over any number of connections. Only
 * the place in history is kept.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
 */
import { inParallel } from "../in-parallel.ts";
import { formatNumber } from "../progress.ts";
import { sayWhile, waitFor } from "../wait-for.ts";
import { ApiError, deafWebhook, IS_IT_WELL, NO_ANSWER_HINT } from "./api-error.ts";
import type { KubeApi } from "./kube-api.ts";
import { type KubeObject, withQuery } from "./kube-object.ts";

/**
 * `take` does not wait. A large collection, or a slow API, takes long although each page comes at once: then it is
 * said how far it is. `what`: "Leases". Errors: as `items`.
 */
export async function readAll<T>(what: string, items: AsyncIterable<T>, take: (item: T) => unknown) {
  let read = 0;
  const words = () => `the rest of the ${what}, ${formatNumber(read)} are read`;
  const readOn = async () => {
    for await (const item of items) {
      take(item);
      read++;
    }
  };
  await sayWhile(words, NO_ANSWER_HINT, readOn, { within: true });
}

/**
 * The same for work that mostly waits: an item that takes longer than `milliseconds` gives its place to the next. So
 * a hundred that wait in vain take hardly longer than one.
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
 * A lost answer, or "too many requests", does not end the work on thousands. `failsWhereDeaf`: the caller has another
 * way where a webhook does not answer. Errors: ApiError at once if the API refuses for good, or so; Fail after half a
 * minute.
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

/**
 * LISTED: it was there when the list was read. After a gap in history everything is listed again, so an
 * object may come twice.
 */
export interface Change<T> {
  type: "LISTED" | "ADDED" | "MODIFIED" | "DELETED";
  object: T;
}

type Event<T> =
  | Change<T>
  | { type: "BOOKMARK"; object: KubeObject }
  | { type: "ERROR"; object: { code?: number; message?: string } };

/** The collection's history was read so far; no version: it has to be listed. */
type Place = { version?: string | undefined };

/**
 * The API server closes a connection after so many seconds; a connection that is open much longer is dead.
 */
const CONNECTION_SECONDS = 30;
const DEAD_AFTER_SECONDS = 45;

/** Milliseconds between two connections: a server that closes each one at once is not flooded. */
const BETWEEN = 500;

/**
 * Until `signal` aborts; `onListed`: what was there has been given. Errors: ApiError if the API refuses; Fail if it
 * does not answer for two minutes.
 */
export async function* watch<T extends KubeObject>(
  api: KubeApi,
  path: string,
  signal: AbortSignal,
  onListed: () => void = () => undefined,
): AsyncGenerator<Change<T>> {
  const place: Place = {};
  while (!signal.aborted) {
    const begun = Date.now();
    try {
      if (place.version === undefined) {
        yield* listed<T>(api, path, place);
        onListed();
      }
      yield* changes<T>(api, path, place, signal);
    } catch (err) {
      if (signal.aborted) return;
      if (err instanceof ApiError && err.status === 410) place.version = undefined;
      else if (err instanceof ApiError && err.status < 500 && err.status !== 429) throw err;
    }
    const isThere = async () => signal.aborted || (Date.now() > begun + BETWEEN && (await api.ready()));
    await waitFor("the API server to answer again", isThere, { seconds: 120, hint: NO_ANSWER_HINT });
  }
}

async function* listed<T extends KubeObject>(
  api: KubeApi,
  path: string,
  place: Place,
): AsyncGenerator<Change<T>> {
  let last: string | undefined;
  for await (const { items, version } of api.pages<T>(path)) {
    for (const object of items) yield { type: "LISTED", object };
    last = version;
  }
  place.version = last;
}

/**
 * One connection. Bookmarks move the place forward while nothing happens, so that the server still remembers
 * it.
 */
async function* changes<T extends KubeObject>(
  api: KubeApi,
  path: string,
  place: Place,
  signal: AbortSignal,
): AsyncGenerator<Change<T>> {
  const query = `watch=true&allowWatchBookmarks=true&resourceVersion=${place.version}&timeoutSeconds=${CONNECTION_SECONDS}`;
  const ending = AbortSignal.any([signal, AbortSignal.timeout(DEAD_AFTER_SECONDS * 1000)]);
  for await (const event of api.stream<Event<T>>(withQuery(path, query), ending)) {
    if (event.type === "ERROR")
      throw new ApiError(event.object.code ?? 500, event.object.message ?? "the API server closed the watch");
    place.version = event.object.metadata.resourceVersion;
    if (event.type !== "BOOKMARK") yield event;
  }
}
