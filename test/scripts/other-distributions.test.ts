/** Nodes of k3s, RKE2, MicroK8s, k0s and Talos: each script says which it is, and changes nothing. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { write } from "../pretend/cluster.ts";
import { pretendNode } from "../pretend/node.ts";
import { expectRefusal, WRITERS } from "../pretend/wrong-hands.ts";

/** Milliseconds, on a machine that has other things to do. */
setDefaultTimeout(300_000);

async function nodeWith(folder: string, kind: "no node" | "worker" = "no node") {
  const node = await pretendNode({ kind });
  mkdirSync(node.root + folder, { recursive: true });
  write(`${node.root}/root/pass`, "three-words-and-more\n");
  return node;
}

const LINES = [...WRITERS, "00-assess", "05-verify"];

test.each(LINES)("%s on a node of k3s says so", async (line) => {
  using node = await nodeWith("/var/lib/rancher/k3s");
  await expectRefusal(
    node,
    line,
    /^This is a node of k3s \("\/var\/lib\/rancher\/k3s"\), and kubeadm has not set it up$/,
    /docs\.k3s\.io/,
    3,
  );
});

test.each([
  ["/var/lib/rancher/rke2", "RKE2", "docs.rke2.io"],
  ["/var/snap/microk8s/current", "MicroK8s", "microk8s refresh-certs"],
  ["/var/lib/k0s/pki", "k0s", "k0s restore"],
  ["/system/state", "Talos", "talosctl"],
])("a node with %s is one of %s", async (folder, name, hint) => {
  using node = await nodeWith(folder);
  await expectRefusal(node, "00-assess", `This is a node of ${name} (`, hint, 3);
});

test("what k3s has left on a node that kubeadm has set up since does not count", async () => {
  using node = await nodeWith("/var/lib/rancher/k3s", "worker");
  expect((await node.run("00-assess")).stderr).toContain("node w1 (worker)");
});
