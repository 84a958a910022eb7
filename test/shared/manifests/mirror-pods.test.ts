/**
 * Mirror pods that a tenant, or a worker's kubelet, has made: none becomes a static pod, and none decides
 * anything. Real ones still come back.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { execFileSync, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EtcdData, readEtcdData } from "../../../shared/etcd-data/data.ts";
import { kubeSystemUids } from "../../../shared/evidence/owners.ts";
import { lostHere } from "../../../shared/facts/lost-files.ts";
import { isExternalCa } from "../../../shared/facts/signed-elsewhere.ts";
import { stat, writeFile } from "../../../shared/files/files.ts";
import { manifestPath, manifestText, readManifest } from "../../../shared/manifests/on-disk.ts";
import type { Container } from "../../../shared/node/containers.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";
import { registryPrefix } from "../../../shared/objects/stored.ts";
import { mode } from "../../../shared/run.ts";
import { lostConfigs } from "../../../shared/salvage/disk/encryption-config.ts";
import { staleReaders } from "../../../shared/static-pods/restarts.ts";
import { restoreManifests } from "../../../shared/static-pods/restore.ts";
import {
  onlyOnPeers,
  otherStaticPods,
  wantsSuperAdmin,
} from "../../../shared/static-pods/wanted-manifests.ts";
import { clusterObjects, healthyCp, manifest, type Objects } from "../../pretend/cluster.ts";
import { controlPlaneOf, NODE, pretendData } from "../../pretend/control-plane-node.ts";
import { fakeMirror, HASH, OTHER_HASH, UUID } from "../../pretend/hostile-pods.ts";
import { podRecord } from "../../pretend/memory.ts";
import { CLUSTER_ID, MEMBER } from "../../pretend/node.ts";
import { type Sandbox, sandbox } from "../../pretend/sandbox.ts";
import { writeEtcdData } from "../../pretend/write-wal.ts";

const CONTROL_PLANE = ["kube-apiserver.yaml", "kube-controller-manager.yaml", "kube-scheduler.yaml"];
/** Milliseconds: a limit that a busy machine does not reach. */
setDefaultTimeout(300_000);

const { root: HEALTHY } = await healthyCp();

/**
 * Restores the manifests of part 2; their files, and all that a pod of `evil.example` could have got into.
 */
function restored(data: EtcdData, box: Sandbox) {
  cpSync(`${HEALTHY}/etc/kubernetes`, `${box.dir}/etc/kubernetes`, {
    recursive: true,
    filter: (path) => !path.includes("/manifests"),
  });
  restoreManifests(controlPlaneOf(data));
  const found = spawnSync("grep", ["-rl", "--devices=skip", "evil.example", box.dir], {
    encoding: "utf8",
  }).stdout;
  const evil = found.split("\n").filter((path) => path && !path.includes("/unproved/"));
  return {
    files: readdirSync(`${box.dir}/etc/kubernetes/manifests`).sort(),
    evil,
    said: box.said.join("\n"),
  };
}

interface Attack {
  pods: () => Objects;
  records?: [namespace: string, name: string, uid: string][];
  /** What is said of it; undefined: it is passed over. */
  said?: string;
}

