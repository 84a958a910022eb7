#!/usr/bin/env bun
/**
 * `npm run near`: the tests nearest to the lines that have changed, for about ten seconds, and beside them the
 * rules of the house (test/repo), always and all of them: they read every file. Near is who imports the file,
 * or names its script; nearer who names the very function.
 */
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { $, Glob } from "bun";
import { Fail } from "../shared/fail.ts";
import { run } from "../shared/run.ts";
import { bunTest, HOME, inOwnNetwork, TIMES } from "./checks.ts";
import { type Count, countTests } from "./counts.ts";
import { IN_MEMORY } from "./temporary.ts";

const USAGE = `Usage: npm run near [-- options]

  --base REF    what has changed since REF (default: since the last commit; if nothing has, in it)
  --seconds N   begin no test after that (default 10); test/repo runs to its end, whatever it takes
  --list        run nothing: the tests, nearest first

Exit codes: 0 all passed · 1 some failed`;

const OPTIONS = {
  base: { type: "string" },
  seconds: { type: "string", default: "10" },
  list: { type: "boolean" },
  help: { type: "boolean" },
} as const;

/** Test files that run together: about so many milliseconds, so that the next ones can still be left out. */
const TOGETHER = { files: 12, ms: 2500 };

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(USAGE);
  const seconds = Number(values.seconds);
  if (!(seconds > 0))
    throw new Fail(`"${values.seconds}" is no number of seconds`, { hint: "npm run near -- --seconds 20" });
  const files = sourcesOf(HOME);
  const changed = await changedIn(HOME, values.base);
  const ms = timesOf();
  const near = nearest(changed, files, ms);
  console.log(`changed: ${changed.map(({ path }) => path).join(", ") || "nothing"}`);
  if (values.list)
    return console.log(
      near.map(({ test, distance }) => `${distance.toFixed(1).padStart(5)}  ${test}`).join("\n"),
    );
  await runNearest(
    near.map(({ test }) => test),
    ms,
    Date.now() + 1000 * seconds,
    [...files.keys()].filter(isRule).sort(),
  );
}

/** A rule of the house: it reads all files, so that no change is far from it. */
export function isRule(path: string): boolean {
  return path.startsWith("test/repo/") && path.endsWith(".test.ts");
}

/** On each core some of them, until a test is red or the time is over; and on one of them first the rules, all. */
async function runNearest(
  tests: readonly string[],
  ms: ReadonlyMap<string, number>,
  until: number,
  rules: readonly string[],
) {
  let [ran, passed, failed] = [0, 0, 0];
  const count = async (some: readonly string[]) => {
    const result = await runTests(some);
    passed += result.passed;
    failed += result.failed;
  };
  const lane = async () => {
    while (ran < tests.length && failed === 0 && Date.now() < until) {
      const some = together(tests.slice(ran), ms);
      ran += some.length;
      await count(some);
    }
  };
  const others = Array.from({ length: Math.max(1, availableParallelism() - 1) }, lane);
  await Promise.all([count(rules).then(lane), ...others]);
  const left = tests.length - ran;
  console.log(
    `${ran} of ${tests.length} test files that what has changed can reach${left > 0 ? "; the others: npm run ok" : ""}`,
  );
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}

async function runTests(tests: readonly string[]): Promise<Count> {
  const child = Bun.spawn([...inOwnNetwork(), process.execPath, ...bunTest(tests, 1)], {
    ...{ cwd: HOME, stdout: "pipe", stderr: "pipe", env: { ...process.env, TMPDIR: IN_MEMORY } },
  });
  const said = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  const count = countTests(said.join("\n"), await child.exited);
  console.log(`${count.passed} passed: ${tests.join(" ")}`);
  for (const red of count.red ?? []) console.log(`not ok: ${red}`);
  if (count.failed > 0 && !count.red?.length) console.log(said.join("\n"));
  return count;
}

/** The first of them, as many as fit. */
function together(tests: readonly string[], ms: ReadonlyMap<string, number>): string[] {
  let sum = 0;
  const fit = tests.findIndex((test, index) => {
    sum += ms.get(test) ?? 0;
    return index > 0 && (index >= TOGETHER.files || sum > TOGETHER.ms);
  });
  return tests.slice(0, fit < 0 ? tests.length : fit);
}

/** Path → milliseconds that a test file took last. */
function timesOf(): Map<string, number> {
  if (!existsSync(TIMES)) return new Map();
  const { files } = JSON.parse(readFileSync(TIMES, "utf8")) as { files: Record<string, number> };
  return new Map(Object.entries(files));
}

/** Path → text, of all TypeScript here. */
function sourcesOf(home: string): Map<string, string> {
  const paths = [...new Glob("{scripts,shared,tools,test}/**/*.ts").scanSync(home)];
  return new Map(paths.map((path) => [path, readFileSync(join(home, path), "utf8")]));
}

export interface Changed {
  path: string;
  /** Declarations of the file's top level in whose lines something has changed. */
  names: string[];
}

/** What differs from the last commit, or from `base`; where nothing does, what the last commit has changed. */
export async function changedIn(home: string, base?: string): Promise<Changed[]> {
  const since = async (ref: string) =>
    changedLines(await $`git diff -U0 --no-color --no-ext-diff ${ref}`.cwd(home).text());
  const lines = await since(base ?? "HEAD");
  const fresh = (await $`git ls-files --others --exclude-standard`.cwd(home).text()).trim();
  for (const path of fresh ? fresh.split("\n") : []) lines.set(path, "all");
  if (lines.size === 0 && base === undefined) return withNames(home, await since("HEAD~1"));
  return withNames(home, lines);
}

