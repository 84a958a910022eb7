/** Little is behind a script: an operator who edits one at night has to read what it loads. */
import { expect, test } from "bun:test";
import { basename, join } from "node:path";
import { behind, filesAt, filesOf, type Reach, tooMuch } from "./reach.ts";
import type { Source } from "./sources.ts";

const HOME = join(import.meta.dir, "../..");

/**
 * Files behind each script, with types, and itself. Not more than 160 for 01 to 04, 70 for 03-join, 200 for
 * 00-assess and 05-verify. All print by the width of the terminal (screen-width.ts), and checks by their causes (issue 58).
 * Eight more than there are today: a small new file that uncouples two others is
 * welcome. A feature that raises a budget says why in the same commit; who needs less lowers it. The last one for all:
 * leaf files (issue 60): a name that many files need stands in a small file of its own, so more files, but fewer behind each shared one.
 */
const BUDGETS: Record<string, number> = {
  // etcd's own snapshot is the rescue copy of an etcd that is not stopped, too (issue 44)
  "00-assess": 175, // a clock that a time server sets has witnesses against it (issue 58); each loop over what others made asks one budget (shared/budget.ts, issue 55), in all scripts that are one higher; the API is asked whether it takes a kubelet's certificate of another CA: here and in 03-join, 05-verify, plan, report (issue 55)
  "00-salvage": 137, // aliases of a YAML have a price (issue 55): here and in 01, 02, 05-verify, renew-ca, report; etcd on other machines is asked for its data (issue 44)
  "00-token-key": 114, // etcd on other machines is asked for its data (issue 44)
  "01-etcd": 155, // the files of its first screen come of its own steps, run in memory (issue 55)
  "02-control-plane": 155,
  "03-join": 65,
  "03-workers": 144, // etcd on other machines is asked for its data (issue 44)
  "04-sa-tokens": 141,
  "05-verify": 164, // each file that a flag reads shared keys from is judged, as in 00-assess, plan, report (issue 55)
  drill: 161, // a kept snapshot is judged before it is needed, and each of its values by a whole log (issue 56)
  "hand-over": 120,
  "join-again": 86, // etcd on other machines is asked for its data (issue 44)
  move: 133, // etcd on other machines is asked for its data (issue 44)
  plan: 228, // after a repair it makes part 5's own checks: a plan is no gate for nodes that are proved (issue 55)
  "renew-ca": 145,
  repair: 84, // Ctrl-C at a question (interrupted.ts, issue 57); follows what the plan prints: its types, and the printers of lines (issue 57)
  report: 210,
  restore: 121, // damaged data (issues 45 and 56); a price for YAML of anybody (issue 55)
  words: 26,
};

/** Rooms beside the repair: no part loads them. Looks: 00 and 05 load these, and what acts (01 to 04) does not. */
const BESIDE = ["plan", "drill", "report", "follow", "restore", "moved"];
const LOOKS = ["assess", "checks", "verify", "hand-over"];

const files = await filesOf(HOME);
const scripts = [...files.keys()]
  .filter((path) => path.startsWith("scripts/"))
  .map((path) => basename(path, ".ts"));
const reach = new Map(scripts.sort().map((script) => [script, behind(`scripts/${script}.ts`, files)]));

const pathsOf = (sources: readonly Source[]) => sources.map(({ path }) => path);

test("types, exports and files behind files count, each once; a package does not", () => {
  const source = (path: string, text: string) => [path, { path, text }] as const;
  const some = new Map([
    source(
      "scripts/a.ts",
      'import { b } from "../shared/b.ts";\nimport type { C } from "../shared/c.ts";\nimport { x } from "zx/core";\n',
    ),
    source("shared/b.ts", 'export { d } from "./d.ts";\n// import "./e.ts";\n'),
    source("shared/c.ts", 'import { b } from "./b.ts";\nconst late = await import("./d.ts");\n'),
    source("shared/d.ts", "export const d = 1;\n"),
    source("shared/e.ts", "export const e = 1;\n"),
  ]);
  expect(pathsOf(behind("scripts/a.ts", some))).toEqual([
    "scripts/a.ts",
    "shared/b.ts",
    "shared/c.ts",
    "shared/d.ts",
  ]);
});

test("a script with too much behind it is told what is new, and what to do", () => {
  const one: Reach = { script: "03-join", budget: 2, now: ["a.ts", "b.ts"], before: ["a.ts"] };
  expect(tooMuch(one)).toBeUndefined();
  expect(tooMuch({ ...one, now: ["a.ts", "b.ts", "c.ts"] })).toMatch(
    /^scripts\/03-join\.ts: 3 files .* the budget is 2\..*\n {2}b\.ts\n {2}c\.ts\n.*its commit says why\.$/s,
  );
});

test("no script has more files behind it than its budget", async () => {
  expect(Object.keys(BUDGETS).sort(), "each script has its row in BUDGETS").toEqual([...reach.keys()]);
  const isOver = ([script, sources]: [string, Source[]]) => sources.length > BUDGETS[script]!;
  const before = [...reach].some(isOver)
    ? await filesAt(HOME, "test/repo/reach.test.ts")
    : new Map<string, Source>();
  const found = [...reach].map(([script, sources]) =>
    tooMuch({
      script,
      budget: BUDGETS[script]!,
      now: pathsOf(sources),
      before: pathsOf(behind(`scripts/${script}.ts`, before)),
    }),
  );
  const said = found.filter((text) => text !== undefined).join("\n\n");
  if (said) throw new Error(said);
  console.log(`  ${"files and lines behind".padEnd(24)} files  budget   lines`);
  for (const [script, sources] of reach) {
    const lines = sources.reduce((sum, { text }) => sum + text.split("\n").length - 1, 0);
    const numbers = [sources.length, BUDGETS[script]!, lines].map((number, i) =>
      String(number).padStart([5, 8, 8][i]!),
    );
    console.log(`  ${script.padEnd(24)} ${numbers.join("")}`);
  }
});

test.each(scripts.filter((script) => /^\d/.test(script)))(
  "%s loads nothing of what stands beside the repair",
  (script) => {
    const rooms = /^0[1-4]/.test(script) ? [...BESIDE, ...LOOKS] : BESIDE;
    const loaded = pathsOf(reach.get(script)!).filter((path) =>
      rooms.some((room) => path.startsWith(`shared/${room}/`)),
    );
    expect(loaded).toEqual([]);
  },
);
