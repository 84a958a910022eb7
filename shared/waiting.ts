/**
 * No wait is silent. After ten seconds, and then every ten seconds, a line says what is waited for, since when, until when at most, what the
 * last probe said, and what to do: the operator sees that it is not stuck, and need not wait in vain.
 */
import { quoteUntrusted } from "./plain.ts";

/** Words, or what finds them when they are printed. */
export type Words = string | (() => string);

export interface Waiting {
  what: Words;
  hint: Words;
  /** Milliseconds, as Date.now(); `end` is unset where what is waited for has its own limit. */
  began: number;
  end?: number;
  /** The last error of the probe. */
  last?: unknown;
  /** Seconds between two lines; unset: ten. For a wait of hours in the background. */
  every?: number;
  /** A request may be part of a longer wait: it says nothing while that one does. */
  within?: boolean;
  /** Prints the line. Where a progress line is redrawn, the progress does. */
  say: (line: string) => void;
}

/** Every time limit is multiplied by this: tests of what happens when no answer comes set it to almost zero. */
export function patience(): number {
  return Number(process.env.KUBE_PKI_REPAIR_PATIENCE || 1);
}

/** Seconds. Where no answer is waited for, what takes a second is a busy machine. */
function sayEvery(): number {
  return patience() < 0.1 ? 10 : 10 * Math.min(1, patience());
}

/** So many waits at the same time are worth a line each. */
const LINES = 3;

const waits = new Set<Waiting>();
let timer: ReturnType<typeof setInterval> | undefined;
let quietUntil = 0;

/** Begins to say for whom it waits; ends when it is disposed. A timer does it, because a single probe may take long. */
export function sayWhileWaiting(waiting: Waiting): Waiting & Disposable {
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
  const long = (outer.length > 0 ? outer : [...waits]).filter(({ began, every = sayEvery() }) => now - began >= every * 1000);
  if (long.length === 0 || now < quietUntil) return;
  quietUntil = now + Math.min(...long.map(({ every = sayEvery() }) => every)) * 1000;
  for (const wait of long.slice(0, LINES)) wait.say(lineOf(wait));
  if (long.length > LINES) long[0]!.say(`and ${long.length - LINES} more like these`);
}

function lineOf(wait: Waiting): string {
  const { what, hint, began, end } = wait;
  const reason = soFar(wait);
  const limit = end === undefined ? "" : `, until ${clock(end)} at most`;
  const times = `since ${clock(began)}${limit}${reason ? `, so far: ${quoteUntrusted(reason)}` : ""}`;
  return `still waiting for ${words(what)} (${times}). If it takes too long: ${words(hint)}`;
}

/** The last error of the probe, in words; undefined where there was none. */
export function soFar({ last }: Pick<Waiting, "last">): string | undefined {
  if (last === undefined) return undefined;
  return last instanceof Error ? last.message : String(last);
}

export function words(text: Words): string {
  return typeof text === "string" ? text : text();
}

/** 02:14:05, by this machine's clock and time zone, as in its logs. */
export function clock(time: number): string {
  return new Date(time).toTimeString().slice(0, 8);
}
