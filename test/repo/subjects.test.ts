/**
 * The patterns of a reader's second look (issue 58) that a program can see: a paragraph or a cell names its subject, and
 * the help of an option begins with a verb or a noun.
 */
import { expect, test } from "bun:test";
import { helpOf, SCRIPTS } from "./help.ts";
import { sourcesAt } from "./sources.ts";

const PRONOUN =
  /^(?:\*\*[^*]+\*\*:? )?(?:It|They|Those|These|Them|Such|Its|Nor|Their|Who|Whoever|Nobody|Somebody)\b/;

/** Paragraphs, items of lists and cells: each has its nouns only from what stands before it. */
function piecesOf(page: string): string[] {
  const prose = page.replace(/^ *```[\s\S]*?^ *```$/gm, "\n").replace(/^#.*$/gm, "\n");
  const cells = [...prose.matchAll(/^\|(.*)\|$/gm)].flatMap(([, row]) => row!.split(/(?<!\\)\|/));
  const paragraphs = prose
    .replace(/^\|.*$/gm, "\n")
    .replace(/^ *(?:- |\d+\. |> )/gm, "\n\n")
    .split(/\n\s*\n/);
  return [...paragraphs, ...cells].map((text) => text.replace(/\s+/g, " ").trim()).filter(Boolean);
}

test("a pronoun without its noun is seen, and not in the middle", () => {
  const page = "It is so.\n\n- **A.** They go.\n- A key. It is here.\n\n| a | Its own |\n";
  expect(piecesOf(page).filter((text) => PRONOUN.test(text))).toEqual([
    "It is so.",
    "**A.** They go.",
    "Its own",
  ]);
});

test.each(await sourcesAt(["README.md", "RUNBOOK.md", "RUNBOOK-MORE.md"]))(
  "$path: no paragraph and no cell begins with a pronoun",
  ({ text }) => {
    expect(piecesOf(text).filter((piece) => PRONOUN.test(piece))).toEqual([]);
  },
);

/** An option's text begins so: a situation, and not what the option does or is. */
const SITUATION =
  /^(?:With|Where|When|If|After|Before|These|Those|This|It|They|How|What|Lines|Some|The same)\b/;

test.each(SCRIPTS)(
  "%s --help: the text of each option begins with what it does, or what its value is",
  async (script) => {
    const [, options = ""] = /\nOptions:\n([\s\S]*?)\n\n/.exec(await helpOf(script)) ?? [];
    const texts = [...options.matchAll(/^ {4}(--[^\n]*?)(?: {2,}|\n {8,})(\S[^\n]*)$/gm)];
    expect(texts.length).toBeGreaterThan(0);
    expect(
      texts.flatMap(([, option, text]) => (SITUATION.test(text!) ? [`${option}: ${text}`] : [])),
    ).toEqual([]);
  },
);
