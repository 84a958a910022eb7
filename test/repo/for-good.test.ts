/**
 * Each act that a script announces as irreversible, by `sayNoUndo`, stands at a task of a plan whose script does it: the
 * list comes from the source, so one more announcement without its task is red.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { Task } from "../../shared/facts/course.ts";
import { IRREVERSIBLE_AT } from "../../shared/plan/effort.ts";
import { readRunbook } from "../../shared/plan/runbook.ts";
import { IRREVERSIBLE } from "../../shared/run.ts";
import { behind, filesOf } from "./reach.ts";
import type { Source } from "./sources.ts";

const HOME = join(import.meta.dir, "../..");
const { blocks } = readRunbook(await Bun.file(join(HOME, "RUNBOOK.md")).text());

setDefaultTimeout(300_000);

type Files = ReadonlyMap<string, Source>;
type Act = keyof typeof IRREVERSIBLE;

/** Script → the tasks whose fences in RUNBOOK.md type it. */
const TASKS = new Map<string, Task[]>();
for (const { task, commands } of blocks)
  for (const command of commands) {
    const script = /scripts\/[\w-]+\.ts/.exec(command)?.[0];
    if (script && task) TASKS.set(script, [...(TASKS.get(script) ?? []), task as Task]);
  }

const files = await filesOf(HOME);

/** Script → the paths of the files behind it. */
const BEHIND = new Map(
  [...TASKS.keys()].map((script) => [script, new Set(behind(script, files).map(({ path }) => path))]),
);

/** Where it is announced, with the tasks whose scripts have that file behind them. */
function announced(all: Files): { act: Act; path: string; tasks: Task[] }[] {
  return [...all.values()].flatMap(({ path, text }) =>
    [...text.matchAll(/(?<!function )\bsayNoUndo\("(\w+)"/g)].map(([, act]) => ({
      ...{ act: act as Act, path },
      tasks: [...TASKS].flatMap(([script, tasks]) => (BEHIND.get(script)!.has(path) ? tasks : [])),
    })),
  );
}

/** What a plan would not name at its step. */
function unnamed(sources: Files): string[] {
  const all = announced(sources);
  return [
    ...all.flatMap(({ act, path, tasks }) =>
      IRREVERSIBLE_AT[act]?.some((task) => tasks.includes(task))
        ? []
        : [`${path}: ${act} has no task in IRREVERSIBLE_AT`],
    ),
    ...Object.entries(IRREVERSIBLE_AT).flatMap(([act, own]) =>
      own.flatMap((task) =>
        all.some((one) => one.act === act && one.tasks.includes(task))
          ? []
          : [`no script of ${task} announces ${act}`],
      ),
    ),
  ];
}

test("each announcement of a script stands at a task of a plan, and each task of the table has one", () => {
  expect(new Set(announced(files).map(({ act }) => act))).toEqual(
    new Set(Object.keys(IRREVERSIBLE) as Act[]),
  );
  expect(unnamed(files)).toEqual([]);
});

test("one more in a script whose task the table does not name is found, and so is one that is gone", () => {
  const verify = files.get("scripts/05-verify.ts")!;
  const more = new Map(files).set(verify.path, {
    ...verify,
    text: `${verify.text}\nsayNoUndo("tokens");`,
  });
  expect(unnamed(more)).toEqual(["scripts/05-verify.ts: tokens has no task in IRREVERSIBLE_AT"]);
  const pack = files.get("scripts/hand-over.ts")!;
  const gone = new Map(files).set(pack.path, {
    ...pack,
    text: pack.text.replace("sayNoUndo(", "say("),
  });
  expect(unnamed(gone)).toEqual(["no script of hand-over announces bundle"]);
});
