/**
 * Where RUNBOOK-MORE.md and CONTRIBUTING.md send a person who edits: each file is there, and declares that
 * name.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { blank } from "./sources.ts";

const home = join(import.meta.dir, "../..");

/** The names that a section gives for each file: `file` → `name`, `name`. */
function hopsOf(markdown: string, heading: string): { wish: string; file: string; names: string[] }[] {
  const section = markdown.split(`\n## ${heading}\n`)[1]?.split("\n## ")[0] ?? "";
  const rows = section.split("\n").filter((line) => /^\| (?!---|wish )/.test(line));
  return rows.flatMap((row) => {
    const hops = [...row.matchAll(/`([\w./-]+\.\w+)` → (`\w+`(?:, `\w+`)*)/g)];
    const wish = row.split("|")[1]!.trim();
    if (hops.length === 0) throw new Error(`no file and no function for: ${wish}`);
    return hops.map(([, file, names]) => ({
      wish,
      file: file!,
      names: [...names!.matchAll(/\w+/g)].map(([name]) => name),
    }));
  });
}

/**
 * Whether code declares a function, method, value or type of that name; a comment or a string is no
 * declaration.
 */
function declares(text: string, name: string): boolean {
  const words = "(?:function\\*?|const|let|class|interface|type)";
  return new RegExp(`\\b${words} ${name}\\b|^ +(?:(?:async|static|readonly) )*${name}\\(.*\\{$`, "m").test(
    blank(text, { strings: true }),
  );
}

const missing = async (hops: ReturnType<typeof hopsOf>) => {
  const found = hops.map(async ({ wish, file, names }) => {
    const source = Bun.file(join(home, file));
    const text = (await source.exists()) ? await source.text() : undefined;
    return names
      .filter((name) => text === undefined || !declares(text, name))
      .map((name) => `${wish}: ${file} → ${name}`);
  });
  return (await Promise.all(found)).flat();
};

test("a file that is not there, and a name that is only called or only in a comment, are missing", async () => {
  const row =
    "| a wish | `test/repo/edit-table.test.ts` → `hopsOf`, `matchAll`, `frobnicate` and `test/none.ts` → `hopsOf` |";
  const hops = hopsOf(`# T\n\n## Here\n\n| wish | where |\n|---|---|\n${row}\n\n## There\n`, "Here");
  expect(await missing(hops)).toEqual([
    "a wish: test/repo/edit-table.test.ts → matchAll",
    "a wish: test/repo/edit-table.test.ts → frobnicate",
    "a wish: test/none.ts → hopsOf",
  ]);
  expect(() => hopsOf("\n## Here\n| another wish | somewhere |\n", "Here")).toThrow("another wish");
  expect(
    ["function f() {}", "  async f(x: number) {", "// function f() {}", '"const f = 1"'].map((text) =>
      declares(text, "f"),
    ),
  ).toEqual([true, true, false, false]);
});

test.each([
  ["RUNBOOK-MORE.md", "If you must edit", 10],
  ["CONTRIBUTING.md", "Where does a change go?", 4],
] as const)("%s, %s: every file is there and declares every name", async (page, heading, atLeast) => {
  const hops = hopsOf(await Bun.file(join(home, page)).text(), heading);
  expect(new Set(hops.map(({ wish }) => wish)).size).toBeGreaterThanOrEqual(atLeast);
  expect(await missing(hops)).toEqual([]);
});
