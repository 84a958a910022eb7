/** A plan's first sentences: what it is for, and which nodes it has looked at. */
import { expect, test } from "bun:test";
import { aimOf, joinsOf, lookSummary, whereToPlan } from "../../../shared/plan/aim.ts";
import type { PlanNode } from "../../../shared/plan/plan-node.ts";

const node = (name: string, role: string) => ({ name, role }) as PlanNode;
const NODES = [
  node("m1", "first control plane node"),
  node("m2", "control plane node"),
  node("w1", "worker"),
  node("w2", "worker"),
];

interface Row {
  course?: string[];
  damaged?: boolean;
  deep?: object;
  /** Name → whether it joins. */
  seen?: Record<string, boolean>;
  nodes?: PlanNode[];
  moved?: [string, string][];
}

function said({ course, damaged = true, deep, seen = {}, nodes = NODES, moved }: Row): string | undefined {
  const looked = Object.entries(seen).map(([name, joins]) => ({ name, joins, made: new Date(0) }));
  const facts = {
    answers: { nodes: looked, silent: [], leftOut: [] },
    lost: { controlPlanes: ["m2"], names: [] },
    options: {},
    moved: new Map(moved),
  };
  return aimOf({ node: "m1", course, damaged, deep } as never, { facts: facts as never, nodes, pods: 7 });
}

const UNSEEN = " Not looked at: w1, w2. A worker that has lost its own files has to join again.";
const LOST = { keys: [{ name: "ca", places: [{ found: false }] }] };

test.each<[string, Row, string | undefined]>([
  ["no steps", {}, undefined],
  ["no steps, and machines have moved", { moved: [["10.0.0.1", "10.0.1.1"]] }, undefined],
  [
    "machines have moved",
    { course: ["open"], damaged: false, seen: { w1: true, w2: false }, moved: [["10.0.0.1", "10.0.1.1"]] },
    "This plan is for workers: nothing is damaged on this node. w1 joins again, no other worker that was looked at. Addresses have changed: 10.0.0.1 → 10.0.1.1.",
  ],
  [
    "a control plane node is taken out",
    { course: ["control-plane", "report"] },
    "This plan takes m2 out of the cluster: nothing is damaged on this node, and etcd runs on the others.",
  ],
  [
    "a renewed CA",
    { course: ["control-plane", "tokens"] },
    "This plan renews the CA that has expired with its own key",
  ],
  [
    "damage elsewhere",
    { course: ["hold", "old-cas"], damaged: false },
    "Nothing is damaged on this node. Look at m2 first, by the lines that ask all nodes. If one of them is damaged, this plan repairs",
  ],
  [
    "a worker that joins",
    { course: ["open"], damaged: false, seen: { w1: true, w2: false } },
    "This plan is for workers: nothing is damaged on this node. w1 joins again, no other worker that was looked at.",
  ],
  [
    "two workers that join",
    { course: ["open"], damaged: false, seen: { w1: true, w2: true } },
    "This plan is for workers: nothing is damaged on this node. w1, w2 join again.",
  ],
  ["what is left", { course: ["report"], damaged: false }, "This plan is for what is left of the repair."],
  [
    "a control plane node joins in no worker's way",
    { course: ["report"], damaged: false, seen: { m2: true } },
    "This plan is for what is left of the repair.",
  ],
  [
    "old keys",
    { course: ["salvage"] },
    `This plan brings the old keys back: no running pod restarts.${UNSEEN}`,
  ],
  [
    "old keys, no worker",
    { course: ["salvage"], nodes: NODES.slice(0, 2) },
    "This plan brings the old keys back: no running pod restarts.",
  ],
  [
    "old keys, all were looked at",
    { course: ["salvage"], seen: { w1: false, w2: false } },
    "This plan brings the old keys back: no running pod restarts. No worker has to join: all were looked at.",
  ],
  [
    "old keys, one was looked at and joins",
    { course: ["salvage"], seen: { w1: true } },
    "This plan brings the old keys back: no running pod restarts. w1 joins again. Not looked at: w2. A worker that has lost its own files has to join again.",
  ],
  [
    "what has expired",
    { course: ["hold", "join"] },
    "This plan renews what has expired: workers whose certificates have expired join again, and no running pod restarts.",
  ],
  [
    "what is missing",
    { course: ["hold"] },
    `This plan makes again what is missing: no running pod restarts.${UNSEEN}`,
  ],
  [
    "new keys, and ca.key is lost",
    { course: ["new-cas"], deep: LOST, nodes: [NODES[0]!, NODES[2]!] },
    "This plan is for keys that nobody has any more. It makes new ones: every worker joins again, and every pod with a token restarts once, 7 pods at most.",
  ],
  [
    "new keys, and ca.key is here",
    {
      course: ["new-cas"],
      deep: { keys: [{ name: "ca", places: [{ found: true }] }] },
      seen: { w1: false, w2: false },
    },
    "This plan is for keys that m1 does not have. Not looked at: m2. If one of them has them, the plan is made there. It makes new ones: every pod with a token restarts once, 7 pods at most. No worker has to join: all were looked at.",
  ],
  [
    "new keys, and another key is lost",
    { course: ["new-cas"], deep: { keys: [{ name: "sa", places: [] }] }, seen: { m2: false } },
    "This plan is for keys that m1 does not have. Looked at, but not their memory: m2. If",
  ],
])("the aim: %s", (_, row, sentence) => {
  const aim = said(row);
  if (sentence === undefined) expect(aim).toBeUndefined();
  else expect(aim).toStartWith(sentence);
});

