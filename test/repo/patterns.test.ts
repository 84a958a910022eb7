/** No pattern has two loops over the same letters: a text that somebody made for it would stop a script for hours. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { Glob } from "bun";
import type { Node, SourceFile } from "typescript/unstable/ast";
import * as is from "typescript/unstable/ast/is";
import { asMoved } from "../../shared/pki/addresses.ts";
import { certificatesIn, privateKeysIn, publicKeysIn } from "../../shared/pki/certificate.ts";
import { Checked } from "../mutation/checked.ts";
import { asText, slowTexts } from "./slow-texts.ts";

setDefaultTimeout(300_000);

const HOME = join(import.meta.dir, "../..");
const PATHS = ["scripts", "shared", "tools"]
  .flatMap((folder) => [...new Glob(`${folder}/**/*.ts`).scanSync(HOME)])
  .sort();

interface Found {
  at: string;
  pattern: RegExp;
}

const { literals, places } = await inSources();

/** Every regular expression that is written out, and where `new RegExp` stands. */
async function inSources(): Promise<{ literals: Found[]; places: string[] }> {
  using checked = new Checked(HOME);
  const literals: Found[] = [];
  const places: string[] = [];
  for (const { path, tree } of await checked.trees(PATHS)) {
    const walk = (node: Node): undefined => {
      const at = `${path}:${lineOf(node, tree)}`;
      if (is.isRegularExpressionLiteral(node)) literals.push({ at, pattern: asPattern(node.text) });
      if (is.isNewExpression(node) && node.expression.getText(tree) === "RegExp") places.push(at);
      node.forEachChild(walk);
    };
    walk(tree);
  }
  return { literals, places };
}

function lineOf(node: Node, tree: SourceFile): number {
  return tree.getLineAndCharacterOfPosition(node.getStart(tree)).line + 1;
}

function asPattern(literal: string): RegExp {
  const end = literal.lastIndexOf("/");
  return new RegExp(literal.slice(1, end), literal.slice(end + 1));
}

/** CPU, in ms, of one replacement of all that a pattern finds. */
function cpu(pattern: RegExp, text: string): number {
  const before = process.cpuUsage();
  text.replace(pattern, "");
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

const LONG = 256 * 1024;
const MOST_MS = 250;

/** Letters of texts that grow, so that one that is slow already grows no more. */
const TINY = [20, 28, 48];
const LENGTHS = [...TINY, 2048, 8192, 16_384, 32_768, 131_072, LONG];

/** Half of what a pattern takes for so many letters if it takes the square of them, and `most` for a LONG text. */
function suspectMs(length: number, most: number): number {
  return (most / 2) * (length / LONG) ** 2;
}

/** The first text for which a pattern takes more than `most` milliseconds. */
function tooLong({ at, pattern }: Found, most = MOST_MS): string[] {
  const all = new RegExp(pattern.source, pattern.flags.includes("g") ? pattern.flags : `${pattern.flags}g`);
  for (const text of slowTexts(pattern))
    for (const length of LENGTHS) {
      const isTiny = TINY.includes(length);
      // a text of 48 letters tells an exponential pattern, before one of 2048 lasts for ever
      const [enough, limit] = isTiny ? [1, 1] : [suspectMs(length, most), most];
      const ms = least(all, asText(text, length), enough, most);
      if (ms > limit)
        return [`${at} ${pattern} ${JSON.stringify(text)} ${length} letters: ${Math.round(ms)} ms`];
      if (!isTiny && ms < enough) break;
    }
  return [];
}

/** Of three tries, but for one that tells at once: no other process takes so much from it. */
function least(pattern: RegExp, text: string, enough: number, most: number): number {
  let ms = cpu(pattern, text);
  for (let tries = 1; tries < 3 && ms > enough && ms < 10 * most; tries++)
    ms = Math.min(ms, cpu(pattern, text));
  return ms;
}

/** What makes the patterns that are put together: each place of `new RegExp` is passed once at least. */
const MAKERS: Record<string, () => unknown> = {
  "shared/again.ts": () => anew("shared/again.ts"),
  "shared/pki/addresses.ts": () => [
    asMoved("x", new Map([["a.b", "c"]])),
    asMoved("x", new Map([["a", "b"]])),
  ],
  "shared/pki/certificate.ts": () => [certificatesIn("x"), publicKeysIn("x"), privateKeysIn("x")],
  "shared/plain.ts": () => anew("shared/plain.ts"),
  "shared/screen-width.ts": () => anew("shared/screen-width.ts"),
  "shared/follow/trusted-plan.ts": () => anew("shared/follow/trusted-plan.ts"),
};

/** Runs the file's own lines again. */
function anew(path: string) {
  return import(`${HOME}/${path}?anew`);
}

async function made(): Promise<Found[]> {
  const found: Found[] = [];
  const Real = RegExp;
  globalThis.RegExp = new Proxy(Real, {
    construct(target, args: ConstructorParameters<typeof RegExp>) {
      const pattern = new target(...args);
      const at = /\/((?:shared|scripts)\/[^:?]+)(?:\?\w+)?(:\d+)/.exec(new Error().stack ?? "");
      if (at) found.push({ at: `${at[1]}${at[2]}`, pattern });
      return pattern;
    },
  });
  try {
    for (const make of Object.values(MAKERS)) await make();
  } finally {
    globalThis.RegExp = Real;
  }
  return found;
}

const put = await made();

/**
 * Patterns that took no text too long: like the compiler's memory of files, kept for those that are as they were, as
 * long as the texts, the limits and the engine are.
 */
const TRIED = join(HOME, "node_modules/.patterns.json");

async function rules(): Promise<string> {
  const texts = [import.meta.path, join(import.meta.dir, "slow-texts.ts")].map((path) =>
    Bun.file(path).text(),
  );
  return Bun.hash([Bun.version, ...(await Promise.all(texts))].join("\n")).toString(36);
}

async function triedBefore(): Promise<ReadonlySet<string>> {
  const kept = (await Bun.file(TRIED).exists()) ? await Bun.file(TRIED).json() : {};
  return new Set(kept.rules === (await rules()) ? kept.patterns : []);
}

test("each pattern that is put together is seen here: what makes it is a row of MAKERS", () => {
  const seen = new Set(put.map(({ at }) => at));
  expect(places.filter((at) => !seen.has(at))).toEqual([]);
});

test("256 kB of its own letters take no pattern longer than a quarter of a second", async () => {
  const all = [...literals, ...put];
  const tried = await triedBefore();
  expect(all.filter(({ pattern }) => !tried.has(String(pattern))).flatMap((one) => tooLong(one))).toEqual([]);
  const patterns = [...new Set(all.map(({ pattern }) => String(pattern)))];
  await Bun.write(TRIED, JSON.stringify({ rules: await rules(), patterns }));
});

test("what is red: two loops over the same letters, one that begins anew at each letter, loops in loops", () => {
  const red = [/a\s*b?\s*c/, /\s+$/, /^\s*a/m, /(?:a+)+b/, /(?:ab|a|b)*c/];
  const green = [/a\s*(?:b\s*)?c/, /(?<!\s)\s+$/, /^[ \t]*a/m, /(?<!a)a+b/, /^[ab]*c/];
  // what takes the square of its letters takes a fifth of the limit for fewer of them
  const isRed = (pattern: RegExp) => tooLong({ at: "here", pattern }, MOST_MS / 5).length > 0;
  expect(red.filter((one) => !isRed(one))).toEqual([]);
  expect(green.filter(isRed)).toEqual([]);
});
