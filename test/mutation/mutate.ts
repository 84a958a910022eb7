#!/usr/bin/env bun
/**
 * `npm run mutate`: do the tests of `npm run ok` still bite? It makes small changes of decisions in shared/,
 * in a copy of the checkout, and runs the tests that run the changed line: the nearest with each change alone,
 * the others with all those together that these have not noticed. What no test notices survives, and is printed.
 */
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { getPriority, setPriority } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { $, Glob, hash } from "bun";
import { inParallel } from "../../shared/in-parallel.ts";
import { run } from "../../shared/run.ts";
import { Checked } from "./checked.ts";
import { type Covered, coveredBy, testsOf } from "./covered.ts";
import { Ends, type Result } from "./ends.ts";
import { ALONE, type Ran, ranAlone } from "./limits.ts";
import { type Mutant, mutantsOf, mutated } from "./mutants.ts";
import { apart, noticed, type Open } from "./together.ts";
import { atATime, inTurn, usualOf } from "./turns.ts";

const USAGE = `Usage: npm run mutate [-- options]

  --count N    so many changes (default 100)
  --seed S     other ones, or the same again (default 1)
  --width N    so many at a time (default 1)
  --in TEXT    only in files with TEXT in their path: --in shared/facts/
  --lines FILE keeps which tests run which lines: only tests whose files have changed are measured again
  --ends FILE  keeps how each change ended: started again, the run goes on behind these. To try a survivor
               again, with a new row, delete its line in it

Exit codes: 0 done · 1 stopped`;

const OPTIONS = {
  count: { type: "string", default: "100" },
  seed: { type: "string", default: "1" },
  width: { type: "string", default: "1" },
  in: { type: "string", default: "" },
  lines: { type: "string" },
  ends: { type: "string" },
  help: { type: "boolean" },
} as const;

const HOME = resolve(import.meta.dir, "../..");

/** Those of `npm run ok`, without those of the house, which read the code's text. */
const OTHERS = /^test\/(scripts|kit|soak|repo|mutation)\//;

/** No decision of ours: made by a program, runs in a browser, or describes types. */
const NOT_OURS = /fields\.ts$|plan-page-script|\.d\.ts$/;

/**
 * Seconds of CPU of one mutant's tests, and how many times as much as without the change: more is a loop that
 * the change made, however busy the machine is.
 */
const LONGEST = { at: 10, times: 2 };

/** Behind whoever else wants the CPU. */
const NICE = 10;

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(USAGE);
  setPriority(Math.max(getPriority(), NICE));
  const homes = await Promise.all(Array.from({ length: Number(values.width) }, copyOfCheckout));
  process.on("exit", () => {
    for (const home of homes) rmSync(home, { recursive: true });
  });
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(130));
  using all = new DisposableStack();
  const checked = homes.map((home) => all.use(new Checked(home)));
  const mutants = await chosen(checked[0]!, values.in, values.seed);
  console.log(`${mutants.length} possible changes; which tests run which lines?`);
  const covered = await coveredBy(homes[0]!, testsIn(homes[0]!), {
    ...{ width: Number(values.width), before: ALONE },
    ...(values.lines && { kept: resolve(values.lines) }),
  });
  const ends = new Ends(homes[0]!, values.ends && resolve(values.ends));
  const benches = homes.map((home, at): Bench => ({ home, checked: checked[at]!, covered, ends }));
  const results = await tryAll(mutants, Number(values.count), benches);
  console.log(`\n${summary(results)} (--seed ${values.seed})`);
}

function testsIn(home: string): string[] {
  return [...new Glob("test/**/*.test.ts").scanSync(home)].filter((path) => !OTHERS.test(path)).sort();
}

/** What git has, and what is new; the packages are the checkout's own. */
async function copyOfCheckout(): Promise<string> {
  const home = mkdtempSync("/var/tmp/mutation-");
  // some tests look at files as another user
  chmodSync(home, 0o755);
  const files = (await $`git ls-files --cached --others --exclude-standard`.cwd(HOME).text())
    .trim()
    .split("\n");
  for (const name of files.filter((file) => existsSync(join(HOME, file))))
    cpSync(join(HOME, name), join(home, name));
  symlinkSync(join(HOME, "node_modules"), join(home, "node_modules"));
  return home;
}

/** In an order that a change of one file leaves to the others. */
async function chosen(checked: Checked, only: string, seed: string): Promise<Mutant[]> {
  const paths = [...new Glob("shared/**/*.ts").scanSync(checked.home)]
    .filter((path) => path.includes(only) && !NOT_OURS.test(path))
    .sort();
  const all = (await checked.trees(paths)).flatMap(({ path, tree }) => mutantsOf(tree, path));
  return all
    .map((mutant) => ({
      mutant,
      at: hash(`${seed} ${mutant.path} ${mutant.start} ${mutant.text}`) as bigint,
    }))
    .sort((a, b) => (a.at < b.at ? -1 : 1))
    .map(({ mutant }) => mutant);
}

interface Bench {
  home: string;
  checked: Checked;
  covered: Covered;
  ends: Ends;
}

