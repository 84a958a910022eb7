/** A member of etcd is taken out by the word of that very line alone, whoever has said it before. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { RESTARTS } from "../pretend/after-part2.ts";
import { mirrorPod } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd, serveOtherMember, THIRD, THIRD_AT, THREE } from "../pretend/etcd.ts";
import { servePart2, withVip } from "../pretend/in-part2.ts";
import { MEMBER, pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

test("plan --lost m2 is kept; part 2 without the option leaves m2 out and in etcd, and says the line; with it, m2 is taken out", async () => {
  using node = here(
    await pretendNode({
      kind: "healthy control plane node",
      members: [...THREE],
      etcd: withVip(mirrorPod("kube-vip")),
      commands: [...RESTARTS],
    }),
  );
  const state = { ...sameEtcd(node.stored), members: [...THREE] };
  using _etcd = serveEtcd(node.root, state);
  using _third = await serveOtherMember(node.root, state, THIRD_AT);
  using _api = servePart2(node);
  const plan = await node.run("plan --lost m2", { KUBE_PKI_REPAIR_PATIENCE: "0.2" });
  expect(plan.stderr).toContain("(what was said: m2 is lost for good)");
  expect(plan.stdout).toContain("02-control-plane.ts --lost m2");
  const left = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "0.1" });
  expect(left).toMatchObject({ exitCode: 0 });
  expect(left.stderr).toMatch(/as said at \d\d:\d\d \(plan, on m1\): m2 is lost for good\n/);
  expect(left.stderr).toMatch(/m2: away, so not asked.*: \.\/bunw scripts\/02-control-plane\.ts --lost m2\n/);
  expect(left.stderr).not.toContain("from etcd's members");
  expect(state.members).toEqual([...THREE]);
  const { stderr } = await node.run("02-control-plane --lost m2", { KUBE_PKI_REPAIR_PATIENCE: "0.1" });
  expect(stderr).toContain("removed m2 from etcd's members");
  expect(state.members).toEqual([MEMBER, THIRD]);
});