test("who was looked at, when, and who was not", () => {
  const made = new Date("2026-01-01T03:12:00Z");
  const seen = {
    nodes: [
      { name: "m1", made },
      { name: "m2", made, lacks: ["ca"] },
      { name: "w1", made, joins: true },
    ],
    ...{ silent: ["m1", "w2"], leftOut: [] },
  };
  expect(lookSummary("m1", { answers: seen } as never, [...NODES, node("w3", "worker")])).toEqual([
    "Looked at: m1 (here), m2 (03:12 UTC), w1 (03:12 UTC, not its memory)",
    "Asked, and no answer: w2",
    "Not looked at: w3",
  ]);
  expect(joinsOf({ answers: seen } as never, NODES)).toEqual(["w1"]);
  const here = { answers: { nodes: [], silent: [], leftOut: [] } };
  expect(lookSummary("m1", here as never, [NODES[0]!])).toEqual(["Looked at: m1 (here)"]);
});

test.each<
  [
    string,
    { damaged?: boolean; isKept?: boolean; isProved?: boolean; seen?: string[]; lost?: string[] },
    boolean,
  ]
>([
  ["repaired, and the other one was not looked at", {}, true],
  ["repaired, and the other one was looked at", { seen: ["m2"] }, false],
  ["damaged", { damaged: true }, false],
  ["never repaired", { isKept: false }, false],
  ["repaired, and the other one is lost for good", { lost: ["m2"] }, false],
  ["repaired, and part 5 proves the other one from here", { isProved: true }, false],
])("who was not looked at gets no line on a node that is %s: a look first", (_, row, isFirst) => {
  const { damaged = false, isKept = true, isProved = false, seen = [], lost = [] } = row;
  const facts = {
    answers: { nodes: seen.map((name) => ({ name })), silent: [], leftOut: [] },
    lost: { names: lost, away: [] },
    ...{ isKept, isProved, options: {}, silent: [], running: [], named: [], givenUp: [] },
  };
  const nodes = NODES.filter(({ name }) => !lost.includes(name));
  const where = whereToPlan({ node: "m1", damaged } as never, { facts: facts as never, nodes });
  expect(where?.aim.startsWith("Look at m2 first")).toBe(isFirst ? true : undefined);
});
