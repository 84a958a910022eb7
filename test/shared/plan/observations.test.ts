/** A step is ticked where all of it was seen on each of its nodes, and nowhere else. */
import { expect, test } from "bun:test";
import { row } from "../../../shared/assess/assessment.ts";
import type { Course, Task } from "../../../shared/facts/course.ts";
import { heldAt } from "../../../shared/plan/node-answers.ts";
import { inSentences, isSeenDone, observationsOf } from "../../../shared/plan/observations.ts";

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
  expect(isSeenDone({ on, observations: sight ? [sight] : [] })).toBe(done);
});

test("it says when, where and what", () => {
  expect(inSentences([heldAt({ damage: [kubelet, manager], next: [] }, "cp1", at)!])).toEqual([
    "Seen at 01:20 UTC on cp1: the kubelet is stopped, kube-controller-manager (pid 31) is paused",
  ]);
});

const NEW_CA = "sha256:new";
const answer = {
  made: at,
  lacks: [],
  noServers: false,
  joins: false,
  lostData: false,
  hasBackup: false,
  otherKeys: false,
  onlyExpired: false,
  kinds: [],
  lostFiles: [],
  lostPods: [],
  missing: [],
  refusals: [],
  words: [],
  held: undefined,
  workloads: undefined,
};
const nodes = [
  { ...answer, name: "m2", controlPlane: true, damaged: false, trusts: [NEW_CA] },
  { ...answer, name: "m3", controlPlane: true, damaged: true, trusts: [NEW_CA] },
  { ...answer, name: "w1", controlPlane: false, damaged: false, trusts: ["sha256:old", NEW_CA] },
  { ...answer, name: "w2", controlPlane: false, damaged: false, trusts: ["sha256:old"] },
];

/** Who has done the task, where this node is well and its CA is new. */
function doneBy(
  task: "kit" | Task,
  { course = ["open"], lost = [] }: { course?: Course; lost?: string[] } = {},
) {
  const here = { node: "m1", damaged: false, damage: [], next: [], course };
  const ca = { hashes: [], from: "", copies: [{ what: "ca.crt", hash: NEW_CA, is: "new in this repair" }] };
  const around = { answers: { nodes }, lost: { controlPlanes: lost }, made: { backup: true, report: false } };
  return observationsOf({ ...here, ca } as never, around, at)[task]?.map(({ on }) => on) ?? [];
}

test("a node has done what it says, and under a new CA only where it trusts that", () => {
  expect(doneBy("kit")).toEqual(["m2", "m3", "w1", "w2"]);
  expect(doneBy("control-plane")).toEqual(["m1", "m2"]);
  expect(doneBy("join")).toEqual(["m2", "w1"]);
  expect([doneBy("backup"), doneBy("report")]).toEqual([["m1"], []]);
  expect(doneBy("control-plane", { lost: ["m3"] })).toEqual([]);
});

test("where part 1 will make keys, nobody is through with what comes after it", () => {
  for (const task of ["unpack", "etcd-there", "join"] as const)
    expect(doneBy(task, { course: ["hold", "new-internal-cas"] }).filter((name) => name !== "m1")).toEqual(
      [],
    );
});
