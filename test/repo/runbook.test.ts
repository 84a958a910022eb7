/** RUNBOOK.md says what the scripts do: a renamed step or a misspelled flag makes this red. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { $, Glob } from "bun";
import { SEVERITIES } from "../../shared/checks/kinds.ts";
import { courseFrom, type RepairState, TASKS, type Task } from "../../shared/facts/course.ts";
import { readRunbook } from "../../shared/plan/runbook.ts";
import { IRREVERSIBLE } from "../../shared/run.ts";
import { helpOf } from "./help.ts";
import { blank, kitSources } from "./sources.ts";

const home = join(import.meta.dir, "../..");
const text = await Bun.file(`${home}/RUNBOOK.md`).text();
const { parts, blocks } = readRunbook(text);
const more = await Bun.file(`${home}/RUNBOOK-MORE.md`).text();
const onBothPages = [...blocks, ...readRunbook(more).blocks];
const scripts = [...new Glob("scripts/[0-9]*.ts").scanSync(home)].sort();
/** The code of the scripts and of shared/, without comments: what they can say. */
const code = (await kitSources()).map(({ text }) => blank(text, { strings: false }));
const said = code.join("\n");
const commands = onBothPages.flatMap((block) => block.commands);
const ours = [...new Set(commands.filter((command) => /^\.\/bunw scripts\//.test(command)))];

test("what is typed first on a node stands within the first 40 lines of the page", () => {
  const first = blocks.find(({ on }) => on)!;
  expect([first.task, first.line <= 40]).toEqual(["hold", true]);
});

test("the runbook's numbered headings are the scripts' steps, in order", async () => {
  const steps = code.map((source) => [
    ...new Set([...source.matchAll(/\bstep\(\s*"(\d+\.\d+ .+?)"/g)].map((match) => match[1]!)),
  ]);
  // of a file in its order; 03-join runs between two words of 03-workers
  expect(steps).toEqual(steps.map((own) => own.toSorted()));
  expect([...new Set(steps.flat())].sort()).toEqual(parts.flatMap((part) => part.steps));
});

/** Each heading below a part, with the text up to the next one. */
const sections = parts.flatMap(({ text }) =>
  text.split(/^(?=### )/m).filter((one) => one.startsWith("### ")),
);

test("a heading below a part is for hands: there is a command below it, a choice, or what all commands have in common", () => {
  const noCommand = sections.filter((one) => !/^```sh/m.test(one)).map((one) => one.split("\n")[0]);
  expect(noCommand).toEqual(["### Only expired", "### Words, costs and rules"]);
});

test("a warning stands before the command that it is about", () => {
  const late = sections
    .concat(parts.map(({ text }) => text.split(/^### /m)[0]!))
    .flatMap((one) => one.split(/^```sh[\s\S]*?^```\n/m).slice(1))
    .flatMap((behind) => behind.match(/^(?:Do not|Never|Before you) [^\n]*/gm) ?? []);
  expect(late).toEqual([]);
});

test("the words of part 5's table are the severities of the code", () => {
  const { text: part5 } = parts.find(({ number }) => number === 5)!;
  const words = [...part5.matchAll(/^\| \*([a-z ]+)\* \|/gm)].map(([, word]) => word!);
  expect(words).toEqual(Object.values(SEVERITIES));
});

test("the runbook runs every numbered script", () => {
  expect(
    scripts.filter((script) => !commands.some((command) => command.startsWith(`./bunw ${script}`))),
  ).toEqual([]);
});

test.each(ours)("the runbook's `%s` uses only words and flags that --help lists", async (command) => {
  const [, script, ...args] = command.split(/\s+/) as [string, string, ...string[]];
  const help = await helpOf(script);
  const known = new Set(help.match(/--[a-z-]+/g));
  expect(args.filter((arg) => arg.startsWith("--") && !known.has(arg.split("=")[0]!))).toEqual([]);
  if (args[0] && !args[0].startsWith("--")) expect(help).toContain(args[0]);
});

test.each(onBothPages.map((block) => [block.line, block.commands.join("\n")] as const))(
  "bash -n reads the fence of line %d",
  async (_, code) => {
    const { stderr } = await $`bash -n < ${Buffer.from(code)}`.nothrow().quiet();
    expect(stderr.toString()).toBe("");
  },
);

test("no fence has a `$ ` prompt, which would break copy and paste", () => {
  expect(commands.filter((command) => /^[\w@~:/-]*[$#] /.test(command))).toEqual([]);
});

test("the runbook says what cannot be taken back, and the way back, in the scripts' words", () => {
  const rows = [...text.matchAll(/^\| [^|\n]+ \| ([^|\n]+) \| ([^|\n]+) \|$/gm)].map(([, what, back]) => ({
    what: what!,
    back: back!,
  }));
  const wanted = Object.values(IRREVERSIBLE).map((row) => ({
    what: row.what as string,
    back: "back" in row ? (row.back as string) : "none",
  }));
  expect(rows.filter(({ what }) => wanted.some((row) => row.what === what))).toEqual(
    expect.arrayContaining(wanted),
  );
});

/** Rows of a part's tables "it says": what a script prints, with … for what varies. */
const quoted = parts.flatMap(({ number, text }) =>
  [...text.matchAll(/^\| it says \|.*\n\|---.*\n((?:\|.*\n)+)/gm)].flatMap(([, rows]) =>
    rows!
      .trim()
      .split("\n")
      .map((row) => [number, row.split("|")[1]!.trim()] as const),
  ),
);

/** What a message has between its values. */
function fixedWords(message: string): string[] {
  const values = /Waited (?:…|\d+ s) for|…|;|"[^"]*"|`[^`]*`|\d+|[A-Z]{4,}|: |\bw\d\b/;
  return message
    .split(values)
    .map((words) => words.trim())
    .filter((words) => words.length >= 6);
}

test('the tables "it says" of parts 0 to 4 are found', () => {
  expect(quoted.length).toBeGreaterThan(10);
  expect([...new Set(quoted.map(([number]) => number))]).toEqual([0, 1, 2, 3, 4]);
});

test.each(quoted)("a script says what the runbook's part %d quotes: %s", (_, message) => {
  expect(fixedWords(message).some((words) => said.includes(words))).toBe(true);
});

/**
 * Lines of what the pages show as printed. A script's words, between its values, are in the code or in a
 * transcript.
 */
const shownLines = [text, more, await Bun.file(`${home}/README.md`).text()].flatMap((page) =>
  [...page.matchAll(/^```text\n([\s\S]*?)^```/gm)].flatMap(([, body]) =>
    body!.split("\n").filter((line) => /\w{3}/.test(line) && !line.startsWith("$")),
  ),
);
const transcripts = await Promise.all(
  [...new Glob("test/transcripts/*.txt").scanSync(home)].map((path) => Bun.file(`${home}/${path}`).text()),
);

/**
 * Two words side by side, in a printed line, that no script says so. Where a value or a sign stands between
 * them, they are no pair.
 */
function strangePairs(line: string): string[] {
  const words = line.trim().split(/ (?! )/);
  const pairs = words.slice(1).map((word, i) => [words[i]!, word.replace(/[;:.,]$/, "")]);
  const plain = pairs
    .filter((pair) => pair.every((word) => /^[a-zA-Z'-]{2,}$/.test(word) && !/^(cp|w|csr-)\d/.test(word)))
    .map((pair) => pair.join(" "));
  return plain.filter((pair) => !said.includes(pair) && !transcripts.some((one) => one.includes(pair)));
}

test("words that no script says are seen in what a page shows as printed", () => {
  expect(strangePairs("  cp1: renewed her Lease with the new certificate")).toEqual([
    "renewed her",
    "her Lease",
  ]);
});

test("the scripts say what the pages show as printed", () => {
  expect(shownLines.length).toBeGreaterThan(25);
  expect(shownLines.flatMap(strangePairs)).toEqual([]);
});

test("each task of a repair has its fences, in the order of the table, and each fence that is typed in a repair is a task", () => {
  const typed = blocks.filter(({ part, on, carry }) => part !== undefined && (on || carry));
  expect(typed.filter(({ task }) => !task).map(({ line }) => line)).toEqual([]);
  const tasks = new Set(typed.map(({ task }) => task!));
  expect([...tasks]).toEqual(Object.keys(TASKS) as Task[]);
});

/**
 * Tasks that the page has without `if=`, as who reads it decides: its parts say when they find nothing to do.
 */
const BY_READING: Task[] = ["hold", "look", "look-around", "tokens"];

test.each<[tags: string, known: RepairState]>([
  ["old-cas", {}],
  ["old-cas join", { expired: "some" }],
  ["old-cas join same-keys", { expired: "all", others: ["cp2"] }],
  ["old-cas several-control-planes", { others: ["cp2"] }],
  ["old-cas lost-nodes", { leavesOut: true }],
  ["salvage new-internal-cas", { found: true, lost: ["etcd-ca"] }],
  ["new-cas join", { lost: ["ca"] }],
  [
    "new-cas join old-tokens several-control-planes",
    { lost: ["ca", "sa"], oldKey: "in tokens", others: ["cp2"] },
  ],
])("who follows the page by if=%s types the tasks of the course of %j", (tags, state) => {
  const course = courseFrom(state);
  // part 6 comes after the proof, by hand: whoever follows the page for a scenario ends before it
  const typed = blocks.filter(({ part = 6, on, carry }) => part < 6 && (on || carry));
  const byPage = typed.filter(
    ({ if: words }) => words?.some((word) => tags.split(" ").includes(word)) ?? true,
  );
  const byTable = typed.filter(({ task }) => course.includes(task!));
  const shown = (some: typeof blocks) =>
    some.filter(({ task }) => !BY_READING.includes(task!)).map(({ line, task }) => `${line} ${task}`);
  expect(shown(byPage)).toEqual(shown(byTable));
});
