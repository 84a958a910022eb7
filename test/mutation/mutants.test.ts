/** What `npm run mutate` changes, what counts as TypeScript, and which tests it runs for a line. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { sandbox } from "../pretend/sandbox.ts";
import { Checked } from "./checked.ts";
import { coverageOf, coveredBy, readLcov, testsOf } from "./covered.ts";
import { Ends } from "./ends.ts";
import { ALONE, ranAlone, redOf } from "./limits.ts";
import { type Mutant, mutantsOf, mutated } from "./mutants.ts";
import { apart, noticed } from "./together.ts";
import { atATime, inTurn } from "./turns.ts";

setDefaultTimeout(300_000);

const CONFIG = JSON.stringify({
  compilerOptions: { target: "esnext", strict: true, noEmit: true },
  include: ["shared"],
});

/** [code, what it becomes] */
const CHANGES: [code: string, becomes: string[]][] = [
  ["a === b", ["a !== b"]],
  ["1 <= 2", ["1 > 2"]],
  ["a && b", ["a || b", "(a)", "(b)"]],
  ["a || b || c", ["a || b && c", "(a || b)", "(c)", "a && b || c", "(a) || c", "(b) || c"]],
  ["a ? 1 : 2", ["!(a) ? 1 : 2"]],
  ["a !== b ? 1 : 2", ["a === b ? 1 : 2"]],
  ["!a ? 1 : 2", ["a ? 1 : 2"]],
  ["a && b ? 1 : 2", ["!(a && b) ? 1 : 2", "a || b ? 1 : 2", "(a) ? 1 : 2", "(b) ? 1 : 2"]],
  ["!a", ["a"]],
  ["[1, 2, 3]", ["[2, 3]", "[1, 3]", "[1, 2]"]],
  ["[...(a ? [1] : []), 2]", ["[2]", "[...(a ? [1] : [])]", "[...(!(a) ? [1] : []), 2]"]],
  ["list.some(f)", ["list.every(f)"]],
  ["list.filter(f)", ["list"]],
  [`\`\${a ? 1 : 2} \${!b}\``, []],
  ['"a && b" /* !a */', []],
  ["list.toString()", []],
];

/** A checkout of one file. */
async function withFile(text: string, action: (checked: Checked, file: string) => Promise<void>) {
  using box = sandbox();
  mkdirSync(`${box.dir}/shared`);
  writeFileSync(`${box.dir}/tsconfig.json`, CONFIG);
  writeFileSync(`${box.dir}/shared/one.ts`, text);
  using checked = new Checked(box.dir);
  await action(checked, `${box.dir}/shared/one.ts`);
}

test("each decision is changed alone: comparisons, connectives, conditions, rows; no words", async () => {
  const head = "declare const a: any, b: any, c: any, f: any, list: any[];\n";
  const text = head + CHANGES.map(([code]) => `(${code});\n`).join("");
  await withFile(text, async (checked) => {
    const { tree } = (await checked.trees(["shared/one.ts"]))[0]!;
    const found = Map.groupBy(mutantsOf(tree, "shared/one.ts"), ({ line }) => line);
    const becomes = CHANGES.map(([code], index) => [
      code,
      (found.get(index + 2) ?? []).map((mutant) =>
        mutated(text, mutant).split("\n")[index + 1]!.slice(1, -2),
      ),
    ]);
    expect(becomes).toEqual(CHANGES);
  });
});

test("an if is turned and dropped, one with an else only turned, and one of a comparison not twice", async () => {
  await withFile(
    "export function f(a: number) {\n  if (a > 1) return 2;\n  if (a) a++;\n  else a--;\n  return a;\n}\n",
    async (checked, file) => {
      const { tree } = (await checked.trees(["shared/one.ts"]))[0]!;
      const text = readFileSync(file, "utf8");
      expect(
        mutantsOf(tree, "shared/one.ts").map((mutant) =>
          mutated(text, mutant).split("\n").slice(1, 3).join(""),
        ),
      ).toEqual([
        "  ;  if (a) a++;",
        "  if (a <= 1) return 2;  if (a) a++;",
        "  if (a > 1) return 2;  if (!(a)) a++;",
      ]);
    },
  );
});

test("a change that is no TypeScript is seen, and that it is taken back, too", async () => {
  await withFile(
    "export const length = (text?: string) => (text ? text.length : 0);\n",
    async (checked, file) => {
      const before = readFileSync(file, "utf8");
      expect(await checked.isValid("shared/one.ts")).toBe(true);
      writeFileSync(file, before.replace("text ?", "!text ?"));
      expect(await checked.isValid("shared/one.ts")).toBe(false);
      writeFileSync(file, before);
      expect(await checked.isValid("shared/one.ts")).toBe(true);
    },
  );
});

