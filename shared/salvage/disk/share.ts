/** How much time goes into what a stranger can lay out on a disk in any number, so that keys are looked for everywhere all the same. */

/** Seconds that may go into what a stranger can lay out in any number. Whole keys and certificates are not limited by it. */
export interface Looks {
  texts: number;
  pieces: number;
}

/** Defaults. */
export const LOOKS: Looks = { texts: 600, pieces: 120 };

/** The time that one kind of look has taken, and whether any is left. */
export class Share {
  skipped = 0;
  /** Why the first look failed, where one did. */
  failed: string | undefined;
  readonly #milliseconds: number;
  #spent = 0;

  constructor(seconds: number) {
    this.#milliseconds = seconds * 1000;
  }

  /** What the look gives, or nothing where its time is over. One text that no parser can bear is no reason to miss the keys behind it. */
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
