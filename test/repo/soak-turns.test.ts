/** A soak by turns: all turns together have each row once, and a word that is no turn runs nothing. */
import { expect, test } from "bun:test";
import { rowsOf } from "../soak/sample.ts";

const ROWS = Array.from({ length: 20 }, (_, i) => i);

test("all turns together have each row once", () => {
  const turns = [1, 2, 3, 4, 5, 6].map((turn) => rowsOf(ROWS, 1, `${turn}/6`));
  expect(turns.map((rows) => rows.length)).toEqual([4, 4, 3, 3, 3, 3]);
  expect(turns.flat().sort((a, b) => a - b)).toEqual(ROWS);
  expect(rowsOf(ROWS, 1)).toEqual(ROWS);
});

test.each(["2", "0/6", "7/6", "a/b", "1/6/2"])("%s is no turn", (turn) => {
  expect(() => rowsOf(ROWS, 1, turn)).toThrow(`TURN "${turn}" is no turn`);
});
