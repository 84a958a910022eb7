import { expect, test } from "bun:test";
import { fewLines, LinesOfMany, Progress, progressLine } from "../../shared/progress.ts";
import { sandbox } from "../pretend/sandbox.ts";

test("a progress line shows how far, how fast, and how long still", () => {
  const figures = { what: "nodes back", done: 3871, total: 5000, seconds: 94.4, note: "2 left alone" };
  expect(progressLine(figures, true)).toBe(
    "nodes back   ███████████████░░░░░  3,871 / 5,000   41/s   about 28 s left   2 left alone",
  );
  expect(progressLine(figures, false)).toBe(
    "nodes back   3,871 / 5,000   41/s   about 28 s left   2 left alone",
  );
});

test("what is counted may be named", () => {
  const figures = { what: "reading /dev/vda1", done: 51_000, total: 204_000, unit: "MB", seconds: 102 };
  expect(progressLine(figures, false)).toBe(
    "reading /dev/vda1   51,000 / 204,000 MB   500 MB/s   about 5 min left",
  );
  expect(progressLine({ ...figures, done: 204_000 }, false)).toBe(
    "reading /dev/vda1   204,000 / 204,000 MB   in 102 s   2,000 MB/s",
  );
});

test("a progress line says nothing of speed before the first, and the time when all are there", () => {
  expect(progressLine({ what: "tokens", done: 0, total: 30, seconds: 12 }, false)).toBe("tokens   0 / 30");
  expect(progressLine({ what: "tokens", done: 30, total: 30, seconds: 15 }, false)).toBe(
    "tokens   30 / 30   in 15 s   2.0/s",
  );
  expect(progressLine({ what: "tokens", done: 30, total: 30, seconds: 0 }, false)).toBe("tokens   30 / 30");
  expect(progressLine({ what: "nodes", done: 2, total: 900, seconds: 300 }, false)).toBe(
    "nodes   2 / 900   0.4/min   about 37 h left",
  );
});

test("where nobody knows how many there are, a progress line says how many are done", () => {
  const figures = { what: "tokens", done: 3500, seconds: 3.43 };
  expect(progressLine(figures, true)).toBe("tokens   3,500   1,020/s");
  expect(progressLine({ ...figures, done: 0 }, false)).toBe("tokens   0");
});

test("piped, a few are not counted, and thousands do not give thousands of lines", () => {
  using box = sandbox();
  const few = new Progress("nodes", 20, false);
  for (let done = 1; done <= 20; done++) few.show(done);
  expect(box.said).toEqual([]);
  const many = new Progress("nodes", 5000, false);
  for (let done = 1; done <= 5000; done++) many.show(done);
  expect(box.said.length).toBe(1);
  expect(box.said[0]).toStartWith("nodes   5,000 / 5,000");
});

/** So many pods, each of its own Job, and in between one that says something else. */
const jobs = (howMany: number) =>
  Array.from({ length: howMany }, (_, i) => {
    const name = i === 1 ? "shop/other" : `shop${i}/job-${i}-x`;
    const text = i === 1 ? "shop/other: a bare pod" : `${name}: of the Job job-${i}: it runs`;
    return { name, own: [`shop${i}`, `job-${i}-x`, `job-${i}`], text };
  });

test("twenty lines of a reason stay as they are, in their order; of more the first stays, and one names others", () => {
  const few = jobs(21);
  expect(fewLines(few)).toEqual(few.map(({ text }) => text));
  expect(fewLines(jobs(10_001))).toEqual([
    "shop0/job-0-x: of the Job job-0: it runs",
    expect.stringMatching(
      /^9,999 more like shop0\/job-0-x: shop2\/job-2-x, .*shop21\/job-21-x and 9979 more$/,
    ),
    "shop/other: a bare pod",
  ]);
});

test("lines that come one by one: the first twenty of a reason are said, the others are counted at the end", () => {
  const said = (lines: ReturnType<typeof jobs>) => {
    using box = sandbox();
    const many = new LinesOfMany();
    for (const line of lines) many.say(line);
    many.sayRest();
    return box.said;
  };
  const few = jobs(21);
  expect(said(few)).toEqual(few.map(({ text }) => text));
  expect(said(jobs(24))).toEqual([
    ...few.map(({ text }) => text),
    "3 more like shop0/job-0-x: shop21/job-21-x, shop22/job-22-x, shop23/job-23-x",
  ]);
});

test("a number that is nobody's own name makes another reason; how many own names stand in a row does not", () => {
  const lines = Array.from({ length: 30 }, (_, i) => ({
    name: `w${i}`,
    own: [`w${i}`],
    text: `w${i}: ${i} of 30`,
  }));
  expect(fewLines(lines)).toHaveLength(30);
  const pods = Array.from({ length: 30 }, (_, i) => {
    const own = Array.from({ length: i + 1 }, (_, n) => `w${i}-${n}`);
    return { name: `w${i}`, own, text: `delete pod ${own.join(" ")}` };
  });
  expect(fewLines(pods)).toHaveLength(2);
});
