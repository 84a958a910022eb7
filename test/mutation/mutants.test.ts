/** What `npm run mutate` changes, what counts as TypeScript, and which tests it runs for a line. */
import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { sandbox } from "../pretend/sandbox.ts";
import { Checked } from "./checked.ts";
import { addLines, type Covered, testsOf } from "./covered.ts";
import { mutantsOf, mutated } from "./mutants.ts";

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

test("an if is turned and dropped, and one with an else only turned", async () => {
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
        "  if (!(a > 1)) return 2;  if (a) a++;",
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
  const covered: Covered = new Map();
  addLines(
    covered,
    "TN:\nSF:shared/a.ts\nDA:1,3\nDA:2,0\nend_of_record\nSF:test/b.ts\nDA:1,1\nend_of_record\n",
    "one.test.ts",
  );
  addLines(covered, "SF:shared/a.ts\nDA:1,1\nDA:2,1\nend_of_record\n", "two.test.ts");
  expect([1, 2, 3].map((line) => testsOf(covered, "shared/a.ts", line))).toEqual([
    ["one.test.ts", "two.test.ts"],
    ["two.test.ts"],
    ["two.test.ts"],
  ]);
  expect(testsOf(covered, "test/b.ts", 1)).toEqual([]);
});
