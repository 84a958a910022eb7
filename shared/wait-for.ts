/** Waits: for a condition, a program or an answer, none of them silent (see waiting.ts) and none without an end. */
import { Fail } from "./fail.ts";
import { mode, say } from "./run.ts";
import { checkSignal } from "./signals.ts";
import { patience, sayWhileWaiting, soFar, type Waiting, type Words, words } from "./waiting.ts";

/** Milliseconds between two probes. */
const PROBE_INTERVAL = 150;

/** A time limit, of a wait that keeps its own. */
export function scaledTimeout(milliseconds: number): number {
  return milliseconds * patience();
}

/** Milliseconds between two probes of a wait that eases off. */
const EASED_INTERVAL = 2000;

/**
 * Calls `probe` until it gives something other than undefined or false, and returns that. In a dry run nothing was started, so there is
 * nothing to wait for: undefined. A long wait says what it waits for: see waiting.ts.
 *
 * With `easing` it asks less often the longer it takes, down to every two seconds: for waits of which there are many.
 * An error of the probe is "not yet"; the last one is shown when the time (in seconds) is over, followed by the hint. The last probe begins
 * when the time is over: so a wait in which this machine stood still, or whose clock was set, has looked all the same.
 */
export async function waitFor<T>(
  what: Words,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  options: { seconds: number; easing?: boolean } & Pick<Waiting, "hint" | "every"> & Partial<Pick<Waiting, "say">>,
): Promise<T | undefined> {
  if (mode.dryRun) {
    say(`would wait for: ${words(what)}`);
    return undefined;
  }
  const began = Date.now();
  const end = began + options.seconds * 1000 * patience();
  using wait = sayWhileWaiting({ say, ...options, what, began, end });
  for (;;) {
    checkSignal();
    const isOver = Date.now() >= end;
    try {
      const answer = await probe();
      if (answer !== undefined && answer !== false) return answer;
    } catch (err) {
      wait.last = err;
    }
    if (isOver) break;
    const eased = options.easing ? Math.min((Date.now() - began) / 20, EASED_INTERVAL) : 0;
    await Bun.sleep(Math.max(PROBE_INTERVAL * Math.min(1, patience()), eased));
  }
  throw new Fail(`Waited ${options.seconds} s for ${words(what)}: ${soFar(wait) ?? "no answer yet"}`, {
    hint: words(options.hint),
    cause: wait.last,
  });
}

/** Does something that has a time limit of its own: a program, a long answer. It is as little silent as `waitFor`. */
export async function sayWhile<T>(what: string, hint: string, action: () => Promise<T>): Promise<T> {
  using _wait = sayWhileWaiting({ what, hint, began: Date.now(), say });
  return await action();
}

/** The head or the body of a server's answer. Errors: Fail where it does not come; `from` names the server, `hint` the next command. */
export async function answered<T>(asked: Promise<T>, from: string, hint: string): Promise<T> {
  using _wait = sayWhileWaiting({ what: `an answer from ${from}`, hint, began: Date.now(), every: 10, within: true, say });
  try {
    return await asked;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Fail(`No answer from ${from}: ${reason}`, { hint, cause });
  }
}

/** A `waitFor` that gives undefined where the time is over. */
export async function undefinedOnTimeout<T>(waiting: Promise<T>): Promise<T | undefined> {
  try {
    return await waiting;
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    return undefined;
  }
}
