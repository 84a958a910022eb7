/** The rules of the house that a machine can check. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { $, Glob } from "bun";
import { callsOf, matches, type Source } from "./sources.ts";

const home = join(import.meta.dir, "../..");
const paths = ["scripts", "shared", "test"].flatMap((folder) => [...new Glob(`${folder}/**/*.ts`).scanSync(home)]).sort();
const sources: Source[] = await Promise.all(paths.map(async (path) => ({ path, text: await Bun.file(`${home}/${path}`).text() })));
const shipped = sources.filter(({ path }) => !path.startsWith("test/"));

test("callsOf() reads calls over several lines, with brackets and commas in strings", () => {
  const text = `a(new Fail(\`x \${f(1, "(")}, y\`, {\n  hint: "b, c", // )\n}));\n// new Fail("in a comment")\n`;
  expect(callsOf({ path: "p.ts", text }, "new Fail(")).toEqual([
    { at: "p.ts:1", args: [`\`x \${f(1, "(")}, y\``, `{\n  hint: "b, c",     \n}`] },
  ]);
});

test("every Fail has a hint, and no full stop at the end of its message", () => {
  const fails = sources.flatMap((source) => callsOf(source, "new Fail("));
  expect(fails.filter(({ args }) => !/\bhint\b/.test(args[1] ?? "")).map(({ at }) => at)).toEqual([]);
  expect(fails.filter(({ args }) => /\.["'`]$/.test(args[0]!)).map(({ at }) => at)).toEqual([]);
});

test("no error is swallowed", () => {
  const empty = sources.flatMap((source) => [
    ...matches(source, /\bcatch\s*(\([^)]*\))?\s*\{\s*\}/g),
    ...matches(source, /\.catch\(\s*(\(\w*\)|\w+)\s*=>\s*(\{\s*\}|undefined|null)\s*\)/g),
    ...matches(source, /\.catch\(\s*console\.\w+\s*\)/g),
  ]);
  expect(empty).toEqual([]);
});

/** Where time itself is waited for. Each entry needs a reason, so that a reader can judge it again. */
const MAY_SLEEP: Record<string, string> = {
  "shared/run.ts": "waitFor's interval between two probes; every other wait goes through it",
  "shared/etcd-data/data.ts": "etcd is just writing the file that was read; it is read again a moment later, a few times at most",
  "test/fixtures/etcd/make.ts": "makes the fixtures by hand, outside of the tests: waits until the etcd it started answers",
  "test/lab/report/watch-node.ts": "the watcher's interval; it is copied into the node and imports nothing",
  "test/lab/machine/node.ts": "waits for a process that is not our child to end; the kernel tells nobody else",
  "test/lab/machine/state.ts": "waits for another lab to end; it holds the lock until then",
  "test/lab/machine/empty-cgroups.ts": "waits for cgroups to run empty; the kernel tells nobody",
  "test/lab/scenarios/cut-points.ts": "the random moment of a power cut",
};

test("nobody waits for time to pass where a condition can be awaited", () => {
  const sleepers = sources.filter(({ path }) => !(path in MAY_SLEEP));
  expect(sleepers.flatMap((source) => matches(source, /\bsleep(Sync)?\(|\bsetTimeout\(/g))).toEqual([]);
});

test("answers go to stdout and narration to stderr, nothing to console's other voices", () => {
  expect(shipped.flatMap((source) => matches(source, /console\.(?!log\b|error\b)\w+\(/g))).toEqual([]);
});

/** These make it plain first, or write nothing of others'. */
const SPEAK = ["shared/run.ts", "shared/progress.ts", "shared/k8s/generate-fields.ts"];

test("nobody writes to the terminal but by run.ts, where a stranger's bytes become letters", () => {
  const speakers = shipped.filter(({ path }) => !SPEAK.includes(path));
  expect(speakers.flatMap((source) => matches(source, /console\.\w+\((?!USAGE\))|process\.std(out|err)\.write\(/g))).toEqual([]);
});

test("only tests ask a server that they do not verify", () => {
  expect(shipped.flatMap((source) => matches(source, /insecure: true/g))).toEqual([]);
});

test("no shared file imports a script, and nothing shipped imports a test", () => {
  const wrong = shipped.filter(
    ({ path, text }) => /from "[./]*\/test\//.test(text) || (path.startsWith("shared/") && /from "[./]*scripts\//.test(text)),
  );
  expect(wrong.map(({ path }) => path)).toEqual([]);
});

test("there is no key and no token in the repository", async () => {
  const files = (await $`git ls-files --cached --others --exclude-standard`.cwd(home).text()).trim().split("\n");
  const secret = /-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}|\beyJ[\w-]{20,}\.eyJ[\w-]{20,}\.[\w-]{20,}/;
  const texts = await Promise.all(
    files.map(
      async (file) => [file, (await Bun.file(`${home}/${file}`).exists()) ? await Bun.file(`${home}/${file}`).text() : ""] as const,
    ),
  );
  expect(texts.filter(([, text]) => secret.test(text)).map(([file]) => file)).toEqual([]);
});

/** Budgets are for the reader's sake and are told, not enforced: now and then one topic needs its length. */
test("sizes are told where they pass the budget", () => {
  const budget = (path: string) => (path.startsWith("scripts/") ? 250 : path.startsWith("shared/") ? 200 : 250);
  const long = sources
    .map(({ path, text }) => ({ path, lines: text.split("\n").length }))
    .filter(({ path, lines }) => lines > budget(path));
  for (const { path, lines } of long) console.log(`  ${path}: ${lines} lines, the budget is ${budget(path)}`);
  expect(sources.length).toBeGreaterThan(0);
});
