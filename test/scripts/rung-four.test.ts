/**
 * Rung 4, old tokens without their key: whoever follows the screen comes to 00-token-key, and only where it
 * is of use.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync } from "node:fs";
import { healthyCp, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { POD_UID, podRecord } from "../pretend/memory.ts";
import { pretendNode } from "../pretend/node.ts";
import { tokenBy } from "../pretend/old-keys.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const { root: healthy } = await healthyCp();
const pki = (file: string) => readFileSync(`${healthy}/etc/kubernetes/pki/${file}`, "utf8");
const TOKEN_KEY = "./bunw scripts/00-token-key.ts";

/** A wiped control plane node; a pod of kube-system has a token of the lost key. */
async function withTokens() {
  const node = await pretendNode();
  mkdirSync(`${node.root}/dev/shm`, { recursive: true });
  podRecord(node.root, "kube-system", "kube-proxy-x", POD_UID);
  writeToken(
    node.root,
    tokenBy(
      { key: pki("sa.key"), pub: pki("sa.pub") },
      { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 1000 },
    ),
  );
  return node;
}

function writeToken(root: string, token: string) {
  write(
    `${root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/kube-api-access/token`,
    token,
  );
}

const LOST = "ca.key, front-proxy-ca.key, etcd/ca.key, sa.key";
const WAY = "00-token-key → 01-etcd --new-cas → 02-control-plane → 03-workers → 04-sa-tokens → 05-verify";

const beforeTheTable = (stdout: string) => stdout.slice(0, stdout.search(/^ +what +state/m));

test("00-assess says on top what is lost and the whole way, and 00-token-key in its place", async () => {
  using node = await withTokens();
  const { stdout } = await node.run("00-assess");
  expect(stdout).toStartWith("verdict: keys lost on this node: ca, front-proxy-ca, etcd-ca, sa.");
  expect(beforeTheTable(stdout)).toContain(
    `\nyour way: 00-assess --deep → 00-salvage → the line that it prints. If it finds no key: ${WAY}\n`,
  );
  expect(stdout).toContain(`\nwhere the old keys may still be: ${LOST}\n`);
  const next = stdout
    .split("\nnext\n")[1]!
    .split("\n")
    .map((line) => line.trim().replace(/ +#.*/, ""));
  expect(next.slice(2, 5)).toEqual([
    "./bunw scripts/00-salvage.ts",
    TOKEN_KEY,
    "./bunw scripts/01-etcd.ts --new-cas",
  ]);
});

test("00-assess --deep says on top what can no longer be had, and the whole way; --json as well", async () => {
  using node = await withTokens();
  const { stdout } = await node.run("00-assess --deep --no-disk");
  expect(stdout).toStartWith("verdict: a key is nowhere to be found: a new one is made");
  expect(beforeTheTable(stdout)).toContain(`\nyour way: ${WAY}\n`);
  expect(stdout).toContain(`\n  no longer to be had: ${LOST} (the disk was not searched)\n`);
  const said = JSON.parse((await node.run("00-assess --deep --no-disk --json")).stdout);
  expect([said.lost, said.way]).toEqual([LOST.split(", "), WAY]);
});

test("00-assess on a node with nothing lost has no such line", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  expect((await node.run("00-assess")).stdout).not.toMatch(/your way|lost on this node/);
});

test("00-assess without old tokens names no 00-token-key", async () => {
  using node = await pretendNode();
  expect((await node.run("00-assess")).stdout).not.toContain("00-token-key");
});

test("00-salvage that finds nothing names 00-token-key before part 1", async () => {
  using node = await withTokens();
  const { exitCode, stderr } = await node.run("00-salvage");
  expect([exitCode, stderr]).toEqual([
    2,
    expect.stringContaining(
      `\nif they are nowhere: ${TOKEN_KEY}, then ./bunw scripts/01-etcd.ts --new-cas\n`,
    ),
  ]);
});

test("01-etcd that made a new sa.key names 00-token-key before part 2, once more when run again, and no more when it was run", async () => {
  using node = await withTokens();
  const running = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const next = `\ndone.  next: ${TOKEN_KEY}, then ./bunw scripts/02-control-plane.ts\n`;
  expect((await running).stderr).toEndWith(next);
  expect((await node.run("01-etcd")).stderr).toEndWith(next);
  expect((await node.run("00-token-key")).exitCode).toBe(0);
  expect((await node.run("01-etcd")).stderr).toEndWith("\ndone.  next: ./bunw scripts/02-control-plane.ts\n");
});

test("01-etcd of a later repair does not name it: all tokens are of the new key, though the mark of the first repair is still there", async () => {
  using node = await withTokens();
  const running = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  expect((await running).stderr).toContain(TOKEN_KEY);
  const made = (file: string) => readFileSync(`${node.root}/etc/kubernetes/pki/${file}`, "utf8");
  writeToken(
    node.root,
    tokenBy(
      { key: made("sa.key"), pub: made("sa.pub") },
      { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 2000 },
    ),
  );
  expect((await node.run("01-etcd")).stderr).toEndWith("\ndone.  next: ./bunw scripts/02-control-plane.ts\n");
});