const ATTACKS: Record<string, Attack> = {
  "a tenant's pod with kubeadm's name": {
    pods: () => fakeMirror("a-team", "kube-apiserver", { like: "kube-apiserver" }),
    said: "the static pod a-team/kube-apiserver: NOT put to use: kubeadm's static pods are in kube-system",
  },
  "a tenant's pod with kubeadm's name and a record of it": {
    pods: () => fakeMirror("a-team", "kube-scheduler", { like: "kube-scheduler", hash: HASH }),
    records: [["a-team", "kube-scheduler-m1", HASH]],
    said: "the static pod a-team/kube-scheduler: NOT put to use: kubeadm's static pods are in kube-system",
  },
  "a static pod of a tenant's own": {
    pods: () => fakeMirror("a-team", "miner"),
    said: "the static pod a-team/miner: NOT put to use: the kubelet has no record of it on this node",
  },
  "one in default": {
    pods: () => fakeMirror("default", "miner"),
    said: "the static pod default/miner: NOT put to use",
  },
  "a hash that is the UID of the tenant's own pod, which runs here": {
    pods: () => fakeMirror("a-team", "miner", { hash: UUID }),
    records: [["a-team", "miner-m1", UUID]],
    said: "the static pod a-team/miner: NOT put to use: the kubelet has no record of it on this node",
  },
  "a hash of a static pod's form, without a record": {
    pods: () => fakeMirror("a-team", "miner", { hash: HASH }),
    said: "the static pod a-team/miner: NOT put to use: the kubelet has no record of it on this node",
  },
  "another hash than the record": {
    pods: () => fakeMirror("default", "proxy", { hash: OTHER_HASH }),
    records: [["default", "proxy-m1", HASH]],
    said: `the static pod default/proxy: NOT put to use: another pod ran here under its name, by the kubelet's records: ${HASH}`,
  },
  "a hash that is no text": {
    pods: () =>
      fakeMirror("default", "proxy", {
        change: ({ metadata }) =>
          Object.assign(metadata.annotations!, { "kubernetes.io/config.hash": [HASH] }),
      }),
    records: [["default", "proxy-m1", HASH]],
  },
  "the record of a static pod in another namespace": {
    pods: () => fakeMirror("a-team", "proxy", { hash: HASH }),
    records: [["default", "proxy-m1", HASH]],
    said: "the static pod a-team/proxy: NOT put to use",
  },
  "the record of a pod that has not the node's name": {
    pods: () => fakeMirror("a-team", "proxy", { hash: HASH }),
    records: [["a-team", "proxy", HASH]],
    said: "the static pod a-team/proxy: NOT put to use",
  },
  "one of kube-system that the kubelet's records contradict": {
    pods: () => fakeMirror("kube-system", "kube-vip", { hash: OTHER_HASH }),
    records: [["kube-system", "kube-vip-m1", HASH]],
    said: "the static pod kube-system/kube-vip: NOT put to use: another pod ran here under its name",
  },
  "one that another node's kubelet bound to itself in kube-system": {
    pods: () => fakeMirror("kube-system", "kube-vip", { node: "w1" }),
  },
  "one of the node x-m1": { pods: () => fakeMirror("kube-system", "kube-vip-x", { node: "x-m1" }) },
  "a name with slashes": { pods: () => fakeMirror("kube-system", "../../../root/x") },
  "a name that goes up": { pods: () => fakeMirror("kube-system", "..") },
  "a name with a leading dot": { pods: () => fakeMirror("kube-system", ".hidden") },
  "a name in capitals": { pods: () => fakeMirror("kube-system", "Miner") },
  "a name with a line break": { pods: () => fakeMirror("a-team", "x\n  done.") },
  "another name and namespace inside": {
    pods: () =>
      fakeMirror("a-team", "x", {
        change: ({ metadata }) => Object.assign(metadata, { name: "kube-vip-m1", namespace: "kube-system" }),
      }),
  },
  "an encrypted pod": { pods: () => ({ "pods/a-team/x-m1": "k8s:enc:aescbc:v1:key1:\u0001\u0002" }) },
  "JSON that is cut off": { pods: () => ({ "pods/a-team/x-m1": '{"kind":"Pod","metadata":' }) },
  "JSON that is no object": { pods: () => ({ "pods/a-team/x-m1": '["Pod"]' }) },
  "lists in lists without end": {
    pods: () => ({ "pods/a-team/x-m1": `{"a":${"[".repeat(200_000)}${"]".repeat(200_000)}}` }),
  },
  "neither metadata nor spec": { pods: () => ({ "pods/a-team/x-m1": '{"kind":"Pod","apiVersion":"v1"}' }) },
  "metadata that is null": {
    pods: () => ({ "pods/a-team/x-m1": '{"kind":"Pod","apiVersion":"v1","metadata":null,"spec":null}' }),
  },
  "a name that is missing": {
    pods: () =>
      fakeMirror("a-team", "x", { change: ({ metadata }) => Object.assign(metadata, { name: undefined }) }),
  },
  "volumes that are a map": { pods: () => odd({ volumes: { a: "b" } }), records: [["a-team", "x-m1", HASH]] },
  "containers that are null": { pods: () => odd({ containers: null }), records: [["a-team", "x-m1", HASH]] },
  "containers that are text": {
    pods: () => odd({ containers: "evil.example" }),
    records: [["a-team", "x-m1", HASH]],
  },
  "a command that is text": {
    pods: () => odd({ containers: [{ name: "x", command: "evil.example" }] }),
    records: [["a-team", "x-m1", HASH]],
  },
  "tolerations that are text": {
    pods: () => odd({ tolerations: "all" }),
    records: [["a-team", "x-m1", HASH]],
  },
};

