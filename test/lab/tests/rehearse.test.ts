/** What an operator types: the names of the scenarios. What the first command says first: test/scripts/rehearse-lacks.test.ts. */
import { expect, test } from "bun:test";
import { find, SCENARIOS } from "../rehearse.ts";

test("each scenario has a name of its own, a title and lines that read as sentences", () => {
  expect(new Set(SCENARIOS.map(({ name }) => name)).size).toBe(SCENARIOS.length);
  const titles = SCENARIOS.flatMap(({ title, lines }) => [title, ...lines.map((line) => line.title)]);
  expect(titles.filter((title) => /\bmaster|\brm -rf\b|\.$/.test(title))).toEqual([]);
});

test("a name that never was is answered with the list", () => {
  expect(() => find("the-moon-falls")).toThrow(
    expect.objectContaining({ hint: "npm run rehearse -- --list" }),
  );
});
