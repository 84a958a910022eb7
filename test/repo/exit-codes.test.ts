/**
 * Exit codes: every script says its own in --help, those that the code can end with, in the words of
 * RUNBOOK.md and CONTRIBUTING.md.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { Fail, Refused, UsageError } from "../../shared/fail.ts";
import { ENDS } from "../../shared/follow/follow-plan.ts";
import { helpOf, PACKER, SCRIPTS } from "./help.ts";

const HOME = join(import.meta.dir, "../..");
const sourceOf = (path: string) => Bun.file(join(HOME, path)).text();

/** The codes that a help text explains, each with its words. */
function explained(help: string): Map<number, string> {
  const text = /\nExit codes: ([\s\S]+?)(?:\n\S|\n*$)/.exec(help)?.[1] ?? "";
  return new Map(
    [...text.replace(/\s+/g, " ").matchAll(/(?:^|, )(\d+) ([^,]+)/g)].map(([, code, words]) => [
      Number(code),
      words!,
    ]),
  );
}

/** The codes that a script can end with, by what it does. */
function possible(source: string): number[] {
  const writes = /\blockNode\b/.test(source);
  const bySignal = writes || /\bendOnSignal\b/.test(source);
  const own = [...source.matchAll(/process\.exitCode = (\d+)/g)].map(([, code]) => Number(code));
  const ends = /\brepairAll\(/.test(source) ? Object.values(ENDS) : [];
  return [
    ...new Set([0, 1, 3, 64, ...own, ...ends, ...(writes ? [4] : []), ...(bySignal ? [130] : [])]),
  ].sort((a, b) => a - b);
}

test("the codes of a help text are read over lines, and a code that is not explained is seen", () => {
  const help =
    "Usage: x\n\nExit codes: 0 done, 1 stopped (see the hint), 3 refused: not for this node,\n            4 locked by another run\n";
  expect(Object.fromEntries(explained(help))).toEqual({
    ...{
      0: "done",
      1: "stopped (see the hint)",
      3: "refused: not for this node",
      4: "locked by another run",
    },
  });
  expect(possible("lockNode();\nprocess.exitCode = 2;")).toEqual([0, 1, 2, 3, 4, 64, 130]);
});

test.each([...SCRIPTS, PACKER])(
  "%s --help explains every code that it can end with, and no other",
  async (script) => {
    const codes = explained(await helpOf(script));
    expect([...codes.keys()].sort((a, b) => a - b)).toEqual(possible(await sourceOf(script)));
    expect(codes.get(3)).toStartWith("refused");
    if (codes.has(4)) expect(codes.get(4)).toBe("locked by another run");
  },
);

test.each(["RUNBOOK.md", "CONTRIBUTING.md"])("%s says once what the codes mean", async (page) => {
  const text = (await sourceOf(page)).replace(/\s+/g, " ");
  const meaning =
    "0 done or well, 1 stopped or could not look, 2 something is bad or still lost, 3 refused, 4 locked by another run, 64 a word of the command line is wrong, 130 ended by a signal";
  expect(text.split(meaning)).toHaveLength(2);
});

test("what is refused ends with 3, a wrong word of the command line with 64, and any other stop with 1", () => {
  const ends = [Refused, UsageError, Fail].map((Kind) => new Kind("x", { hint: "y" }).exitCode);
  expect(ends).toEqual([3, 64, 1]);
});
