/**
 * A folder of the node, or a part of it, is a link to another disk: legal, and the kubelet's hostPath follows
 * it. What is copied is the content.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { lstatSync, mkdirSync, readdirSync, readlinkSync, renameSync, symlinkSync } from "node:fs";
import { dirname, relative } from "node:path";
import { otherCa } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { join, kubeletFiles, newCa, serve, writeToken } from "../pretend/joining.ts";
import { pretendNode } from "../pretend/node.ts";
import { serveStale } from "../pretend/stale.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const PATIENCE = { KUBE_PKI_REPAIR_PATIENCE: "1" };

/**
 * What was at `path` is at `to`, and `path` leads there: relative, so that also programs of this machine find
 * it.
 */
function linkTo(to: string, path: string, root: string) {
  mkdirSync(dirname(root + to), { recursive: true });
  renameSync(root + path, root + to);
  symlinkSync(relative(dirname(path), to), root + path);
}

async function part1(path: string, to: string, prepare = (_root: string) => {}) {
  const node = await pretendNode();
  linkTo(to, path, node.root);
  prepare(node.root);
  const running = node.run("01-etcd --new-cas", PATIENCE);
  await Promise.race([node.called("systemctl restart kubelet"), running]);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  expect((await running).exitCode).toBe(0);
  const name = readdirSync(`${node.root}/root`)
    .sort()
    .findLast((one) => one.startsWith("kube-pki-repair-"));
  return { node, rescue: `${node.root}/root/${name}` };
}

test.each([
  ["/var/lib/etcd", "/mnt/disk/etcd"],
  ["/var/lib/etcd/member", "/mnt/disk/member"],
  ["/var/lib/etcd/member/wal", "/mnt/disk/wal"],
])("01-etcd where %s is a link copies the data into the rescue folder", async (path, to) => {
  const { node, rescue } = await part1(path, to);
  using _node = node;
  for (const part of ["", "/member", "/member/wal"])
    expect({ part, isLink: lstatSync(`${rescue}/etcd${part}`).isSymbolicLink() }).toEqual({
      part,
      isLink: false,
    });
  expect(lstatSync(node.root + path).isSymbolicLink()).toBe(true);
});

test("01-etcd where /var/lib/kubelet/pki is a link copies the kubelet's certificates; its link to the newest stays one, inside the copy", async () => {
  const { node, rescue } = await part1("/var/lib/kubelet/pki", "/mnt/disk/kubelet-pki");
  using _node = node;
  const before = `${rescue}/before/var/lib/kubelet/pki`;
  expect(lstatSync(before).isSymbolicLink()).toBe(false);
  expect(readlinkSync(`${before}/kubelet-client-current.pem`)).toMatch(/^kubelet-client-\d.*\.pem$/);
});

const RESCUE = "/root/kube-pki-repair-20260101T000000";
const SHOWN = "/root/kube-pki-repair-TIME";

test("01-etcd where a rescue folder holds a link to the data of today makes a copy in a new one", async () => {
  const { node, rescue } = await part1("/var/lib/etcd", "/mnt/etcd", (root) => {
    mkdirSync(root + RESCUE, { recursive: true });
    symlinkSync("/mnt/etcd", `${root}${RESCUE}/etcd`);
  });
  using _node = node;
  expect(rescue).not.toEndWith(RESCUE);
  expect(lstatSync(`${rescue}/etcd`).isSymbolicLink()).toBe(false);
});

test("a link to the data of today is no copy from before: part 5 says that the CA of then is not known", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  mkdirSync(node.root + RESCUE, { recursive: true });
  linkTo("/mnt/etcd", "/var/lib/etcd", node.root);
  symlinkSync("/mnt/etcd", `${node.root}${RESCUE}/etcd`);
  using _api = serveStale(node, (await otherCa()).cert);
  const { stdout, stderr } = await node.run("05-verify", PATIENCE);
  const said = stdout + stderr;
  expect(said).toContain(
    `${SHOWN}/etcd is a link to the current data, no copy that was made before the repair. If the CA was replaced, `,
  );
  expect(said).toContain("kubeconfigs of users, CI and monitoring still have the old CA");
});

test.each(["/etc/kubernetes/kubelet.conf", "/etc/kubernetes/pki/ca.crt", "/var/lib/kubelet/pki"])(
  "03-join that fails puts every file back, where %s is a link",
  async (path) => {
    using node = await pretendNode({ kind: "worker" });
    linkTo("/var/disk/linked", path, node.root);
    writeToken(node.root);
    using _api = await serve(newCa);
    const before = kubeletFiles(node);
    expect((await node.run(join())).exitCode).toBe(1);
    expect(kubeletFiles(node)).toEqual(before);
    expect(lstatSync(node.root + path).isSymbolicLink()).toBe(true);
  },
);
