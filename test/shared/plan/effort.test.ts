/** Help stands at the step that can need it, and only where this damage can bring it. */
import { expect, test } from "bun:test";
import type { Task } from "../../../shared/facts/course.ts";
import { rowsWithoutPlace, withHelp } from "../../../shared/plan/effort.ts";
import { readRunbook } from "../../../shared/plan/runbook.ts";

const { parts } = readRunbook(await Bun.file(`${import.meta.dir}/../../../RUNBOOK.md`).text());
const rows = parts.flatMap((part) => part.ifNot);

test("each row of RUNBOOK.md has its place, and only one", () => {
  expect(rows.length).toBeGreaterThan(10);
  expect(rowsWithoutPlace(rows)).toEqual([]);
});

const course = [
  "hold",
  "new-cas",
  "control-plane",
  "open",
  "join",
  "close",
  "tokens",
  "verify",
] as const satisfies Task[];
const helped = (damage: Parameters<typeof withHelp>[2]) =>
  withHelp(
    damage.course.map((task) => ({ task })),
    rows,
    damage,
  ).flatMap(({ task, help }) => help.map(({ says }) => `${task}: ${says.slice(0, 28)}`));

test("one control plane node gets nothing of several, and no join none of joining", () => {
  const alone = helped({ course, several: false, leavesOut: false });
  expect(alone).toContain("new-cas: Waited … for etcd to answer");
  expect(alone).toContain("join: Waited … for the kubelet to ");
  expect(alone.join("\n")).not.toMatch(/led last|etcd runs on|cannot answer|sa-old/);
  const several = helped({ course, several: true, leavesOut: true });
  expect(several.join("\n")).toMatch(/hold: etcd cannot answer[\s\S]*new-cas: The controller-manager on/);
  const none = helped({
    course: ["hold", "old-cas", "control-plane", "open", "close"],
    several: true,
    leavesOut: false,
  });
  expect(none.join("\n")).not.toMatch(/join:|led last|tokens:|was started/);
});

test("the help of a join stands where it is typed, not where its file is carried", () => {
  const steps = withHelp([{ task: "open" }, { task: "join" }, { task: "join" }] as { task: Task }[], rows, {
    ...{ course: ["open", "join"], several: false, leavesOut: false },
  });
  expect(steps.map(({ help }) => help.some(({ says }) => says.includes("not approved")))).toEqual([
    false,
    false,
    true,
  ]);
});
