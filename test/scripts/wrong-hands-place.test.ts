/**
 * Wrong hands: a bundle on a worker, and every script that changes a node by somebody who is not root. Other
 * wrong places: test/typed.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, cpSync, existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { write } from "../pretend/cluster.ts";
import { type NodeOptions, pretendNode } from "../pretend/node.ts";
import { expectRefusal, NOBODY, REFUSED, WRITERS } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const HOME = join(import.meta.dir, "../..");

/** A node with the files that a line of WRITERS names. */
async function nodeOf(kind: NonNullable<NodeOptions["kind"]>) {
  const node = await pretendNode({ kind });
  write(`${node.root}/root/pass`, "three-words-and-more\n");
  chmodSync(`${node.root}/root/pass`, 0o600);
  return node;
}

test("hand-over unpack on a worker is refused", async () => {
  using from = await nodeOf("healthy control plane node");
  expect(await from.run("hand-over pack --passphrase-file pass --out keys.age")).toMatchObject({
    exitCode: 0,
  });
  using node = await nodeOf("worker");
  cpSync(`${from.root}/root/keys.age`, `${node.root}/root/keys.age`);
  const hint =
    /^remove the bundle here: the CAs' keys belong on control plane nodes only, and a worker joins with /;
  const error = /^This is a worker: "w1" is none of the control plane nodes m1$/;
  await expectRefusal(node, "hand-over unpack keys.age --passphrase-file pass", error, hint, REFUSED);
});

test("hand-over unpack on a worker of a bundle that names no control plane nodes is refused, unless --force says what this node is", async () => {
  using from = await nodeOf("healthy control plane node");
  rmSync(`${from.root}/var/lib/etcd`, { recursive: true });
  expect(await from.run("hand-over pack --passphrase-file pass --out keys.age")).toMatchObject({
    exitCode: 0,
  });
  using node = await nodeOf("worker");
  cpSync(`${from.root}/root/keys.age`, `${node.root}/root/keys.age`);
  const error =
    /^Nothing shows that "w1" is a control plane node: it has no trace of one, and the bundle names no control plane nodes$/;
  await expectRefusal(
    node,
    "hand-over unpack keys.age --passphrase-file pass",
    error,
    /^remove the bundle here.* --force/,
    REFUSED,
  );
  expect(await node.run("hand-over unpack keys.age --passphrase-file pass --force")).toMatchObject({
    exitCode: 0,
  });
  expect(existsSync(`${node.root}/etc/kubernetes/pki/ca.key`)).toBe(true);
});

test.each(WRITERS)("%s as a normal user says that it needs root, and looks at nothing", async (line) => {
  expect(process.getuid?.()).toBe(0);
  const [script, ...args] = line.split(" ");
  const child = Bun.spawn([...NOBODY, process.execPath, `${HOME}/scripts/${script}.ts`, ...args], {
    ...{ cwd: HOME, env: { PATH: process.env.PATH!, PWD: "/nowhere" }, stdout: "pipe", stderr: "pipe" },
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  expect({ exitCode, stdout, stderr }).toMatchObject({ exitCode: 1, stdout: "" });
  expect(stderr).toEndWith(
    "\nerror: This script changes the node and needs root\nhint: run it with sudo -i, or as root\n",
  );
  expect(existsSync("/run/kube-pki-repair.lock")).toBe(false);
});
