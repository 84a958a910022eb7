/**
 * All refusals come before the first write: each loss of shared keys, by each script, on a dead and on a living node. And
 * what the first screens of parts 1 and 2 name is what is stopped and what changes.
 * test/typed/refused-first.test.ts has a sample.
 */
import { setDefaultTimeout, test } from "bun:test";
import { expectRefusedFirst, LOST_KEYS, LOST_MEMBERS, nameOf } from "../pretend/lost-keys.ts";
import { expectPromiseKept, PROMISING } from "../pretend/promised-files.ts";
import { rowsOf } from "./sample.ts";

setDefaultTimeout(300_000);

test.each(rowsOf(LOST_KEYS, 61).map((row) => [nameOf(row), row] as const))("%s", (_, row) =>
  expectRefusedFirst(row),
);

test.each(rowsOf(LOST_MEMBERS, 23).map((row) => [nameOf(row), row] as const))("%s", (_, row) =>
  expectRefusedFirst(row),
);

test.each(rowsOf(PROMISING, 31).map((row) => [nameOf(row), row] as const))(
  "the first screen names what is written and stopped: %s",
  (_, row) => expectPromiseKept(row),
);
