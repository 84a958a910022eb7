/**
 * Whole scripts on a control plane node whose etcd is full of mirror pods that tenants and a worker's kubelet
 * have made.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { parse } from "yaml";
import { type Objects, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { fakeMirror, HASH, OTHER_HASH, UUID } from "../pretend/hostile-pods.ts";
import { podRecord } from "../pretend/memory.ts";
import { pretendNode } from "../pretend/node.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const good = (namespace: string, name: string, hash?: string) =>
  fakeMirror(namespace, name, { image: "good.example/x", ...(hash && { hash }) });
const ENDPOINT = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint";

/** Each does something else; those of good.example are real. */
const HOSTILE: Objects = {
  ...good("kube-system", "kube-vip"),
  ...fakeMirror("default", "proxy", { hash: HASH }),
  ...fakeMirror("a-team", "kube-apiserver", {
    like: "kube-apiserver",
    change: ({ metadata, spec }) => {
      metadata.annotations![ENDPOINT] = metadata.annotations![ENDPOINT]!.replace("6443", "4444");
      spec.containers[0]!.command!.push("--authentication-config=/etc/kubernetes/evil.yaml");
    },
  }),
  ...fakeMirror("a-team", "etcd", { like: "etcd" }),
  ...fakeMirror("default", "kube-scheduler", { like: "kube-scheduler", hash: HASH }),
  ...fakeMirror("a-team", "kube-controller-manager", { like: "kube-controller-manager" }),
  ...fakeMirror("a-team", "miner"),
  ...fakeMirror("a-team", "miner-uuid", { hash: UUID }),
  ...fakeMirror("a-team", "miner-hash", { hash: OTHER_HASH }),
  ...fakeMirror("default", "other", { hash: OTHER_HASH }),
  ...fakeMirror("kube-system", "contradicted", { hash: OTHER_HASH }),
  ...fakeMirror("a-team", "proxy", { hash: HASH }),
  ...fakeMirror("kube-system", "of-a-worker", { node: "w1" }),
  ...fakeMirror("kube-system", "../../../root/up"),
  ...fakeMirror("a-team", "super", {
    change: ({ spec }) =>
      (spec.volumes = [{ name: "x", hostPath: { path: "/etc/kubernetes/super-admin.conf" } }]),
  }),
  ...fakeMirror("a-team", "odd", { change: ({ spec }) => Object.assign(spec, { volumes: { a: "b" } }) }),
  "pods/a-team/none-m1": '{"kind":"Pod","apiVersion":"v1","metadata":null}',
  "pods/a-team/cut-m1": '{"kind":"Po',
  "pods/a-team/secret-m1": "k8s:enc:aescbc:v1:key1:\u0001\u0002",
};

const NAMED = [
  ["a-team/kube-apiserver", "kubeadm's static pods are in kube-system"],
  ["a-team/kube-controller-manager", "kubeadm's static pods are in kube-system"],
  ["a-team/miner", "the kubelet has no record of it on this node"],
  ["a-team/miner-hash", "the kubelet has no record of it on this node"],
  ["a-team/miner-uuid", "the kubelet has no record of it on this node"],
  ["a-team/proxy", "the kubelet has no record of it on this node"],
  ["a-team/super", "the kubelet has no record of it on this node"],
  ["default/kube-scheduler", "kubeadm's static pods are in kube-system"],
  ["default/proxy", "it ran here, but whoever may change pods in default can have changed it since"],
  ["default/other", `another pod ran here under its name, by the kubelet's records: ${HASH}`],
  ["kube-system/contradicted", `another pod ran here under its name, by the kubelet's records: ${HASH}`],
] as const;

async function hostileControlPlane() {
  const node = await pretendNode({
    kind: "healthy control plane node",
    etcd: (objects) => Object.assign(objects, HOSTILE),
  });
  rmSync(`${node.root}/etc/kubernetes/manifests`, { recursive: true });
  for (const [namespace, name, uid] of [
    ["default", "proxy", HASH],
    ["default", "kube-scheduler", HASH],
    ["default", "other", HASH],
    ["kube-system", "contradicted", HASH],
    ["a-team", "miner-uuid", UUID],
  ] as const)
    podRecord(node.root, namespace, `${name}-m1`, uid);
  return node;
}

/** Files with anything of a stranger's, the data and what is laid aside left out. */
function planted(root: string): string[] {
  const { stdout } = spawnSync(
    "grep",
    ["-rlE", "evil.example|4444|/etc/kubernetes/evil", "--exclude-dir=etcd", root],
    {
      encoding: "utf8",
    },
  );
  return stdout.split("\n").filter((path) => path && !path.includes("/unproved/"));
}

test("00-assess names the mirror pods that nothing proves, and changes nothing; they are no damage", async () => {
  using node = await hostileControlPlane();
  const before = node.fingerprint();
  const { stdout } = await node.run("00-assess --json");
  const { damage } = JSON.parse(stdout) as { damage: { what: string; state: string; detail: string }[] };
  for (const [pod, why] of [...NAMED, ["a-team/etcd", NAMED[0][1]] as const])
    expect(damage).toContainEqual(
      expect.objectContaining({
        what: `mirror pod ${pod}`,
        state: "known",
        detail: `not put to use: ${why}`,
      }),
    );
  expect(damage.filter(({ what }) => what.startsWith("mirror pod"))).toHaveLength(NAMED.length + 1);
  expect(damage.filter(({ what }) => what.startsWith("manifests/")).map(({ what }) => what)).toEqual(
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-vip"].map(
      (name) => `manifests/${name}.yaml`,
    ),
  );
  expect(stdout).not.toMatch(/4444|evil|super-admin/);
  expect(node.fingerprint()).toEqual(before);
});

