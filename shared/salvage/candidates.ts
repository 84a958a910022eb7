/** What an operator is told of the keys that are lost: by what each will be known, and which of several he has to choose from. */
import { Fail } from "../fail.ts";
import { say } from "../run.ts";
import type { FoundKey, FoundKeys } from "./found-keys.ts";
import { kidOf, labelOf, type WantedKey } from "./wanted-keys.ts";

/** A line for the key in use, and for each other one that is known. */
export function sayLost({ keyFile, generations, candidates }: WantedKey) {
  const lines = generations.map(({ hash, kind, from }) => `${hash}, ${kind}, by ${from.join(", ")}`);
  say(`${keyFile}: lost; ${lines[0] ?? "nothing here tells which key it was"}`);
  for (const [i, line] of lines.slice(1).entries()) say(`  or ${i + 1 < candidates ? "" : "an earlier one, "}${line}`);
}

/** Two keys with evidence of the same weight, or an earlier one alone: a person says which one is in use. */
export function refuseRivals(foundKeys: FoundKeys) {
  const [rivals = []] = foundKeys.rivals();
  const earlier = foundKeys.missing().flatMap((wanted) => foundKeys.foundOf(wanted));
  for (const one of earlier) say(`only an earlier ${one.wanted.keyFile} was found; if it is the one in use: ${howToTake(one)}`);
  if (rivals.length > 0)
    throw new Fail(`${rivals[0]!.wanted.keyFile}: ${rivals.length} were found, and each can be the one in use`, {
      hint: `which one is it? ${rivals.map(howToTake).join("; or ")}`,
    });
}

/** Of the cluster CA and of sa.key a person's word is enough; any other is taken from the rescue folder. */
function howToTake({ wanted: { name }, generation }: FoundKey): string {
  const option = { sa: `--kid ${kidOf(generation.hash)}`, ca: `--from ${generation.hash}` }[name];
  return `${option ? `the same command with ${option}` : "its install lines above"} (${labelOf(generation)})`;
}