type Lines = Map<string, number[] | "all">;

/** Path → the numbers of lines that a diff without context has put in, or behind which it has taken some out. */
export function changedLines(diff: string): Lines {
  const found = new Map<string, number[]>();
  let path = "";
  for (const line of diff.split("\n")) {
    // of a file that is gone it is /dev/null
    if (line.startsWith("+++ ")) path = /^\+\+\+ b\/(.+?)\t?$/.exec(line)?.[1] ?? "";
    const [, from, count = "1"] = /^@@ -\S+ \+(\d+)(?:,(\d+))? @@/.exec(line) ?? [];
    if (from === undefined || path === "") continue;
    const some = Array.from({ length: Math.max(1, Number(count)) }, (_, index) => Number(from) + index);
    found.set(path, [...(found.get(path) ?? []), ...some]);
  }
  return found;
}

const DECLARED =
  /^(?:export )?(?:default )?(?:async )?(?:abstract )?(?:class|const|enum|function\*?|interface|let|type) (\w+)/;

function withNames(home: string, lines: Lines): Changed[] {
  return [...lines]
    .filter(([path]) => existsSync(join(home, path)))
    .map(([path, numbers]) => {
      const text = path.endsWith(".ts") ? readFileSync(join(home, path), "utf8").split("\n") : [];
      const above = (number: number) => text.slice(0, number).findLast((line) => DECLARED.test(line)) ?? "";
      const heads = numbers === "all" ? text : numbers.map(above);
      const names = heads.flatMap((line) => DECLARED.exec(line)?.[1] ?? []);
      return { path, names: [...new Set(names)] };
    });
}

/** Test files that whole scripts, kits or a machine need: far away, as they cost most. */
const FAR = /^test\/(scripts|kit)\//;
/** They take too long. */
const NEVER = /^test\/soak\//;

/**
 * Test files that can see a change, near and quick ones first: how many imports are between. A script that
 * a test names as a word, and a page or a fixture that it names, count like imports.
 */
export function nearest(
  changed: readonly Changed[],
  files: ReadonlyMap<string, string>,
  ms: ReadonlyMap<string, number> = new Map(),
): { test: string; distance: number }[] {
  const users = usersOf(files);
  const found = new Map<string, number>();
  for (const one of changed)
    for (const [path, far] of distances(one, files, users)) {
      if (!path.endsWith(".test.ts") || NEVER.test(path) || isRule(path)) continue;
      const distance = far + (FAR.test(path) ? 1 : 0) - closeness(path, one, files.get(path)!);
      found.set(path, Math.min(distance, found.get(path) ?? Infinity));
    }
  return [...found]
    .map(([test, distance]) => ({ test, distance }))
    .sort((a, b) => a.distance + dearness(a.test, ms) - b.distance - dearness(b.test, ms));
}

/** A slow test file comes later, as if almost one import more were between: the room's own stay in front. */
function dearness(test: string, ms: ReadonlyMap<string, number>): number {
  return Math.min((ms.get(test) ?? 0) / 4000, 0.8);
}

/** Path → who uses it, and how far that is. */
type Users = Map<string, [path: string, far: number][]>;

function usersOf(files: ReadonlyMap<string, string>): Users {
  const scripts = [...files.keys()].filter((path) => /^scripts\/[\w-]+\.ts$/.test(path));
  const words = new RegExp(
    `["\`](${scripts.map((path) => path.slice(8, -3)).join("|") || "-"})(?=[ "\`])`,
    "g",
  );
  const users: Users = new Map();
  const put = (of: string, by: string, far: number) => users.set(of, [...(users.get(of) ?? []), [by, far]]);
  const transpiler = new Bun.Transpiler({ loader: "ts" });
  for (const [path, text] of files) {
    for (const { path: to } of transpiler.scanImports(text.replace(/^#!.*/, "")))
      if (to.startsWith(".")) put(join(dirname(path), to), path, 1);
    if (!path.startsWith("test/")) continue;
    for (const name of new Set([...text.matchAll(words)].map((match) => match[1])))
      put(`scripts/${name}.ts`, path, 2);
  }
  return users;
}

/** Path → how far it is from what has changed, by the shortest way. */
function distances({ path }: Changed, files: ReadonlyMap<string, string>, users: Users): Map<string, number> {
  const found = new Map([[path, 0]]);
  const name = path.slice(path.lastIndexOf("/") + 1);
  const first = path.endsWith(".ts") ? [] : [...files].filter(([, text]) => text.includes(name));
  for (const [user] of first) if (user.startsWith("test/")) found.set(user, 1);
  const open = [...found.keys()];
  for (let next = open.shift(); next !== undefined; next = open.shift())
    for (const [user, far] of users.get(next) ?? []) {
      const distance = found.get(next)! + far;
      if (distance >= (found.get(user) ?? Infinity)) continue;
      found.set(user, distance);
      open.push(user);
    }
  return found;
}

/** What brings a test nearer: it is the file's own, or its room's; it names what has changed. */
function closeness(test: string, { path, names }: Changed, text: string): number {
  const isOwn = ["-", "."].some((end) => test.startsWith(`test/${path.slice(0, -3)}${end}`));
  const isOfRoom = test.startsWith(`test/${dirname(path)}/`);
  const isNamed = names.some((name) => new RegExp(`\\b${name}\\b`).test(text));
  return (isOwn ? 1.5 : isOfRoom ? 1 : 0) + (isNamed ? 0.5 : 0);
}

if (import.meta.main) await run(main);