function odd(spec: object): Objects {
  return fakeMirror("a-team", "x", { hash: HASH, change: (pod) => Object.assign(pod.spec, spec) });
}

test.each(Object.entries(ATTACKS))(
  "%s becomes no static pod, and stops nothing",
  async (_, { pods, records = [], said }) => {
    const data = await pretendData((objects) => Object.assign(objects, pods()));
    using box = sandbox();
    for (const [namespace, name, uid] of records) podRecord(box.dir, namespace, name, uid);
    const { files, evil, said: all } = restored(data, box);
    expect({ files, evil }).toEqual({ files: CONTROL_PLANE, evil: [] });
    if (said) expect(all).toContain(said);
    else expect(all).not.toMatch(/NOT put|x-m1|miner|kube-vip/);
  },
);

test("what is laid aside is kept whole, with its origin and the command that would take it; kubeadm's names have no command", async () => {
  const data = await pretendData((objects) =>
    Object.assign(
      objects,
      fakeMirror("a-team", "miner"),
      fakeMirror("a-team", "kube-scheduler", { like: "kube-scheduler" }),
    ),
  );
  using box = sandbox();
  const { said } = restored(data, box);
  const [, kept, place] = /only if you know that it is yours: install -D -m 600 (\S+) (\S+)$/m.exec(said)!;
  expect(place).toBe("/etc/kubernetes/manifests/miner.yaml");
  expect(kept).toMatch(/^\/root\/kube-pki-repair-\d{8}T\d{6}\/unproved\/a-team_miner\.yaml$/);
  expect(readManifest(kept!)?.spec.containers[0]?.image).toBe("evil.example/miner");
  expect(said).toContain(
    "it is from the mirror pod a-team/miner-m1 in etcd's data, where whoever may create a pod there can write",
  );
  expect(said.match(/install -D/g)).toHaveLength(1);
  expect(said).toContain(`look at it first: cat -v ${kept};`);
  expect(said).toMatch(/^look at it: cat -v \S+\/unproved\/a-team_kube-scheduler\.yaml$/m);
  expect(existsSync(`${box.dir}${kept!.replace("a-team_miner", "a-team_kube-scheduler")}`)).toBe(true);
});

test("a hundred of them are twenty files", async () => {
  const data = await pretendData((objects) => {
    for (let i = 0; i < 100; i++) Object.assign(objects, fakeMirror("a-team", `miner-${i}`));
  });
  using box = sandbox();
  const { files, said } = restored(data, box);
  expect(files).toEqual(CONTROL_PLANE);
  const [rescue] = readdirSync(`${box.dir}/root`);
  expect(readdirSync(`${box.dir}/root/${rescue}/unproved`)).toHaveLength(20);
  expect(said).toContain("80 more such mirror pods: NOT put to use, and not saved");
});

/** What was put in its order; undefined deletes. */
async function dataOf(puts: [string, object | undefined][]): Promise<EtcdData> {
  const { ca } = await healthyCp();
  const all = [...Object.entries(clusterObjects(ca.cert)), ...puts];
  const dir = mkdtempSync(join(tmpdir(), "etcd-"));
  process.on("exit", () => rmSync(dir, { recursive: true, force: true }));
  const values = all.map(([key, value]): [string, string | undefined] => [
    `/registry/${key}`,
    value && JSON.stringify(value),
  ]);
  writeEtcdData(dir, { clusterId: CLUSTER_ID, members: [MEMBER], puts: values });
  return readEtcdData(dir);
}

