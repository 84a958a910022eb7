/**
 * The state of this run: what a signal does and what is left half done, and who is told what the run says and changes.
 *
 * Ctrl-C, an ssh that drops (SIGHUP), and kill, in a script that changes the node: files are written without a pause, so a
 * signal never finds half of one; it comes between two of them, or while the script waits. The script then says what it
 * leaves and ends. If it can go back, it does (`orUndo`).
 *
 * The words and changes of a run that writes are reported as they happen, from any floor, to the listener that saves them
 * (node/kept-run.ts). Scripts that only read, and dry runs, report nothing.
 */
import { Fail } from "./fail.ts";

const SIGNALS = ["SIGHUP", "SIGINT", "SIGTERM", "SIGQUIT"] as const;
type Signal = (typeof SIGNALS)[number];

/** The exit code of a script that a signal ended. */
const BY_SIGNAL = 130;

export const RUN_AGAIN = "run the same line again: what was written is whole, and finished steps are skipped";

/**
 * The current reaction to a signal; undefined: nobody has called `onSignal`, and the system ends the process.
 */
let action: ((signal: Signal) => void) | undefined;

/** A signal that has come and is not handled yet. */
let pending: Signal | undefined;

const BACK = "run the same line again: the old files are back";

let hintOfPending = BACK;

const leftHalfDone = new Map<string, string>();

/** From now on a signal calls this. */
export function onSignal(next: (signal: Signal) => void) {
  for (const signal of SIGNALS) if (!process.listeners(signal).includes(obey)) process.on(signal, obey);
  action = next;
}

function obey(signal: Signal) {
  action?.(signal);
}

/** The Fail of a script that a signal ends. */
export function stoppedBy(signal: Signal, hint = RUN_AGAIN): Fail {
  return new Fail(`Stopped by ${NAMES[signal]}`, { hint, exitCode: BY_SIGNAL });
}

const NAMES: Record<Signal, string> = {
  SIGHUP: "SIGHUP: the connection is gone",
  SIGINT: "Ctrl-C (SIGINT)",
  SIGTERM: "SIGTERM",
  SIGQUIT: "Ctrl-\\ (SIGQUIT)",
};

/** Called between two changes. Errors: Fail if a signal has come; its caller undoes them. */
export function checkSignal() {
  if (pending) throw stoppedBy(pending, hintOfPending);
}

/**
 * Runs `work`. If it fails, or a signal comes meanwhile, `undo` restores the old state, which no signal
 * disturbs. A signal that comes too late for that is handled after it. `hint`: for a signal. Errors: those of
 * `work`, and of `undo`.
 */
export async function orUndo<T>(
  work: () => Promise<T>,
  undo: () => Promise<unknown>,
  hint = BACK,
): Promise<T> {
  const [before, hintBefore] = [action, hintOfPending];
  hintOfPending = hint;
  if (before) {
    onSignal((signal) => {
      pending = signal;
    });
  }
  try {
    return await work();
  } catch (err) {
    pending = undefined;
    await undisturbed(undo);
    throw err;
  } finally {
    const late = pending;
    pending = undefined;
    [action, hintOfPending] = [before, hintBefore];
    if (late) before?.(late);
  }
}

/** Runs `work` to its end; a signal that comes meanwhile does nothing. */
export async function undisturbed<T>(work: () => Promise<T>): Promise<T> {
  const old = action;
  if (old) onSignal(() => undefined);
  try {
    return await work();
  } finally {
    action = old;
  }
}

/** A run begins with no left-overs of an earlier run in this process. */
export function leavesNothing() {
  leftHalfDone.clear();
}

/**
 * Notes what this run leaves half done if it ends now; `undefined` once that is mended. A failed run prints
 * it.
 */
export function noteUnfinished(what: string, note: string | undefined) {
  if (note === undefined) leftHalfDone.delete(what);
  else leftHalfDone.set(what, note);
}

export function unfinishedActions(): string[] {
  return [...leftHalfDone.values()];
}

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
  isNew?: boolean;
  /** Permission bits of the written file. */
  mode?: number;
  bytes?: Uint8Array;
}

type Listener = (event: RunEvent, at: Date) => void;

/** Undefined if this process reports no events. */
let early: { event: RunEvent; at: Date }[] | undefined;
let listener: Listener | undefined;

/** While `action` runs, nobody is told anything, and nothing is noted as left half done. */
export async function withoutRunEvents<T>(action: () => Promise<T>): Promise<T> {
  const [earlyBefore, listenerBefore, leftBefore] = [early, listener, [...leftHalfDone]];
  [early, listener] = [undefined, undefined];
  try {
    return await action();
  } finally {
    [early, listener] = [earlyBefore, listenerBefore];
    leftHalfDone.clear();
    for (const [what, note] of leftBefore) leftHalfDone.set(what, note);
  }
}

/** The most messages kept before somebody listens. */
const EARLY = 1000;

/** From here on this process is a run that writes. */
export function startRunEvents(run: Extract<RunEvent, { what: "run" }>) {
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
