/**
 * The first screen in seven states: it begins with the verdict, the first command can run now, one cause is one row,
 * and nothing breaks inside of a word, however narrow the terminal is.
 */
import { expect, setDefaultTimeout, spyOn, test } from "bun:test";
import { KINDS } from "../../shared/checks/kinds.ts";
import { pasteLines, wrapped } from "../../shared/screen-width.ts";
import { pretendNode } from "../pretend/node.ts";
import { MEMBERS, three } from "../pretend/plan.ts";
import { nodeInState, STATES, type StateName } from "../pretend/screen-states.ts";
import { here } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const NAMES = Object.keys(STATES) as StateName[];
const LOOKS = ["00-assess", "05-verify"];

interface Screen {
  exitCode: number;
  lines: string[];
  stderr: string;
}

/** Columns: of a terminal without colour. */
async function screenOf(name: StateName, line: string, columns?: number): Promise<Screen> {
  using node = here(await nodeInState(name));
  const { isTTY, columns: before } = process.stdout;
  if (columns) Object.assign(process.stdout, { isTTY: true, columns });
  try {
    const { exitCode, stdout, stderr } = await node.run(line, { NO_COLOR: "1", LC_ALL: "C.UTF-8" });
    return { exitCode, lines: stdout.split("\n"), stderr };
  } finally {
    Object.assign(process.stdout, { isTTY, columns: before });
  }
}

const SCREENS = new Map<string, Screen>();
for (const name of NAMES)
  for (const line of LOOKS) SCREENS.set(`${name}: ${line}`, await screenOf(name, line));

/** What each verdict has to say, and the command that can run now: `repair:` of 05-verify, the first of `next`. */
const SAYS: Record<StateName, [verdict: RegExp, first: RegExp | undefined]> = {
  expired: [
    /11 (certificates|files) have expired/,
    /^\.\/bunw scripts\/01-etcd\.ts(, then .*02-control-plane\.ts)?$/,
  ],
  "all lost": [
    /files are missing; the API does not answer|keys lost on this node: ca, /,
    /^systemctl stop kubelet$|00-assess\.ts/,
  ],
  "one CA lost": [
    /ca\.crt is missing|keys lost on this node: ca\./,
    /^systemctl stop kubelet$|00-assess\.ts/,
  ],
  "etcd's data gone": [/its etcd data is lost|data on this control plane node/, /^lsblk -f|00-assess\.ts/],
  "the API is away": [
    /(the|its) API (server )?does not answer/,
    /05-verify\.ts|^crictl ps -a --name kube-apiserver/,
  ],
  "a worker has expired": [
    /has expired|has to join again/,
    /^parts 1 and 2 on the control plane nodes|00-assess\.ts/,
  ],
  healthy: [/nothing is damaged|all good/, /05-verify\.ts|hand-over\.ts pack/],
};

test.each([...SCREENS])("%s: the first line is the verdict on this state", (at, { lines }) => {
  const name = at.split(": ")[0] as StateName;
  expect(lines[0]).toStartWith("verdict: ");
  expect(lines[0]).toMatch(SAYS[name][0]);
});

test.each([...SCREENS])("%s: the first command and the first repair can run now", (at, { lines }) => {
  const way = SAYS[at.split(": ")[0] as StateName][1]!;
  const next = lines.indexOf("next");
  if (next >= 0) expect(lines[next + 1]!.trim()).toMatch(way);
  const repair = lines.find((line) => /^ +repair: /.test(line));
  if (repair) expect(repair.replace(/^ +repair: /, "")).toMatch(way);
  expect(next >= 0 || repair !== undefined).toBe(true);
});

test.each(NAMES)(
  "%s: no consequence has a row of its own, and those that were not asked have no advice",
  async (name) => {
    using node = here(await nodeInState(name));
    const { stdout } = await node.run("05-verify --json");
    const { checks, summary } = JSON.parse(stdout) as {
      checks: {
        id: string;
        what: string;
        result: string;
        cause?: string;
        severity?: string;
        works?: string;
        mend?: string;
      }[];
      summary: { failed: number; unknown: number };
    };
    const { lines } = SCREENS.get(`${name}: 05-verify`)!;
    const rows = lines.filter((line) => /^ {2}(failed|warning|unknown) /.test(line));
    for (const { what, cause, result, severity, works, mend } of checks.filter((one) => one.cause)) {
      expect(rows.filter((row) => row.includes(`: ${what}: `))).toEqual([]);
      const roots = checks.filter(({ id }) => id === cause);
      expect(roots.some((root) => root.result === "failed" && !root.cause)).toBe(true);
      if (result === "unknown") expect([severity, works, mend]).toEqual([undefined, undefined, undefined]);
    }
    expect(checks.filter(({ result }) => result === "unknown")).toHaveLength(summary.unknown);
    const failed = checks.filter(({ result, cause }) => result === "failed" && !cause);
    expect(rows.filter((row) => row.startsWith("  failed")).length).toBeLessThanOrEqual(
      Math.max(failed.length, 0),
    );
  },
);

test("an expired cluster has one failed row, and the ten checks that could not be made are counted", () => {
  const { lines, exitCode } = SCREENS.get("expired: 05-verify")!;
  expect(exitCode).toBe(2);
  expect(lines.filter((line) => line.startsWith("  failed"))).toHaveLength(1);
  expect(lines.join("\n")).toContain("10 checks could not be made because of it: the API does not answer");
});

