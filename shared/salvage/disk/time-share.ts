/**
 * Limits the time for one kind of look at what a stranger can lay out in any number, so that keys are
 * searched everywhere all the same.
 */
export class TimeShare {
  skipped = 0;
  /** Why the first look failed, where one did. */
  failed: string | undefined;
  readonly #milliseconds: number;
  #spent = 0;

  constructor(seconds: number) {
    this.#milliseconds = seconds * 1000;
  }

  /**
   * What the look finds, or nothing where the time is over. A text that breaks a parser must not hide the
   * keys behind it.
   */
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
