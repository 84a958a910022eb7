import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { resetModules, resettable } from "./module-state.ts";

/** A module of this text, as it is loaded for runs. */
async function load<T>(text: string): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "module-"));
  const file = join(folder, "x.ts");
  writeFileSync(file, resettable(text, file));
  try {
    return (await import(file)) as T;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test("what a module keeps at its top level has its first value again before each run", async () => {
  interface Kept {
    use: () => void;
    kept: () => unknown[];
  }
  const { use, kept } = await load<Kept>(`
let count = 0;
export let named;
const all = new Map();
const some = new Set();
export const mode = { dryRun: false, script: "" };
const stop = new AbortController();
const TABLE = new Map([["a", 1]]);
export function use() {
  count++;
  named = "m1";
  all.set("a", 1);
  some.add("a");
  mode.dryRun = true;
  stop.abort();
}
export const kept = () => [count, named, all.size, some.size, mode, stop.signal.aborted, TABLE.size];
`);
  const first = [0, undefined, 0, 0, { dryRun: false, script: "" }, false, 1];
  expect(kept()).toEqual(first);
  use();
  expect(kept()).toEqual([1, "m1", 1, 1, { dryRun: true, script: "" }, true, 1]);
  resetModules();
  expect(kept()).toEqual(first);
});

test("a type with arrows is no value", () => {
  expect(resettable("let action: ((signal: Signal) => void) | undefined;", "x.ts")).toContain(
    "{ action = undefined }",
  );
  expect(resettable('let root: string = resolve("/");', "x.ts")).toContain('{ root = resolve("/") }');
});

test("a variable that nobody would reset is refused", () => {
  expect(() => resettable("let ahead:\n  | number\n  | undefined;\n", "shared/x.ts")).toThrow(
    "shared/x.ts: a variable at the top level has to be in one line",
  );
});