test("the tests of a line are those that run it, or the line above it that counts", () => {
  const seen = (lcov: string) => ({ seconds: 1, was: {}, lines: readLcov(lcov) });
  const covered = coverageOf({
    "one.test.ts": seen(
      "TN:\nSF:shared/a.ts\nDA:1,3\nDA:2,0\nend_of_record\nSF:shared/b.ts\nDA:1,1\nend_of_record\n",
    ),
    "two.test.ts": seen("SF:shared/a.ts\nDA:1,1\nDA:2,1\nend_of_record\n"),
  });
  expect([1, 2, 3].map((line) => testsOf(covered, "shared/a.ts", line))).toEqual([
    ["one.test.ts", "two.test.ts"],
    ["two.test.ts"],
    ["two.test.ts"],
  ]);
  expect(testsOf(covered, "shared/c.ts", 1)).toEqual([]);
});

test("only a test of which a file has changed is measured again", async () => {
  using box = sandbox();
  mkdirSync(`${box.dir}/shared`);
  const one = "export const one = (a: number) =>\n  a > 1\n    ? 1\n    : 2;\n";
  for (const name of ["a", "b"]) {
    writeFileSync(`${box.dir}/shared/${name}.ts`, one);
    writeFileSync(
      `${box.dir}/${name}.test.ts`,
      `import { appendFileSync } from "node:fs";\nimport { test } from "bun:test";\nimport { one } from "./shared/${name}.ts";\ntest("one", () => appendFileSync("${box.dir}/ran", one(2) + "${name} "));\n`,
    );
  }
  const measure = () =>
    coveredBy(box.dir, ["a.test.ts", "b.test.ts"], { width: 1, kept: `${box.dir}/lines.json` });
  const ran = () => readFileSync(`${box.dir}/ran`, "utf8");
  expect(testsOf(await measure(), "shared/a.ts", 2)).toEqual(["a.test.ts"]);
  await measure();
  expect(ran()).toBe("1a 1b ");
  writeFileSync(`${box.dir}/shared/a.ts`, one.replace("? 1", "? 3"));
  expect(testsOf(await measure(), "shared/b.ts", 2)).toEqual(["b.test.ts"]);
  expect(ran()).toBe("1a 1b 3a ");
  writeFileSync(`${box.dir}/b.test.ts`, `${readFileSync(`${box.dir}/b.test.ts`, "utf8")}// another one`);
  await measure();
  expect(ran()).toBe("1a 1b 3a 1b ");
});

test("a run goes on behind what an earlier one has kept, but not in a file that has changed since", () => {
  using box = sandbox();
  mkdirSync(`${box.dir}/shared`);
  for (const name of ["a", "b", "c"]) writeFileSync(`${box.dir}/shared/${name}.ts`, name);
  const ends = () => new Ends(box.dir, `${box.dir}/ends`);
  const known = () => ["a", "b", "c"].map((name) => ends().of(one(`shared/${name}.ts`))?.end);
  ends().keep({ mutant: one("shared/a.ts"), end: "open", by: [] });
  ends().keep({ mutant: one("shared/b.ts"), end: "killed", by: ["b.test.ts"] });
  expect(known()).toEqual(["open", "killed", undefined]);
  ends().keep({ mutant: one("shared/a.ts"), end: "survived", by: [] });
  writeFileSync(`${box.dir}/shared/b.ts`, "b2");
  expect(known()).toEqual(["survived", undefined, undefined]);
});

test("near and quick tests come first, and few of them alone; the others some at a time", () => {
  const seconds = new Map([
    ["test/shared/a/x.test.ts", 2.5],
    ["test/shared/a/y.test.ts", 0.5],
    ["test/shared/b/z.test.ts", 1],
    ["test/typed/last.test.ts", 9],
    ["test/typed/slow.test.ts", 30],
    ["test/typed/quick.test.ts", 8],
  ]);
  const covered = { lines: new Map(), seconds };
  const [near, far] = inTurn([...seconds.keys()], "shared/a/x.ts", covered);
  expect(near).toEqual(["test/shared/a/y.test.ts", "test/shared/a/x.test.ts", "test/shared/b/z.test.ts"]);
  expect(atATime(far, covered)).toEqual([
    ["test/typed/quick.test.ts", "test/typed/last.test.ts"],
    ["test/typed/slow.test.ts"],
  ]);
  expect(inTurn([], "shared/a/x.ts", covered)).toEqual([[], []]);
});

