/** Counts what a script changes, and ends its process right after the n-th change, or the one of these words, as a power cut does. */
import { writeFileSync } from "node:fs";

/** Where a test reads what was changed last: its number and what it was. */
export const LAST_CHANGE = "last-change";

const CUT_AFTER = Number(process.env.PRETEND_CUT_AFTER);
const { PRETEND_CUT_AT: CUT_AT } = process.env;

let changes = 0;

export function changed(what: string) {
  changes++;
  writeFileSync(`${process.env.FAKE}/${LAST_CHANGE}`, `${changes} ${what}`);
  if (changes === CUT_AFTER || (CUT_AT && what.includes(CUT_AT))) process.kill(process.pid, "SIGKILL");
}
