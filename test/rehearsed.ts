/** The row that each rehearsal leaves beside the other checks' last runs, and which scenarios a release has not seen green. */
import { join } from "node:path";
import { $ } from "bun";
import { CACHE } from "./lab/machine/go-build.ts";
import type { Rehearsal } from "./lab/report/rehearsal.ts";
import { commitOf, keepLastRun, type LastRuns } from "./last-runs.ts";

/** What each check did last, on this machine. It is outside of the checkout: a clone stays clean. */
export const LAST_RUNS = join(CACHE, "last-runs.json");

/** The check's name, by which its last run is kept. `guide`: what the operator follows, "repair" or "runbook". */
export function rehearsalName(scenario: string, guide: string): string {
  return `lab: rehearse ${scenario}, by the ${guide}`;
}

/**
 * Rehearses, and keeps the row of it. One that stops in the middle is red; one that is cut off by a signal keeps none.
 * Errors: those of `rehearse`.
 */
export async function keepingRow<T extends Pick<Rehearsal, "recovered" | "checks">>(
  row: { name: string; file: string; home: string },
  rehearse: () => Promise<T>,
): Promise<T> {
  const began = new Date();
  const commit = await commitOf(row.home);
  const keep = (passed: number, failed: number) =>
    keepLastRun(row.file, row.name, {
      ...{ at: began.toISOString(), commit, passed, failed },
      seconds: (Date.now() - began.getTime()) / 1000,
    });
  try {
    const record = await rehearse();
    const passed = record.checks.filter(({ ok }) => ok).length;
    keep(passed, Math.max(record.checks.length - passed, record.recovered ? 0 : 1));
    return record;
  } catch (err) {
    keep(0, 1);
    throw err;
  }
}

/** When this release began. */
export interface Since {
  /** A tag; "" before the first one. */
  tag: string;
  /** ISO 8601, of the tag's commit, or of the first commit of all. */
  at: string;
}

export async function lastRelease(home: string): Promise<Since> {
  const found = await $`git describe --tags --abbrev=0 --match "v*"`.cwd(home).quiet().nothrow();
  const tag = found.exitCode === 0 ? found.stdout.toString().trim() : "";
  const which = tag === "" ? ["--max-parents=0", "HEAD"] : ["-1", tag];
  const days = await $`git log --format=%cI ${which}`.cwd(home).quiet().text();
  const times = days.trim().split("\n").map(Date.parse);
  return { tag, at: new Date(Math.min(...times)).toISOString() };
}

/**
 * Those of the scenarios whose last runs, by whatever guide, were not green on a commit since then. Changes that no
 * commit has prove none.
 */
export function notRehearsedSince(
  runs: LastRuns,
  scenarios: readonly string[],
  { at: since }: Pick<Since, "at">,
): string[] {
  const isGreen = (name: string) => {
    const run = runs[name];
    if (!run || run.failed > 0 || run.passed === 0) return false;
    return Date.parse(run.at) >= Date.parse(since) && /^[0-9a-f]+$/.test(run.commit);
  };
  return scenarios.filter(
    (scenario) => !["repair", "runbook"].some((guide) => isGreen(rehearsalName(scenario, guide))),
  );
}

/** What `npm run night` ends with. */
export function rehearsedLines(left: readonly string[], all: readonly string[], { tag }: Since): string[] {
  const since = tag === "" ? "" : ` since ${tag}`;
  if (left.length === 0) return [`each of the ${all.length} scenarios was green on a commit${since}`];
  return [
    `${left.length} of ${all.length} scenarios were not green on a commit${since} on this machine: npm run rehearse -- --scenario NAME`,
    ...left.map((name) => `  ${name}`),
  ];
}
