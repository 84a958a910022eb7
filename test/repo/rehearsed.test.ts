/** Each rehearsal leaves a row, whoever has begun it; a release knows which scenarios it has not seen green. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { $ } from "bun";
import { Fail, failOf } from "../../shared/fail.ts";
import { allChecks } from "../checks.ts";
import { SCENARIOS } from "../lab/rehearse.ts";
import type { LastRun } from "../last-runs.ts";
import { readLastRuns } from "../last-runs.ts";
import { sandbox } from "../pretend/sandbox.ts";
import { keepingRow, lastRelease, notRehearsedSince, rehearsalName, rehearsedLines } from "../rehearsed.ts";

const SINCE = { tag: "v1.0.0", at: "2026-12-01T00:00:00Z" };

const green: LastRun = {
  ...{ at: "2026-12-02T10:00:00Z", commit: "8f63eb20", passed: 31, failed: 0, seconds: 90 },
};

test("a scenario counts that was green on a commit of this release, by whatever guide", () => {
  const rows: Record<string, LastRun> = {
    moved: green,
    red: { ...green, failed: 1 },
    stopped: { ...green, passed: 0, failed: 1 },
    before: { ...green, at: "2026-11-30T23:59:59Z" },
    changed: { ...green, commit: "8f63eb20+" },
    "without git": { ...green, commit: "" },
  };
  const runs = {
    ...Object.fromEntries(Object.entries(rows).map(([name, run]) => [rehearsalName(name, "repair"), run])),
    [rehearsalName("by hand", "runbook")]: green,
    [rehearsalName("red by one", "repair")]: rows.red!,
    [rehearsalName("red by one", "runbook")]: green,
    "soak: never": green,
  };
  expect(notRehearsedSince(runs, [...Object.keys(rows), "by hand", "red by one", "never"], SINCE)).toEqual([
    "red",
    "stopped",
    "before",
    "changed",
    "without git",
    "never",
  ]);
  expect(notRehearsedSince({}, ["moved"], SINCE)).toEqual(["moved"]);
});

test("the night rehearses each scenario under the name by which npm run rehearse keeps its row", async () => {
  const names = (await allChecks()).flatMap(({ name, scenario }) => (scenario ? [name] : []));
  const ours = SCENARIOS.flatMap(({ name }) =>
    ["repair", "runbook"].map((guide) => rehearsalName(name, guide)),
  );
  expect(names.length).toBeGreaterThan(50);
  expect(names.filter((name) => !ours.includes(name))).toEqual([]);
});

test("a rehearsal leaves a row: how much passed and failed; red where it stopped in the middle", async () => {
  using box = sandbox();
  const row = { name: "lab: one", file: `${box.dir}/last-runs.json`, home: box.dir };
  const checks = [true, true, false].map((ok) => ({ name: "a", ok, detail: "" }));
  await keepingRow(row, async () => ({ recovered: false, checks }));
  expect(readLastRuns(row.file)["lab: one"]).toMatchObject({ passed: 2, failed: 1, commit: "" });
  await keepingRow(row, async () => ({ recovered: true, checks: checks.slice(0, 2) }));
  expect(readLastRuns(row.file)["lab: one"]).toMatchObject({ passed: 2, failed: 0 });
  const stopped = await failOf(() =>
    keepingRow(row, async () => {
      throw new Fail("a step stops", { hint: "look" });
    }),
  );
  expect(stopped?.message).toBe("a step stops");
  expect(readLastRuns(row.file)["lab: one"]).toMatchObject({ passed: 0, failed: 1 });
});

test("a release begins with the tag before it, and the first one with the first commit", async () => {
  using box = sandbox();
  const git = ["-c", "user.name=x", "-c", "user.email=x@example"];
  const commit = async (name: string, day: string) => {
    writeFileSync(`${box.dir}/${name}`, name);
    const date = `${day}T10:00:00Z`;
    await $`git add ${name} && git ${git} commit -qm ${name}`
      .cwd(box.dir)
      .env({ ...process.env, GIT_COMMITTER_DATE: date, GIT_AUTHOR_DATE: date });
  };
  await $`git init -q`.cwd(box.dir);
  await commit("one", "2026-11-01");
  await commit("two", "2026-11-02");
  expect(await lastRelease(box.dir)).toEqual({ tag: "", at: "2026-11-01T10:00:00.000Z" });
  await $`git tag v1.0.0 && git tag lab-2`.cwd(box.dir);
  await commit("three", "2026-11-03");
  expect(await lastRelease(box.dir)).toEqual({ tag: "v1.0.0", at: "2026-11-02T10:00:00.000Z" });
});

test("the night's last lines name them, and say so where there is none", () => {
  expect(rehearsedLines(["moved"], ["moved", "all-lost"], SINCE)).toEqual([
    "1 of 2 scenarios were not green on a commit since v1.0.0 on this machine: npm run rehearse -- --scenario NAME",
    "  moved",
  ]);
  expect(rehearsedLines([], ["moved", "all-lost"], { ...SINCE, tag: "" })).toEqual([
    "each of the 2 scenarios was green on a commit",
  ]);
});
