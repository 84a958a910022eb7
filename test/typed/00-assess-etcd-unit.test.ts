/**
 * What 00-assess says of control plane nodes of kubespray and KubeKey: what is lost, what is well, and what to
 * do by hand.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import { type Objects, write } from "../pretend/cluster.ts";
import { KUBELET_ENV, KUBESPRAY_KUBELET, nodeOf } from "../pretend/etcd-as-unit.ts";
import { expectTranscript, pretendNode, staticUid } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const MAKERS = ["kubespray", "KubeKey"] as const;

test.each(MAKERS)(
  "00-assess on a wiped node of %s says what is lost, what is well, and what to do by hand",
  async (by) => {
    using node = here(await nodeOf(by, { wiped: true }));
    const before = node.fingerprint();
    await expectTranscript(`00-assess-${by.toLowerCase()}-wiped`, await node.run("00-assess"));
    expect(node.fingerprint()).toEqual(before);
  },
);

test.each(MAKERS)("00-assess on a healthy node of %s finds no damage", async (by) => {
  using node = here(await nodeOf(by));
  const { exitCode, stdout } = await node.run("00-assess --all");
  expect({ exitCode, stdout }).toMatchObject({
    exitCode: 0,
    stdout: expect.stringMatching(/^verdict: nothing is damaged on this node, [\s\S]*etcd\.service +ok /),
  });
});

test.each<[string, string[], RegExp]>([
  ["its settings", ["/etc/etcd.env"], /\/etc\/etcd\.env +!MISSING! +etcd\.service does not start without it/],
  ["its key", ["/etc/ssl/etcd/ssl/member-m1-key.pem"], /member-m1-key\.pem +!MISSING! +etcd's own/],
])("00-assess says that %s of etcd is gone", async (_, paths, row) => {
  using node = here(await nodeOf("kubespray"));
  for (const path of paths) rmSync(node.root + path);
  const { exitCode, stdout } = await node.run("00-assess");
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 2, stdout: expect.stringMatching(row) });
});

test("00-assess says that etcd's unit is stopped", async () => {
  using node = here(
    await nodeOf("KubeKey", {
      commands: [{ command: "systemctl is-active --quiet etcd", exit: 3 }],
    }),
  );
  expect((await node.run("00-assess")).stdout).toMatch(
    /etcd\.service +!STOPPED! +\/etc\/systemd\/system\/etcd\.service, member "etcd1", data in /,
  );
});

test.each(MAKERS)(
  "05-verify where the settings of %s's etcd are lost checks the kubelet alone, and says so",
  async (by) => {
    using node = here(await nodeOf(by));
    rmSync(`${node.root}/etc/etcd.env`);
    expect((await node.run("05-verify")).stdout).toMatch(
      / {2}warning {2}etcd: .* as a systemd unit .*; only this node's kubelet was checked\n/,
    );
  },
);

test("a kubespray control plane node whose etcd is on other machines is told so, and its kubelet's file is missed", async () => {
  using node = here(await nodeOf("kubespray", { elsewhere: true }));
  rmSync(`${node.root}/etc/kubernetes/kubelet.env`);
  const { exitCode, stdout } = await node.run("00-assess");
  expect({ exitCode, stdout }).toMatchObject({ exitCode: 2 });
  expect(stdout).toMatch(/etcd +note +external: by --etcd-servers/);
  expect(stdout).toMatch(/the kubelet's start +!UNSAFE! +.*"\/etc\/kubernetes\/kubelet\.env" is missing/);
});

test("00-assess on a kubespray worker without kubelet.env names it before anything else", async () => {
  using node = here(
    await pretendNode({
      kind: "worker",
      commands: [{ command: "systemctl cat kubelet", stdout: KUBESPRAY_KUBELET }],
    }),
  );
  const { exitCode, stdout } = await node.run("00-assess");
  expect(exitCode).toBe(2);
  expect(stdout).toMatch(/\nnext\n {2}do not start this kubelet before the file is back\./);
});

test("a configuration of the kubelet that is lost has kubeadm's own as its last way back", async () => {
  using node = here(await nodeOf("kubespray", { wiped: true }));
  const env = KUBELET_ENV.replaceAll(/^#.*\n|"/gm, "");
  write(`${node.root}/run/kubelet.environ`, env);
  const line =
    / {2}install -D -m 600 \/var\/lib\/kubelet\/config\.yaml \/etc\/kubernetes\/kubelet-config\.yaml +# if nobody has it\. kubeadm's: without maxPods/;
  expect((await node.run("00-assess")).stdout).toMatch(line);
  rmSync(`${node.root}/var/lib/kubelet/config.yaml`);
  expect((await node.run("00-assess")).stdout).not.toContain("install -D -m 600 /var");
});

test("00-assess --kubeadm-config prints what kubeadm's phases need, out of etcd's data", async () => {
  using node = here(await nodeOf("kubespray", { wiped: true }));
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

test("kubeadm's configuration names this node's own socket, whatever its Node's annotation says", async () => {
  const etcd = (objects: Objects) => {
    const { metadata } = objects["minions/m1"] as { metadata: Record<string, unknown> };
    metadata.annotations = { "kubeadm.alpha.kubernetes.io/cri-socket": "unix:///tmp/eve.sock" };
  };
  for (const own of [true, false]) {
    using node = here(await pretendNode({ kind: "healthy control plane node", etcd }));
    mkdirSync(`${node.root}/run/containerd`, { recursive: true });
    if (own) writeFileSync(`${node.root}/run/containerd/containerd.sock`, "");
    const { exitCode, stdout } = await node.run("00-assess --kubeadm-config");
    expect(exitCode).toBe(0);
    expect(stdout).toContain("criSocket: unix:///run/containerd/containerd.sock\n");
    expect(stdout).not.toContain("eve");
  }
});

test("etcd's data that cannot be read is not called an external etcd's, though only the API server has left a trace", async () => {
  using node = here(
    await pretendNode({
      etcd: (objects) => delete objects["configmaps/kube-system/kubeadm-config"],
    }),
  );
  mkdirSync(`${node.root}/var/lib/kubelet/pods/${staticUid("kube-apiserver")}/containers/kube-apiserver`, {
    recursive: true,
  });
  const { stdout } = await node.run("00-assess");
  expect(stdout).toContain(
    "verdict: the repair cannot begin: Cannot find the ConfigMap kube-system/kubeadm-config in etcd's data",
  );
});
