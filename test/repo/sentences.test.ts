/**
 * What operators read in tables, in help, in messages, hints and printed notes has sentences of 25 words at most,
 * as the paragraphs of the pages have (pages.test.ts).
 */
import { expect, test } from "bun:test";
import { helpOf, PACKER, SCRIPTS } from "./help.ts";
import { cellsOf, helpTexts, literalsOf, tooLong, wordsOf } from "./sentences.ts";
import { kitSources, sourcesAt } from "./sources.ts";

const words = (count: number) => Array(count).fill("word").join(" ");
const at = (text: string) => [{ at: "a", text }];

test("a sentence ends at a full stop, a question mark, an exclamation mark, or with its line", () => {
  expect(tooLong(at(words(25)))).toEqual([]);
  expect(tooLong(at(words(26)))).toEqual([`a: 26 words: ${words(26)}`]);
  for (const end of [". ", "! ", "? ", '." ', "\n", "<br>"])
    expect(tooLong(at(words(20) + end + words(20)))).toEqual([]);
  for (const end of ["; ", ": ", ", ", " (", " - "])
    expect(tooLong(at(words(20) + end + words(20)))).toHaveLength(1);
});

test("code, a command and a run of links are a word, and what follows a command is prose", () => {
  expect(wordsOf(`type \`${words(30)}\``)).toBe(2);
  expect(wordsOf("see [one page](a.md), [two](b.md) and [one more page](c.md)")).toBe(6);
  expect(wordsOf("run kubectl get nodes -o wide | sort; then look")).toBe(4);
  expect(wordsOf("./bunw scripts/05-verify.ts --json shows it")).toBe(3);
  expect(wordsOf("install the kubelet: ssh asks")).toBe(5);
  expect(wordsOf("run $(a b) for x in a b c; do echo $x; done here")).toBe(5);
});

test("each code of a list of exit codes is a sentence", () => {
  const list = [0, 1, 2].map((code) => `${code} ${words(10)}`).join(", ");
  expect(tooLong(at(`${words(20)}. Exit codes: ${list} (4.7)`))).toEqual([]);
  expect(tooLong(at(`Other codes: ${list}`))).toHaveLength(1);
});

test("a long sentence is found in a cell, an option's text, a string and a template; not in a fence and a comment", () => {
  const long = words(26);
  const page = `\`\`\`\n| ${long} |\n\`\`\`\n| a | ${long} |\n`;
  expect(tooLong(cellsOf({ path: "a.md", text: page }))).toEqual([`a.md:4: 26 words: ${long}`]);
  const help = `Usage: ${long}\n\nDoes it.\n\nOptions:\n    --one  ${words(20)}\n           ${words(6)}\n    --two WORD\n           ${words(25)}\nBehind it.\n`;
  expect(tooLong(helpTexts("a.ts", help))).toEqual([`a.ts --help: 26 words: ${long}`]);
  expect(helpTexts("a.ts", help).at(-1)?.text).toBe("Behind it.");
  const code = `// "${long}"\nsay("${long}");\nsay(\`${words(25)} \${"a b"}\`);\nsay(\`\${"${long}"}\`);\n`;
  expect(tooLong(literalsOf({ path: "a.ts", text: code })).map((one) => one.split(": ", 2)[0])).toEqual([
    ...["a.ts:2", "a.ts:4", "a.ts:3"],
  ]);
});

test("each cell of the pages has short sentences", async () => {
  const pages = await sourcesAt(["README.md", "RUNBOOK.md", "RUNBOOK-MORE.md"]);
  const cells = pages.flatMap(cellsOf);
  expect(cells.length).toBeGreaterThan(300);
  expect(tooLong(cells)).toEqual([]);
});

test.each([...SCRIPTS, PACKER])("%s --help has short sentences", async (script) => {
  const texts = helpTexts(script, await helpOf(script));
  expect(texts.length).toBeGreaterThan(1);
  expect(tooLong(texts)).toEqual([]);
});
/** Tables of names that test/generate-fields.ts writes. */
const GENERATED = "shared/objects/fields.ts";

test("each message, hint and note has short sentences", async () => {
  const literals = (await kitSources()).filter(({ path }) => path !== GENERATED).flatMap(literalsOf);
  expect(literals.length).toBeGreaterThan(3_000);
  expect(tooLong(literals)).toEqual([]);
});
