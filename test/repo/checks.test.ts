/** What `npm test` and `npm run night` run, in which turn, and what it may cost. */
import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { $, Glob } from "bun";
import { allChecks, HOME, isAsked } from "../checks.ts";
import { type Cost, costTable, tooDear } from "../costs.ts";
import { commitOf, keepLastRun, type LastRun, oldestFirst, readLastRuns, shownRun } from "../last-runs.ts";
import { sandbox } from "../pretend/sandbox.ts";

const CHECKS = await allChecks();
const onCommit = CHECKS.filter((check) => isAsked(check, undefined));

/** Twelve minutes of two cores. */
const COMMIT = 12 * 60 * 2;

test("what each commit runs has budgets, which together are twelve minutes of two quiet cores at most", () => {
  const none = onCommit.filter(({ cpu }) => cpu === undefined).map(({ name }) => name);
  expect(none).toEqual(["lab: its programs are built"]);
  expect(onCommit.reduce((sum, { cpu = 0 }) => sum + cpu, 0)).toBeLessThanOrEqual(COMMIT);
});

test("a commit runs every test file but the soaks, and one rehearsal; the night has all the rest", () => {
  const files = (checks: typeof CHECKS) =>
    new Set(checks.flatMap(({ command }) => command.filter((word) => word.endsWith(".test.ts"))));
  const all = [...new Glob("test/**/*.test.ts").scanSync(HOME)].map((path) => `./${path}`);
  expect([...files(CHECKS)].sort()).toEqual(all.sort());
  expect(
    all.filter((path) => !files(onCommit).has(path)).filter((path) => !path.startsWith("./test/soak/")),
  ).toEqual([]);
  expect(onCommit.flatMap(({ scenario }) => scenario ?? [])).toEqual(["all-lost"]);
  expect(CHECKS.filter((check) => !onCommit.includes(check) && !isAsked(check, "night"))).toEqual([]);
  expect(CHECKS.filter((check) => isAsked(check, "soak") && !isAsked(check, "night"))).toEqual([]);
});

test("each program of test/lab/checks is run by a check", () => {
  const programs = [...new Glob("test/lab/checks/*.ts").scanSync(HOME)].filter((path) =>
    readFileSync(`${HOME}/${path}`, "utf8").startsWith("#!"),
  );
  const run = new Set(CHECKS.flatMap(({ command }) => command));
  expect(programs.length).toBeGreaterThan(10);
  expect(programs.filter((path) => !run.has(path))).toEqual([]);
});

test("each check has a name of its own, by which its last run is kept", () => {
  const names = CHECKS.map(({ name }) => name);
  expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
});

const ran = (at: string, seconds = 60): LastRun => ({
  at,
  seconds,
  commit: "8f63eb20",
  passed: 3,
  failed: 0,
  cpu: 9,
});

test("what was not run for longest comes first, never before that, and as much as the minutes take", () => {
  const checks = ["new", "old", "never", "long"].map((name) => ({ name }));
  const runs = {
    new: ran("2026-11-30T10:00:00Z"),
    old: ran("2026-11-28T10:00:00Z"),
    long: ran("2026-11-29T10:00:00Z", 3600),
  };
  const names = (minutes?: number) => oldestFirst(checks, runs, minutes).map(({ name }) => name);
  expect(names()).toEqual(["never", "old", "long", "new"]);
  // five minutes for who never ran, one for the others, an hour for "long"
  expect([1, 6, 7, 66, 67].map(names)).toEqual([
    ["never"],
    ["never", "old"],
    ["never", "old", "new"],
    ["never", "old", "long"],
    ["never", "old", "long", "new"],
  ]);
  expect(oldestFirst([{ name: "long" }], runs, 1)).toHaveLength(1);
});

test("the last run of a check is kept beside those of others, and says when, on what and how it ended", () => {
  using box = sandbox();
  const file = `${box.dir}/cache/last-runs.json`;
  expect(readLastRuns(file)).toEqual({});
  keepLastRun(file, "one", ran("2026-11-28T10:00:00Z"));
  keepLastRun(file, "two", { ...ran("2026-11-29T10:00:00Z"), failed: 2 });
  keepLastRun(file, "one", ran("2026-11-30T09:12:44.123Z", 95.6));
  const runs = readLastRuns(file);
  expect([runs.one, runs.two, runs.three].map(shownRun)).toEqual([
    "2026-11-30 09:12 on 8f63eb20: 3 passed, 96 s",
    "2026-11-29 10:00 on 8f63eb20: 3 passed, 2 FAILED, 60 s",
    "never",
  ]);
});

test("a commit is named, with a sign where something is changed beside it, and nothing where git is not", async () => {
  using box = sandbox();
  expect(await commitOf(box.dir)).toBe("");
  const git = ["-c", "user.name=x", "-c", "user.email=x@example"];
  writeFileSync(`${box.dir}/a`, "a");
  await $`git init -q && git add a && git ${git} commit -qm one`.cwd(box.dir);
  const clean = await commitOf(box.dir);
  writeFileSync(`${box.dir}/a`, "b");
  expect([clean, await commitOf(box.dir)]).toEqual([expect.stringMatching(/^[0-9a-f]{7,}$/), `${clean}+`]);
});

test("the most expensive check stands first; over its budget it is marked, and red only over ten times of it", () => {
  const cost = (name: string, cpu: number, budget?: number): Cost => ({
    check: { name, ...(budget === undefined ? {} : { cpu: budget }) },
    cpu,
    seconds: 2 * cpu,
  });
  const costs = [
    cost("cheap", 1.25, 2),
    cost("dear", 1010, 100),
    cost("over", 120, 100),
    cost("unknown", 40),
  ];
  expect(costTable(costs).slice(1)).toEqual([
    "   1010     100    2020   dear   over its budget",
    "    120     100     240   over   over its budget",
    "   40.0       -    80.0   unknown",
    "    1.3     2.0     2.5   cheap",
    "   1171     202          all",
  ]);
  expect(costs.flatMap((one) => (tooDear(one) ? one.check.name : []))).toEqual(["dear"]);
  expect(tooDear(costs[1]!)).toContain("it took 1010 s of CPU, more than 10 times its budget of 100 s");
});