test.each([...SCREENS])(
  "%s: what has expired is not said to expire some day, and what nobody could ask is not judged",
  (_, { lines }) => {
    const text = lines.join("\n");
    if (text.includes("!EXPIRED!")) expect(text).not.toContain("once it has expired");
    expect(text).not.toContain("where another control plane node runs it");
  },
);

const WORD = /\S+/g;

test.each(
  NAMES.flatMap((name) =>
    LOOKS.flatMap((line) => [60, 80, 120].map((width) => [name, line, width] as const)),
  ),
)("%s: %s in %i columns breaks between words only", async (name, line, width) => {
  const whole = SCREENS.get(`${name}: ${line}`)!.lines.join(" ");
  const { lines } = await screenOf(name, line, width);
  const words = new Set(whole.match(WORD));
  const SIGNS = ["√", "‼", "×", "#"];
  const strange = lines
    .flatMap((one) => one.match(WORD) ?? [])
    .filter((word) => !words.has(word) && !SIGNS.includes(word));
  expect(strange).toEqual([]);
  // a command to paste stays in one piece, and so does a word that is longer than the terminal
  const long = lines.filter((one) => one.length > width && !/^\s*\S+$/.test(one) && !isCommand(one));
  expect(long).toEqual([]);
});

const isCommand = (line: string) =>
  /^ *(?:- |# )?(?:\.\/bunw |kubectl |lsblk |systemctl )|^all commands/.test(line);

test("a command of this kit is never broken, a comment goes below it as a comment, and prose breaks between words", () => {
  const line =
    "  ./bunw scripts/02-control-plane.ts --lost m1   # on another control plane node, if the data is lost for good";
  expect(pasteLines(line, 60)).toEqual([
    "  ./bunw scripts/02-control-plane.ts --lost m1",
    "      # on another control plane node, if the data is lost",
    "      # for good",
  ]);
  expect(pasteLines(line, Number.POSITIVE_INFINITY)).toEqual([line]);
  const sentence =
    "  repair: does it run? If not: ./bunw scripts/04-sa-tokens.ts --only-system --skip a/b does it";
  expect(wrapped(sentence, 4, 40)).toEqual([
    "  repair: does it run? If not:",
    "    ./bunw scripts/04-sa-tokens.ts --only-system --skip a/b",
    "    does it",
  ]);
});

test("TERM=dumb has no colour, and a terminal without UTF-8 gets signs in ASCII", async () => {
  using node = here(await nodeInState("all lost"));
  const { isTTY, columns } = process.stdout;
  Object.assign(process.stdout, { isTTY: true, columns: 100 });
  try {
    const { stdout } = await node.run("00-assess", { TERM: "dumb", LC_ALL: "C" });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern looks for them
    expect(stdout).not.toMatch(/\x1b|[^\x00-\x7f]/);
    expect(stdout).toMatch(/^x \S/m);
  } finally {
    Object.assign(process.stdout, { isTTY, columns });
  }
});

test("every kind that has a text for a date that has passed says nothing of a date that comes", () => {
  for (const { expired } of Object.values(KINDS) as { expired?: string }[])
    expect(expired ?? "").not.toMatch(/once it|until it|will/);
});

test("05-verify names the other control plane nodes, whose files it has not seen, and none that is away", async () => {
  const { change } = STATES.expired;
  const nodes = { ...STATES.expired.options, etcd: three, members: MEMBERS };
  for (const [line, others] of [
    ["05-verify", "m2, m3"],
    ["05-verify --without m2", "m3"],
  ]) {
    using node = here(await pretendNode(nodes));
    await change(node);
    const { stdout } = await node.run(line!);
    expect(stdout).toContain(
      `\n  on ${others}: ./bunw scripts/00-assess.ts   # they have files of their own`,
    );
  }
});

/** A terminal obeys "\\r" and "erase the line": the lines that are left, and whether a line was ever drawn over. */
function onTerminal(written: string): { left: string[]; erased: string[] } {
  const erased: string[] = [];
  const left = written.split("\n").map((line) => {
    const [text = "", ...drawn] = line.split("\r\x1b[2K").reverse();
    erased.push(...drawn.filter(Boolean));
    return text;
  });
  return { left, erased };
}

test("while 05-verify looks, a terminal shows how far it is, and nothing of that stays", async () => {
  using node = here(await nodeInState("healthy"));
  const written: string[] = [];
  const spy = spyOn(process.stderr, "write").mockImplementation((text) => {
    written.push(String(text));
    return true;
  });
  const { isTTY } = process.stderr;
  Object.assign(process.stderr, { isTTY: true });
  // a line is drawn again after some time: on this clock it passes with each look at it
  const realNow = Date.now;
  let looks = 0;
  const clock = spyOn(Date, "now").mockImplementation(() => realNow() + 200 * looks++);
  try {
    await node.run("05-verify --wait 1");
  } finally {
    clock.mockRestore();
    Object.assign(process.stderr, { isTTY });
    spy.mockRestore();
  }
  const { left, erased } = onTerminal(written.join(""));
  expect(erased.some((line) => /^ {2}checked {3}\d+ /.test(line))).toBe(true);
  expect(left.filter((line) => line.includes("checked   "))).toEqual([]);
});
