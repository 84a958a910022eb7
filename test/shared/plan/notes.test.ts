/** What a plan says before its first step. */
import { expect, test } from "bun:test";
import { row } from "../../../shared/assess/assessment.ts";
import { NONE_LOST } from "../../../shared/facts/course.ts";
import { firstNotes } from "../../../shared/plan/notes.ts";
import { NONE_SEEN } from "../../../shared/plan/seen-nodes.ts";

test("where the kubelet must not be started yet, the plan says so first, and what to do is in a box", () => {
  const damage = [
    row("kubelet-start", "the kubelet's start", { state: "unsafe", failed: "its file of flags is missing" }),
  ];
  const next = ["systemctl cat kubelet", "./bunw scripts/00-assess.ts"];
  const [note] = firstNotes(
    { course: ["hold"], damaged: true, damage, next } as never,
    { said: {}, lost: NONE_LOST, seen: NONE_SEEN } as never,
  );
  expect(note).toEqual({
    text: "Do not start or restart the kubelet before this: its file of flags is missing. Then print the plan again.",
    commands: ["systemctl cat kubelet", "./bunw scripts/plan.ts"],
  });
});
