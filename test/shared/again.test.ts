/**
 * The lines that a script prints: what was typed, with something more, as a shell takes it; and another
 * script's, with what was said.
 */
import { afterEach, expect, test } from "bun:test";
import {
  again,
  carry,
  carryNothing,
  command,
  movedTo,
  type Said,
  withCarried,
  withSaid,
} from "../../shared/again.ts";
import { parseWords } from "../../shared/options.ts";

const argv = process.argv;
afterEach(() => {
  process.argv = argv;
  carryNothing();
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
  parseWords({ options: OPTIONS, allowPositionals: true });
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

const BOTH = { without: ["a"], lost: ["b", "c"] };

test.each<[string, Said, string]>([
  ["02-control-plane", BOTH, "02-control-plane.ts --without a --lost b,c"],
  [
    "03-workers open",
    { ...BOTH, endpoint: "x:1" },
    "03-workers.ts open --without a --lost b,c --endpoint x:1",
  ],
  ["03-workers close", { endpoint: "x:1", "lost-on": ["m2"] }, "03-workers.ts close"],
  ["03-join", { lost: ["b"], endpoint: "x:1", "etcd-data": "/srv" }, "03-join.ts --lost b"],
  [
    "01-etcd --new-cas",
    { ...BOTH, endpoint: "x:1", "lost-on": ["m2"] },
    "01-etcd.ts --new-cas --endpoint x:1 --lost-on m2",
  ],
  ["04-sa-tokens --skip a/b", { lost: ["b"] }, "04-sa-tokens.ts --skip a/b --lost b"],
  [
    "plan --deep",
    { worker: ["w1"], user: "ubuntu", endpoint: undefined },
    "plan.ts --deep --worker w1 --user ubuntu",
  ],
  ["05-verify", { ...BOTH, user: "ubuntu" }, "05-verify.ts"],
  ["02-control-plane --lost x", { lost: ["b"] }, "02-control-plane.ts --lost x"],
  ["00-assess", { "etcd-data": "-a b" }, "00-assess.ts --etcd-data='-a b'"],
])("%s takes what it knows of %j", (words, said, line) => {
  expect(command(words, said)).toBe(`./bunw scripts/${line}`);
  expect(withSaid(command(words), said)).toBe(`./bunw scripts/${line}`);
});

test("a line of another program has nothing of it", () => {
  expect(withSaid("kubectl get nodes", BOTH)).toBe("kubectl get nodes");
});

test.each<[string[], string]>([
  [["--report", "r.html", "--wait", "5", "--all"], "report.ts r.html"],
  [["--report=it's.html", "--wait=5", "--logs", "logs"], "report.ts 'it'\\''s.html' --logs logs"],
  [
    ["--bundle", "b.tar", "--with-names", "--etcd-data", "/srv"],
    "report.ts --bundle b.tar --with-names --etcd-data /srv",
  ],
  [["--report", "r.html", "--help"], "report.ts r.html --help"],
])("%j moves to %s: what only the old script takes stays behind", (words, line) => {
  process.argv = ["bun", `${HOME}scripts/05-verify.ts`, ...words];
  const options = {
    all: { type: "boolean" },
    wait: { type: "string" },
    "etcd-data": { type: "string" },
    help: { type: "boolean" },
  } as const;
  expect(movedTo("report", options, { gone: ["report"], takes: ["etcd-data"] })).toBe(
    `./bunw scripts/${line}`,
  );
});

test("what was said once, each line of a printed text has that takes it and has none", () => {
  const text =
    "on m2: ./bunw scripts/01-etcd.ts --new-cas, then ./bunw scripts/03-workers.ts open; ./bunw scripts/03-join.ts";
  expect(withCarried(text)).toBe(text);
  carry({ endpoint: "x:1", "etcd-data": "/srv/a b" });
  const both = "--endpoint x:1 --etcd-data '/srv/a b'";
  expect(withCarried(text)).toBe(
    `on m2: ./bunw scripts/01-etcd.ts ${both} --new-cas, then ./bunw scripts/03-workers.ts open ${both}; ./bunw scripts/03-join.ts`,
  );
  expect(withCarried("./bunw scripts/03-workers.ts close --without a,b --etcd-data /x")).toBe(
    "./bunw scripts/03-workers.ts close --without a,b --etcd-data /x",
  );
  const [here, more] = ["./bunw scripts/02-control-plane.ts", "--lost a,b --endpoint y"];
  expect(withCarried(`${here} ${more}, or ${here}`)).toBe(
    `${here} --etcd-data '/srv/a b' ${more}, or ${here} ${both}`,
  );
});
