/** In which order the tests of a changed line run: what notices it soon, and costs little, comes first. */
import type { Covered } from "./covered.ts";

/** Test files that run together: so many, of so many seconds. */
const TURN = { files: 10, seconds: 20 };

/** The first turn runs for each change alone: of 81 changes that were noticed, 79 were by the first or the second test. */
const FIRST = { files: 6, seconds: 6 };

/** The quickest first, and sooner the nearer: the test of the file itself, then those of its room. */
export function inTurn(
  tests: readonly string[],
  path: string,
  covered: Covered,
): [near: string[], far: string[]] {
  const [name, room] = [path.slice(0, -3), path.slice(0, path.lastIndexOf("/"))];
  const distance = (test: string) =>
    test.startsWith(`test/${name}.`) ? 1 : test.startsWith(`test/${room}/`) ? 4 : 12;
  const price = (test: string) => usualOf([test], covered) * distance(test);
  const [near = [], ...far] = atATime(
    tests.toSorted((a, b) => price(a) - price(b)),
    covered,
    FIRST,
  );
  return [near, far.flat()];
}

export function atATime(tests: readonly string[], covered: Covered, most = TURN): string[][] {
  const turns: string[][] = [];
  for (const test of tests) {
    const last = turns.at(-1);
    const fits = last && last.length < most.files && usualOf([...last, test], covered) <= most.seconds;
    if (fits) last.push(test);
    else turns.push([test]);
  }
  return turns;
}

/** Seconds, without a change. */
export function usualOf(files: readonly string[], { seconds }: Covered): number {
  return files.reduce((sum, file) => sum + seconds.get(file)!, 0);
}