/** So many of them that are TypeScript. */
async function tryAll(mutants: readonly Mutant[], count: number, benches: readonly Bench[]) {
  const [results, open]: [Result[], Open[]] = [[], []];
  const typed = () => results.filter(({ end }) => end !== "no types").length + open.length;
  for (let tried = 0; typed() < count && tried < mutants.length; ) {
    const next = mutants.slice(tried, tried + count - typed());
    tried += next.length;
    await onFree(benches, next, async (mutant, bench) => {
      const found = await nearEnd(mutant, bench);
      if ("tests" in found) open.push(found);
      else results.push(found);
    });
  }
  console.log(`   ${summary(results)}; ${open.length} to be tried with far tests`);
  await onFree(benches, apart(open, Math.ceil(open.length / benches.length)), async (group, bench) => {
    results.push(...(await farEnds(group, bench)));
  });
  return results;
}

/** Each item on the next bench that is free. */
async function onFree<T>(
  benches: readonly Bench[],
  items: readonly T[],
  action: (item: T, bench: Bench) => Promise<void>,
) {
  const free = [...benches];
  await inParallel(items, benches.length, async (item) => {
    const bench = free.pop()!;
    await action(item, bench);
    free.push(bench);
  });
}

/** With the tests of one turn; open where they notice nothing, and there are more. */
async function nearEnd(mutant: Mutant, bench: Bench): Promise<Result | Open> {
  const { home, checked, covered, ends } = bench;
  const known = ends.of(mutant);
  if (known && known.end !== "open") return { ...known, mutant, end: known.end };
  const valid =
    known !== undefined || (await withChanges(home, [mutant], () => checked.isValid(mutant.path)));
  if (!valid) return shown({ mutant, end: "no types", by: [] }, bench);
  const tests = testsOf(covered, mutant.path, mutant.line);
  if (tests.length === 0) return shown({ mutant, end: "never run", by: [] }, bench);
  const [near, far] = inTurn(tests, mutant.path, covered);
  // which tests were near then, nobody has kept
  if (known) return { mutant, tests };
  const { end, red } = await withChanges(home, [mutant], () => ranOf(near, bench));
  if (end !== "survived" || far.length === 0) return shown({ mutant, end, by: red }, bench);
  ends.keep({ mutant, end: "open", by: [] });
  console.log(`no near test notices: ${mutant.path}:${mutant.line}: ${mutant.what}`);
  return { mutant, tests: far };
}

async function farEnds(group: readonly Open[], bench: Bench): Promise<Result[]> {
  const cost = (test: string) => usualOf([test], bench.covered);
  const tests = [...new Set(group.flatMap((one) => one.tests))].sort((a, b) => cost(a) - cost(b));
  const turns = atATime(tests, bench.covered);
  const results: Result[] = [];
  const run = (mutants: readonly Mutant[], tests: readonly string[]) =>
    withChanges(bench.home, mutants, () => ranOf(tests, bench));
  for await (const one of noticed(group, turns, run)) results.push(shown(one, bench));
  const others = group.filter(({ mutant }) => !results.some((result) => result.mutant === mutant));
  return [...results, ...others.map(({ mutant }) => shown({ mutant, end: "survived", by: [] }, bench))];
}

/** The last in a file is made first: it moves no other's place. */
async function withChanges<T>(home: string, mutants: readonly Mutant[], action: () => Promise<T>) {
  const before = new Map(mutants.map(({ path }) => [path, readFileSync(join(home, path), "utf8")]));
  for (const [path, text] of before) {
    const here = mutants.filter((mutant) => mutant.path === path).sort((a, b) => b.start - a.start);
    writeFileSync(join(home, path), here.reduce(mutated, text));
  }
  try {
    return await action();
  } finally {
    for (const [path, text] of before) writeFileSync(join(home, path), text);
  }
}

/** To the first red one. */
function ranOf(files: readonly string[], { home, covered }: Bench): Promise<Ran> {
  const longest = LONGEST.at + LONGEST.times * usualOf(files, covered);
  return ranAlone(home, files, Math.ceil(longest));
}

/** As they come: a run of hours may be stopped. */
function shown(result: Result, { home, ends }: Bench): Result {
  const { mutant, end, by } = result;
  ends.keep(result);
  console.log(
    `${end}: ${mutant.path}:${mutant.line}: ${mutant.what}${by.length > 0 ? ` (${by.join(", ")})` : ""}`,
  );
  const before = readFileSync(join(home, mutant.path), "utf8");
  if (end !== "killed" && end !== "no types") console.log(diffOf(before, mutated(before, mutant), mutant));
  return result;
}

/** The lines that differ. */
function diffOf(before: string, after: string, { start, end, text }: Mutant): string {
  const lines = (whole: string, to: number) =>
    whole.slice(whole.lastIndexOf("\n", start - 1) + 1, endOfLine(whole, to)).split("\n");
  const shown = (sign: string, all: string[]) => all.map((line) => `    ${sign} ${line}`).join("\n");
  return `${shown("-", lines(before, end))}\n${shown("+", lines(after, start + text.length))}`;
}

function endOfLine(text: string, from: number): number {
  const at = text.indexOf("\n", from);
  return at < 0 ? text.length : at;
}

function summary(results: readonly Result[]): string {
  const count = (end: Result["end"]) => results.filter((result) => result.end === end).length;
  const typed = results.length - count("no types");
  const share = ((100 * count("killed")) / typed).toFixed(1);
  return `${count("killed")} of ${typed} killed (${share} %), ${count("loops")} loop, ${count("timed out")} timed out, ${count("survived")} survived, ${count("never run")} in lines that no test runs; and ${count("no types")} that the compiler notices`;
}

if (import.meta.main) await run(main);
