/** What is behind a script: all files of this project that it loads, and those that only give it a type. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { $, Glob } from "bun";
import { importsOf, type Source } from "./sources.ts";

/** Path → file, of all that a node gets as code, and of the tools that stay with the checkout. */
export async function filesOf(home: string): Promise<Map<string, Source>> {
  const paths = [...new Glob("{scripts,shared,tools}/**/*.ts").scanSync(home)];
  return new Map(
    await Promise.all(
      paths.map(async (path) => [path, { path, text: await Bun.file(join(home, path)).text() }] as const),
    ),
  );
}

/** The same in the last commit that changed `budgets`, the test file with a table of budgets; none before the first. */
export async function filesAt(home: string, budgets: string): Promise<Map<string, Source>> {
  const folder = mkdtempSync(join(tmpdir(), "budgets-"));
  try {
    const commit = (await $`git log -1 --format=%H -- ${budgets}`.cwd(home).text()).trim();
    if (commit) await $`git archive ${commit} scripts shared tools | tar -x -C ${folder}`.cwd(home);
    return await filesOf(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The files behind one, itself too, in the order of their paths. */
export function behind(path: string, files: ReadonlyMap<string, Source>): Source[] {
  const found = new Map<string, Source>();
  const open = [path];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const source = files.get(next);
    if (!source || found.has(next)) continue;
    found.set(next, source);
    open.push(...importsOf(source));
  }
  return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

export interface Reach {
  script: string;
  /** At most so many files. */
  budget: number;
  /** What is behind it now, and where the budgets were last agreed on. */
  now: readonly string[];
  before: readonly string[];
}

/** What to do where a script has more behind it than it may; undefined where it has not. */
export function tooMuch({ script, budget, now, before }: Reach): string | undefined {
  if (now.length <= budget) return undefined;
  const fresh = now.filter((path) => !before.includes(path));
  return [
    `scripts/${script}.ts: ${now.length} files are behind it, the budget is ${budget}. New behind it since the last change of the budgets:`,
    ...(fresh.length > 0 ? fresh.map((path) => `  ${path}`) : ["  none"]),
    "Who edits this script at night reads these files. Find the import that brings them, a type's too, and do without it: let the caller give what",
    "is needed, or move what both need into a file of a lower room. A feature that has to have them raises the budget in test/repo/reach.test.ts,",
    "and its commit says why.",
  ].join("\n");
}
