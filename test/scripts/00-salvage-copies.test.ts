/**
 * 00-salvage where somebody else has the cluster's keys: Cluster API's Secrets in etcd's data, a folder of
 * copies, a snapshot of the disk.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, symlinkSync } from "node:fs";
import { healthyCp, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { POD_UID, podRecord } from "../pretend/memory.ts";
import { type NodeOptions, pretendNode } from "../pretend/node.ts";
import { tokenBy } from "../pretend/old-keys.ts";

/** Milliseconds. */
setDefaultTimeout(300_000);

const { root: healthy } = await healthyCp();
const pki = (file: string) => readFileSync(`${healthy}/etc/kubernetes/pki/${file}`, "utf8");
const base64 = (text: string) => Buffer.from(text).toString("base64");

/**
 * As Cluster API keeps them (its util/secret): in each Secret tls.crt and tls.key; of `sa` tls.crt is the
 * public key.
 */
function capi(name: string, pair: { crt: string; key: string }, namespace = "fleet") {
  const data = { "tls.crt": base64(pair.crt), "tls.key": base64(pair.key) };
  return {
    apiVersion: "v1",
    kind: "Secret",
    type: "cluster.x-k8s.io/secret",
    metadata: { name, namespace },
    data,
  };
}

const CA = { crt: pki("ca.crt"), key: pki("ca.key") };
const SA = { crt: pki("sa.pub"), key: pki("sa.key") };

/** A control plane node whose /etc/kubernetes is gone; no process runs, and a pod of it holds a token. */
async function wiped(options: NodeOptions = {}) {
  const node = await pretendNode(options);
  mkdirSync(`${node.root}/dev/shm`, { recursive: true });
  podRecord(node.root, "kube-system", "kube-proxy-x", POD_UID);
  const token = tokenBy(
    { key: SA.key, pub: SA.crt },
    { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 1000 },
  );
  write(
    `${node.root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/kube-api-access/token`,
    token,
  );
  return node;
}

const managesItself = (objects: Objects) => {
  objects["secrets/fleet/prod-ca"] = capi("prod-ca", CA);
  objects["secrets/fleet/prod-sa"] = capi("prod-sa", SA);
};

test("a cluster that manages itself by Cluster API has its keys in its own etcd: 00-salvage puts them back", async () => {
  using node = await wiped({ etcd: managesItself });
  const { exitCode, stderr } = await node.run("00-salvage");
  expect([exitCode, stderr]).toEqual([
    0,
    expect.stringMatching(/ca\.key: found in the Secret fleet\/prod-ca, proved by kube-root-ca/),
  ]);
  expect(stderr).toContain("sa.key: found in the Secret fleet/prod-sa, proved by");
  for (const file of ["ca.crt", "ca.key", "sa.key", "sa.pub"])
    expect([file, node.read(`/etc/kubernetes/pki/${file}`)]).toEqual([file, pki(file)]);
});

test("00-assess --deep names that Secret, and the way on is 00-salvage secret, without --new-cas", async () => {
  using node = await wiped({ etcd: managesItself });
  const { exitCode, stdout } = await node.run("00-assess --deep --no-disk");
  expect(exitCode).toBe(2);
  expect(stdout).toContain("(RUNBOOK 0.1, row 1)");
  expect(stdout).toContain("the Secret fleet/prod-ca");
  expect(stdout).toContain("./bunw scripts/00-salvage.ts secret\n");
  expect(stdout).not.toContain("--new-cas");
});

test("a Secret of anybody counts by the key alone: another CA's key in one of that name is not taken", async () => {
  const other = await otherCa();
  const etcd = (objects: Objects) => {
    objects["secrets/tenant/prod-ca"] = capi("prod-ca", { crt: other.cert, key: other.key }, "tenant");
    objects["secrets/tenant/heap"] = capi(
      "heap",
      { crt: CA.crt, key: "-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n" },
      "tenant",
    );
  };
  using node = await wiped({ etcd });
  const { exitCode, stderr } = await node.run("00-salvage");
  expect([exitCode, stderr]).toEqual([
    2,
    expect.stringContaining("Secrets in etcd's data: no readable Secret has a lost key"),
  ]);
  expect(node.exists("/etc/kubernetes/pki/ca.key")).toBe(false);
});

test("keys in the folder of --backup count by their public half, wherever they lie in it", async () => {
  using node = await wiped();
  const other = await otherCa();
  write(`${node.root}/mnt/tapes/2025/pki/ca.key`, other.key);
  write(`${node.root}/mnt/tapes/2026/kubernetes/pki/ca.key`, CA.key);
  write(`${node.root}/mnt/tapes/2026/kubernetes/pki/sa.key`, SA.key);
  symlinkSync("/", `${node.root}/mnt/tapes/everything`);
  const { exitCode, stderr } = await node.run("00-salvage --backup /mnt/tapes");
  expect([exitCode, stderr]).toEqual([
    0,
    expect.stringContaining("ca.key: found in your copy /mnt/tapes/2026/kubernetes/pki/ca.key, proved by"),
  ]);
  for (const file of ["ca.crt", "ca.key", "sa.key", "sa.pub"])
    expect([file, node.read(`/etc/kubernetes/pki/${file}`)]).toEqual([file, pki(file)]);
});

test.each([
  ["snapper's", "/.snapshots/7/snapshot/etc/kubernetes"],
  ["an older deployment of rpm-ostree", "/ostree/deploy/fedora-coreos/deploy/4f2a.0/etc/kubernetes"],
])("00-assess names a snapshot of this disk that still has the keys: %s", async (_, folder) => {
  using node = await wiped();
  write(`${node.root}${folder}/pki/ca.key`, CA.key);
  write(`${node.root}${folder}/pki/sa.key`, SA.key);
  const { stdout } = await node.run("00-assess");
  expect(stdout).toContain(`./bunw scripts/00-salvage.ts --backup ${folder}`);
  const { exitCode } = await node.run(`00-salvage --backup ${folder}`);
  expect([exitCode, node.read("/etc/kubernetes/pki/ca.key")]).toEqual([0, CA.key]);
});

test("00-assess names etckeeper's history of /etc, and the management cluster that has made this node", async () => {
  const etcd = (objects: Objects) => {
    const own = objects["minions/m1"] as { metadata: { annotations?: Record<string, string> } };
    own.metadata.annotations = {
      "cluster.x-k8s.io/cluster-name": "prod",
      "cluster.x-k8s.io/cluster-namespace": "fleet",
    };
  };
  using node = await wiped({ etcd });
  mkdirSync(`${node.root}/etc/.git`, { recursive: true });
  const { stdout } = await node.run("00-assess");
  expect(stdout).toContain("git -C /etc log --oneline -- kubernetes");
  expect(stdout).toContain("for k in ca sa etcd proxy; do kubectl -n fleet get secret prod-$k -o jsonpath=");
});
