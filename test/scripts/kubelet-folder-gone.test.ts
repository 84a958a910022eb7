/**
 * `rm -rf /etc/kubernetes /var/lib/kubelet`, or a system that was installed anew beside etcd's disk: what
 * makes the kubelet's files again.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { rmSync } from "node:fs";
import { parseAllDocuments } from "yaml";
import type { Objects } from "../pretend/cluster.ts";
import { pretendNode } from "../pretend/node.ts";

/** Milliseconds. */
setDefaultTimeout(300_000);

const KUBELET = "kind: KubeletConfiguration\nclusterDNS: [10.97.0.10]\nserverTLSBootstrap: true\n";

async function withoutKubelet() {
  const etcd = (objects: Objects) => {
    const metadata = { name: "kubelet-config", namespace: "kube-system" };
    objects["configmaps/kube-system/kubelet-config"] = {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata,
      data: { kubelet: KUBELET },
    };
    const own = objects["minions/m1"] as { metadata: { annotations?: Record<string, string> } };
    own.metadata.annotations = { "kubeadm.alpha.kubernetes.io/cri-socket": "unix:///var/run/crio/crio.sock" };
  };
  const node = await pretendNode({ etcd });
  rmSync(`${node.root}/var/lib/kubelet`, { recursive: true });
  return node;
}

test.each(["00-assess", "01-etcd --new-cas", "02-control-plane", "05-verify"])(
  "%s says that the kubelet's configuration is gone, and what writes it again",
  async (line) => {
    using node = await withoutKubelet();
    const before = node.fingerprint();
    const { exitCode, stderr } = await node.run(line);
    expect([exitCode, stderr]).toEqual([
      3,
      expect.stringContaining("error: The kubelet's configuration is gone"),
    ]);
    expect(stderr).toContain(
      "./bunw scripts/00-assess.ts --kubeadm-config >/root/kubeadm.yaml, then kubeadm init phase kubelet-start --config",
    );
    expect(node.fingerprint()).toEqual(before);
  },
);

test("00-assess --kubeadm-config needs none of the kubelet's files: the cluster's own configuration of it is in etcd's data", async () => {
  using node = await withoutKubelet();
  const { exitCode, stdout } = await node.run("00-assess --kubeadm-config");
  expect(exitCode).toBe(0);
  const [cluster, init, kubelet] = parseAllDocuments(stdout).map((one) => one.toJS());
  expect([cluster.kind, kubelet]).toEqual([
    "ClusterConfiguration",
    { kind: "KubeletConfiguration", clusterDNS: ["10.97.0.10"], serverTLSBootstrap: true },
  ]);
  expect(init.nodeRegistration).toEqual({ name: "m1", criSocket: "unix:///var/run/crio/crio.sock" });
});
