/**
 * All refusals come before the first write: each loss of shared keys, by each script, on a dead and on a living node.
 * test/typed/refused-first.test.ts has a sample.
 */
import { setDefaultTimeout, test } from "bun:test";
import { expectRefusedFirst, LOST_KEYS, nameOf } from "../pretend/lost-keys.ts";
import { rowsOf } from "./sample.ts";

setDefaultTimeout(300_000);

test.each(rowsOf(LOST_KEYS, 61).map((row) => [nameOf(row), row] as const))("%s", (_, row) =>
  expectRefusedFirst(row),
);
