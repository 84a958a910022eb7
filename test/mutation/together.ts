/**
 * Changes that near tests have not noticed, all at once: most far tests are green with all of them. Where one is
 * red, half of the changes that it runs are tried with it alone, until it is known which of them it notices;
 * these are taken back before the next tests run, so that they hide no others.
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

type Run = (mutants: readonly Mutant[], tests: readonly string[]) => Promise<Ran>;

/** Those that a test notices when it is alone, as they are found. `run` ends with the first red test. */
export async function* noticed(
  group: readonly Open[],
  turns: readonly (readonly string[])[],
  run: Run,
): AsyncGenerator<Noticed> {
  const found: Noticed[] = [];
  for (const turn of turns) {
    let tests = turn;
    for (;;) {
      const open = group.filter(({ mutant }) => !found.some((one) => one.mutant === mutant));
      tests = tests.filter((test) => open.some((one) => one.tests.includes(test)));
      if (tests.length === 0) break;
      const asked = askedBy(tests, open);
      const { end, red } = await run(asked, tests);
      if (end === "survived") break;
      const more = await noticedBy(red, askedBy(red, open), run, true);
      found.push(...more);
      yield* more;
      // those before it are green; without a culprit it is red only with several of them together, or by itself
      tests = tests.slice(tests.indexOf(red[0]!)).filter((test) => more.length > 0 || !red.includes(test));
    }
  }
}

function askedBy(tests: readonly string[], open: readonly Open[]): Mutant[] {
  return open.filter((one) => one.tests.some((test) => tests.includes(test))).map(({ mutant }) => mutant);
}

/** `isRed`: with all of them; so half of them need not run where the other half is green. */
async function noticedBy(
  tests: readonly string[],
  mutants: readonly Mutant[],
  run: Run,
  isRed: boolean,
): Promise<Noticed[]> {
  if (mutants.length === 0) return [];
  if (mutants.length === 1 || !isRed) {
    const { end, red } = await run(mutants, tests);
    if (end === "survived") return [];
    if (mutants.length === 1) return [{ mutant: mutants[0]!, end, by: red }];
  }
  const half = Math.ceil(mutants.length / 2);
  const first = await noticedBy(tests, mutants.slice(0, half), run, false);
  return [...first, ...(await noticedBy(tests, mutants.slice(half), run, first.length === 0))];
}

/** As few groups as can be made of at most so many changes, none of which stands in another one. */
export function apart(open: readonly Open[], most: number): Open[][] {
  const groups: Open[][] = [];
  for (const one of open) {
    const group = groups.find(
      (others) => others.length < most && !others.some(({ mutant }) => touches(mutant, one.mutant)),
    );
    if (group) group.push(one);
    else groups.push([one]);
  }
  return groups;
}

function touches(one: Mutant, other: Mutant): boolean {
  return one.path === other.path && one.start <= other.end && other.start <= one.end;
}
