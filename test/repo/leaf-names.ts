/**
 * Finds imports that cost a reader much for little: one or two names that bring twelve files or more, of which
 * the names themselves need none.
 */
import { dirname, join } from "node:path";
import { blank, importsOf, type Source } from "./sources.ts";

export interface DearImport {
  /** "shared/a.ts ← shared/b.ts". */
  edge: string;
  names: string[];
  /** So many files would not be behind the first file, were the names in a file of their own. */
  brings: number;
}

const MOST_NAMES = 2;
const MANY = 12;

const DECLARATION =
  /^(?:export )?(?:async )?(?:abstract )?(?:function\*?|const|let|class|interface|type|enum) (\w+)/gm;
const IMPORT = /^(?:import|export) (?:type )?\{([^}]*)\} from "(\.[^"]+)"/gm;

type Files = ReadonlyMap<string, Source>;

/** Imports that bring the most come first. */
export function dearImports(files: Files): DearImport[] {
  const uses = usesOf(files);
  const imports = new Map([...files.values()].map((source) => [source.path, importsOf(source)]));
  const found = [...files.values()].flatMap((source) => {
    const all = filesFrom(source.path, imports);
    return [...namesImported(source)].flatMap(([from, names]) => {
      if (names.length > MOST_NAMES || !files.has(from)) return [];
      const left = filesFrom(source.path, imports, from);
      for (const path of filesOfNames(names, from, uses)) left.add(path);
      return { edge: `${source.path} ← ${from}`, names, brings: all.size - left.size };
    });
  });
  return found.filter(({ brings }) => brings >= MANY).sort((a, b) => b.brings - a.brings);
}

/** File → the names that are imported from it. */
function namesImported({ path, text }: Source): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [, list, from] of blank(text, { strings: false }).matchAll(IMPORT)) {
    const file = join(dirname(path), from!);
    const names = list!.split(",").flatMap((item) => /^(?:type )?(\w+)/.exec(item.trim())?.[1] ?? []);
    found.set(file, [...(found.get(file) ?? []), ...names]);
  }
  return found;
}

/** "path#name" of each declaration → those that its text names: a little more than it needs, as words in texts count. */
function usesOf(files: Files): Map<string, Set<string>> {
  const uses = new Map<string, Set<string>>();
  for (const source of files.values()) {
    const code = blank(source.text, { strings: false });
    const places = new Map<string, string>();
    for (const [from, names] of namesImported(source))
      for (const name of names) places.set(name, `${from}#${name}`);
    const found = [...code.matchAll(DECLARATION)];
    for (const [, name] of found) places.set(name!, `${source.path}#${name}`);
    found.forEach(({ 1: name, index }, i) => {
      const words = code.slice(index, found[i + 1]?.index).match(/[A-Za-z_]\w*/g) ?? [];
      uses.set(`${source.path}#${name}`, new Set(words.flatMap((word) => places.get(word) ?? [])));
    });
  }
  return uses;
}

function filesOfNames(names: readonly string[], from: string, uses: Map<string, Set<string>>): Set<string> {
  const found = new Set<string>();
  const open = names.map((name) => `${from}#${name}`);
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (found.has(next)) continue;
    found.add(next);
    open.push(...(uses.get(next) ?? []));
  }
  return new Set([...found].map((one) => one.split("#")[0]!));
}

/** All files behind one, itself too; `without`: as if it did not import that one itself. */
function filesFrom(path: string, imports: ReadonlyMap<string, string[]>, without?: string): Set<string> {
  const found = new Set([path]);
  const open = (imports.get(path) ?? []).filter((one) => one !== without);
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (found.has(next) || !imports.has(next)) continue;
    found.add(next);
    open.push(...imports.get(next)!);
  }
  return found;
}
