/**
 * Follows a collection of the API as its own controllers do: first everything that is there, then every
 * change, over any number of connections. Only the place in history is kept.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
 */
import { waitFor } from "../wait-for.ts";
import { ApiError, NO_ANSWER_HINT } from "./api-error.ts";
import { type KubeApi, withQuery } from "./kube-api.ts";
import type { KubeObject } from "./kube-object.ts";

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

/** How far the collection's history was read; none: it has to be listed. */
type Place = { version?: string | undefined };

/**
 * The API server closes a connection after so many seconds; a connection that is open much longer is dead.
 */
const CONNECTION_SECONDS = 30;
const DEAD_AFTER_SECONDS = 45;

/** Milliseconds between two connections: a server that closes each one at once is not flooded. */
const BETWEEN = 500;

/**
 * The changes of a collection until `signal` aborts; `onListed`: what was there has been given. Errors:
 * ApiError if the API refuses; Fail if it does not answer for two minutes.
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
