/** 00-assess --since: a second look at a node says what has changed since the first, and no more. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { renameSync, rmSync } from "node:fs";
import { write } from "../pretend/cluster.ts";
import { pretendNode } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const LOOK = "/root/look.json";

/** A node that was looked at while controller-manager.conf was away and the scheduler's manifest lost. */
async function lookedAt() {
  const node = here(await pretendNode({ kind: "healthy control plane node" }));
  const etc = `${node.root}/etc/kubernetes`;
  renameSync(`${etc}/controller-manager.conf`, `${etc}/controller-manager.conf.away`);
  rmSync(`${etc}/manifests/kube-scheduler.yaml`);
  const { stdout } = await node.run("00-assess --json");
  write(`${node.root}${LOOK}`, stdout);
  return { node, etc, stdout };
}

test("what is well again, what is worse, and how much is as before: each once, and none of the tables", async () => {
  const { node, etc } = await lookedAt();
  using _ = node;
  renameSync(`${etc}/controller-manager.conf.away`, `${etc}/controller-manager.conf`);
  rmSync(`${etc}/scheduler.conf`);
  const { exitCode, stdout } = await node.run(`00-assess --since ${LOOK}`);
  expect(exitCode).toBe(2);
  expect(stdout).toMatch(
    /^since \/root\/look\.json\n {2}well now +controller-manager\.conf +was !MISSING!\n {2}new +scheduler\.conf +!MISSING!/m,
  );
  expect(stdout).toContain("  as before   manifests/kube-scheduler.yaml   !MISSING!\n");
  expect(stdout).toMatch(/\nverdict: .*\n\nnext\n {2}/);
  expect(stdout).not.toMatch(/how bad it is|the cluster's CA|where the old keys/);
});

test("nothing has changed: it says so", async () => {
  const { node } = await lookedAt();
  using _ = node;
  expect((await node.run(`00-assess --since ${LOOK}`)).stdout).toContain("nothing has changed\n");
});

test.each([
  ["no look", "{}", 'is no look of 00-assess at "m1"'],
  ["nothing", "null", 'is no look of 00-assess at "m1"'],
  ["no JSON", "lost", 'is no look of 00-assess at "m1"'],
  ["another node's", '{"node":"m2","damage":[]}', 'is no look of 00-assess at "m1"'],
])("a file that is %s is refused with the line that makes one", async (_, text, words) => {
  using node = here(await pretendNode({ kind: "healthy control plane node" }));
  write(`${node.root}${LOOK}`, text);
  const { exitCode, stdout, stderr } = await node.run(`00-assess --since ${LOOK}`);
  expect([exitCode, stdout]).toEqual([1, ""]);
  expect(stderr).toContain(words);
  expect(stderr).toContain("hint: ./bunw scripts/00-assess.ts --json > look.json makes one");
});
