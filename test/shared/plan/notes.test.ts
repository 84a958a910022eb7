/** What a plan says before its first step. */
import { expect, test } from "bun:test";
import { row } from "../../../shared/assess/assessment.ts";
import { NONE_LOST } from "../../../shared/facts/course.ts";
import { NONE_SEEN } from "../../../shared/plan/node-answers.ts";
import { firstNotes } from "../../../shared/plan/notes.ts";

test("a node without etcd's data is asked about, unless it is said to be lost or away, or its keys come first", () => {
  const nodes = ["m2", "m3", "m4", "m5"].map((name) => ({ name, lostData: name !== "m5", words: [] }));
  const asked = (lost: object, away?: object) =>
    firstNotes(
      { course: ["all-lost"], damaged: true, damage: [], next: [] } as never,
      {
        options: {},
        unkept: {},
        nodes: [],
        lost: { ...NONE_LOST, ...lost },
        answers: { ...NONE_SEEN, nodes },
        away,
        ask: [],
      } as never,
    ).filter(({ text }) => text.includes("no data of etcd is found there"));
  const told = (...given: Parameters<typeof asked>) => asked(...given).map(({ text }) => text.split(":")[0]);
  expect(told({})).toEqual(["m2, m3, m4"]);
  expect(told({ names: ["m2"], away: ["m3"] })).toEqual(["m4"]);
  expect(asked({ names: ["m2"] })[0]!.commands).toEqual([{ text: "./bunw scripts/plan.ts --lost m3,m4" }]);
  expect(told({ names: ["m2", "m3", "m4"] })).toEqual([]);
  expect(told({}, { open: ["m3"] })).toEqual(["m2, m4"]);
  expect(told({}, { open: ["m3"], to: "m3" })).toEqual(["m2, m3, m4"]);
});

test("the operator's word is asked for where nobody else knows whether the keys are lost, and for nobody twice", () => {
  const asked = (away: object, said: object = {}) =>
    firstNotes(
      { course: ["new-cas"], damaged: true, damage: [], next: [] } as never,
      { options: said, unkept: {}, nodes: [], lost: NONE_LOST, answers: NONE_SEEN, away, ask: [] } as never,
    ).flatMap(({ text, commands }) => (text.includes("you have looked there") ? commands : []));
  expect(asked({ open: [], to: "m2" })).toEqual([]);
  expect(asked({ open: ["m3"] })).toEqual([{ text: "./bunw scripts/plan.ts --lost-on m3" }]);
  expect(asked({ open: ["m3"] }, { "lost-on": ["m2"] })).toEqual([
    { text: "./bunw scripts/plan.ts --lost-on m3" },
  ]);
});

test("where the kubelet must not be started yet, the plan says so first, and what to do is in a box", () => {
  const damage = [
    row("kubelet-start", "the kubelet's start", { state: "unsafe", failed: "its file of flags is missing" }),
  ];
  const next = ["systemctl cat kubelet", "./bunw scripts/00-assess.ts"];
  const [note] = firstNotes(
    { course: ["hold"], damaged: true, damage, next, node: "m1" } as never,
    { options: {}, unkept: {}, ask: [], lost: NONE_LOST, answers: NONE_SEEN } as never,
  );
  expect(note).toEqual({
    text: "Do not start or restart the kubelet before this: its file of flags is missing. Then print the plan again.",
    commands: [{ text: "systemctl cat kubelet" }, { text: "./bunw scripts/plan.ts" }],
    decides: "first",
    ways: [
      {
        does: "Type it on m1: systemctl cat kubelet",
        acts: [{ do: "type", on: ["m1"], command: "systemctl cat kubelet", sideBySide: false }],
      },
    ],
  });
});
