/** In which order the tests of a changed line run: what notices it soon, and costs little, comes first. */
import type { Covered } from "./covered.ts";

/**
 * Test files that run together: so many, of so many seconds. The next ones only where these notice nothing. The first
 * turn runs for each change alone.
 */
const FIRST = { files: 10, seconds: 8 };
const LATER = { files: 10, seconds: 20 };

/** The quickest first, and sooner the nearer: the test of the file itself, then those of its room. */
export function inTurn(tests: readonly string[], path: string, covered: Covered): string[][] {
  const [name, room] = [path.slice(0, -3), path.slice(0, path.lastIndexOf("/"))];
  const distance = (test: string) =>
    test.startsWith(`test/${name}.`) ? 1 : test.startsWith(`test/${room}/`) ? 4 : 12;
  const price = (test: string) => usualOf([test], covered) * distance(test);
  const turns: string[][] = [];
  for (const test of tests.toSorted((a, b) => price(a) - price(b))) {
    const last = turns.at(-1);
    const most = turns.length > 1 ? LATER : FIRST;
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
