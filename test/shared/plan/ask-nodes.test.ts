/** The block that asks all nodes: a name and an address for each, two words. */
import { expect, test } from "bun:test";
import { askLines } from "../../../shared/plan/ask-nodes.ts";
import type { PlanNode } from "../../../shared/plan/plan-nodes.ts";

const KIT = "ssh root@NODE 'tar -xzf -' < kit.tar.gz";

test("a node whose name is none of its own is not asked: its words would be another one's name and address", () => {
  const nodes: PlanNode[] = [
    { name: "cp1", role: "first control plane node", address: "10.0.0.1" },
    { name: "node 2", role: "worker", address: "10.0.0.2" },
    { name: "w2", role: "worker", address: "10.0.0.3" },
  ];
  expect(askLines({ user: "root", said: {}, nodes, kit: KIT })).toContain(
    'nodes="cp1 10.0.0.1\nw2 10.0.0.3"\n',
  );
});
