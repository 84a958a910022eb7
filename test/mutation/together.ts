/**
 * Changes that near tests have not noticed, all at once: most far tests are green with all of them, and those
 * that are red say which changes are still to be asked, half of them at a time.
 */
import type { Ran } from "./limits.ts";
import type { Mutant } from "./mutants.ts";

/** `tests`: those that run its line, and have not run with it yet. */
export interface Open {
  mutant: Mutant;
  tests: readonly string[];
}

export interface Noticed {
  mutant: Mutant;
  end: Ran["end"];
  by: readonly string[];
}

/** Those that a test notices when it is alone. A change is not alone in its file: see `inOtherFiles`. */
export async function noticed(
  group: readonly Open[],
  ran: (mutants: readonly Mutant[], tests: readonly string[]) => Promise<Ran>,
): Promise<Noticed[]> {
  const tests = [...new Set(group.flatMap((one) => one.tests))];
  if (tests.length === 0) return [];
  const { end, red } = await ran(
    group.map(({ mutant }) => mutant),
    tests,
  );
  if (end === "survived") return [];
  if (group.length === 1) return [{ mutant: group[0]!.mutant, end, by: red }];
  const asked = group
    .map(({ mutant, tests }) => ({ mutant, tests: tests.filter((test) => red.includes(test)) }))
    .filter(({ tests }) => tests.length > 0);
  const half = Math.ceil(asked.length / 2);
  return [...(await noticed(asked.slice(0, half), ran)), ...(await noticed(asked.slice(half), ran))];
}

/** Groups of so many, in each of which no two changes are of the same file: one would move the other's place. */
export function inOtherFiles(open: readonly Open[], most: number): Open[][] {
  const groups: Open[][] = [];
  for (const one of open) {
    const group = groups.find(
      (others) => others.length < most && !others.some(({ mutant }) => mutant.path === one.mutant.path),
    );
    if (group) group.push(one);
    else groups.push([one]);
  }
  return groups;
}
