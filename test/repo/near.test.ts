/** `npm run near`: what has changed, and which tests are near to it. */
import { expect, test } from "bun:test";
import { appendFileSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { $ } from "bun";
import { changedIn, changedLines, isRule, nearest } from "../near.ts";
import { sandbox } from "../pretend/sandbox.ts";

const FILES = new Map(
  Object.entries({
    "shared/etcd/a.ts": "export function one() {}\nexport function two() {}\n",
    "shared/etcd/b.ts": 'import { one } from "./a.ts";\none();\n',
    "shared/pki/c.ts": 'import { one } from "../etcd/a.ts";\none();\n',
    "scripts/01-etcd.ts": '#!/usr/bin/env bun\nimport "../shared/etcd/b.ts";\n',
    "test/pretend/node.ts": 'import "../../shared/pki/c.ts";\nexport const FIXTURE = "fixtures/x.yaml";\n',
    "test/shared/etcd/a.test.ts": 'import { one } from "../../../shared/etcd/a.ts";\none();\n',
    "test/shared/etcd/other.test.ts": 'import { two } from "../../../shared/etcd/a.ts";\ntwo();\n',
    "test/shared/etcd/b.test.ts": 'import "../../../shared/etcd/b.ts";\n',
    "test/shared/pki/c.test.ts": 'import "../../../shared/pki/c.ts";\n',
    "test/typed/parts.test.ts": 'import "../pretend/node.ts";\ntyped("01-etcd --new-cas");\n',
    "test/scripts/01-etcd.test.ts": "typed(`01-etcd`);\n",
    "test/soak/cut.test.ts": 'import "../../shared/etcd/a.ts";\n',
    "test/shared/far.test.ts": 'const words = ["01-etcdX"];\n',
    "test/repo/rule.test.ts": 'import "../../shared/etcd/a.ts";\n',
  }),
);

const tests = (...changed: Parameters<typeof nearest>) => nearest(...changed).map((near) => near.test);

test("a file's own tests come first, then its room's, then who is one import further; soaks and strangers never", () => {
  expect(tests([{ path: "shared/etcd/a.ts", names: [] }], FILES)).toEqual([
    "test/shared/etcd/a.test.ts",
    "test/shared/etcd/other.test.ts",
    "test/shared/etcd/b.test.ts",
    "test/shared/pki/c.test.ts",
    "test/typed/parts.test.ts",
    "test/scripts/01-etcd.test.ts",
  ]);
});

test("a rule of the house has no distance: it runs with every change, and nothing else of its room does", () => {
  expect([...FILES.keys()].filter(isRule)).toEqual(["test/repo/rule.test.ts"]);
  expect(isRule("test/repo/sources.ts")).toBe(false);
  expect(tests([{ path: "test/repo/rule.test.ts", names: [] }], FILES)).toEqual([]);
});

test("who names the function that has changed is nearer, and so is the quicker of two", () => {
  const a = (names: string[], ms = {}) =>
    tests([{ path: "shared/etcd/a.ts", names }], FILES, new Map(Object.entries(ms))).slice(0, 2);
  expect(a(["two"])).toEqual(["test/shared/etcd/a.test.ts", "test/shared/etcd/other.test.ts"]);
  expect(a(["two"], { "test/shared/etcd/a.test.ts": 900 })[0]).toBe("test/shared/etcd/other.test.ts");
  expect(a(["one"], { "test/shared/etcd/a.test.ts": 60_000 })[0]).toBe("test/shared/etcd/a.test.ts");
});

test("a changed test is its own nearest; a script is near to who runs it, a fixture to who stands on it", () => {
  const first = (path: string) => tests([{ path, names: [] }], FILES);
  expect(first("test/shared/etcd/b.test.ts")).toEqual(["test/shared/etcd/b.test.ts"]);
  expect(first("scripts/01-etcd.ts")).toEqual(["test/scripts/01-etcd.test.ts", "test/typed/parts.test.ts"]);
  expect(first("test/fixtures/x.yaml")).toEqual(["test/typed/parts.test.ts"]);
  expect(first("LICENSE")).toEqual([]);
});

test("a diff without context says which lines are new, and behind which one some are gone", () => {
  const diff =
    "diff --git a/a.ts b/a.ts\n--- a/a.ts\n+++ b/a.ts\n@@ -1 +1,2 @@ x\n+y\n+z\n@@ -9,2 +8,0 @@\n-q\n-r\n--- a/gone\n+++ /dev/null\n@@ -1,2 +0,0 @@\n-x\n-y\n--- a/b.ts\n+++ b/b.ts\n@@ -0,0 +1 @@\n+w\n";
  expect(Object.fromEntries(changedLines(diff))).toEqual({
    "a.ts": [1, 2, 8],
    "b.ts": [1],
  });
});

test("what has changed since the last commit, new files too, with the functions; if nothing has, the last commit itself", async () => {
  using box = sandbox();
  const git = ["git", "-c", "user.name=x", "-c", "user.email=x@example"];
  const commit = async () => await $`git add -A && ${git} commit -qm x`.cwd(box.dir);
  mkdirSync(`${box.dir}/shared`);
  const a = `${box.dir}/shared/a.ts`;
  writeFileSync(a, "export function one() {\n  return 1;\n}\n\nasync function two() {\n  return 2;\n}\n");
  writeFileSync(`${box.dir}/gone.md`, "x\n");
  await $`git init -q`.cwd(box.dir);
  await commit();
  writeFileSync(a, (await Bun.file(a).text()).replace("return 2", "return 3"));
  writeFileSync(`${box.dir}/new one.ts`, "const three = 3;\nexport type Four = 4;\n");
  rmSync(`${box.dir}/gone.md`);
  const changed = [
    { path: "shared/a.ts", names: ["two"] },
    { path: "new one.ts", names: ["three", "Four"] },
  ];
  expect(await changedIn(box.dir)).toEqual(changed);
  await commit();
  expect((await changedIn(box.dir)).toSorted((x, y) => (x.path < y.path ? 1 : -1))).toEqual(changed);
  appendFileSync(a, "two();\n");
  expect(await changedIn(box.dir)).toEqual([changed[0]!]);
  expect((await changedIn(box.dir, "HEAD~1")).map(({ path }) => path)).toEqual(["new one.ts", "shared/a.ts"]);
});
