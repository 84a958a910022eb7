/**
 * Control plane nodes of kubespray and KubeKey: every script says the same, and changes nothing; 00-assess
 * says what to do.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, rmSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import { write } from "../pretend/cluster.ts";
import { KUBESPRAY_KUBELET, nodeOf } from "../pretend/etcd-as-unit.ts";
import { expectTranscript, pretendNode, staticUid } from "../pretend/node.ts";
import { expectRefusal, WRITERS } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const MAKERS = ["kubespray", "KubeKey"] as const;

const said = (by: string) =>
  new RegExp(
    `^etcd runs on this node as a systemd unit \\(/etc/systemd/system/etcd\\.service, data in /var/lib/etcd\\), as ${by} sets it up: this kit repairs etcd only `,
  );
const HINT =
  /^nothing was changed\. \.\/bunw scripts\/00-assess\.ts says .*RUNBOOK-MORE "If etcd is a unit of this node"$/;

const LINES = WRITERS.filter((line) => line !== "00-salvage");
const CASES = MAKERS.flatMap((by) =>
  [true, false].flatMap((wiped) => LINES.map((line) => ({ by, wiped, line }))),
);

test.each(CASES)(
  "$line on a control plane node of $by (wiped: $wiped) says where etcd is, and changes nothing",
  async ({ by, wiped, line }) => {
    using node = await nodeOf(by, { wiped });
    write(`${node.root}/root/pass`, "three-words-and-more\n");
    await expectRefusal(node, line, said(by), HINT, 3);
  },
);

test.each(MAKERS)(
  "00-salvage on a wiped node of %s still looks for keys, misses no CA of etcd, and does not send to part 1",
  async (by) => {
    using node = await nodeOf(by, { wiped: true });
    const before = node.fingerprint();
    const { exitCode, stderr } = await node.run("00-salvage memory");
    expect(exitCode).toBe(2);
    expect(stderr).toContain("still lost: ca.key, front-proxy-ca.key, sa.key: ");
    expect(stderr).not.toMatch(/etcd\/ca|01-etcd/);
    expect(stderr).toContain(
      '\nif they are nowhere: ./bunw scripts/00-assess.ts   # says what to do by hand: RUNBOOK-MORE "If etcd is a unit',
    );
    expect(node.fingerprint()).toEqual(before);
  },
);

test.each(MAKERS)(
  "00-assess on a wiped node of %s says what is lost, what is well, and what to do by hand",
  async (by) => {
    using node = await nodeOf(by, { wiped: true });
    const before = node.fingerprint();
    await expectTranscript(`00-assess-${by.toLowerCase()}-wiped`, await node.run("00-assess"));
    expect(node.fingerprint()).toEqual(before);
  },
);

test.each(MAKERS)("00-assess on a healthy node of %s finds no damage", async (by) => {
  using node = await nodeOf(by);
  const { exitCode, stdout } = await node.run("00-assess");
  expect({ exitCode, stdout }).toMatchObject({
    exitCode: 0,
    stdout: expect.stringContaining("verdict: nothing is damaged on this node. etcd runs on "),
  });
  expect(stdout).not.toContain("\nnext\n");
});

test.each<[string, string[], RegExp]>([
  ["its settings", ["/etc/etcd.env"], /\/etc\/etcd\.env +!MISSING! +etcd\.service does not start without it/],
  ["its key", ["/etc/ssl/etcd/ssl/member-m1-key.pem"], /member-m1-key\.pem +!MISSING! +etcd's own/],
])("00-assess says that %s of etcd is gone", async (_, paths, row) => {
  using node = await nodeOf("kubespray");
  for (const path of paths) rmSync(node.root + path);
  const { exitCode, stdout } = await node.run("00-assess");
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 2, stdout: expect.stringMatching(row) });
});

test("00-assess says that etcd's unit is stopped", async () => {
  using node = await nodeOf("KubeKey", {
    commands: [{ command: "systemctl is-active --quiet etcd", exit: 3 }],
  });
  expect((await node.run("00-assess")).stdout).toMatch(
    /etcd\.service +!STOPPED! +\/etc\/systemd\/system\/etcd\.service, member "etcd1", data in /,
  );
});

test.each(MAKERS)("05-verify on a healthy node of %s checks the kubelet alone, and says so", async (by) => {
  using node = await nodeOf(by);
  expect((await node.run("05-verify")).stdout).toMatch(
    / {2}warning {2}etcd: .* as a systemd unit .*; only this node's kubelet was checked\n/,
  );
});

test("a kubespray control plane node whose etcd is on other machines is told so, and its kubelet's file is missed", async () => {
  using node = await nodeOf("kubespray", { elsewhere: true });
  rmSync(`${node.root}/etc/kubernetes/kubelet.env`);
  const { exitCode, stdout } = await node.run("00-assess");
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 2 });
  expect(stdout).toMatch(/etcd +note +external: by --etcd-servers/);
  expect(stdout).toMatch(/the kubelet's start +!UNSAFE! +.*"\/etc\/kubernetes\/kubelet\.env" is missing/);
});

test("a distribution's own etcd on a node of kubeadm's changes nothing", async () => {
  using node = await pretendNode();
  write(
    `${node.root}/lib/systemd/system/etcd.service`,
    "[Service]\nEnvironmentFile=-/etc/default/etcd\nExecStart=/usr/bin/etcd\n",
  );
  const { exitCode, stderr } = await node.run("01-etcd --new-cas --dry-run");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  write(`${node.root}/etc/kubernetes/manifests/etcd.yaml`, "spec: {}\n");
  expect((await node.run("01-etcd --new-cas")).stderr).toContain("its etcd data is lost\n");
});

test("00-assess on a kubespray worker without kubelet.env names it before anything else", async () => {
  using node = await pretendNode({
    kind: "worker",
    commands: [{ command: "systemctl cat kubelet", stdout: KUBESPRAY_KUBELET }],
  });
  const { exitCode, stdout } = await node.run("00-assess");
  expect(exitCode).toBe(2);
  expect(stdout).toMatch(/\nnext\n {2}never start this kubelet before the file is back\./);
});

test("00-assess --kubeadm-config prints what kubeadm's phases need, out of etcd's data", async () => {
  using node = await nodeOf("kubespray", { wiped: true });
  const { exitCode, stdout } = await node.run("00-assess --kubeadm-config");
  expect(exitCode).toBe(0);
  const [cluster, init] = parseAllDocuments(stdout).map((one) => one.toJS());
  expect(cluster).toMatchObject({
    kind: "ClusterConfiguration",
    certificatesDir: "/etc/kubernetes/ssl",
    etcd: { external: { certFile: "/etc/ssl/etcd/ssl/node-m1.pem" } },
  });
  expect(init).toEqual({
    apiVersion: "kubeadm.k8s.io/v1beta4",
    kind: "InitConfiguration",
    localAPIEndpoint: { advertiseAddress: "127.77.0.11", bindPort: 6443 },
    nodeRegistration: { name: "m1", criSocket: "unix:///run/containerd/containerd.sock" },
  });
});

test("etcd's data that cannot be read is not called an external etcd's, though only the API server has left a trace", async () => {
  using node = await pretendNode({
    etcd: (objects) => delete objects["configmaps/kube-system/kubeadm-config"],
  });
  mkdirSync(`${node.root}/var/lib/kubelet/pods/${staticUid("kube-apiserver")}/containers/kube-apiserver`, {
    recursive: true,
  });
  const { stdout } = await node.run("00-assess");
  expect(stdout).toContain(
    "verdict: the repair cannot begin: Cannot find the ConfigMap kube-system/kubeadm-config in etcd's data",
  );
});