test("what Bun says names the red files, also one that cannot be loaded; its list at the end names none", () => {
  const said = [
    ...["a.test.ts:", "(pass) one", "", "b/b.test.ts:", "error: no", "(fail) two [3ms]", "", "c.test.ts:"],
    ...["", "# Unhandled error between tests", "----", "", "d.test.ts:", "(pass) three", ""],
    ...["2 tests failed:", "(fail) two [3ms]", " 2 pass"],
  ].join("\n");
  expect(redOf(said)).toEqual(["b/b.test.ts", "c.test.ts"]);
});

const one = (path: string, start = 0, end = start): Mutant => ({
  ...{ path, line: 1, what: "", text: "" },
  ...{ start, end },
});

/** What notices which change, and how many runs of test files it took. */
const NOTICED: [what: string, red: Record<string, string[]>, found: string[], runs: number][] = [
  ["nothing", {}, [], 2 + 2],
  ["the first", { x: ["a"] }, ["a"], 2 + 4 + 1 + 2],
  ["the last", { x: ["d"] }, ["d"], 2 + 2 + 1 + 2],
  ["all of them", { x: ["a", "b"], y: ["c", "d"] }, ["a", "b", "c", "d"], 2 + 4 + 1 + 2 + 2],
  ["by two tests one", { u: ["a"], x: ["a"] }, ["a"], 2 + 1 + 1 + 2],
  ["two only where both are there", { x: ["a+b"] }, [], 2 + 4 + 2],
];

test.each(NOTICED)("changes tried together: %s is noticed, by few runs", async (_, notices, found, runs) => {
  const tests = { a: ["u", "x", "z"], b: ["x", "z"], c: ["y", "z"], d: ["x", "y", "z"] };
  const open = Object.entries(tests).map(([path, tests]) => ({ mutant: one(path), tests }));
  let ran = 0;
  const turns = [
    ["u", "x"],
    ["y", "z"],
  ];
  const ends = noticed(open, turns, async (mutants, tests) => {
    ran += tests.length;
    const has = (key: string) =>
      key.split("+").every((path) => mutants.some((mutant) => mutant.path === path));
    const red = tests.find((test) => notices[test]?.some(has));
    return { end: red ? "killed" : "survived", red: red ? [red] : [] };
  });
  const paths = (await Array.fromAsync(ends)).map(({ mutant }) => mutant.path);
  expect([paths.sort(), ran]).toEqual([found, runs]);
});

test("no change is made in the text of another one, and never more than so many are made together", () => {
  const open = [one("a", 1, 5), one("b"), one("a", 3, 4), one("a", 5, 9), one("a", 6, 7), one("c")].map(
    (mutant) => ({ mutant, tests: [] }),
  );
  const names = (most: number) =>
    apart(open, most).map((group) => group.map(({ mutant }) => mutant.path + mutant.start));
  expect(names(3)).toEqual([
    ["a1", "b0", "a6"],
    ["a3", "a5", "c0"],
  ]);
  expect(names(9)).toEqual([
    ["a1", "b0", "a6", "c0"],
    ["a3", "a5"],
  ]);
});

/** As root; in a container it may not be allowed. */
const mayBeAlone = Bun.which("unshare") !== null && Bun.spawnSync([...ALONE, "true"]).exitCode === 0;

test.skipIf(!mayBeAlone)(
  "a test that does not end by itself is told by its CPU from one that is red",
  async () => {
    // below /tmp a mutant's tests see nothing
    const home = mkdtempSync("/var/tmp/mutation-");
    const ended = async (...bodies: string[]) => {
      const files = bodies.map((_, at) => `${at}.test.ts`);
      for (const [at, body] of bodies.entries())
        writeFileSync(
          `${home}/${at}.test.ts`,
          `import { test } from "bun:test";\ntest("one", () => {${body}});\n`,
        );
      return await ranAlone(home, files, 1);
    };
    try {
      expect([await ended(""), await ended("", "throw 1", ""), await ended("", "for (;;);")]).toEqual([
        { end: "survived", red: [] },
        { end: "killed", red: ["1.test.ts"] },
        { end: "loops", red: ["0.test.ts", "1.test.ts"] },
      ]);
    } finally {
      rmSync(home, { recursive: true });
    }
  },
);
