/**
 * The name that an operator meant: the shortest that begins with his word, else the one with the fewest slips of
 * the keyboard between them.
 */

/** Undefined if no name is near: more than one slip in four letters, or more than three. */
export function nearest(word: string, names: readonly string[]): string | undefined {
  if (word.length < 2) return undefined;
  const begun = names.filter((name) => name.startsWith(word)).sort((a, b) => a.length - b.length)[0];
  if (begun !== undefined) return begun;
  const most = Math.min(3, Math.ceil(word.length / 4));
  const [best] = names
    .map((name) => ({ name, slips: slipsBetween(word, name) }))
    .filter(({ slips }) => slips <= most)
    .sort((a, b) => a.slips - b.slips);
  return best?.name;
}

/**
 * Letters that are missing, too many, wrong, or two that changed their places: the optimal string alignment
 * distance.
 */
function slipsBetween(word: string, name: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: name.length + 1 }, (_, at) => at);
  for (let row = 1; row <= word.length; row++) {
    const now = [row];
    for (let at = 1; at <= name.length; at++) {
      const isWrong = word[row - 1] === name[at - 1] ? 0 : 1;
      const isSwapped = row > 1 && at > 1 && word[row - 1] === name[at - 2] && word[row - 2] === name[at - 1];
      now[at] = Math.min(last[at]! + 1, now[at - 1]! + 1, last[at - 1]! + isWrong);
      if (isSwapped) now[at] = Math.min(now[at]!, beforeLast[at - 2]! + 1);
    }
    [beforeLast, last] = [last, now];
  }
  return last.at(-1)!;
}