test("a tenant's living pod does not take the place of kube-system's, which its kubelet has deleted", async () => {
  const evil = Object.entries(fakeMirror("a-team", "kube-scheduler", { like: "kube-scheduler" })) as [
    string,
    object,
  ][];
  const data = await dataOf([["pods/kube-system/kube-scheduler-m1", undefined], ...evil]);
  using box = sandbox();
  const { files, evil: planted, said } = restored(data, box);
  expect({ files, planted }).toEqual({ files: CONTROL_PLANE, planted: [] });
  expect(said).toContain("kube-scheduler.yaml (from its mirror pod in etcd's history)");
});

test("where a worker's kubelet has taken the name in kube-system, bound to itself, the pod that was here before comes back", async () => {
  const evil = Object.entries(
    fakeMirror("kube-system", "kube-apiserver", { like: "kube-apiserver", node: "w1" }),
  ) as [string, object][];
  const data = await dataOf([["pods/kube-system/kube-apiserver-m1", undefined], ...evil]);
  using box = sandbox();
  const { files, evil: planted, said } = restored(data, box);
  expect({ files, planted }).toEqual({ files: CONTROL_PLANE, planted: [] });
  expect(said).toContain("kube-apiserver.yaml (from its mirror pod in etcd's history)");
});

test.each([
  ["encrypted", "k8s:enc:aescbc:v1:key1:\u0001", 'pods are encrypted with "aescbc:v1:key1"'],
  ["JSON that is cut off", '{"kind":', "Cannot decode an object stored in etcd"],
  ["of no known format", "[1]", "it is no pod"],
  ["volumes that are a map", { volumes: { a: "b" } }, "spec.volumes is no list"],
  ["containers that are null", { containers: null }, "it has no containers"],
  ["containers that are text", { containers: "x" }, "spec.containers is no list"],
  [
    "variables without a name",
    { containers: [{ name: "x", env: [{}] }] },
    "spec.containers[0].env[0].name is missing",
  ],
])("a static pod of kube-system that cannot be read is named: %s", async (_, change, why) => {
  const key = "pods/kube-system/kube-vip-m1";
  const pods =
    typeof change === "string"
      ? { [key]: change }
      : fakeMirror("kube-system", "kube-vip", { change: ({ spec }) => Object.assign(spec, change) });
  const data = await pretendData((objects) => Object.assign(objects, pods));
  using box = sandbox();
  expect(() => restored(data, box)).toThrow(`Cannot read the pod "kube-system/kube-vip-m1" in etcd: ${why}`);
});

const GOOD = { image: "good.example/x" };

test("kube-vip comes back without a record, which is said, and with its own", async () => {
  const data = await pretendData((objects) =>
    Object.assign(objects, fakeMirror("kube-system", "kube-vip", { ...GOOD, hash: HASH })),
  );
  for (const [uid, note] of [
    [undefined, "(from its mirror pod in etcd, no record of it on this node)"],
    [HASH, "(from its mirror pod in etcd)"],
    [UUID, "(from its mirror pod in etcd, no record of it on this node)"],
  ] as const) {
    using box = sandbox();
    if (uid) podRecord(box.dir, "kube-system", "kube-vip-m1", uid);
    const { files, said } = restored(data, box);
    expect(files).toEqual([...CONTROL_PLANE, "kube-vip.yaml"]);
    expect(said).toContain(`kube-vip.yaml ${note}`);
  }
});

test("a static pod of default is kept and named, with the command that takes it: whoever may patch pods there may have changed it", async () => {
  const data = await pretendData((objects) =>
    Object.assign(objects, fakeMirror("default", "proxy", { hash: HASH })),
  );
  using box = sandbox();
  for (const uid of [OTHER_HASH, HASH]) podRecord(box.dir, "default", "proxy-m1", uid);
  const { files, evil, said } = restored(data, box);
  expect({ files, evil }).toEqual({ files: CONTROL_PLANE, evil: [] });
  expect(said).toContain(
    "the static pod default/proxy: NOT put to use: it ran here, but whoever may change pods in default can have changed it since",
  );
  expect(said).toMatch(/install -D -m 600 \S+default_proxy\.yaml \/etc\/kubernetes\/manifests\/proxy\.yaml/);
});

