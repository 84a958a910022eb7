/**
 * How long a search may take, and how much it may read: somebody may have laid out data so that a search
 * never ends. Whatever ends the search, what was found until then is kept.
 */
import { Fail } from "../fail.ts";

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

export class Budget {
  readonly #limits: Limits;
  readonly #end: number;
  #left: number;

  constructor(limits: Limits) {
    this.#limits = limits;
    this.#end = performance.now() + limits.seconds * 1000;
    this.#left = limits.bytes;
  }

  /** Call it after each piece that was read. Errors: Fail where the limit is reached. */
  spend(bytes: number) {
    this.#left -= bytes;
    const { what, hint } = this.#limits;
    const why = this.over();
    if (why) throw new Fail(`The search of ${what} ended early: ${why}`, { hint });
  }

  /** Why the search has to end; undefined if it may continue. Call it within work that others can make long. */
  over(): string | undefined {
    const { seconds, bytes: most, stop } = this.#limits;
    return stop?.aborted
      ? "it was interrupted"
      : performance.now() > this.#end
        ? `it has taken ${seconds} s`
        : this.#left < 0
          ? `it has read ${Math.round(most / 1e9)} GB`
          : undefined;
  }
}
