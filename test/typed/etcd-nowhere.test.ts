/** A control plane node without etcd's data: where nothing says that etcd ran here, the hint says how to name another host. */
import { expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { write } from "../pretend/cluster.ts";
import { pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";

test("nothing says where etcd ran: the refusal has the line for an etcd on other machines", async () => {
  using node = here(await pretendNode({ kind: "wiped control plane node" }));
  rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  for (const name of ["ca.key", "sa.key"]) write(`${node.root}/etc/kubernetes/pki/${name}`, "lost\n");
  const { exitCode, stderr } = await node.run("01-etcd");
  expect({ exitCode, stderr }).toEqual({
    exitCode: 3,
    stderr: expect.stringContaining("or its etcd is external"),
  });
  expect(stderr).toContain("; ./bunw scripts/00-assess.ts --etcd-data https://HOST:2379; ");
});
