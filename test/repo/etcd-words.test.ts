/** Who looks for etcd's last words in these pages finds the chapter; test/lab/checks/etcd-source.ts compares them with etcd. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { ETCD_WORDS, FIRST_WORDS } from "./etcd-words.ts";

const page = (name: string) => readFileSync(`${import.meta.dirname}/../../${name}`, "utf8");
const CHAPTER = "If etcd's data is damaged";

test("README.md leads from etcd's words to the chapter", () => {
  const row = page("README.md")
    .split("\n")
    .find((line) => line.startsWith("|") && line.includes(CHAPTER))!;
  expect(FIRST_WORDS.filter((words) => !row?.includes(`\`${words}`))).toEqual([]);
});

test("the chapter has all of etcd's words, each with what it means", () => {
  const chapter = page("RUNBOOK-MORE.md").split(`## ${CHAPTER}\n`)[1]!.split("\n## ")[0]!;
  const rows = chapter.split("\n").filter((line) => line.startsWith("|"));
  const missing = ETCD_WORDS.filter(({ words }) => !rows.some((row) => row.includes(`\`${words}`)));
  expect(missing).toEqual([]);
  expect(FIRST_WORDS.filter((first) => !ETCD_WORDS.some(({ words }) => words.includes(first)))).toEqual([]);
});
