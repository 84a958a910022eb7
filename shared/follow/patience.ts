/** How much of other machines' output is taken, and how long they are waited for. */
/** The most of another machine's output that is kept: 8 MB. */
export const MOST_OUTPUT = 8 * 2 ** 20;

/** How long others may take: seconds. */
export interface Patience {
  /** The limit, in seconds, for the time without output. */
  quiet?: number | undefined;
  /** The limit, in seconds, for the whole command. */
  most?: number | undefined;
  /**
   * Somebody decides: true waits as long again, false ends it. Unset: nobody is there, and it ends. `signal` aborts when
   * it has ended by itself.
   */
  onLate?: ((why: string, signal: AbortSignal) => Promise<boolean>) | undefined;
}
