#!/usr/bin/env bun
/**
 * RUNBOOK-MORE "What you have said": who is away or lost, the API's address, files that are given
 * up. Prints words that still hold on this node, and takes back those that do not.
 */
import { Fail } from "../shared/fail.ts";
import { parseOptions } from "../shared/files/operator-files.ts";
import { endSavedOptions, savedOptionLine, savedOptionsHere } from "../shared/node/words.ts";
import { listed } from "../shared/plain.ts";
import { answerJson, answerLines, run } from "../shared/run.ts";

async function main() {
  const { values } = parseOptions({ options: OPTIONS, usage: USAGE });
  const { back } = values;
  const saved = savedOptionsHere().map(({ value }) => value);
  const unsaid = back.filter((value) => !saved.includes(value));
  if (unsaid.length > 0)
    throw new Fail(`Nothing is saved of "${unsaid.join('", "')}"`, {
      unchanged: true,
      hint: `take back a word that is saved here: ${saved.length > 0 ? listed(saved) : "nothing"}`,
    });
  endSavedOptions(({ value }) => back.includes(value), "you take it back");
  const words = savedOptionsHere();
  if (values.json) answerJson({ words });
  else
    answerLines(
      words.length > 0 ? words.map(savedOptionLine) : ["nothing that you have said is saved here"],
    );
}

const USAGE = `Usage:
    ./bunw scripts/words.ts [--back WORD,…] [--json]

Prints the options that earlier scripts on this node, or the node that packed the keys, have saved.
Every script on this node uses these options until you take them back.

Options:
    --back WORDS     Forget these words: a node's name, a flag of --start-without, the endpoint or
                     the folder, as they are printed. Other nodes keep theirs.
    --json           Print the same for programs, with the time and the script of each option.

Exit codes: 0 done, 1 stopped (see the hint), 3 refused: not for this node`;

const OPTIONS = {
  back: { type: "string", list: true },
  json: { type: "boolean" },
} as const;

if (import.meta.main) await run(main);
