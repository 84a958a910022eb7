/**
 * The words and changes of a run that writes, reported as they happen, from any floor, to the listener that
 * saves them (node/kept-run.ts). Scripts that only read, and dry runs, report nothing.
 */

/**
 * Never contains keys, tokens and the content of files, except `bytes`: its reader takes certificates out of
 * it, and nothing else.
 */
export type RunEvent =
  | { what: "run"; script: string; version: string; args: readonly string[] }
  | { what: "node"; name: string }
  /** One message as on the screen, of one or several lines. */
  | { what: "text"; text: string }
  | { what: "step"; title: string }
  | { what: "step end"; title: string; ok: boolean }
  | { what: "failed"; message: string; hint: string }
  /** A program was run, a link was made, or the like: in the words of the screen. */
  | { what: "act"; line: string }
  | FileEvent
  /** A flag of the API server: its file is lost for good, or is back. */
  | { what: "flag"; did: "given up" | "back"; flag: string; path: string }
  /** etcd serves the old data with the new certificates, once enough members run. */
  | { what: "proved"; subject: "etcd" }
  /** A wait of a second or more. */
  | { what: "waited"; for: string; seconds: number }
  /** An object of the cluster: the verb is the HTTP method, the path has no query. */
  | { what: "object"; verb: string; path: string };

interface FileEvent {
  what: "file";
  did: "wrote" | "copied" | "moved" | "renamed" | "removed";
  /** The node's path. */
  path: string;
  to?: string;
  /** The fault of a file that was moved aside. */
  why?: string;
  /** The file did not exist before. */
  isNew?: boolean;
  /** Permission bits of the written file. */
  mode?: number;
  bytes?: Uint8Array;
}

type Listener = (event: RunEvent, at: Date) => void;

/** Undefined: this process reports nothing. */
let early: { event: RunEvent; at: Date }[] | undefined;
let listener: Listener | undefined;

/** The most messages kept before somebody listens. */
const EARLY = 1000;

/** From here on this process is a run that writes. */
export function beginToTell(run: Extract<RunEvent, { what: "run" }>) {
  early = [];
  listener = undefined;
  told(run);
}

export function told(event: RunEvent) {
  if (listener) listener(event, new Date());
  else if (early && early.length < EARLY) early.push({ event: withoutBytes(event), at: new Date() });
}

/** Events kept in memory have no content. */
function withoutBytes(event: RunEvent): RunEvent {
  if (event.what !== "file") return event;
  const { bytes: _, ...rest } = event;
  return rest;
}

/**
 * Calls this for all events from the beginning of this run; `undefined`: stops listening. Does nothing in a
 * process that reports nothing.
 */
export function listenToRun(next: Listener | undefined) {
  const events = early;
  early = undefined;
  listener = events && next;
  for (const { event, at } of events ?? []) listener?.(event, at);
}
