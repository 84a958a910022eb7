/**
 * A KMS plugin has encrypted the Secrets. It is a static pod of this node, and serves the API server on a
 * socket in a folder of the host.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { healthyCp, mirrorPod, type Objects, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { pretendNode } from "../pretend/node.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

await healthyCp();

const CONFIG = "/etc/kubernetes/enc/encryption.yaml";
const SETTINGS = "/etc/kubernetes/kms/settings.yaml";
const SOCKET = "/var/run/kmsplugin/socket.sock";
const PLUGIN = `{kms: {apiVersion: v2, name: lab, endpoint: "unix://${SOCKET}"}}`;
const ENCRYPTION = `kind: EncryptionConfiguration\nresources: [{resources: [secrets], providers: [${PLUGIN}, {identity: {}}]}]\n`;

function byPlugin(objects: Objects) {
  const pod = mirrorPod("kube-apiserver");
  const { command, volumeMounts } = pod.spec.containers[0]!;
  command!.push(`--encryption-provider-config=${CONFIG}`);
  for (const [name, path] of Object.entries({ enc: "/etc/kubernetes/enc", kms: "/var/run/kmsplugin" })) {
    volumeMounts!.push({ name, mountPath: path });
    pod.spec.volumes!.push({ name, hostPath: { path, type: "DirectoryOrCreate" } });
  }
  objects["pods/kube-system/kube-apiserver-m1"] = pod;
  for (const name of ["default/db", "kube-system/kubeadm-certs"])
    objects[`secrets/${name}`] = Buffer.concat([
      Buffer.from("k8s:enc:kms:v2:lab:"),
      randomBytes(60),
    ]) as unknown as object;
}

/** As the projects' guides have it: its words name the socket, on its own path. */
function withStaticPod(objects: Objects) {
  byPlugin(objects);
  const annotations = {
    "kubernetes.io/config.mirror": "1",
    "kubernetes.io/config.hash": "a1",
    "kubernetes.io/config.source": "file",
  };
  const container = {
    name: "plugin",
    image: "kms:1",
    args: ["--listen=unix:///sockets/socket.sock", "--settings", SETTINGS],
    volumeMounts: [
      { name: "settings", mountPath: SETTINGS },
      { name: "sockets", mountPath: "/sockets" },
    ],
  };
  const volumes = [
    { name: "settings", hostPath: { path: SETTINGS, type: "File" } },
    { name: "sockets", hostPath: { path: "/var/run/kmsplugin", type: "DirectoryOrCreate" } },
  ];
  objects["pods/kube-system/kms-plugin-m1"] = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "kms-plugin-m1", namespace: "kube-system", uid: "uid-of-kms", annotations },
    spec: { nodeName: "m1", containers: [container], volumes },
  };
}

test("the plugin's static pod makes the socket: nobody is sent for a copy of it, or has to start it by hand", async () => {
  using node = await pretendNode({ etcd: withStaticPod });
  write(node.root + CONFIG, ENCRYPTION);
  const { stdout } = await node.run("00-assess");
  expect(stdout).toMatch(/manifests\/etcd\.yaml and 4 more +!MISSING! +can be rebuilt from its mirror pod/);
  const { damage } = JSON.parse((await node.run("00-assess --json")).stdout);
  expect(damage).toContainEqual(
    expect.objectContaining({
      what: "manifests/kms-plugin.yaml",
      detail: expect.stringMatching(/can be rebuilt from its mirror pod/),
    }),
  );
  expect(stdout).toContain(
    `named by ${CONFIG}; not there until the static pod kms-plugin runs; without it kube-apiserver gets no answer`,
  );
  expect(stdout).not.toContain("start what serves");
  const { stderr } = await node.run("01-etcd --new-cas --dry-run");
  expect(stderr).toContain(
    `not there until the static pod kms-plugin runs: ${SOCKET} (${CONFIG}): without it`,
  );
  expect(stderr).toContain(
    `lost, and only a copy brings it back: ${SETTINGS} (kms-plugin --settings): without it kms-plugin does not start`,
  );
  expect((await node.run("00-salvage memory")).stderr).not.toContain(`${SOCKET}: lost`);
});

test("where no static pod does, the operator is to start what serves the socket", async () => {
  using node = await pretendNode({ etcd: byPlugin });
  write(node.root + CONFIG, ENCRYPTION);
  const { stdout } = await node.run("00-assess");
  expect(stdout).toContain(
    `named by ${CONFIG}; not there until what serves it runs; without it kube-apiserver gets no answer`,
  );
  expect(stdout).toContain(`start what serves ${SOCKET}`);
});

test("part 2 does not start an API server that would wait in vain: the plugin's own file is lost", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    etcd: withStaticPod,
    containers: ["etcd"],
  });
  rmSync(`${node.root}/etc/kubernetes/manifests/kube-apiserver.yaml`);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  write(node.root + CONFIG, ENCRYPTION);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("02-control-plane");
  expect([exitCode, stderr]).toEqual([
    3,
    expect.stringContaining(`error: Cannot start kms-plugin: "${SETTINGS}" (--settings) missing`),
  ]);
  expect(node.fingerprint()).toEqual(before);
});

test("where nobody has the encryption configuration: it holds no key, so it is written anew before anything is given up", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    etcd: withStaticPod,
    containers: ["etcd"],
  });
  rmSync(`${node.root}/etc/kubernetes/manifests/kube-apiserver.yaml`);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode, stderr } = await node.run("02-control-plane");
  expect([exitCode, stderr]).toEqual([
    3,
    expect.stringContaining(
      'names only a KMS plugin holds no key: RUNBOOK-MORE "Files that kubeadm never made" has the lines for it',
    ),
  ]);
});

test("the Secret kubeadm-certs: no file opens it, and none is asked for", async () => {
  using node = await pretendNode({ etcd: byPlugin });
  expect((await node.run("00-assess")).stdout).toMatch(
    /kubeadm-certs Secret +no +only the KMS plugin "lab" opens it/,
  );
  const { exitCode, stderr } = await node.run("00-salvage secret");
  expect([exitCode, stderr]).toEqual([
    1,
    expect.stringMatching(/kubeadm-certs cannot be read: .*only the KMS plugin "lab" opens it/),
  ]);
  expect(stderr).not.toContain("EncryptionConfiguration");
});
