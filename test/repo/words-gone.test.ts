/**
 * Private words that are gone from what operators read: messages, hints, help, printed notes, and the pages. Beside each
 * its words of the field. The words that stay have their meaning in CONTRIBUTING.md, "Our own words".
 */
import { expect, test } from "bun:test";
import { blank, kitSources, lineOf, type Source, sourcesAt, templatesOf } from "./sources.ts";

const sources = await kitSources();
const pages = await sourcesAt(["README.md", "RUNBOOK.md", "RUNBOOK-MORE.md"]);

// biome-ignore format: a table
const GONE: [word: RegExp, field: string][] = [
  [/\bkept\b/i, "unchanged, saved, stays"],
  [/\b(?:API|servers?)\b[^.;:]{0,30} away\b|\bturns [^.;:]{0,20} away\b|\bis away, in\b/, "unavailable, refuses, moved aside (a node is away: --without)"],
  [/(?<!=")\banew\b/i, "again; a new …; restarts"],
  [/\b(?:goes|go|went|going) on\b/i, "continues, keeps running, is in progress"],
  [/\bof before\b|\bthe one before\b(?! it)|\bfrom before\b/, "old, previous"],
  [/\btoday's\b/i, "current"],
  [/(?<!\blost )\bfor good\b/i, "permanently, irreversible (a node or a key is lost for good: --lost)"],
  [/\b(?:certificate|CA|token|first)s?(?: \w+){0,2} ends?\b|\b(?:has|have) ended\b|\bnone ends\b|\bends? (?:with the|with the same|soon|in the next|on …)/, "expires; exits, stops; is finished"],
  [/\black(?:s|ed|ing)?\b/i, "is missing"],
  [/\bsound\b/i, "valid"],
  [/\bstand-ins?\b/i, "replacement"],
  [/\b(?:told|tells)\b/i, "updates, shows, says"],
  [/\b(?:silent|deaf|unheard)\b/i, "does not answer, does not renew its Lease"],
  [/\bstrangers?\b/i, "unknown, another machine"],
  [/\bstands? behind\b/i, "comes after, follows"],
  [/\bloosens?\b/i, "makes the cluster less strict"],
  [/\bopens? (?:what|it with)\b/i, "decrypts"],
  [/\bfrom both ends\b/i, "at the client and at the server"],
  [/\bturns? up\b/i, "is found"],
  [/\bcosts? a line\b|\bCosts no\b/, "needs a change; Impact"],
  [/\bthe way back of\b/i, "is needed to undo"],
];

/** Each literal that holds a sentence; of a template with "…" for each value. */
function textsOf(source: Source): { at: string; text: string }[] {
  const code = blank(source.text, { strings: false });
  const strings = [...code.matchAll(/"((?:\\.|[^"\\\n])*)"/g)].map((match) => ({
    at: `${source.path}:${lineOf(source.text, match.index)}`,
    text: match[1]!,
  }));
  const templates = templatesOf(source).map(({ at, texts }) => ({ at, text: texts.join("…") }));
  return [...strings, ...templates].filter(({ text }) => text.includes(" "));
}

function found(texts: readonly { at: string; text: string }[]): string[] {
  return texts.flatMap(({ at, text }) =>
    GONE.flatMap(([word, field]) => {
      const match = word.exec(text);
      return match
        ? [`${at}: "${text.slice(Math.max(0, match.index - 30), match.index + 30)}": ${field}`]
        : [];
    }),
  );
}

test("a word is seen in a string, in a template and in a page, and not in a comment or a name", () => {
  const text = '/** It is kept. */\nconst kept = "kept";\nsay("the file is kept");\nsay(`it is kept`);\n';
  const [{ at } = { at: "" }] = textsOf({ path: "a.ts", text });
  expect(at).toBe("a.ts:3");
  expect(found(textsOf({ path: "a.ts", text }))).toHaveLength(2);
});

test("no text that operators read has a word that is gone", () => {
  const inPages = pages.flatMap(({ path, text }) =>
    text.split("\n").map((line, index) => ({ at: `${path}:${index + 1}`, text: line })),
  );
  expect(found([...sources.flatMap(textsOf), ...inPages])).toEqual([]);
});
