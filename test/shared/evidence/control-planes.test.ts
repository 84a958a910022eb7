/**
 * Which Nodes are control plane nodes: etcd's members by name, and those that a restore has left behind. No address
 * and no label makes one.
 */
import { expect, test } from "bun:test";
import type { Member } from "../../../shared/etcd-data/members.ts";
import { controlPlanesAmong, isControlPlaneName } from "../../../shared/facts/known-nodes.ts";

const member = (name: string, peer: string, client = "") => ({
  ...{ id: name || "b2", name, isLearner: false, peerURLs: [peer] },
  clientURLs: client ? [client] : [],
});
const NODES = new Set(["m1", "m2", "w1"]);

test.each<[string, Member[], string[], Record<string, "member" | "former">]>([
  ["a member of a Node's name", [member("m1", "https://10.0.0.99:2380")], [], { m1: "member" }],
  [
    "a member of another name, as a restore makes one, is no Node's",
    [member("default", "https://10.0.0.11:2380")],
    [],
    {},
  ],
  [
    "a member without a name is no Node's, whoever has its address",
    [member("", "https://10.0.0.11:2380")],
    [],
    {},
  ],
  [
    "who is left behind is only known to be lost",
    [member("m1", "https://10.0.0.11:2380")],
    ["m1", "m2", "default"],
    { m1: "member", m2: "former" },
  ],
  [
    "who has come back is a member",
    [member("m1", "https://10.0.0.11:2380"), member("m2", "https://10.0.0.12:2380")],
    ["m1", "m2"],
    { m1: "member", m2: "member" },
  ],
])("%s", (_, members, formerMembers, found) => {
  expect(Object.fromEntries(controlPlanesAmong(NODES, { members, formerMembers }))).toEqual(found);
});

test("of a Node that is gone etcd's members tell, and what a restore has left behind", () => {
  const data = { members: [member("m1", "https://10.0.0.11:2380")], formerMembers: ["m1", "m2"] };
  const cluster = { nodes: [{ name: "w1", controlPlane: false }] };
  expect(["m2", "w1", "m9"].map((name) => isControlPlaneName(name, { cluster, data }))).toEqual([
    true,
    false,
    false,
  ]);
});
