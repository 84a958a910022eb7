/**
 * Waits for a condition, a program or an answer, never endlessly, and never without output. After ten
 * seconds, and then every ten seconds, a line says what is waited for, since when, until when at most, the
 * last result, and what to do.
 */
import { attemptLater, Fail } from "./fail.ts";
import { quoteUntrusted } from "./plain.ts";
import { mode, say } from "./run.ts";
import { checkSignal, told } from "./this-run.ts";

/** Milliseconds between two probes. */
const PROBE_INTERVAL = 150;

/** A time limit for a wait of its own. */
export function scaledTimeout(milliseconds: number): number {
  return milliseconds * patience();
}

/** Milliseconds between two probes of a wait that eases off, and between two checks by `ended`. */
const EASED_INTERVAL = 2000;

/**
 * Calls `probe` until it returns something other than undefined or false, and returns that. In a dry run
 * nothing was started: undefined.
 *
 * With `easing` it asks less often the longer it takes, down to every two seconds. `interval`: milliseconds
 * between two probes, if that is more than 150. An error of the probe is "not yet"; the last one is shown
 * when the time (in seconds) is over, followed by the hint. The last probe begins when the time is over, so a
 * wait also looks once more if this machine was paused or its clock was set.
 *
 * `progress` returns a value that can only go down, such as the number left: each change restarts the time.
 *
 * `ended` checks for the end of the awaited thing: a Fail ends the wait, as it cannot come any more; words
 * are shown as the wait's result so far.
 */
export async function waitFor<T>(
  what: Words,
  probe: () => Promise<T | undefined | false> | T | undefined | false,
  options: {
    seconds: number;
    easing?: boolean;
    interval?: number;
    progress?: () => unknown;
    ended?: Ended | undefined;
  } & Pick<Waiting, "hint" | "every"> &
    Partial<Pick<Waiting, "say">>,
): Promise<T | undefined> {
  if (mode.dryRun) {
    say(`would wait for: ${resolveText(what)}`);
    return undefined;
  }
  const began = Date.now();
  const ends = () => Date.now() + options.seconds * 1000 * patience();
  using wait = sayWhileWaiting({ say, ...options, what, began, end: ends() });
  using _told = toldAtEnd(resolveText(what), began);
  const look = lookAtEnd(options.ended, wait);
  for (let progress = options.progress?.(); ; ) {
    checkSignal();
    const isOver = Date.now() >= wait.end!;
    try {
      const answer = await probe();
      if (answer !== undefined && answer !== false) return answer;
    } catch (err) {
      wait.last = err;
    }
    await look(isOver);
    const now = options.progress?.();
    if (now !== progress) [progress, wait.end] = [now, ends()];
    else if (isOver) break;
    const eased = options.easing ? Math.min((Date.now() - began) / 20, EASED_INTERVAL) : 0;
    const interval = Math.max(PROBE_INTERVAL, options.interval ?? 0);
    await Bun.sleep(Math.max(interval * Math.min(1, patience()), eased));
  }
  // tests alone make a wait shorter
  const seconds = Math.round(options.seconds * Math.max(1, patience()));
  throw new Fail(`Waited ${seconds} s for ${resolveText(what)}: ${soFar(wait) ?? "no answer yet"}`, {
    hint: resolveText(options.hint),
    cause: wait.last,
  });
}

/**
 * Whether the awaited thing has ended: a Fail if it cannot come any more, else its state; undefined: it has
 * not.
 */
export type Ended = () => Promise<Fail | string | undefined>;

/** Checks every two seconds, and at the end of the time. Errors: the Fail of `ended`. */
function lookAtEnd(ended: Ended | undefined, wait: Waiting): (isLast: boolean) => Promise<void> {
  let looked = Date.now();
  return async (isLast) => {
    const every = EASED_INTERVAL * Math.min(1, patience());
    if (!ended || (!isLast && Date.now() - looked < every)) return;
    const end = await ended();
    looked = Date.now();
    if (end instanceof Fail) throw end;
    wait.progressText = end;
  };
}

/** Records how much of this run's time was waiting. */
function toldAtEnd(what: string, began: number): Disposable {
  const tell = () => {
    const seconds = Math.round((Date.now() - began) / 100) / 10;
    if (seconds >= 1) told({ what: "waited", for: what, seconds });
  };
  return { [Symbol.dispose]: tell };
}

/**
 * Runs something with a time limit of its own: a program, a long answer. It prints lines like `waitFor`.
 * `within`: it may be part of a longer wait.
 */
export async function sayWhile<T>(
  what: Words,
  hint: string,
  action: () => Promise<T>,
  part: Pick<Waiting, "within" | "every"> = {},
): Promise<T> {
  using _wait = sayWhileWaiting({ what, hint, began: Date.now(), say, ...part });
  return await action();
}

/**
 * The head or the body of a server's answer. Errors: Fail if it does not come; `from` names the server,
 * `hint` the next command.
 */