test("of two static pods by one name kube-system's comes back, and the other is named and gets another file", async () => {
  const both = {
    ...fakeMirror("default", "proxy", { hash: HASH }),
    ...fakeMirror("kube-system", "proxy", { ...GOOD }),
  };
  const data = await pretendData((objects) => Object.assign(objects, both));
  using box = sandbox();
  podRecord(box.dir, "default", "proxy-m1", HASH);
  const { files, evil, said } = restored(data, box);
  expect({ files, evil }).toEqual({ files: [...CONTROL_PLANE, "proxy.yaml"], evil: [] });
  expect(said).toContain("the static pod default/proxy: NOT put to use: it ran here, but");
  expect(said).toMatch(
    /install -D -m 600 \S+default_proxy\.yaml \/etc\/kubernetes\/manifests\/default-proxy\.yaml/,
  );
});

test("a manifest of root's in another namespace is not exchanged for its mirror pod, nor moved away as a second one", async () => {
  const both = {
    ...fakeMirror("default", "proxy", { hash: HASH }),
    ...fakeMirror("kube-system", "proxy", { ...GOOD }),
  };
  const data = await pretendData((objects) => Object.assign(objects, both));
  using box = sandbox();
  podRecord(box.dir, "default", "proxy-m1", HASH);
  const own = { ...manifest("kube-vip"), metadata: { name: "proxy" } };
  const file = "/etc/kubernetes/manifests/proxy.yaml";
  writeFile(file, manifestText(own));
  const { files, evil, said } = restored(data, box);
  expect({ files, evil }).toEqual({
    files: [...CONTROL_PLANE, "kube-system-proxy.yaml", "proxy.yaml"].sort(),
    evil: [],
  });
  expect(readFileSync(box.dir + file, "utf8")).toBe(manifestText(own));
  expect(said).not.toContain("default/proxy");
});

test("facts: the port is kube-system's API server's, whatever a tenant's annotation says", async () => {
  const key = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint";
  const change = ({ metadata }: Manifest) =>
    Object.assign(metadata.annotations!, { [key]: metadata.annotations![key]!.replace(":6443", ":4444") });
  const evil = fakeMirror("a-team", "kube-apiserver", { like: "kube-apiserver", change });
  const data = await pretendData((objects) => Object.assign(objects, evil));
  using _box = sandbox();
  expect(controlPlaneOf(data).facts.bindPort).toBe(6443);
});

