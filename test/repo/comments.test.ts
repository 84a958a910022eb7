/**
 * Comments and names are read by people who did not learn English at home: a comment begins with its subject or its
 * verb, and a value's name is a noun (CONTRIBUTING.md, "The rules of the house").
 */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { blank, kitSources, lineOf, type Source } from "./sources.ts";

const sources = await kitSources();

/** Rooms that still have some, with how many at most: a figure only goes down, and a row at 0 goes. */
const NAMES: Record<string, number> = {
  "shared/api": 1,
  "shared/facts": 18,
  "shared/node": 6,
  "shared/plan": 14,
  "shared/restore": 1,
  "shared/salvage": 2,
  "shared/static-pods": 1,
  "shared/workloads": 1,
};

/** "scripts", "shared", "shared/etcd". */
const roomOf = (path: string) => path.split("/").slice(0, -1).slice(0, 2).join("/");

/** Comments that begin with a clause whose subject comes late, or never. */
function headless({ path, text }: Source): string[] {
  const code = blank(text, { strings: true });
  const starts = text.matchAll(/(?:\/\*\*?|(?<!^ *\/\/.*\n *)\/\/)[\s*]+((?:Of|For|By|What) [^\n]*)/gm);
  return [...starts]
    .filter(({ index }) => code[index] === " ")
    .map((match) => `${path}:${lineOf(text, match.index)}: ${match[1]!.slice(0, 60)}`);
}

/** Prepositions, adverbs, pronouns and participles that say nothing of a value. A range may be `from` and `to`. */
const NO_NOUN =
  /\b(?:const|let) (?:today|there|said|around|behind|beside|elsewhere|anew|who|whose|theirs|theSame|kept|told|gone|asked|here|by|of|on|either|which)\b(?! (?:of|in) )/g;

function noNouns({ path, text }: Source): string[] {
  return [...blank(text, { strings: true }).matchAll(NO_NOUN)].map(
    (match) => `${path}:${lineOf(text, match.index)}: ${match[0]}`,
  );
}

/** What is found beyond what its room may have. */
function beyond(find: (source: Source) => string[], most: Record<string, number>): string[] {
  const rooms = Map.groupBy(sources, ({ path }) => roomOf(path));
  return [...rooms].flatMap(([room, all]) => {
    const found = all.flatMap(find);
    if (found.length < (most[room] ?? 0))
      console.log(`  ${room} has ${found.length}: its figure can go down`);
    return found.length > (most[room] ?? 0) ? found : [];
  });
}

test("a headless comment and a name that is no noun are seen, and not in a string", () => {
  const text = `/** Of a key. */\nconst a = "/** Of a key. */"; // For whom\n/**\n * By its name.\n */\n// whole: it may be\n// What line two begins with is not seen\nconst today = 1;\nfor (const of of []) a;\n/** A row. Of these one. */\n`;
  expect(headless({ path: "a", text }).map((line) => line.split(":")[1])).toEqual(["1", "2", "3"]);
  expect(noNouns({ path: "a", text })).toEqual(["a:8: const today"]);
});

test("no comment begins with Of, For, By or What", () => {
  expect(beyond(headless, {})).toEqual([]);
});

test("no value is named by a lone preposition, adverb, pronoun or participle", () => {
  expect(beyond(noNouns, NAMES)).toEqual([]);
});

const HOME = join(import.meta.dir, "../..");
const FILES = new Set(sources.map(({ path }) => basename(path)));

/** Comments without a word, and files that comments name and nobody has. A name without a folder may be any room's. */
function lostIn({ path, text }: Source): string[] {
  const comments = text.matchAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm);
  return [...comments].flatMap(({ 0: comment, index }) => {
    const at = `${path}:${lineOf(text, index)}`;
    if (/^\/\*\*\s*\*\/$/.test(comment)) return [`${at}: an empty comment`];
    const named = comment.match(/(?<![\w./:-])(?:[\w-]+\/)*[\w-]+\.ts\b/g) ?? [];
    const isThere = (file: string) =>
      FILES.has(file) ||
      ["", "shared", "test", dirname(path)].some((folder) => existsSync(join(HOME, folder, file)));
    return named.filter((file) => !isThere(file)).map((file) => `${at}: ${file}`);
  });
}

test("no comment is empty, and each file that a comment names is there", () => {
  const text = "/**  */\nconst a = 1; /** pki/certs.ts, gone/away.ts, certs.ts */\n// run.ts and none.ts\n";
  expect(lostIn({ path: "shared/a.ts", text })).toEqual([
    "shared/a.ts:1: an empty comment",
    "shared/a.ts:2: gone/away.ts",
    "shared/a.ts:3: none.ts",
  ]);
  expect(sources.flatMap(lostIn)).toEqual([]);
});
