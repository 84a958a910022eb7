/** Lanes: one for each node that is at work; of many nodes a count, and those that run or have stopped. */
import { expect, test } from "bun:test";
import { linesOf } from "../../../shared/follow/lanes.ts";

const NOW = 100_000;
const lane = (name: string, end?: { ok: boolean; seconds: number }) => ({
  ...{ name, began: NOW - 7000, last: "2.4 waits" },
  ...(end && { end }),
});

test("a few nodes: a lane each, with its seconds and its last line, within the width", () => {
  const lines = linesOf(
    [lane("cp1", { ok: true, seconds: 4 }), lane("w10"), lane("w2", { ok: false, seconds: 2 })],
    NOW,
    30,
  );
  expect(lines).toEqual([
    "  √ cp1    4 s  2.4 waits",
    "  · w10    7 s  2.4 waits",
    "  × w2     2 s  2.4 waits",
  ]);
  expect(linesOf([lane("cp1")], NOW, 12)).toEqual(["  · cp1    7"]);
});

test("five hundred nodes: a count, then those that have stopped, and those that run; always as many lines", () => {
  const all = Array.from({ length: 500 }, (_, i) =>
    lane(`w${i}`, i < 490 ? { ok: true, seconds: 3 } : i < 493 ? { ok: false, seconds: 1 } : undefined),
  );
  const lines = linesOf(all, NOW, 80);
  expect(lines[0]).toBe("  490 of 500 done, 7 at work, 3 stopped");
  expect(lines.slice(1, 4).every((line) => line.startsWith("  × w49"))).toBe(true);
  expect(lines).toHaveLength(linesOf(all.slice(0, 13), NOW, 80).length);
});
