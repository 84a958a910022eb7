/** What the operator has said, as a script has kept it: the text of words.json. */
import type { SavedOption } from "../../shared/node/words.ts";

type Said = Partial<SavedOption> & Pick<SavedOption, "option" | "value">;

export function keptWords(said: readonly Said[], over: readonly Said[] = []): string {
  const at = new Date().toISOString();
  const word = { at, by: "move", on: "m1" };
  return JSON.stringify({
    made: at,
    said: said.map((one) => ({ ...word, ...one })),
    over: over.map((one) => ({ ...word, over: at, why: "it is over", ...one })),
  });
}

/** Of a move: pairs of old and new addresses. */
export function movedWords(pairs: Iterable<readonly [string, string]>): string {
  return keptWords([...pairs].map((pair) => ({ option: "moved", value: pair.join("=") })));
}
