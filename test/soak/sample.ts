/**
 * How long a soak is: `npm run soak` runs each to its end. `npm test` runs those that import this file with
 * SAMPLE=1, and they make it short.
 */
export const IS_SAMPLE = process.env.SAMPLE === "1";

/** All rows of a soak; of a sample, the first of every so many. */
export function rowsOf<T>(rows: readonly T[], every: number): T[] {
  return rows.filter((_, index) => !IS_SAMPLE || index % every === 0);
}