test("facts: an external CA stays external beside a tenant's controller-manager that has a key to sign with, and is none by one that has none", async () => {
  const without = (pod: Manifest) => ({
    ...pod,
    spec: JSON.parse(JSON.stringify(pod.spec).replaceAll(/"--cluster-signing-(cert|key)-file=[^"]*",/g, "")),
  });
  const key = "pods/kube-system/kube-controller-manager-m1";
  const fake = fakeMirror("a-team", "kube-controller-manager", { like: "kube-controller-manager" });
  const flipped = await pretendData((objects) =>
    Object.assign(objects, fake, { [key]: without(objects[key] as Manifest) }),
  );
  const alone = await pretendData((objects) => {
    delete objects[key];
    Object.assign(objects, {
      "pods/a-team/kube-controller-manager-m1": without(Object.values(fake)[0] as Manifest),
    });
  });
  using _box = sandbox();
  const controlPlanes = {
    nodes: [{ name: "m1", controlPlane: true }],
    certificatesDir: "/etc/kubernetes/pki",
  };
  expect([isExternalCa(flipped, controlPlanes), isExternalCa(alone, controlPlanes)]).toEqual([true, false]);
});

test("a tenant's API server names no lost configuration", async () => {
  const change = ({ spec }: Manifest) =>
    spec.containers[0]!.command!.push("--encryption-provider-config=/etc/kubernetes/pki/evil.yaml");
  const data = await pretendData((objects) =>
    Object.assign(objects, fakeMirror("a-team", "kube-apiserver", { like: "kube-apiserver", change })),
  );
  using _box = sandbox();
  const lost = lostHere({
    data,
    node: NODE,
    certificatesDir: "/etc/kubernetes/pki",
    etcd: { dir: "/var/lib/etcd", wal: undefined },
  });
  expect(lost.map(({ namedBy }) => namedBy)).toEqual(["--audit-policy-file"]);
  expect(lostConfigs(lost)).toEqual([]);
});

test("a tenant's pod is no reason for a super-admin.conf, names no static pod of another control plane node, and hides none", async () => {
  const labels = { "node-role.kubernetes.io/control-plane": "" };
  const m2 = {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name: "m2", uid: "m2", labels },
    status: { addresses: [] },
  };
  const change = ({ spec }: Manifest) =>
    Object.assign(spec, { volumes: [{ name: "x", hostPath: { path: "/etc/kubernetes/super-admin.conf" } }] });
  const pods = {
    ...fakeMirror("a-team", "miner", { change }),
    ...fakeMirror("a-team", "balancer", { node: "m2" }),
  };
  const data = await pretendData((objects) => {
    for (const name of ["kube-apiserver", "kube-controller-manager", "kube-scheduler"])
      delete objects[`pods/kube-system/${name}-m1`];
    Object.assign(
      objects,
      { "minions/m2": m2 },
      pods,
      fakeMirror("kube-system", "kube-vip", { node: "m2", suffix: "m2" }),
      {
        "pods/kube-system/kube-apiserver-m2": JSON.parse(
          JSON.stringify(clusterObjects("")["pods/kube-system/kube-apiserver-m1"])
            .replaceAll("-m1", "-m2")
            .replaceAll('"m1"', '"m2"'),
        ),
      },
    );
  });
  using _box = sandbox();
  expect(wantsSuperAdmin(controlPlaneOf(data))).toBe(false);
  expect(onlyOnPeers(controlPlaneOf(data))).toEqual([{ name: "kube-vip", peer: "m2" }]);
});

test("what starts again is the static pod, as its manifest on disk has it: no container of a tenant whose pod has its name", async () => {
  const data = await pretendData((objects) =>
    Object.assign(objects, fakeMirror("kube-system", "kube-vip", { hash: OTHER_HASH })),
  );
  using box = sandbox();
  podRecord(box.dir, "kube-system", "kube-vip-m1", HASH);
  writeFile("/etc/kubernetes/manifests/kube-vip.yaml", manifestText(manifest("kube-vip")));
  writeFile("/etc/kubernetes/manifests/nothing.yaml", "a: b\n");
  for (const file of ["admin.conf", "scheduler.conf"]) writeFile(`/etc/kubernetes/${file}`, "new");
  const UIDS: Record<string, string> = { "kube-system": HASH, "a-team": UUID };
  const container = (namespace: string, name: string): Container => {
    return {
      id: `${namespace}/${name}`,
      name,
      pod: `${name}-m1`,
      namespace,
      running: true,
      podUid: UIDS[namespace]!,
      created: new Date(0),
    };
  };
  const running = ["kube-system", "a-team"].flatMap((namespace) =>
    ["kube-scheduler", "kube-vip"].map((name) => container(namespace, name)),
  );
  const cp = controlPlaneOf(data);
  expect(staleReaders(cp, running).map(({ container: { id } }) => id)).toEqual([
    "kube-system/kube-scheduler",
    "kube-system/kube-vip",
  ]);
  expect(otherStaticPods(cp)).toEqual([{ namespace: "kube-system", name: "kube-vip" }]);
});

