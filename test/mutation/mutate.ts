#!/usr/bin/env bun
/**
 * `npm run mutate`: do the tests of `npm run ok` still bite? It makes small changes of decisions in shared/,
 * one at a time, in a copy of the checkout, and runs the tests that run the changed line. What no test
 * notices survives, and is printed.
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
import { $, Glob } from "bun";
import { run } from "../../shared/run.ts";
import { random } from "../pretend/damage.ts";
import { Checked } from "./checked.ts";
import { type Covered, coveredBy, testsOf } from "./covered.ts";
import { codeOf, LOOPED, WAITED } from "./limits.ts";
import { type Mutant, mutantsOf, mutated } from "./mutants.ts";
import { inTurn, usualOf, within } from "./turns.ts";

const USAGE = `Usage: npm run mutate [-- options]

  --count N    so many changes (default 100)
  --seed S     other ones, or the same again (default 1)
  --skip N     without the first N of them: an earlier run has tried those
  --in TEXT    only in files with TEXT in their path: --in shared/facts/
  --most S     seconds of CPU of tests for a change, as they take without it (default: all tests of its line)
  --lines FILE keeps which tests run which lines: only tests whose files have changed are measured again

Exit codes: 0 done · 1 stopped`;

const OPTIONS = {
  count: { type: "string", default: "100" },
  seed: { type: "string", default: "1" },
  skip: { type: "string", default: "0" },
  in: { type: "string", default: "" },
  most: { type: "string", default: "Infinity" },
  lines: { type: "string" },
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
const LONGEST = { at: 20, times: 4 };

/** Behind whoever else wants the CPU. */
const NICE = 10;

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(USAGE);
  setPriority(Math.max(getPriority(), NICE));
  const home = await copyOfCheckout();
  process.on("exit", () => rmSync(home, { recursive: true }));
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(130));
  using checked = new Checked(home);
  const all = await chosen(checked, values.in, random(Number(values.seed)));
  console.log(`${all.length} possible changes; which tests run which lines?`);
  const tests = [...new Glob("test/**/*.test.ts").scanSync(home)].filter((path) => !OTHERS.test(path)).sort();
  const covered = await coveredBy(home, tests, 2, values.lines && resolve(values.lines));
  const [[quickest] = []] = inTurn(tests, "", covered);
  if ((await endOf(home, [[quickest!]], covered)) !== "survived")
    throw new Error(`${quickest} is red though nothing is changed: is this checkout in /tmp?`);
  report(
    await tryAll(all.slice(Number(values.skip)), Number(values.count), {
      ...{ home, checked, covered, most: Number(values.most) },
    }),
    Number(values.seed),
  );
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

/** In random order. */
async function chosen(checked: Checked, only: string, pick: ReturnType<typeof random>): Promise<Mutant[]> {
  const paths = [...new Glob("shared/**/*.ts").scanSync(checked.home)]
    .filter((path) => path.includes(only) && !NOT_OURS.test(path))
    .sort();
  const all = (await checked.trees(paths)).flatMap(({ path, tree }) => mutantsOf(tree, path));
  return all
    .map((mutant) => ({ mutant, at: pick(2 ** 31) }))
    .sort((a, b) => a.at - b.at)
    .map(({ mutant }) => mutant);
}

interface Bench {
  home: string;
  checked: Checked;
  covered: Covered;
  /** Seconds. */
  most: number;
}

interface Result {
  mutant: Mutant;
  /**
   * `loops`: a test of `npm run ok` would not end. `timed out`: nothing proves that a test noticed it. `given
   * up`: the first tests have not noticed it, and there are more.
   */
  end: "killed" | "loops" | "timed out" | "survived" | "given up" | "never run";
  diff: string;
}

/** So many of them that are TypeScript. */
async function tryAll(mutants: readonly Mutant[], count: number, bench: Bench): Promise<Result[]> {
  const results: Result[] = [];
  for (const mutant of mutants) {
    if (results.length === count) break;
    const result = await tried(mutant, bench);
    if (!result) continue;
    results.push(result);
    console.log(`${results.length}. ${result.end}: ${mutant.path}:${mutant.line}: ${mutant.what}`);
    if (result.end !== "killed") console.log(result.diff);
  }
  return results;
}

/** Undefined: it is no TypeScript. */
async function tried(mutant: Mutant, bench: Bench): Promise<Result | undefined> {
  const { home, checked, covered } = bench;
  const file = join(home, mutant.path);
  const before = readFileSync(file, "utf8");
  const after = mutated(before, mutant);
  writeFileSync(file, after);
  try {
    if (!(await checked.isValid(mutant.path))) return undefined;
    const tests = testsOf(covered, mutant.path, mutant.line);
    const end =
      tests.length === 0 ? "never run" : await endWithin(inTurn(tests, mutant.path, covered), bench);
    return { mutant, end, diff: diffOf(before, after, mutant) };
  } finally {
    writeFileSync(file, before);
    await checked.isValid(mutant.path);
  }
}

async function endWithin(turns: readonly string[][], { home, covered, most }: Bench): Promise<Result["end"]> {
  const [now, isAll] = within(turns, covered, most);
  const end = await endOf(home, now, covered);
  return end === "survived" && !isAll ? "given up" : end;
}

/** Turn after turn, until a test is red. */
async function endOf(
  home: string,
  turns: readonly string[][],
  covered: Covered,
): Promise<"killed" | "loops" | "timed out" | "survived"> {
  for (const files of turns) {
    const longest = LONGEST.at + LONGEST.times * usualOf(files, covered);
    const code = await codeOf(home, files, Math.ceil(longest));
    if (code === LOOPED) return "loops";
    if (code === WAITED) return "timed out";
    if (code !== 0) return "killed";
  }
  return "survived";
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

function report(results: readonly Result[], seed: number) {
  const count = (end: Result["end"]) => results.filter((result) => result.end === end).length;
  const share = ((100 * count("killed")) / results.length).toFixed(1);
  console.log(
    `\n${count("killed")} of ${results.length} killed (${share} %), ${count("loops")} loop, ${count("timed out")} timed out, ${count("survived")} survived, ${count("given up")} given up, ${count("never run")} in lines that no test runs (--seed ${seed})`,
  );
}

if (import.meta.main) await run(main);
