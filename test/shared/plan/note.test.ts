/** The block that asks all nodes: a name and an address for each, two words. */
import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { askLines } from "../../../shared/plan/note.ts";
import type { PlanNode } from "../../../shared/plan/plan-node.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const KIT = "ssh root@NODE 'tar -xzf -' < kit.tar.gz";

test("a node whose name is none of its own is not asked: its words would be another one's name and address", () => {
  const nodes: PlanNode[] = [
    { name: "cp1", role: "first control plane node", address: "10.0.0.1" },
    { name: "node 2", role: "worker", address: "10.0.0.2" },
    { name: "w2", role: "worker", address: "10.0.0.3" },
  ];
  expect(askLines({ user: "root", said: {}, unkept: {}, nodes, kit: KIT })).toContain(
    'nodes="cp1 10.0.0.1\nw2 10.0.0.3 w2"\n',
  );
});

test("etcd on other machines, as the operator has said, is asked for on each node", () => {
  const nodes: PlanNode[] = [{ name: "cp1", role: "first control plane node", address: "10.0.0.1" }];
  const said = { "etcd-data": "https://10.0.0.31:2379,https://10.0.0.32:2379" };
  expect(askLines({ user: "root", said, unkept: {}, nodes, kit: KIT })).toContain(
    "./bunw scripts/00-assess.ts --deep --no-disk --json --etcd-data https://10.0.0.31:2379,https://10.0.0.32:2379'\n",
  );
});

test.each(["root", "ubuntu"])(
  "where the operator has said where etcd's data is, %s looks there on each node that has that folder",
  (user) => {
    using box = sandbox();
    const nodes: PlanNode[] = [{ name: "cp1", role: "first control plane node", address: "10.0.0.1" }];
    const dir = `${box.dir}/my etcd`;
    const block = askLines({ user, said: { "etcd-data": dir }, unkept: {}, nodes, kit: KIT });
    const [look] = /^export look=[\s\S]*?'$(?=\nnodes=)/m.exec(block)!;
    // on the node: a kit that says how it was called, and a sudo
    for (const name of ["bunw", "sudo"])
      writeFileSync(
        `${box.dir}/${name}`,
        `#!/bin/sh\n${name === "sudo" ? 'shift; exec "$@"' : 'printf "[%s]" "$@"'}\n`,
        { mode: 0o755 },
      );
    const there = () =>
      Bun.spawnSync(["bash", "-c", `${look.replaceAll("/run/kube-pki-repair", box.dir)}; sh -c "$look"`], {
        env: { PATH: `${box.dir}:/usr/bin:/bin` },
      }).stdout.toString();
    expect(there()).toBe("[scripts/00-assess.ts][--deep][--no-disk][--json]");
    mkdirSync(dir);
    expect(there()).toBe(`[scripts/00-assess.ts][--deep][--no-disk][--json][--etcd-data][${dir}]`);
  },
);
