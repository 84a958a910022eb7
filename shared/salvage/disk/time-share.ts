/** Limits the time for what a stranger can lay out on a disk in any number, so that keys are searched everywhere all the same. */

/** Seconds for YAML texts, and for keys in pieces. Whole keys and certificates are not limited. */
export interface Looks {
  texts: number;
  pieces: number;
}

/** Defaults. */
export const LOOKS: Looks = { texts: 600, pieces: 120 };

/** The time that one kind of look has taken, and whether any is left. */
export class TimeShare {
  skipped = 0;
  /** Why the first look failed, where one did. */
  failed: string | undefined;
  readonly #milliseconds: number;
  #spent = 0;

  constructor(seconds: number) {
    this.#milliseconds = seconds * 1000;
  }

  /** What the look finds, or nothing where the time is over. A text that breaks a parser must not hide the keys behind it. */
  take<T>(look: () => T[]): T[] {
    if (this.#spent >= this.#milliseconds) {
      this.skipped++;
      return [];
    }
    const began = performance.now();
    try {
      return look();
    } catch (err) {
      if (!(err instanceof Error)) throw err;
      this.failed ??= err.message;
      return [];
    } finally {
      this.#spent += performance.now() - began;
    }
  }
}