test("a healthy control plane node is none the worse for them", async () => {
  using node = await pretendNode({
    kind: "healthy control plane node",
    etcd: (objects) => Object.assign(objects, fakeMirror("a-team", "miner")),
  });
  const { exitCode, stdout } = await node.run("00-assess");
  expect([exitCode, stdout]).toEqual([
    0,
    expect.stringMatching(/ mirror pod a-team\/miner +note +not put to use: the kubelet has no record of it/),
  ]);
});

test("02-control-plane puts back what is real, keeps the rest from its place, and says so in a dry run as well", async () => {
  using node = await hostileControlPlane();
  const before = node.fingerprint();
  const dry = await node.run("02-control-plane --dry-run");
  expect(node.fingerprint()).toEqual(before);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { stderr } = await node.run("02-control-plane", { KUBE_PKI_REPAIR_PATIENCE: "0.005" });
  expect(stderr).toContain("error: Waited 180 s for ");
  for (const [pod, why] of NAMED)
    for (const said of [dry.stderr, stderr])
      expect(said).toContain(`  the static pod ${pod}: NOT put to use: ${why}; it is from the mirror pod `);
  const names = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-vip"];
  expect(readdirSync(`${node.root}/etc/kubernetes/manifests`).sort()).toEqual(
    names.map((name) => `${name}.yaml`),
  );
  for (const name of names)
    expect(dry.stderr).toContain(
      `would write /etc/kubernetes/manifests/${name}.yaml (from its mirror pod in etcd`,
    );
  expect(planted(node.root)).toEqual([]);
  expect(node.exists("/etc/kubernetes/super-admin.conf")).toBe(false);

  const [rescue] = readdirSync(`${node.root}/root`);
  const aside = readdirSync(`${node.root}/root/${rescue}/unproved`).sort();
  expect(aside).toEqual(NAMED.map(([pod]) => `${pod.replace("/", "_")}.yaml`).sort());
  expect(stderr.match(/only if you know that it is yours: install -D .*/g)).toHaveLength(
    NAMED.filter(([pod]) => !pod.includes("/kube-")).length,
  );
  for (const namespace of ["a-team", "default"])
    expect(stderr).toContain(
      `/unproved/${namespace}_proxy.yaml /etc/kubernetes/manifests/${namespace}-proxy.yaml\n`,
    );
  const kept = readFileSync(`${node.root}/root/${rescue}/unproved/kube-system_contradicted.yaml`, "utf8");
  expect(parse(kept).spec.containers[0].image).toBe("evil.example/contradicted");
});

test("01-etcd puts kube-system's etcd back, and lays a tenant's aside", async () => {
  using node = await hostileControlPlane();
  const running = node.run("01-etcd", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await Promise.race([node.called("systemctl restart kubelet"), running]);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const { exitCode, stderr } = await running;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    "  the static pod a-team/etcd: NOT put to use: kubeadm's static pods are in kube-system; it is from the mirror pod ",
  );
  expect(readdirSync(`${node.root}/etc/kubernetes/manifests`)).toEqual(["etcd.yaml"]);
  expect(planted(node.root)).toEqual([]);
});

test("01-etcd names a static pod of kube-system that cannot be read, and touches nothing", async () => {
  const etcd = (objects: Objects) =>
    Object.assign(
      objects,
      fakeMirror("kube-system", "etcd", {
        like: "etcd",
        change: ({ spec }) => Object.assign(spec, { volumes: "all" }),
      }),
    );
  using node = await pretendNode({ kind: "healthy control plane node", etcd });
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("01-etcd");
  expect([exitCode, stderr]).toEqual([
    1,
    expect.stringContaining(
      'error: Cannot read the pod "kube-system/etcd-m1" in etcd: spec.volumes is no list\nhint: ',
    ),
  ]);
  expect(node.fingerprint()).toEqual(before);
});

test("00-assess goes on beside pipes and nonsense in the manifests folder", async () => {
  using node = await pretendNode({ kind: "healthy control plane node" });
  const folder = `${node.root}/etc/kubernetes/manifests`;
  rmSync(`${folder}/kube-scheduler.yaml`);
  spawnSync("mkfifo", [`${folder}/kube-scheduler.yaml`, `${folder}/pipe.yaml`]);
  write(`${folder}/kube-controller-manager.yaml`, "spec: {volumes: {a: b}, containers: null}\n");
  write(`${folder}/etcd.yaml`, "{".repeat(100_000));
  const { exitCode, stdout } = await node.run("00-assess");
  expect(exitCode).toBe(2);
  expect(stdout).toMatch(/ manifests\/kube-scheduler\.yaml +!UNREADABLE! .* is no manifest: it is no file\n/);
  expect(stdout).toMatch(
    / manifests\/kube-controller-manager\.yaml +!UNREADABLE! .* is no manifest: spec\.volumes is no list\n/,
  );
  expect(stdout).toMatch(
    / manifests\/etcd\.yaml +!UNREADABLE! .* is no manifest: More than 100 levels of lists and mappings at line 1, column \d+\n/,
  );
});
