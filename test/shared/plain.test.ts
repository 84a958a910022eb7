/** What reaches the terminal: no byte of a stranger's that a terminal obeys. */
import { expect, spyOn, test } from "bun:test";
import { Fail } from "../../shared/fail.ts";
import { plain, quoteUntrusted } from "../../shared/plain.ts";
import { Progress } from "../../shared/progress.ts";
import { answer, run, say, start, step, tell } from "../../shared/run.ts";

const ATTACK = "\u001b[2J\u001b]52;c;cm0gLXJm\u0007\u009b31m\r\b\u0000\u007f\u202e\u200b\u2028";
const SHOWN =
  "\\u001b[2J\\u001b]52;c;cm0gLXJm\\u0007\\u009b31m\\u000d\\u0008\\u0000\\u007f\\u202e\\u200b\\u2028";

/** What is written, on stdout and stderr. */
async function spoken(action: () => unknown): Promise<string> {
  const lines: string[] = [];
  const ears = (["log", "error"] as const).map((voice) =>
    spyOn(console, voice).mockImplementation((text: string) => void lines.push(text)),
  );
  const exit = spyOn(process, "exit").mockImplementation((() => undefined) as never);
  try {
    await action();
  } finally {
    for (const ear of [...ears, exit]) ear.mockRestore();
  }
  return lines.join("\n");
}

const fail = () => Promise.reject(new Fail(ATTACK, { hint: ATTACK }));

test.each<[string, () => unknown]>([
  ["an item of a step", () => say(ATTACK)],
  ["narration", () => tell(ATTACK)],
  ["an answer", () => answer(ATTACK)],
  ["a script's first line", () => start(ATTACK)],
  ["a step's title", () => step(ATTACK, () => undefined, ATTACK)],
  ["a failure and its hint", () => run(fail)],
  ["a bug's stack", () => run(() => Promise.reject(new Error(ATTACK)))],
  ["a progress line", () => new Progress(ATTACK, 2000, false).show(2000, ATTACK)],
])("%s shows escape sequences as letters", async (_, action) => {
  const text = await spoken(action);
  expect(text).toContain(SHOWN);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: none is to be there
  expect(text).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u200b\u2028]/);
});

test("a stranger's newline does not begin a line of ours; each argument of ours is a line", async () => {
  expect(await spoken(() => say("csr\n  w1: approved"))).toBe("  csr\\n  w1: approved");
  expect(await spoken(() => tell("one", "two\nthree"))).toBe("one\ntwo\\nthree");
});

test("a stranger's sentence is short, no line is without end, and an answer for programs is whole", async () => {
  expect(quoteUntrusted(` ${"x".repeat(5000)}`)).toBe(`${"x".repeat(500)}… (4500 more characters)`);
  expect((await spoken(() => say("x".repeat(1_000_000)))).length).toBeLessThan(101_000);
  expect((await spoken(() => answer("x".repeat(1_000_000)))).length).toBe(1_000_000);
});

test("JSON stays what it was", () => {
  const value = { a: ATTACK.replaceAll("\u0000", "") };
  expect(JSON.parse(plain(JSON.stringify(value)))).toEqual(value);
});
