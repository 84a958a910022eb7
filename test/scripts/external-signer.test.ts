/**
 * A cluster whose service-account tokens come from an external signer: sa.key is not lost there, and nothing
 * makes one.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, rmSync } from "node:fs";
import { parse } from "yaml";
import { fitOldSaKey } from "../../shared/manifests/repair-changes.ts";
import type { Manifest } from "../../shared/objects/objects.ts";
import { keyPair } from "../../shared/pki/keys.ts";
import { verifierOf } from "../../shared/workloads/token-secrets.ts";
import { healthyCp, manifest, mirrorPod, type Objects, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { pretendNode } from "../pretend/node.ts";
import { sandbox } from "../pretend/sandbox.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();

const ENDPOINT = "--service-account-signing-endpoint=/var/run/signer/signer.sock";
const without = (pod: Manifest, flag: RegExp) => {
  const container = pod.spec.containers[0]!;
  container.command = container.command!.filter((word) => !flag.test(word));
  return pod;
};

function signedOutside(objects: Objects) {
  const api = without(mirrorPod("kube-apiserver"), /^--service-account-(signing-)?key-file=/);
  api.spec.containers[0]!.command!.push(ENDPOINT);
  objects["pods/kube-system/kube-apiserver-m1"] = api;
  objects["pods/kube-system/kube-controller-manager-m1"] = without(
    mirrorPod("kube-controller-manager"),
    /^--service-account-private-key-file=/,
  );
}

function withEmptyFlag(objects: Objects) {
  signedOutside(objects);
  const manager = objects["pods/kube-system/kube-controller-manager-m1"] as Manifest;
  manager.spec.containers[0]!.command!.push("--service-account-private-key-file=");
}

test.each([
  ["without the flag", signedOutside],
  ["with an empty flag", withEmptyFlag],
])("sa.key is not called lost, and no search looks for it: a controller-manager %s", async (_, etcd) => {
  using node = await pretendNode({ etcd });
  const { lost, damage } = JSON.parse((await node.run("00-assess --json")).stdout);
  expect(lost).toEqual(["ca.key", "front-proxy-ca.key", "etcd/ca.key"]);
  expect(damage).toContainEqual({
    id: "service-account-key",
    what: "pki/sa.key, pki/sa.pub",
    state: "ok",
    detail: "an external signer has the key",
  });
  expect((await node.run("00-salvage memory")).stderr).not.toContain("sa.key");
});

test("part 1 makes no sa.key, and part 2 brings the API server back as it was", async () => {
  using node = await pretendNode({ etcd: signedOutside });
  const part1 = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode, stderr } = await part1;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  const running = node.run("02-control-plane");
  await Promise.race([node.written("/etc/kubernetes/manifests/kube-apiserver.yaml"), running]);
  const { spec } = parse(node.read("/etc/kubernetes/manifests/kube-apiserver.yaml")) as Manifest;
  expect(spec.containers[0]!.command!.filter((word) => word.startsWith("--service-account"))).toEqual([
    "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
    ENDPOINT,
  ]);
  await running;
  for (const file of ["sa.key", "sa.pub"]) expect(node.exists(`/etc/kubernetes/pki/${file}`)).toBe(false);
});

test("a controller-manager that signs by itself still needs sa.key", async () => {
  using node = await pretendNode({
    etcd: (objects) => {
      signedOutside(objects);
      objects["pods/kube-system/kube-controller-manager-m1"] = mirrorPod("kube-controller-manager");
    },
  });
  expect(JSON.parse((await node.run("00-assess --json")).stdout).lost).toContain("sa.key");
});

test("an old public key is the signer's business: no flag is added beside the endpoint, and 00-token-key says so", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", etcd: signedOutside });
  const { exitCode, stderr } = await node.run("00-token-key");
  expect(exitCode).toBe(1);
  expect(stderr).toContain(
    "error: The API server's tokens come from an external signer (--service-account-signing-endpoint)",
  );

  using box = sandbox();
  write(`${box.dir}/etc/kubernetes/pki/sa-old.pub`, (await keyPair("ECDSA-P256")).pub);
  const api = manifest("kube-apiserver");
  expect(fitOldSaKey(api, "/etc/kubernetes/pki")).not.toBe(api);
  api.spec.containers[0]!.command!.push(ENDPOINT);
  expect(fitOldSaKey(api, "/etc/kubernetes/pki")).toBe(api);
});

test("without sa.pub no token is judged: part 4 leaves those in Secrets as they are", () => {
  expect(verifierOf({ caPem: "" })("any")).toBe(true);
  expect(verifierOf({ caPem: "", saPub: "" })("any")).toBe(false);
});

test("hand-over packs and unpacks the CAs, and says that sa is not among them", async () => {
  using from = await pretendNode({ kind: "healthy control plane node", etcd: signedOutside });
  for (const file of ["sa.key", "sa.pub"]) rmSync(`${from.root}/etc/kubernetes/pki/${file}`);
  write(`${from.root}/root/pass`, "three-words-and-more\n");
  const packed = await from.run("hand-over pack --passphrase-file pass --out keys.age");
  expect(packed).toMatchObject({
    exitCode: 0,
    stderr: expect.stringMatching(/^ +sa +not in it: an external signer has/m),
  });
  using node = await pretendNode({ etcd: signedOutside });
  for (const file of ["pass", "keys.age"]) cpSync(`${from.root}/root/${file}`, `${node.root}/root/${file}`);
  const unpacked = await node.run("hand-over unpack keys.age --passphrase-file pass");
  expect(unpacked).toMatchObject({
    exitCode: 0,
    stderr: expect.stringMatching(/^ +sa +not in it: an external signer has/m),
  });
  const there = ["ca.key", "front-proxy-ca.key", "etcd/ca.key", "sa.key"].map((file) =>
    node.exists(`/etc/kubernetes/pki/${file}`),
  );
  expect(there).toEqual([true, true, true, false]);
});
