/**
 * What a run that writes says and changes. It is told here as it happens, from whatever floor, to the one who
 * keeps it (node/kept-run.ts). A script that only reads, and a dry run, tell nothing.
 */

/**
 * Keys, tokens and the content of files are never part of it, but for `bytes`: its reader takes certificates
 * out of it, and nothing else.
 */
export type RunEvent =
  | { what: "run"; script: string; version: string; args: readonly string[] }
  | { what: "node"; name: string }
  /** As on the screen: one message, of one or several lines. */
  | { what: "text"; text: string }
  | { what: "step"; title: string }
  | { what: "step end"; title: string; ok: boolean }
  | { what: "failed"; message: string; hint: string }
  /** A program was run, a link was made, or the like: in the words of the screen. */
  | { what: "act"; line: string }
  | FileEvent
  /** Of the API server: its file is lost for good, or here again. */
  | { what: "flag"; did: "given up" | "back"; flag: string; path: string }
  /** The old data is served with the new certificates: of etcd, once enough members run. */
  | { what: "proved"; subject: "etcd" }
  /** A second or more, for whatever it says. */
  | { what: "waited"; for: string; seconds: number }
  /** An object of the cluster: the verb is the HTTP method, the path has no query. */
  | { what: "object"; verb: string; path: string };

interface FileEvent {
  what: "file";
  did: "wrote" | "copied" | "moved" | "renamed" | "removed";
  /** As the node has it. */
  path: string;
  to?: string;
  /** What was wrong with a file that was moved aside, as it was judged. */
  why?: string;
  /** There was none before. */
  isNew?: boolean;
  /** Permission bits of what was written. */
  mode?: number;
  bytes?: Uint8Array;
}

type Listener = (event: RunEvent, at: Date) => void;

/** Undefined: nothing is told in this process. */
let early: { event: RunEvent; at: Date }[] | undefined;
let listener: Listener | undefined;

/** So many messages may come before somebody listens. */
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

/** What is kept in memory for a while holds no content. */
function withoutBytes(event: RunEvent): RunEvent {
  if (event.what !== "file") return event;
  const { bytes: _, ...rest } = event;
  return rest;
}

/**
 * Hears everything from the beginning of this run; `undefined`: nobody listens any more. In a process that
 * tells nothing: nothing.
 */
export function listenToRun(next: Listener | undefined) {
  const before = early;
  early = undefined;
  listener = before && next;
  for (const { event, at } of before ?? []) listener?.(event, at);
}
