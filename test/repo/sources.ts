/**
 * Reads TypeScript just well enough for the tests of the house: it separates comments and strings from code.
 */
import { dirname, join } from "node:path";
import { Glob } from "bun";

export interface Source {
  path: string;
  text: string;
}

const HOME = join(import.meta.dir, "../..");

/** Files of the house at these paths. */
export async function sourcesAt(paths: readonly string[]): Promise<Source[]> {
  return await Promise.all(
    paths.map(async (path) => ({ path, text: await Bun.file(join(HOME, path)).text() })),
  );
}

/** All code of scripts, shared and tools, by path. */
export async function kitSources(): Promise<Source[]> {
  return await sourcesAt([...new Glob("{scripts,shared,tools}/**/*.ts").scanSync(HOME)].sort());
}

/**
 * The text with blanks in place of comments, and with `strings` also inside of strings. Same length, same
 * lines.
 */
export function blank(text: string, options: { strings: boolean }): string {
  return text.replace(TOKEN, (token) => {
    if (token.startsWith("//") || token.startsWith("/*")) return spaces(token);
    if (!options.strings || /^[^"'`]/.test(token)) return token;
    return token[0] + spaces(token.slice(1, -1)) + token.at(-1);
  });
}

/** A regular expression literal is kept as it is, so that a quote in it opens no string. */
const TOKEN =
  /\/\/[^\n]*|\/\*[\s\S]*?\*\/|(?<=(?:[=(,:[!&|?{};\n>]|\breturn)\s*)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/g;

function spaces(token: string) {
  return token
    .split("\n")
    .map((line) => " ".repeat(line.length))
    .join("\n");
}

/** The arguments of each call that begins with `opening`, which ends in "(". */
export function callsOf({ path, text }: Source, opening: string): { at: string; args: string[] }[] {
  const code = blank(text, { strings: true });
  const shown = blank(text, { strings: false });
  const calls = [];
  for (let index = code.indexOf(opening); index >= 0; index = code.indexOf(opening, index + 1)) {
    const start = index + opening.length;
    const cuts = [start, ...argumentEnds(code, start)];
    const args = cuts.slice(1).map((end, i) => shown.slice(cuts[i]! + (i > 0 ? 1 : 0), end).trim());
    calls.push({ at: `${path}:${lineOf(text, index)}`, args: args.filter(Boolean) });
  }
  return calls;
}

/** Where each argument ends: at a comma of this level, or at the closing bracket. */
function argumentEnds(code: string, start: number): number[] {
  const ends = [];
  let depth = 0;
  for (let index = start; index < code.length; index++) {
    const letter = code[index]!;
    if ("([{".includes(letter)) depth++;
    else if (")]}".includes(letter) && depth-- === 0) return [...ends, index];
    else if (letter === "," && depth === 0) ends.push(index);
  }
  throw new Error("a bracket is never closed");
}

export function lineOf(text: string, index: number) {
  return text.slice(0, index).split("\n").length;
}

/** "path:line" of each match in the code, not in comments and strings. */
export function matches({ path, text }: Source, pattern: RegExp): string[] {
  return [...blank(text, { strings: true }).matchAll(pattern)].map(
    (match) => `${path}:${lineOf(text, match.index)}`,
  );
}

/** The files that a file imports, as paths from the checkout's top; no packages. */
export function importsOf({ path, text }: Source): string[] {
  const found = blank(text, { strings: false }).matchAll(
    /^(?:import|export)\b[^;"]*"(\.[^"]+)"|\bimport\("(\.[^"]+)"\)/gm,
  );
  return [...found].map((match) => join(dirname(path), (match[1] ?? match[2])!));
}

/** The names of a file's own declarations that it exports; a function with several signatures is one. */
export function exportsOf({ text }: Source): string[] {
  const found = blank(text, { strings: true }).matchAll(
    /^export (?:async )?(?:abstract )?(?:class|const|enum|function\*?|interface|let|type) (\w+)/gm,
  );
  return [...new Set([...found].map((match) => match[1]!))];
}

/**
 * `tag`: the code before it, such as "shell"; "" where there is none. `call`: the function of which it is the
 * first argument, or "". `texts` and `values` as a tag gets them, the values as code.
 */
export interface Template {
  at: string;
  tag: string;
  call: string;
  texts: string[];
  values: string[];
}

/** All template literals of a file, also those inside of others. */
export function templatesOf({ path, text }: Source): Template[] {
  const found: Template[] = [];
  /** Goes on behind the bracket that is open at `start`, or at the text's end. */
  const code = (start: number): number => {
    for (let [index, depth] = [start, 0]; index < text.length; ) {
      const letter = text[index]!;
      if (letter === "`") {
        index = template(index);
        continue;
      }
      SKIPPED.lastIndex = index;
      const skipped = SKIPPED.exec(text)?.[0];
      if (letter === "{") depth++;
      if (letter === "}" && depth-- === 0) return index + 1;
      index += skipped?.length ?? 1;
    }
    return text.length;
  };
  const template = (start: number): number => {
    const one: Template = {
      at: `${path}:${lineOf(text, start)}`,
      tag: tagBefore(text, start),
      call: callBefore(text, start),
      texts: [""],
      values: [],
    };
    found.push(one);
    for (let index = start + 1; ; ) {
      const letter = text[index];
      if (letter === undefined) throw new Error(`${one.at}: a template is never closed`);
      if (letter === "`") return index + 1;
      if (letter === "$" && text[index + 1] === "{") {
        const end = code(index + 2);
        one.values.push(text.slice(index + 2, end - 1).trim());
        one.texts.push("");
        index = end;
        continue;
      }
      const length = letter === "\\" ? 2 : 1;
      one.texts[one.texts.length - 1] += text.slice(index, index + length);
      index += length;
    }
  };
  code(0);
  return found;
}

/** A comment, a string, or a regular expression, at one place. */
const SKIPPED = new RegExp(TOKEN.source.slice(0, TOKEN.source.lastIndexOf("|`")), "y");

function callBefore(text: string, index: number): string {
  return /(\w+)\(\s*$/.exec(text.slice(Math.max(0, index - 40), index))?.[1] ?? "";
}

function tagBefore(text: string, index: number): string {
  const [before = ""] = /[\w$.)]+$/.exec(text.slice(Math.max(0, index - 40), index)) ?? [];
  return /^(return|case|typeof|in|of|await|yield)$/.test(before) ? "" : before;
}
