/** Places that few can have at the same time: the terminal of a person, a machine through which connections go. */
export class Turns {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(places: number) {
    this.#free = places;
  }

  /** The action begins when a place is free, in the order of the calls. */
  async take<T>(action: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((begin) => this.#waiting.push(begin));
    try {
      return await action();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}

/** One question at a time, whoever asks it: this program, or ssh. */
export const AT_TERMINAL = new Turns(1);