export async function answered<T>(asked: Promise<T>, from: string, hint: string): Promise<T> {
  try {
    return await sayWhile(`an answer from ${from}`, hint, () => asked, { within: true, every: 10 });
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    const reason = message.replace(". Is the computer able to access the url?", "");
    throw new Fail(`No answer from ${from}: ${reason}`, { hint, cause });
  }
}

/** A `waitFor` that gives undefined if the time is over. */
export async function undefinedOnTimeout<T>(waiting: Promise<T>): Promise<T | undefined> {
  return await attemptLater(() => waiting, undefined);
}

/** The result of a probe in time, as `waitFor`; undefined: none. In a dry run it is asked once. */
export async function inTime<T>(
  ...[what, probe, options]: Parameters<typeof waitFor<T>>
): Promise<T | undefined> {
  if (!mode.dryRun) return await undefinedOnTimeout(waitFor(what, probe, options));
  const [answer] = await Promise.allSettled([probe()]);
  return (answer.status === "fulfilled" && answer.value) || undefined;
}

/** Words, or a function that makes them when they are printed. */
type Words = string | (() => string);

export interface Waiting {
  what: Words;
  hint: Words;
  /** Milliseconds, as Date.now(); `end` is unset if the awaited thing has its own limit. */
  began: number;
  end?: number;
  last?: unknown;
  /** The state when the awaited thing ended: it says more than the probe's error. */
  progressText?: string | undefined;
  /** The last line printed, without its times and its hint; and the last hint printed. */
  told?: string;
  toldHint?: string;
  /** Seconds between two lines, for a wait of hours in the background; unset: ten. */
  every?: number;
  /** A request may be part of a longer wait: it prints nothing meanwhile. */
  within?: boolean;
  /** Prints the line. If a progress line is redrawn, the progress does. */
  say: (line: string) => void;
}

/** Multiplies every time limit: tests of missing answers set it to almost zero. */
function patience(): number {
  return Number(process.env.KUBE_PKI_REPAIR_PATIENCE || 1);
}

/** Seconds. If no answer is awaited, a wait of a second means a busy machine. */
function sayEvery(): number {
  return patience() < 0.1 ? 10 : 10 * Math.min(1, patience());
}

/** The most concurrent waits that get a line each. */
const LINES = 3;

const waits = new Set<Waiting>();
let timer: ReturnType<typeof setInterval> | undefined;
let quietUntil = 0;

/**
 * Starts to print lines about a wait; stops when it is disposed. A timer does it, because a single probe may
 * take long.
 */
function sayWhileWaiting(waiting: Waiting): Waiting & Disposable {
  const wait = { ...waiting, [Symbol.dispose]: () => forget(wait) };
  waits.add(wait);
  timer ??= setInterval(sayWaits, 1000);
  return wait;
}

function forget(wait: Waiting) {
  waits.delete(wait);
  if (waits.size > 0) return;
  clearInterval(timer);
  timer = undefined;
  quietUntil = 0;
}

function sayWaits() {
  const now = Date.now();
  const outer = [...waits].filter(({ within }) => !within);
  const long = (outer.length > 0 ? outer : [...waits]).filter(
    ({ began, every = sayEvery() }) => now - began >= every * 1000,
  );
  if (long.length === 0 || now < quietUntil) return;
  quietUntil = now + Math.min(...long.map(({ every = sayEvery() }) => every)) * 1000;
  for (const wait of long.slice(0, LINES)) wait.say(lineOf(wait));
  if (long.length > LINES) long[0]!.say(`and ${long.length - LINES} more like these`);
}

/** Complete if it has news; else only that it still waits, and until when. Each hint stands there once. */
function lineOf(wait: Waiting): string {
  const { what, began, end, told, toldHint } = wait;
  const reason = soFar(wait);
  const limit = end === undefined ? [] : [`until ${clock(end)} at most`];
  const state = reason ? [`so far: ${quoteUntrusted(reason)}`] : [];
  const [waits, hint] = [`still waiting for ${resolveText(what)}`, resolveText(wait.hint)];
  const now = { told: [waits, ...state].join("\n"), toldHint: hint };
  Object.assign(wait, now);
  if (told === now.told && toldHint === hint) return [waits, ...limit].join(", ");
  const times = [`since ${clock(began)}`, ...limit, ...state].join(", ");
  return `${waits} (${times})${toldHint === hint ? "" : `. If it takes too long: ${hint}`}`;
}

/** The state seen, or the last error of the probe, in words; undefined if there was none. */
function soFar({ last, progressText }: Pick<Waiting, "last" | "progressText">): string | undefined {
  if (progressText !== undefined || last === undefined) return progressText;
  return last instanceof Error ? last.message : String(last);
}

function resolveText(text: Words): string {
  return typeof text === "string" ? text : text();
}

/** 02:14:05, by this machine's clock and time zone, as in its logs. */
export function clock(time: number): string {
  return new Date(time).toTimeString().slice(0, 8);
}
