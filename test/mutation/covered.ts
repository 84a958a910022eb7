/** Which test files of `npm run ok` run which lines of shared/, and how much CPU each takes. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hash } from "bun";
import { inParallel } from "../../shared/api/many.ts";

export interface Covered {
  /**
   * For each file of shared/, for each line that counts: the test files that run it. Lines between two that
   * count belong to the upper one.
   */
  lines: Map<string, Map<number, string[]>>;
  /** Of CPU, which other people's load changes little. */
  seconds: Map<string, number>;
}

/** What one test file has run. */
export interface Seen {
  /** Of CPU, with its children. */
  seconds: number;
  /** Of each file that it loads: what it was then. Where one of them is another one now, it runs again. */
  was: Record<string, string>;
  /** Of the files in shared/: [line, how often], of the lines that count. */
  lines: Record<string, [line: number, hits: number][]>;
}

/** Runs each test file alone, in that checkout; not those that `kept` has seen with the same files. */
export async function coveredBy(
  home: string,
  tests: readonly string[],
  width: number,
  kept?: string,
): Promise<Covered> {
  const before: Record<string, Seen> = kept && existsSync(kept) ? JSON.parse(readFileSync(kept, "utf8")) : {};
  const seen = Object.fromEntries(
    tests.flatMap((test) => (before[test] && isAsItWas(home, before[test]) ? [[test, before[test]]] : [])),
  );
  const keep = () => {
    if (kept) writeFileSync(kept, JSON.stringify(seen));
  };
  // also where a signal ends it: on a busy machine what it has measured took hours
  process.once("exit", keep);
  try {
    await inParallel(
      tests.filter((test) => !seen[test]),
      width,
      async (test) => {
        // a test that other people's load has made red is green the next time
        seen[test] = await measured(home, test).catch(() => measured(home, test));
      },
    );
  } finally {
    process.off("exit", keep);
    keep();
  }
  return coverageOf(seen);
}

function isAsItWas(home: string, { was }: Seen): boolean {
  return Object.entries(was).every(([path, sum]) => sumOf(join(home, path)) === sum);
}

function sumOf(path: string): string {
  return existsSync(path) ? hash(readFileSync(path)).toString(36) : "";
}

async function measured(home: string, test: string): Promise<Seen> {
  const folder = mkdtempSync(join(tmpdir(), "covered-"));
  const coverage = ["--coverage", "--coverage-reporter=lcov", `--coverage-dir=${folder}`];
  const child = Bun.spawn([process.execPath, "test", `./${test}`, "--timeout=300000", ...coverage], {
    ...{ cwd: home, stdout: "ignore", stderr: "pipe" },
  });
  const said = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`red before anything is changed: ${test}\n${said}`);
  const lines = readLcov(readFileSync(join(folder, "lcov.info"), "utf8"));
  rmSync(folder, { recursive: true });
  return {
    seconds: Number(child.resourceUsage()!.cpuTime.total) / 1e6,
    was: Object.fromEntries([test, ...Object.keys(lines)].map((path) => [path, sumOf(join(home, path))])),
    lines: Object.fromEntries(Object.entries(lines).filter(([path]) => path.startsWith("shared/"))),
  };
}

export function readLcov(lcov: string): Seen["lines"] {
  return Object.fromEntries(
    [...lcov.matchAll(/^SF:(.+)$([\s\S]*?)^end_of_record$/gm)].map(([, path, lines]) => [
      path!,
      [...lines!.matchAll(/^DA:(\d+),(\d+)$/gm)].map(([, line, hits]) => [Number(line), Number(hits)]),
    ]),
  );
}

export function coverageOf(seen: Record<string, Seen>): Covered {
  const covered: Covered = { lines: new Map(), seconds: new Map() };
  for (const [test, { seconds, lines }] of Object.entries(seen)) {
    covered.seconds.set(test, seconds);
    for (const [path, counts] of Object.entries(lines)) {
      const known = covered.lines.get(path) ?? new Map<number, string[]>();
      for (const [line, hits] of counts)
        known.set(line, [...(known.get(line) ?? []), ...(hits > 0 ? [test] : [])]);
      covered.lines.set(path, known);
    }
  }
  return covered;
}

/** The test files that run a line. */
export function testsOf({ lines }: Covered, path: string, line: number): string[] {
  const known = lines.get(path);
  if (!known) return [];
  const above = [...known.keys()].filter((one) => one <= line);
  return known.get(Math.max(...above)) ?? [];
}
