/** A step is ticked where all of it was seen on each of its nodes, and nowhere else. */
import { expect, test } from "bun:test";
import { row } from "../../../shared/assess/assessment.ts";
import { inSentences, isSeenDone } from "../../../shared/plan/seen-done.ts";
import { heldAt } from "../../../shared/plan/seen-nodes.ts";

const at = new Date("2026-11-29T01:20:30Z");
const kubelet = row("kubelet", "kubelet", { state: "stopped", failed: "11 containers running" });
const manager = row("stopped-process", "kube-controller-manager (pid 31)", {
  warning: "paused, as part 0 does",
});

const held = row("kubelet", "kubelet", { warning: "stopped, as part 0 says" });

test.each([
  ["both, as part 0 says", [held, manager], ["cp1"], true],
  ["both", [kubelet, manager], ["cp1"], true],
  ["both, and another node is not looked at", [kubelet, manager], ["cp1", "cp2"], false],
  ["a kubelet that is stopped, and no controller-manager", [kubelet], ["cp1"], false],
  [
    "a controller-manager that is paused beside a kubelet that runs",
    [row("kubelet", "kubelet", "11 containers running"), manager],
    ["cp1"],
    false,
  ],
  ["a process of somebody else's", [kubelet, { ...manager, what: "calico (pid 31)" }], ["cp1"], false],
] as const)("seen: %s", (_, rows, on, done) => {
  const sight = heldAt({ damage: rows, next: [] }, "cp1", at);
  expect(isSeenDone({ on, seen: sight ? [sight] : [] })).toBe(done);
});

test("it says when, where and what", () => {
  expect(inSentences([heldAt({ damage: [kubelet, manager], next: [] }, "cp1", at)!])).toEqual([
    "Seen at 01:20 UTC on cp1: the kubelet is stopped, kube-controller-manager (pid 31) is paused",
  ]);
});
