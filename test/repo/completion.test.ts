/** TAB in bash, and the names of options that take no value, from the tables by which scripts read their lines. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { $ } from "bun";
import { lineRead } from "../../shared/options.ts";
import { SWITCHES } from "../../shared/screen-width.ts";
import { completionText, switchesIn, type Tables } from "../../tools/docs/completion.ts";
import { typeHere } from "../pretend/typed-here.ts";
import { SCRIPTS } from "./help.ts";

const FILE = join(import.meta.dir, "../../scripts/completion.bash");

async function tablesOf(scripts: readonly string[]): Promise<Tables> {
  const tables = new Map();
  for (const script of scripts.map((path) => basename(path, ".ts"))) {
    await typeHere(`${script} --help`);
    tables.set(script, lineRead());
  }
  return tables;
}

const tables = await tablesOf(SCRIPTS);

test("scripts/completion.bash is made of the scripts' tables", async () => {
  const text = completionText(tables);
  if (process.env.UPDATE_TRANSCRIPTS) writeFileSync(FILE, text);
  expect(await Bun.file(FILE).text()).toBe(text);
});

test("the options that take no value are known to whoever breaks lines", () => {
  expect([...SWITCHES]).toEqual(switchesIn(tables));
});

/** The words that bash offers behind `line`. */
async function offered(line: string): Promise<string[]> {
  const words = line.split(" ");
  const end = `_kube_pki_repair; [ \${#COMPREPLY[@]} = 0 ] || printf '%s\\n' "\${COMPREPLY[@]}"`;
  const script = `set -u; . "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); ${end}`;
  return (await $`bash -c ${script} ${FILE} ${words}`.text()).split("\n").filter(Boolean);
}

test.each([
  ["./bunw scripts/01", ["scripts/01-etcd.ts"]],
  ["./bunw ./scripts/03", ["scripts/03-join.ts", "scripts/03-workers.ts"]],
  ["./bunw scripts/03-workers.ts ", expect.arrayContaining(["open", "close", "approve"])],
  ["./bunw scripts/03-workers.ts open --one", ["--one-token"]],
  ["./bunw scripts/03-workers.ts close --one", []],
  ["./bunw scripts/01-etcd.ts --new-c", ["--new-cas"]],
  ["./bunw scripts/05-verify.ts --all --output ", ["short", "json"]],
  ["./bunw scripts/plan.ts --lost c", []],
  ["./bunw scripts/none.ts --", []],
])("bash: %s", async (line, words) => {
  expect(await offered(line)).toEqual(words as string[]);
});
