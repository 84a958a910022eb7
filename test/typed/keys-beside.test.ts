/** A lost key is first asked for elsewhere: in an old folder beside, and where it is stored on purpose. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { AssessmentJson } from "../../shared/assess/assessment.ts";
import { otherCa } from "../pretend/cluster.ts";
import type { PretendNode } from "../pretend/in-process.ts";
import { nodeHere } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

const E = "/etc/kubernetes";
const KEY = `${E}/pki/ca.key`;
const stranger = await otherCa();

const healthy = () => nodeHere({ kind: "healthy control plane node" });

async function assessed(node: PretendNode): Promise<AssessmentJson> {
  return JSON.parse((await node.run("00-assess --json")).stdout) as AssessmentJson;
}

function moveKey({ root }: PretendNode, to: string) {
  mkdirSync(dirname(root + to), { recursive: true });
  renameSync(root + KEY, root + to);
}

test.each([
  `${E}/pki/_bk_20250101/ca.key`,
  `${E}/pki.bak/ca.key`,
  `${E}/old/pki/ca.key`,
  "/etc/kubernetes.old/pki/ca.key",
])("00-assess finds the proved key in %s, and the next command puts it back", async (path) => {
  using node = await healthy();
  const key = node.read(KEY);
  moveKey(node, path);
  const { verdict, next, survivors } = await assessed(node);
  expect(verdict).toContain(`in an old folder beside, proved by the cluster's public keys: ${path}`);
  expect(survivors[0]).toMatchObject({ hope: "found", detail: expect.stringContaining(path) });
  expect(next.find((line) => line.includes("00-"))).toStartWith("./bunw scripts/00-salvage.ts files");
  expect(next.join()).not.toContain("new-cas");
  const { exitCode, stderr } = await node.run("00-salvage files");
  expect({ exitCode, stderr }).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining(`found in ${path}`),
  });
  expect(node.read(KEY)).toBe(key);
  expect((await node.run("00-assess")).exitCode).toBe(0);
});

test("00-assess --deep names the folder, too", async () => {
  using node = await healthy();
  moveKey(node, `${E}/pki.bak/ca.key`);
  const { stdout } = await node.run("00-assess --deep --no-disk");
  expect(stdout).toContain(`ca.key   ${E}/pki.bak/ca.key   proved by `);
  expect(stdout).toContain("./bunw scripts/00-salvage.ts files");
});

const NOT_TAKEN: Record<string, (node: PretendNode) => void> = {
  "another cluster's": ({ root }) => {
    rmSync(root + KEY);
    mkdirSync(`${root}${E}/pki.bak`);
    writeFileSync(`${root}${E}/pki.bak/ca.crt`, stranger.cert);
    writeFileSync(`${root}${E}/pki.bak/ca.key`, stranger.key);
  },
  "behind a link to its folder": (node) => {
    moveKey(node, "/home/somebody/ca.key");
    symlinkSync(`${node.root}/home/somebody`, `${node.root}${E}/pki.bak`);
  },
  "a link": (node) => {
    moveKey(node, "/home/somebody/ca.key");
    mkdirSync(`${node.root}${E}/pki.bak`);
    symlinkSync(`${node.root}/home/somebody/ca.key`, `${node.root}${E}/pki.bak/ca.key`);
  },
  "deeper than a copy of the folder has it": (node) => moveKey(node, `${E}/pki.bak/1/2/ca.key`),
};

test.each(Object.entries(NOT_TAKEN))(
  "a key that is %s is not offered, and the operator is asked first",
  async (_, change) => {
    using node = await healthy();
    change(node);
    const { verdict, next, survivors } = await assessed(node);
    expect(survivors.map(({ hope }) => hope)).not.toContain("found");
    expect(verdict).toMatch(
      /^keys lost on this node: ca\. Are they stored offline, .*Bring them\. .*If they are gone: new CA/,
    );
    expect(next.join()).not.toContain("00-salvage.ts files");
    const { stderr } = await node.run("01-etcd");
    expect(stderr.split("hint: ")[1]).toMatch(/stored offline(.|\n)*--new-cas/);
  },
);

test.each([
  ["and the kubelet's folder is there", []],
  ["with the kubelet's folder", ["/var/lib/kubelet"]],
])("after kubeadm reset, %s, the first screen names the chapter for a snapshot", async (_, also) => {
  using node = await healthy();
  for (const path of [`${E}/manifests/etcd.yaml`, `${E}/pki`, "/var/lib/etcd", ...also])
    rmSync(node.root + path, { recursive: true });
  const { stdout, stderr, exitCode } = await node.run("00-assess");
  expect(exitCode).not.toBe(0);
  expect(stdout + stderr).toContain('RUNBOOK-MORE "Only a snapshot is left"');
});
