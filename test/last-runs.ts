/** When each check ran last, on which commit, and how it ended: kept on this machine, beside the times of the test files. */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { $ } from "bun";

export interface LastRun {
  /** ISO, when it began. */
  at: string;
  /** Short; with "+" behind it: and changes that were not committed. "" without git. */
  commit: string;
  passed: number;
  failed: number;
  /** Of the clock. */
  seconds: number;
  /** Seconds. Unset: a rehearsal alone does not measure it. */
  cpu?: number;
}

/** Check → its last run. */
export type LastRuns = Record<string, LastRun>;

export function readLastRuns(file: string): LastRuns {
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as LastRuns) : {};
}

/** Read again each time: another run may have kept some meanwhile. */
export function keepLastRun(file: string, name: string, run: LastRun) {
  mkdirSync(dirname(file), { recursive: true });
  const partial = `${file}.${process.pid}`;
  writeFileSync(partial, `${JSON.stringify({ ...readLastRuns(file), [name]: run }, null, 2)}\n`);
  renameSync(partial, file);
}

export async function commitOf(home: string): Promise<string> {
  const head = await $`git rev-parse --short HEAD`.cwd(home).quiet().nothrow();
  if (head.exitCode !== 0) return "";
  const changed = await $`git status --porcelain`.cwd(home).quiet().text();
  return head.stdout.toString().trim() + (changed ? "+" : "");
}

/** Seconds of a check that has never run here. */
const UNKNOWN = 300;

/**
 * Those that were not run for longest come first; of them as many as are through, one after the other, in so
 * many minutes, by the time that each took last. The first one always: else a long one would never run.
 */
export function oldestFirst<T extends { name: string }>(
  checks: readonly T[],
  runs: LastRuns,
  minutes = Infinity,
): T[] {
  const oldest = checks.toSorted((a, b) => ((runs[a.name]?.at ?? "") < (runs[b.name]?.at ?? "") ? -1 : 1));
  let left = 60 * minutes;
  return oldest.filter(({ name }, index) => {
    const seconds = runs[name]?.seconds ?? UNKNOWN;
    if (index > 0 && seconds > left) return false;
    left -= seconds;
    return true;
  });
}

/** "2026-11-30 09:12 on 8f63eb20: 31 passed, 96 s", or "never". */
export function shownRun(run: LastRun | undefined): string {
  if (!run) return "never";
  const { at, commit, passed, failed, seconds } = run;
  return `${at.slice(0, 16).replace("T", " ")}${commit ? ` on ${commit}` : ""}: ${passed} passed, ${failed > 0 ? `${failed} FAILED, ` : ""}${Math.round(seconds)} s`;
}
