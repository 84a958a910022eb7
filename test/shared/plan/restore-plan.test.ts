/** Where the plan is one for a new machine, on which a snapshot lies: only where nothing of a node is. */
import { expect, test } from "bun:test";
import { LOCKED, lyingHere } from "../../../shared/plan/plan-facts.ts";
import { planOfRestore } from "../../../shared/plan/restore-plan.ts";
import { write } from "../../pretend/cluster.ts";
import { lookAt } from "../../pretend/in-process.ts";
import { variablesHere } from "../../pretend/programs.ts";

test.each([
  ["nothing else", true],
  ["/var/lib/etcd/member/snap/db", false],
  ["/etc/kubernetes/kubelet.conf", false],
  ["/etc/kubernetes/manifests/etcd.yaml", false],
  ["/etc/kubernetes/manifests/kube-apiserver.yaml", false],
])("a machine with a snapshot and %s is a new one: %p", async (file, isNew) => {
  const plan = await lookAt({ kind: "no node" }, async ({ root }) => {
    using _folder = variablesHere({ PWD: "/root" });
    write(`${root}/root/keys.etcd.age`, "x");
    expect(lyingHere(LOCKED)).toEqual(["keys.etcd.age"]);
    if (!isNew) write(root + file, "x");
    return await planOfRestore("root", { lost: [], "lost-on": [] });
  });
  expect(plan !== undefined).toBe(isNew);
});
