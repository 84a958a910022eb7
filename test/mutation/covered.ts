/** Which test files of `npm run ok` run which lines of shared/. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inParallel } from "../../shared/api/many.ts";

/**
 * For each file of shared/, for each line that counts: the test files that run it. Lines between two that
 * count belong to the upper one.
 */
export type Covered = Map<string, Map<number, string[]>>;

/** Runs each test file alone, in that checkout. */
export async function coveredBy(home: string, tests: readonly string[], width: number): Promise<Covered> {
  const covered: Covered = new Map();
  await inParallel(tests, width, async (test) => {
    const folder = mkdtempSync(join(tmpdir(), "covered-"));
    const command = [
      "test",
      `./${test}`,
      "--timeout=300000",
      "--coverage",
      "--coverage-reporter=lcov",
      `--coverage-dir=${folder}`,
    ];
    const child = Bun.spawn(["nice", "-n", "19", process.execPath, ...command], {
      cwd: home,
      stdout: "ignore",
      stderr: "pipe",
    });
    const said = await new Response(child.stderr).text();
    if ((await child.exited) !== 0) throw new Error(`red before anything is changed: ${test}\n${said}`);
    addLines(covered, readFileSync(join(folder, "lcov.info"), "utf8"), test);
    rmSync(folder, { recursive: true });
  });
  return covered;
}

export function addLines(covered: Covered, lcov: string, test: string) {
  for (const [, path, lines] of lcov.matchAll(/^SF:(shared\/.+)$([\s\S]*?)^end_of_record$/gm)) {
    const known = covered.get(path!) ?? new Map<number, string[]>();
    for (const [, line, hits] of lines!.matchAll(/^DA:(\d+),(\d+)$/gm)) {
      const tests = known.get(Number(line)) ?? [];
      if (Number(hits) > 0) tests.push(test);
      known.set(Number(line), tests);
    }
    covered.set(path!, known);
  }
}

/** The test files that run a line. */
export function testsOf(covered: Covered, path: string, line: number): string[] {
  const lines = covered.get(path);
  if (!lines) return [];
  const above = [...lines.keys()].filter((known) => known <= line);
  return lines.get(Math.max(...above)) ?? [];
}
