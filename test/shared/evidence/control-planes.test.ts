/**
 * Which Nodes are control plane nodes, by etcd's members: by name, else by an address that one of them has
 * alone.
 */
import { expect, test } from "bun:test";
import { isControlPlaneName, membersAmong } from "../../../shared/evidence/control-planes.ts";

const node = (name: string, address: string, labelled = true) => ({
  metadata: { name, ...(labelled ? { labels: { "node-role.kubernetes.io/control-plane": "" } } : {}) },
  status: { addresses: [{ type: "InternalIP", address }] },
});
const member = (name: string, peer: string, client = "") => ({
  ...{ id: name, name, isLearner: false, peerURLs: [peer] },
  clientURLs: client ? [client] : [],
});
const CP = node("m1", "10.0.0.11");

test.each([
  [
    "a member of a Node's name, whatever its label",
    [node("m1", "10.0.0.11", false)],
    [member("m1", "https://10.0.0.99:2380")],
    ["m1"],
  ],
  ["a label alone", [CP, node("w1", "10.0.0.21")], [member("m1", "https://10.0.0.11:2380")], ["m1"]],
  ["a restored member at its address", [CP], [member("default", "https://10.0.0.11:2380")], ["m1"]],
  [
    "by the URL that it has published",
    [CP],
    [member("default", "http://localhost:2380", "https://10.0.0.11:2379")],
    ["m1"],
  ],
  ["two claim the address", [CP, node("w1", "10.0.0.11")], [member("default", "https://10.0.0.11:2380")], []],
  [
    "etcd on a worker, under a name of its own",
    [CP, node("w1", "10.0.0.21", false)],
    [member("etcd2", "https://10.0.0.21:2380")],
    [],
  ],
  [
    "localhost is everybody's",
    [CP, node("w1", "127.0.0.1")],
    [member("default", "http://127.0.0.1:2380")],
    [],
  ],
  [
    "an address in another form",
    [node("m1", "fd00:0:0::11")],
    [member("default", "https://[fd00::11]:2380")],
    ["m1"],
  ],
  [
    "an address that is none",
    [node("m1", "not an address")],
    [member("default", "https://10.0.0.11:2380")],
    [],
  ],
])("%s", (_, nodes, members, found) => {
  expect([...membersAmong(nodes, { members })]).toEqual(found);
});

test("those that a restore has left behind were control plane nodes; a name of no Node is none", () => {
  const nodes = [CP, node("m2", "10.0.0.12", false), node("w1", "10.0.0.21")];
  const members = [member("m1", "https://10.0.0.11:2380")];
  expect([...membersAmong(nodes, { members, formerMembers: ["m1", "m2", "default"] })]).toEqual(["m1", "m2"]);
  const cluster = { nodes: [{ name: "w1", controlPlane: false }] };
  const data = { members, formerMembers: ["m1", "m2"] };
  expect(["m2", "w1", "m9"].map((name) => isControlPlaneName(name, { cluster, data }))).toEqual([
    true,
    false,
    false,
  ]);
});
