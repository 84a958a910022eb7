/**
 * kubeadm's certificatesDir elsewhere (kubespray: /etc/kubernetes/ssl), on a node whose etcd data does not
 * tell it.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { renameSync, rmSync } from "node:fs";
import { $ } from "bun";
import { type NodeOptions, pretendNode } from "../pretend/node.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

const FILES = ["etc/kubernetes", "var/lib/kubelet/config.yaml"];

async function nodeWith(options: NodeOptions) {
  const node = await pretendNode(options);
  const { kind } = options;
  const here = kind ? FILES : FILES.slice(1);
  await $`grep -rlZ /etc/kubernetes/pki ${here} | xargs -0 sed -i s#/etc/kubernetes/pki#/etc/kubernetes/ssl#g`.cwd(
    node.root,
  );
  if (kind) renameSync(`${node.root}/etc/kubernetes/pki`, `${node.root}/etc/kubernetes/ssl`);
  return node;
}

test("where etcd's data is lost, the keys are looked for where the API server's manifest has them", async () => {
  using node = await nodeWith({ kind: "healthy control plane node" });
  rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  const { stdout } = await node.run("00-assess --all");
  expect(stdout).toMatch(/ssl\/ca\.crt, ssl\/ca\.key +ok /);
  expect(stdout).not.toContain("kubernetes/pki");
  expect((await node.run("hand-over files")).stdout).toContain("/etc/kubernetes/ssl/ca.key\n");
});

test("where etcd's data is encrypted and /etc/kubernetes is gone, the kubelet's configuration still names the folder", async () => {
  using node = await nodeWith({
    etcd: (objects) => {
      for (const [key, object] of Object.entries(objects))
        if (key.startsWith("pods/"))
          objects[key] = JSON.stringify(object).replaceAll("/etc/kubernetes/pki", "/etc/kubernetes/ssl");
      objects["configmaps/kube-system/kubeadm-config"] = "k8s:enc:secretbox:v1:key1:\u0001";
    },
  });
  const { stdout } = await node.run("00-assess");
  expect(stdout).toMatch(/!MISSING! +ssl\/ca\.crt, /);
  expect(stdout).toContain("each control plane node has the same keys, in /etc/kubernetes/ssl");
  expect(stdout).not.toContain("/etc/kubernetes/pki");
});
