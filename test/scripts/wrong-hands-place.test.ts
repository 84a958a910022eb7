/** Wrong hands: every script that changes a node, on the wrong node, before its turn, by somebody who is not root. */
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

const without = (...words: string[]) => WRITERS.filter((line) => !words.some((word) => line.startsWith(word)));

test.each(without("hand-over", "03-join"))("%s on a worker says that this is no control plane node", async (line) => {
  using node = await nodeOf("worker");
  await expectRefusal(node, line, /^This is no control plane node: /, /^run it on (a|each) control plane node/, REFUSED);
});

test.each(without("hand-over", "00-salvage"))("%s on a machine that is no node of kubeadm's says so", async (line) => {
  using node = await nodeOf("no node");
  await expectRefusal(
    node,
    line,
    /^This is no node that kubeadm set up: "\/var\/lib\/kubelet\/config\.yaml" is missing$/,
    /kubeadm/,
    REFUSED,
  );
});

test("00-salvage on a machine that is no node says that this is no control plane node", async () => {
  using node = await nodeOf("no node");
  await expectRefusal(node, "00-salvage", /^This is no control plane node: /, /^run it on each control plane node/, REFUSED);
});

test.each(["worker", "no node", "wiped control plane node"] as const)("hand-over pack on a %s packs nothing", async (kind) => {
  using node = await nodeOf(kind);
  const hint = /^\.\/bunw scripts\/00-assess\.ts says which part repairs this/;
  await expectRefusal(node, "hand-over pack --passphrase-file pass --out keys.age", /^Cannot pack the keys in /, hint);
});

test("hand-over unpack on a worker is refused", async () => {
  using from = await nodeOf("healthy control plane node");
  expect(await from.run("hand-over pack --passphrase-file pass --out keys.age")).toMatchObject({ exitCode: 0 });
  using node = await nodeOf("worker");
  cpSync(`${from.root}/root/keys.age`, `${node.root}/root/keys.age`);
  const hint = /^nothing was changed\. The CAs' keys belong on control plane nodes only: a worker joins with /;
  const error = /^This is a worker: "w1" is none of the control plane nodes m1$/;
  await expectRefusal(node, "hand-over unpack keys.age --passphrase-file pass", error, hint, REFUSED);
});

test("hand-over unpack on a worker of a bundle that names no control plane nodes is refused, unless --force says what this node is", async () => {
  using from = await nodeOf("healthy control plane node");
  rmSync(`${from.root}/var/lib/etcd`, { recursive: true });
  expect(await from.run("hand-over pack --passphrase-file pass --out keys.age")).toMatchObject({ exitCode: 0 });
  using node = await nodeOf("worker");
  cpSync(`${from.root}/root/keys.age`, `${node.root}/root/keys.age`);
  const error = /^Nothing shows that "w1" is a control plane node: nothing of one is here, and the bundle does not name them$/;
  await expectRefusal(node, "hand-over unpack keys.age --passphrase-file pass", error, /^nothing was changed\. .* --force/, REFUSED);
  expect(await node.run("hand-over unpack keys.age --passphrase-file pass --force")).toMatchObject({ exitCode: 0 });
  expect(existsSync(`${node.root}/etc/kubernetes/pki/ca.key`)).toBe(true);
});

test.each(["wiped control plane node", "healthy control plane node"] as const)("03-join on a %s is refused", async (kind) => {
  using node = await nodeOf(kind);
  const line = "03-join --server https://127.0.0.1:1 --ca-hash sha256:00";
  await expectRefusal(node, line, /^This is a control plane node \(.+\): join is for workers$/, /^part 2 gives its kubelet/, REFUSED);
});

/** [line, error, hint]: on a control plane node where nothing is repaired yet. */
const TOO_EARLY: [line: string, error: RegExp, hint: RegExp][] = [
  ["01-etcd", /^\/etc\/kubernetes\/pki\/ca\.crt is needed and cannot be used/, /00-salvage\.ts.*hand-over\.ts.*01-etcd\.ts --new-cas$/],
  ["02-control-plane", /^etcd's certificates are not there$/, /^part 1 first: \.\/bunw scripts\/01-etcd\.ts$/],
  ["03-workers open", /^There is no \/etc\/kubernetes\/admin\.conf$/, /^part 2 first: /],
  ["03-workers close", /^There is no \/etc\/kubernetes\/admin\.conf$/, /^part 2 first: /],
  ["03-workers approve", /^There is no \/etc\/kubernetes\/admin\.conf$/, /^part 2 first: /],
  ["04-sa-tokens", /^The shared keys are not there$/, /^parts 1 and 2 first: /],
  ["04-sa-tokens retire", /^There is no \/etc\/kubernetes\/admin\.conf$/, /^part 2 first: /],
  ["hand-over unpack keys.age", /^There is no file "keys\.age"$/, /^pack writes it/],
];

test.each(TOO_EARLY)("%s before its turn names the part that comes first", async (line, error, hint) => {
  using node = await nodeOf("wiped control plane node");
  await expectRefusal(node, line, error, hint);
});

/** [line, error, hint]: with all files in place, where no server answers. */
const NO_SERVER: [line: string, error: RegExp, hint: RegExp][] = [
  ["02-control-plane", /for etcd to answer: /, /^part 1 first: /],
  ["03-workers open", /\/readyz: No answer/, /part 2 again/],
  ["03-workers close", /\/readyz: No answer/, /part 2 again/],
  ["03-workers approve", /\/readyz: No answer/, /part 2 again/],
  ["04-sa-tokens", /\/readyz: No answer/, /part 2 again/],
  ["04-sa-tokens retire", /\/readyz: No answer/, /part 2 again/],
];

test.each(NO_SERVER)("%s while its server is down says which one", async (line, error, hint) => {
  using node = await nodeOf("healthy control plane node");
  await expectRefusal(node, line, error, hint);
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
  expect(stderr).toEndWith("\nerror: This script changes the node and needs root\nhint: run it with sudo -i, or as root\n");
  expect(existsSync("/run/kube-pki-repair.lock")).toBe(false);
});
