/** The plan says from which step until which the API is away, and whose. */
import { expect, test } from "bun:test";
import type { Task } from "../../../shared/facts/course.ts";
import type { PlanStep } from "../../../shared/plan/step-order.ts";
import { withOutage } from "../../../shared/plan/step-order.ts";

const course = (...tasks: Task[]) =>
  tasks.map((task, index): PlanStep => {
    const step = {
      does: task,
      costs: "as ever",
      seconds: [0, 1] as const,
      way: "on" as const,
      on: ["m1"],
      sideBySide: false,
    };
    return { ...step, number: `${index + 1}`, task, lines: [], exit: [0] };
  });

const ALONE = { several: false, othersServe: false };
const NONE_SERVES = { several: true, othersServe: false };
const OTHERS_SERVE = { several: true, othersServe: true };
const MORE = /^nothing more: the API is unavailable until step \d is done$/;

test.each([
  [
    "alone",
    course("hold", "new-cas", "control-plane"),
    ALONE,
    ["as ever", /^the API is unavailable from here until step 3 is done\. .* be quick/],
  ],
  [
    "etcd's CA is made new: all of etcd ends, whoever serves now",
    course("end-etcd", "new-internal-cas", "etcd-there", "control-plane"),
    OTHERS_SERVE,
    [
      /^the API of the whole cluster, where it still answers, is unavailable from here until step 4 is done/,
      MORE,
      MORE,
    ],
  ],
  [
    "too few go on",
    course("old-cas", "etcd-there", "control-plane"),
    NONE_SERVES,
    [/^the API of the whole cluster/, MORE],
  ],
  [
    "enough go on",
    course("old-cas", "control-plane"),
    OTHERS_SERVE,
    [/^the control plane of this node stops until step 2 is done; the API of the others keeps running/],
  ],
  ["nothing stops", course("open", "verify"), ALONE, ["as ever", "as ever"]],
] as const)("%s", (_, steps, around, says) => {
  const costs = withOutage(steps, around).map((step) => step.costs);
  says.forEach((words, index) => void expect(costs[index]).toMatch(words));
  if (says.length < costs.length)
    expect(costs.slice(says.length)).toEqual(costs.slice(says.length).map(() => "as ever"));
});
