/**
 * ConfigMaps and Secrets that the API server has encrypted: read with the configuration on this node; without
 * it nothing begins.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import type { Manifest } from "../../shared/objects/objects.ts";
import { type Objects, write } from "../pretend/cluster.ts";
import { AUTHENTICATION, CONFIG, encryptedWith } from "../pretend/encrypted-cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { fakeMirror } from "../pretend/hostile-pods.ts";
import { pretendNode } from "../pretend/node.ts";
import { encryptionConfig, SEALS } from "../pretend/sealed.ts";
import { expectRefusal } from "../pretend/wrong-hands.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const KEY = randomBytes(32);
const encrypted = (provider: string, place?: string) => encryptedWith(KEY, provider, place);

test.each(Object.keys(SEALS))(
  "01-etcd reads ConfigMaps that %s has encrypted, once the configuration is back in its place",
  async (provider) => {
    using node = await pretendNode({ etcd: encrypted(provider) });
    write(node.root + CONFIG, encryptionConfig(provider, KEY));
    const running = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
    await node.called("systemctl restart kubelet");
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    const { exitCode, stderr } = await running;
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stderr).toContain("the namespace kube-system and 3 Nodes have the UIDs read before");
    const verdict = JSON.parse((await node.run("00-assess --json")).stdout);
    expect(verdict.cluster).toContain("kubernetes");
  },
);

test.each([
  ["is lost", undefined],
  ["has another key", encryptionConfig("secretbox", randomBytes(32))],
])(
  "where the configuration %s, nothing begins, and every file that is lost is named at once",
  async (_, text) => {
    using node = await pretendNode({ etcd: encrypted("secretbox") });
    if (text) write(node.root + CONFIG, text);
    const lost = new RegExp(
      `^bring the EncryptionConfiguration back first.*${AUTHENTICATION} \\(kube-apiserver --authentication-config\\)`,
    );
    await expectRefusal(
      node,
      "01-etcd --new-cas",
      /^Cannot read "\/registry\/configmaps\/kube-system\/.*it is encrypted at rest \(secretbox:v1:key1\)$/,
      lost,
    );
  },
);

test("a configuration at another path than the API server's flag names opens nothing", async () => {
  using node = await pretendNode({ etcd: encrypted("aescbc", "/etc/kubernetes/enc/named.yaml") });
  write(node.root + CONFIG, encryptionConfig("aescbc", KEY));
  await expectRefusal(
    node,
    "01-etcd --new-cas",
    /^Cannot read ".*it is encrypted at rest \(aescbc:v1:key1\)$/,
    /named\.yaml/,
  );
});

test("where 00-salvage brings the configuration back, it does not ask for it: the data can be read now, and proves more", async () => {
  using node = await pretendNode({ etcd: encrypted("secretbox") });
  write(`${node.root}/mnt/copies${CONFIG}`, encryptionConfig("secretbox", KEY));
  const { exitCode, stderr } = await node.run("00-salvage files --backup /mnt/copies");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 2 });
  expect(node.read(CONFIG)).toBe(encryptionConfig("secretbox", KEY));
  expect(stderr).not.toContain("bring the EncryptionConfiguration back first");
  expect(stderr).toContain("\nstill lost: ca.key, ");
  expect(stderr).toContain(
    ": etcd's data can be read now, so more can be proved and found: ./bunw scripts/00-salvage.ts\n",
  );
  expect((await node.run("00-salvage files")).stderr).toContain(
    "\nif they are nowhere: ./bunw scripts/01-etcd.ts --new-cas",
  );
});

/**
 * A kubelet may make a mirror pod in kube-system under any name that is free, bound to its own node, and
 * reads no Secret.
 */
function ofWorker(path: string): Objects {
  const change = ({ spec }: Manifest) => {
    spec.volumes = [{ name: "enc", hostPath: { path: "/srv/tenant" } }];
    spec.containers[0]!.command = ["x", `--encryption-provider-config=${path}`];
    spec.containers[0]!.volumeMounts = [{ name: "enc", mountPath: "/enc" }];
  };
  return fakeMirror("kube-system", "kube-apiserver", { node: "w1", suffix: "w1", change });
}

test("a worker's mirror pod does not say where the configuration lies", async () => {
  const etcd = (objects: Objects) => {
    encrypted("secretbox")(objects);
    Object.assign(objects, ofWorker("/enc/x;evil.example|sh;#"));
  };
  using node = await pretendNode({ etcd });
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining(`scp -p root@NODE:${CONFIG} ${CONFIG}.`)]);
  expect(stderr).not.toMatch(/tenant|evil/);
});

test("of a control plane node's mirror pod, the path is quoted in the line to type", async () => {
  const odd = "/etc/kubernetes/enc/x;reboot;#";
  using node = await pretendNode({ etcd: encrypted("secretbox", odd) });
  const { stderr } = await node.run("01-etcd --new-cas");
  expect(stderr).toContain(`scp -p root@NODE:'${odd}' '${odd}'.`);
});

/** A pipe that nobody writes to, or a device without an end. */
const ENDLESS = {
  pipe: (path: string) => spawnSync("mkfifo", [path]),
  device: (path: string) => spawnSync("mknod", [path, "c", "1", "5"]),
};

test.each(Object.keys(ENDLESS) as (keyof typeof ENDLESS)[])(
  "no script waits for a %s that a worker's mirror pod names",
  async (kind) => {
    using node = await pretendNode({
      kind: "healthy control plane node",
      etcd: (objects: Objects) => Object.assign(objects, ofWorker("/enc/x")),
    });
    mkdirSync(`${node.root}/srv/tenant`, { recursive: true });
    ENDLESS[kind](`${node.root}/srv/tenant/x`);
    const { exitCode, stdout } = await node.run("00-assess");
    expect([exitCode, stdout]).toEqual([0, expect.stringContaining("cluster")]);
  },
);

test("a pipe in the configuration's place opens nothing, and no script waits for it", async () => {
  using node = await pretendNode({ etcd: encrypted("secretbox") });
  mkdirSync(`${node.root}/etc/kubernetes/enc`, { recursive: true });
  ENDLESS.pipe(node.root + CONFIG);
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect([exitCode, stderr]).toEqual([
    1,
    expect.stringContaining("it is encrypted at rest (secretbox:v1:key1)"),
  ]);
});
