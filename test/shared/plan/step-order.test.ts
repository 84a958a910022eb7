/** How the steps of a plan are called. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { DRY_RUN, GATHER, MOVES } from "../../../shared/plan/effort.ts";
import { readRunbook } from "../../../shared/plan/runbook.ts";
import { numbered } from "../../../shared/plan/step-order.ts";

const RUNBOOK = await Bun.file(join(import.meta.dir, "../../../RUNBOOK.md")).text();

interface Step {
  part: number;
  task?: (typeof blocks)[number]["task"];
  way: "on" | "to";
  does: string;
  lines: [];
  acts: [];
}

const { blocks } = readRunbook(RUNBOOK);
/** Each of RUNBOOK.md's tasks, in its order. */
const ALL: Step[] = blocks.flatMap(({ part = 0, task, carry }) =>
  task
    ? [{ part, task, way: carry ? "to" : "on", does: task } as const].map((step) => ({
        ...step,
        lines: [],
        acts: [],
      }))
    : [],
);
const RARE = ["old-key-there", "end-etcd"];
const several = true;

const letters = (steps: readonly Step[], options = { several }) =>
  numbered(steps, { ...options, reach: () => undefined }).map(
    ({ does, way, number }) => [`${does} ${way}`, number] as const,
  );
const whole = new Map(letters(ALL));

test("each task of the runbook has a letter, in the runbook's order", () => {
  for (const part of [0, 1, 2, 3, 4, 5, 6]) {
    const own = letters(ALL.filter((step) => step.part === part)).map(([, number]) => number);
    expect(own).toEqual(own.toSorted());
    expect(own.every((number) => /^\d[a-z]$/.test(number))).toBe(true);
  }
});

test("a step keeps its letter when others are done, are not needed, or come", () => {
  for (const { does } of ALL.filter(({ task }) => !RARE.includes(task!))) {
    const rest = ALL.filter((step) => step.does !== does);
    for (const [step, number] of letters(rest))
      expect(`${step} ${number}`).toBe(`${step} ${whole.get(step)}`);
    const alone = ALL.filter((step) => step.does === does || step.does === "old-key-there");
    for (const [step, number] of letters(alone))
      expect(`${step} ${number}`).toBe(`${step} ${whole.get(step)}`);
  }
});

test("what takes another's place has its letter; with one control plane node nothing of others has one", () => {
  expect(["new-cas", "old-cas", "new-internal-cas"].map((task) => whole.get(`${task} on`))).toEqual([
    "1b",
    "1b",
    "1b",
  ]);
  const alone = ALL.filter(({ task }) => task === "old-cas" || task === "control-plane");
  expect(letters(alone, { several: false }).map(([, number]) => number)).toEqual(["1a", "2a"]);
});

test("what only reads before a task has a letter of its own, and the task the next one", () => {
  const first = [
    { part: 4, task: "tokens", does: DRY_RUN.does },
    { part: 6, task: "report", does: GATHER.does },
  ] as const;
  for (const { does, ...step } of first) {
    const two = [does, step.task].map(
      (one): Step => ({ ...step, way: "on", does: one, lines: [], acts: [] }),
    );
    const [its, tasks] = letters(two).map(([, number]) => number);
    expect(tasks! > its!).toBe(true);
  }
});

test("a moved cluster has letters of its own, in each of its plans", () => {
  const moves = [MOVES.others, MOVES.workers, MOVES.end].map(
    ({ does }, index): Step => ({ part: [1, 3, 5][index]!, way: "on", does, lines: [], acts: [] }),
  );
  const all = new Map(letters([...moves, ...ALL]));
  expect(moves.map(({ does }) => all.get(`${does} on`))).toEqual(["1a", "3a", "5a"]);
  expect([all.get("verify on"), all.get("end-etcd on"), all.get("open on")]).toEqual(["5b", "1b", "3b"]);
});
