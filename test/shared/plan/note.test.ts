/** The lines that ask all nodes: one for each, by its name. */
import { expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { lookLine } from "../../../shared/plan/look-line.ts";
import { askLines } from "../../../shared/plan/note.ts";
import type { PlanNode } from "../../../shared/plan/plan-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const NODES: PlanNode[] = [
  { name: "cp1", role: "first control plane node", address: "10.0.0.1" },
  { name: "node 2", role: "worker", address: "10.0.0.2" },
  { name: "w2", role: "worker", address: "10.0.0.3" },
];

test("a node whose name is none of its own is not asked: its words would be another one's", () => {
  expect(askLines({ user: "root", options: {}, unkept: {}, nodes: NODES })).toEqual([
    {
      at: "your machine",
      text: "ssh -n -o HostKeyAlias=w2 root@10.0.0.3 'cd /run/kube-pki-repair && ./bunw scripts/00-assess.ts --deep --no-disk --json' | ssh root@10.0.0.1 'cd /run/kube-pki-repair && umask 077 && mkdir -p -m 700 seen.d && cat > seen.d/w2.json'",
    },
    { at: "cp1", text: "./bunw scripts/plan.ts --seen seen.d" },
  ]);
});

test("etcd on other machines, as the operator has said, is asked for on each node", () => {
  const said = { "etcd-data": "https://10.0.0.31:2379,https://10.0.0.32:2379" };
  expect(askLines({ user: "root", options: said, unkept: {}, nodes: NODES })[0]!.text).toContain(
    "--json --etcd-data https://10.0.0.31:2379,https://10.0.0.32:2379' | ",
  );
});

test("a folder of etcd's data is asked for on control plane nodes that have it, and on no worker", () => {
  const nodes: PlanNode[] = [NODES[0]!, { ...NODES[2]!, name: "cp2", role: "control plane node" }, NODES[2]!];
  const said = { "etcd-data": "/data/etcd" };
  const [cp2, w2] = askLines({ user: "root", options: said, unkept: {}, nodes }).map(({ text }) => text);
  expect(cp2).toContain("--json $([ -d ");
  expect(w2).not.toContain("etcd-data");
  using box = sandbox();
  const line = (dir: string) => `echo ${lookLine(dir, "control plane node").replace("./bunw", "bunw")}`;
  const typed = (dir: string) =>
    Bun.spawnSync(["sh", "-c", line(dir)])
      .stdout.toString()
      .trim();
  mkdirSync(`${box.dir}/e/member`, { recursive: true });
  const asked = "bunw scripts/00-assess.ts --deep --no-disk --json";
  expect(typed(`${box.dir}/e`)).toBe(`${asked} --etcd-data ${box.dir}/e`);
  expect(typed(`${box.dir}/f`)).toBe(asked);
});
