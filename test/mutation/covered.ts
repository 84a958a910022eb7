/** Which test files of `npm run ok` run which lines of shared/, and how much CPU each takes. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hash } from "bun";
import { inParallel } from "../../shared/in-parallel.ts";
import { QUICK_BUN } from "../checks.ts";

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

/**
 * Runs each test file alone, in that checkout; not those that `kept` has seen with the same files. `before`: words before
 * its command. A test that is red so, with nothing changed, would count as if it noticed each change: it is left out.
 */
export async function coveredBy(
  home: string,
  tests: readonly string[],
  { width, kept, before = [] }: { width: number; kept?: string; before?: readonly string[] },
): Promise<Covered> {
  const known: Record<string, Seen> = kept && existsSync(kept) ? JSON.parse(readFileSync(kept, "utf8")) : {};
  const seen = Object.fromEntries(
    tests.flatMap((test) => (known[test] && isAsItWas(home, known[test]) ? [[test, known[test]]] : [])),
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
        const found = (await measured(home, test, before)) ?? (await measured(home, test, before));
        if (found) seen[test] = found;
        else console.log(`red though nothing is changed, and left out: ${test}`);
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

/** A folder that the test may write is gone when its namespace ends: what is in it is said before. */
const THEN_SAY_LINES =
  'folder=$(mktemp -d) && "$@" "--coverage-dir=$folder" >/dev/null 2>&1 && cat "$folder/lcov.info" && rm -r "$folder"';

/** undefined: it is red. */
async function measured(home: string, test: string, before: readonly string[]): Promise<Seen | undefined> {
  const command = [process.execPath, "test", `./${test}`, "--timeout=300000", "--coverage"];
  const child = Bun.spawn(
    [...before, "sh", "-c", THEN_SAY_LINES, "sh", ...command, "--coverage-reporter=lcov"],
    { cwd: home, stdout: "pipe", stderr: "ignore", env: { ...process.env, ...QUICK_BUN } },
  );
  const lines = readLcov(await new Response(child.stdout).text());
  if ((await child.exited) !== 0) return undefined;
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
