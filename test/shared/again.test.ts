/**
 * The lines that a script prints: what was typed, with something more, as a shell takes it; and another
 * script's, with what was said.
 */
import { afterEach, expect, test } from "bun:test";
import { again, command } from "../../shared/again.ts";
import { parseWords } from "../../shared/options.ts";

const argv = process.argv;
afterEach(() => {
  process.argv = argv;
});

const OPTIONS = {
  without: { type: "string", list: true },
  file: { type: "string", path: true },
  wait: { type: "string" },
  force: { type: "boolean" },
  quiet: { type: "boolean" },
} as const;

const HOME = new URL("../..", import.meta.url).pathname;

function type(...words: string[]) {
  process.argv = ["bun", `${HOME}scripts/03-workers.ts`, ...words];
  parseWords({ options: OPTIONS, usage: "", allowPositionals: true });
}

const W = "./bunw scripts/03-workers.ts";

test.each<[string, string[], Parameters<typeof again>, string]>([
  ["a new option comes last", ["close", "--wait", "5"], [{ force: true }], `${W} close --wait 5 --force`],
  [
    "a list gets more, each name once",
    ["--without=a,b", "close", "--without", "c"],
    [{ without: ["c", "d"] }],
    `${W} --without a,b,c,d close`,
  ],
  ["a new list", ["close"], [{ without: ["a", "b"] }], `${W} close --without a,b`],
  [
    "a name goes out of its list",
    ["close", "--without", "a,b"],
    [{}, { less: ["a"] }],
    `${W} close --without b`,
  ],
  [
    "an empty list is no option",
    ["close", "--without", "a"],
    [{ without: [] }, { less: ["a"] }],
    `${W} close`,
  ],
  [
    "a value takes the place of another",
    ["--wait", "5", "--wait", "6", "close"],
    [{ wait: "7" }],
    `${W} --wait 7 close`,
  ],
  [
    "an option goes",
    ["close", "--quiet", "--force"],
    [{ quiet: false, wait: "5" }],
    `${W} close --force --wait 5`,
  ],
  [
    "a path stays as it was typed",
    ["close", "--file", "token"],
    [{ force: true }],
    `${W} close --file token --force`,
  ],
  [
    "words are for a shell",
    ["close", "--file", "it's $(here)"],
    [{ wait: "-1" }],
    `${W} close --file 'it'\\''s $(here)' --wait=-1`,
  ],
  [
    "names are other people's",
    ["close"],
    [{ without: ["a;b", "\u001b[2J\nc"] }],
    `${W} close --without $'a;b,\\u001b[2J\\nc'`,
  ],
  [
    "a word behind -- stays there",
    ["--force", "--", "-a", "close"],
    [{ wait: "-1" }],
    `${W} --force close --wait=-1 -- -a`,
  ],
  [
    "the script that runs",
    ["close", "--force"],
    [{ quiet: true }, { of: "03-workers close" }],
    `${W} close --force --quiet`,
  ],
  [
    "another command has nothing of it",
    ["open", "--force"],
    [{ without: ["a"] }, { of: "03-workers close" }],
    `${W} close --without a`,
  ],
  [
    "another script has nothing of it",
    ["open", "--force"],
    [{ "new-cas": true }, { of: "01-etcd" }],
    "./bunw scripts/01-etcd.ts --new-cas",
  ],
])("%s", (_, words, more, line) => {
  type(...words);
  expect(again(...more)).toBe(line);
});

test("a line with options that say something new: none for an empty list", () => {
  expect(command("02-control-plane", { lost: ["b", "c"], without: [], endpoint: undefined })).toBe(
    "./bunw scripts/02-control-plane.ts --lost b,c",
  );
});
