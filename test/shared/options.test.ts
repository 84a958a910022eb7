/** `--help`: what most scripts take is written once. */
import { expect, test } from "bun:test";
import { failOf } from "../../shared/fail.ts";
import { parseWords } from "../../shared/options.ts";

const OPTIONS = {
  "dry-run": { type: "boolean" },
  "etcd-data": { type: "string" },
  endpoint: { type: "string" },
} as const;

function printed(usage: string): string {
  try {
    parseWords({ usage, options: OPTIONS, args: ["--help"] });
  } catch (err) {
    return (err as Error).message;
  }
  throw new Error("--help ends no script");
}

test("options that most scripts have stand below a script's own, in its columns, and exit codes at the end", () => {
  expect(printed("Usage: x\n\nOptions:\n    --to NAME   Send it.\n\nMore.")).toBe(
    `Usage: x

Options:
    --to NAME   Send it.
    --endpoint HOST:PORT
                The API's address, if the files and objects that record it disagree.
    --etcd-data DIR
                etcd's data directory (default: found by itself).
    --dry-run   Print what would be done; nothing is written, stopped or started.
    --help      Print this text.

More.

Exit codes: 0 done, 1 stopped (see the hint), 3 refused: not for this node or cluster,
            4 locked by another run, 130 ended by a signal,
            64 a word of the command line is wrong
`,
  );
});

test("what a script describes itself stays as it is, exit codes too", () => {
  const own = printed(
    "Usage: x\n\nOptions:\n    --etcd-data DIR  Where it goes.\n    --dry-run        Compute it.\n\nExit codes: 0 done",
  );
  expect(own.match(/--etcd-data|--dry-run|Exit codes/g)).toEqual(["--etcd-data", "--dry-run", "Exit codes"]);
  expect(own).toContain("\n    --endpoint HOST:PORT\n                     The API's");
});

const refusedWith = (args: string[], more: object = {}) =>
  failOf(() => parseWords({ usage: "Usage: x", options: OPTIONS, args, ...more }));
const COMMANDS = { allowPositionals: true, commands: { open: [], unpack: ["FILE"] } };

test.each([
  [["--drry-run"], 'There is no option "--drry-run"', "type --dry-run, or see "],
  [["--etcd-dta=x"], 'There is no option "--etcd-dta"', "type --etcd-data, or see "],
])("%s: the option that was meant is in the hint", async (args, message, hint) => {
  const fail = await refusedWith(args);
  expect(fail).toMatchObject({ message, exitCode: 64, hint: expect.stringContaining(hint) });
});

test.each([
  [["opn"], / has no sub-command "opn"$/, "type open, or see "],
  [[], / needs a sub-command: open or unpack$/, " --help"],
  [["unpack"], / unpack FILE is the whole line but for its options, got ".* unpack"$/, " --help"],
  [["open", "door"], / open is the whole line but for its options, got ".* open door"$/, " --help"],
])("%s is no sub-command with its words", async (args, message, hint) => {
  const fail = (await refusedWith(args, COMMANDS))!;
  expect(fail.message).toMatch(message);
  expect({ ...fail }).toMatchObject({ exitCode: 64, hint: expect.stringContaining(hint) });
});

test("-h prints the help as --help does, also without the sub-command that a script needs", () => {
  const asked = (word: string) => {
    try {
      parseWords({ usage: "Usage: x\n\nOptions:\n", options: OPTIONS, args: [word], ...COMMANDS });
    } catch (err) {
      return (err as Error).message;
    }
  };
  expect(asked("-h")).toStartWith("Usage: x");
  expect(asked("-h")).toBe(asked("--help")!);
});
