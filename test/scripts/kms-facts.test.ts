/**
 * A KMS plugin has encrypted the cluster's facts: no file opens them, so every script says what is left to do
 * by hand.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import type { Objects } from "../pretend/cluster.ts";
import { pretendNode } from "../pretend/node.ts";
import { expectRefusal } from "../pretend/wrong-hands.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

function byPlugin(objects: Objects) {
  const value = () =>
    Buffer.concat([Buffer.from("k8s:enc:kms:v2:vault:"), randomBytes(40)]) as unknown as object;
  for (const path of Object.keys(objects)) if (path.startsWith("configmaps/")) objects[path] = value();
}

const SECTION = 'RUNBOOK-MORE "If a KMS plugin has encrypted ConfigMaps"';

test.each(["01-etcd --new-cas", "02-control-plane", "00-assess --kubeadm-config"])(
  "%s names the plugin, and no file to bring back",
  async (line) => {
    using node = await pretendNode({ etcd: byPlugin });
    const hint = new RegExp(`^bring lost keys back first\\. Then renew by hand, .*${SECTION}`);
    await expectRefusal(
      node,
      line,
      /^Cannot read ".*": it is encrypted at rest \(kms:v2:vault\), and only the KMS plugin "vault" opens it$/,
      hint,
    );
  },
);

test("00-assess and 00-salvage lead to the section, and to no part that then stops", async () => {
  using node = await pretendNode({ etcd: byPlugin });
  const assessed = await node.run("00-assess");
  expect(assessed.stdout).toContain(SECTION);
  expect(assessed.stdout).not.toContain("EncryptionConfiguration back");
  const salvaged = await node.run("00-salvage memory");
  expect(salvaged.exitCode).toBe(2);
  expect(salvaged.stderr).toContain(SECTION);
  expect(salvaged.stdout + salvaged.stderr).not.toContain("scripts/01-etcd.ts");
});

test("with the keys here, the last line of 00-salvage is the section, too", async () => {
  using node = await pretendNode({ etcd: byPlugin, kind: "healthy control plane node" });
  const { stdout, stderr } = await node.run("00-salvage memory");
  expect(stdout + stderr).toMatch(/next: .*by hand, as this kit/);
  expect(stdout + stderr).not.toContain("scripts/01-etcd.ts");
});

test("the same where the encryption configuration is only lost: first it, then part 1", async () => {
  using node = await pretendNode({
    etcd: (objects) => {
      for (const path of Object.keys(objects))
        if (path.startsWith("configmaps/"))
          objects[path] = Buffer.concat([
            Buffer.from("k8s:enc:secretbox:v1:key1:"),
            randomBytes(60),
          ]) as unknown as object;
    },
  });
  const { stdout, stderr } = await node.run("00-salvage memory");
  expect(stdout + stderr).toContain("if they are nowhere: bring the EncryptionConfiguration back first");
  expect(stdout + stderr).not.toContain("scripts/01-etcd.ts");
});
