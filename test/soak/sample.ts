/**
 * How long a soak is: `npm run soak` runs each to its end. `npm test` runs those that import this file with
 * SAMPLE=1, and they make it short. On a busy machine `TURN=2/6` takes the second of every six rows, so that six runs have all.
 */
import { Fail } from "../../shared/fail.ts";

export const IS_SAMPLE = process.env.SAMPLE === "1";

/** All rows of a soak, or those of a turn; of a sample, the first of every so many. Errors: Fail where a turn is none. */
export function rowsOf<T>(rows: readonly T[], every: number, turn = process.env.TURN || "1/1"): T[] {
  const [, first, of] = /^(\d+)\/(\d+)$/.exec(turn) ?? [];
  if (!first || !of || Number(first) < 1 || Number(first) > Number(of))
    throw new Fail(`TURN "${turn}" is no turn`, { hint: "type which one, of how many: TURN=2/6" });
  return rows.filter((_, index) =>
    IS_SAMPLE ? index % every === 0 : index % Number(of) === Number(first) - 1,
  );
}
