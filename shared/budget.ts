/**
 * Limits a search in time and bytes, as somebody may have laid out data so that it never ends: bytes of a disk, rows of
 * etcd, files of a folder. It is asked between two parses. What was found until then is kept.
 */
import { Fail } from "./fail.ts";

interface Limits {
  /** Words for the operator: "the memory of etcd (pid 31)". */
  what: string;
  seconds: number;
  bytes: number;
  /** Ctrl-C, or a lost connection. */
  stop?: AbortSignal | undefined;
  /** How the operator gives it more. */
  hint: string;
}

/** Milliseconds without a look at signals. */
const BREATH = 50;

/** A search has ended early, at its limit. */
export class Spent extends Fail {}

export class Budget {
  readonly #limits: Limits;
  /** Milliseconds. */
  #used = 0;
  #since = performance.now();
  #left: number;
  #heard = performance.now();

  constructor(limits: Limits) {
    this.#limits = limits;
    this.#left = limits.bytes;
  }

  /** Another reading begins that has the same limit: the time since the last one does not count. */
  resume(): this {
    this.#since = performance.now();
    return this;
  }

  /** Call it after each piece that was read. Errors: Spent where the limit is reached. */
  spend(bytes: number) {
    this.#left -= bytes;
    const { what, hint } = this.#limits;
    const why = this.over();
    if (why) throw new Spent(`The search of ${what} ended early: ${why}`, { hint });
  }

  /** Call it between two parses of what others may have made in any number. Errors: as `spend`. */
  ask() {
    this.spend(0);
  }

  /** The same, where Ctrl-C has to be heard meanwhile. */
  async askAndListen() {
    this.ask();
    if (performance.now() - this.#heard < BREATH) return;
    await new Promise((resolve) => setImmediate(resolve));
    this.#heard = performance.now();
    this.ask();
  }

  /** Why the search has to end; undefined if it may continue. Call it within work that others can make long. */
  over(): string | undefined {
    const { seconds, bytes: most, stop } = this.#limits;
    const now = performance.now();
    this.#used += now - this.#since;
    this.#since = now;
    return stop?.aborted
      ? "it was interrupted"
      : this.#used > seconds * 1000
        ? `it has taken ${seconds} s`
        : this.#left < 0
          ? `it has read ${Math.round(most / 1e9)} GB`
          : undefined;
  }
}

/** The most that a search of files or rows of others may take. */
const LOOK_SECONDS = 300;

/** The limit where no `--minutes` is typed. `what`: words for the operator; `hint`: the way on without it. */
export function budgetOf(what: string, hint: string, stop?: AbortSignal): Budget {
  return new Budget({ what, seconds: LOOK_SECONDS, bytes: Number.POSITIVE_INFINITY, stop, hint });
}

const SHARED = new WeakMap<object, Map<string, Budget>>();

/**
 * The same for all readings of `what` in `data`: scripts read the same rows of etcd again and again, and only the time
 * in which they read them counts. Call it where a reading begins.
 */
export function sharedBudget(data: object, what: string, hint: string): Budget {
  const budgets = SHARED.get(data) ?? new Map<string, Budget>();
  const budget = budgets.get(what) ?? budgetOf(what, hint);
  SHARED.set(data, budgets.set(what, budget));
  return budget.resume();
}