test("a static pod that mounts the folder of the certificates starts again, and one that mounts another folder does not", async () => {
  const mounting = (name: string, path: string) =>
    fakeMirror("kube-system", name, {
      change: ({ spec }: Manifest) => Object.assign(spec, { volumes: [{ name: "x", hostPath: { path } }] }),
    });
  const data = await pretendData((objects) =>
    Object.assign(
      objects,
      mounting("balancer", "/etc/kubernetes/pki"),
      mounting("miner", "/etc/kubernetes/pk"),
    ),
  );
  using _box = sandbox();
  writeFile("/etc/kubernetes/pki/apiserver.crt", "new");
  const running = ["balancer", "miner"].map((name): Container => {
    const where = { name, pod: `${name}-m1`, namespace: "kube-system" };
    return { ...where, id: name, running: true, podUid: HASH, created: new Date(0) };
  });
  expect(
    staleReaders(controlPlaneOf(data), running).map(({ container, file }) => [container.id, file]),
  ).toEqual([["balancer", "/etc/kubernetes/pki/apiserver.crt"]]);
});

test("what was changed in this run is this kit's; what was changed before it, nobody says", async () => {
  const data = await pretendData();
  using _box = sandbox();
  writeFile("/etc/kubernetes/scheduler.conf", "new");
  const now = stat("/etc/kubernetes/scheduler.conf")!.modified.getTime();
  const ofKit = (began: number) => {
    mode.began = new Date(began);
    return staleReaders(controlPlaneOf(data), [scheduler]).map(({ isOurs }) => isOurs);
  };
  const scheduler: Container = {
    ...{ id: "1", name: "kube-scheduler", pod: "kube-scheduler-m1", namespace: "kube-system" },
    ...{ running: true, podUid: HASH, created: new Date(0) },
  };
  expect([ofKit(now - 1), ofKit(now + 1)]).toEqual([[true], [false]]);
});

test("the keys' prefix is not a namespace that is called namespaces", async () => {
  const prefix = (keys: string[]) =>
    registryPrefix({ keys: () => keys, get: () => undefined } as unknown as EtcdData);
  expect(prefix(["/east/configmaps/namespaces/kube-system", "/east/namespaces/kube-system"])).toBe("/east");
});

test("a kubelet's mirror pod in kube-system does not make another pod's folder kube-system's", async () => {
  const data = await pretendData((objects) =>
    Object.assign(objects, fakeMirror("kube-system", "x", { node: "w1", hash: UUID }), {
      "pods/kube-system/odd": { kind: "Pod", apiVersion: "v1", metadata: null },
    }),
  );
  using _box = sandbox();
  expect(kubeSystemUids(data).has(UUID)).toBe(false);
  expect(kubeSystemUids(data).has("uid-of-etcd")).toBe(true);
});

test("pipes, links in a ring, folders and huge files in the manifests folder are passed over, and none is waited for", async () => {
  const data = await pretendData((objects) =>
    Object.assign(objects, fakeMirror("kube-system", "kube-vip", { ...GOOD })),
  );
  using box = sandbox();
  const folder = `${box.dir}/etc/kubernetes/manifests`;
  mkdirSync(`${folder}/a-folder`, { recursive: true });
  execFileSync("mkfifo", [`${folder}/pipe.yaml`, `${folder}/kube-scheduler.yaml`]);
  symlinkSync("ring", `${folder}/ring`);
  symlinkSync("pipe.yaml", `${folder}/to-pipe`);
  writeFile("/etc/kubernetes/manifests/huge.yaml", "metadata: {name: kube-vip}\n");
  truncateSync(`${folder}/huge.yaml`, 2 ** 32);
  expect(manifestPath({ node: NODE }, "kube-vip")).toBe("/etc/kubernetes/manifests/kube-vip.yaml");
  expect(() => readManifest("/etc/kubernetes/manifests/huge.yaml")).toThrow("has 4294967296 bytes");
  expect(() => readManifest("/etc/kubernetes/manifests/kube-scheduler.yaml")).toThrow("it is no file");
  const { files, said } = restored(data, box);
  expect(files).toEqual(expect.arrayContaining([...CONTROL_PLANE, "kube-vip.yaml"]));
  expect(said).toContain("moved /etc/kubernetes/manifests/kube-scheduler.yaml to ");
});
