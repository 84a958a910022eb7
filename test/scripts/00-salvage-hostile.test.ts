/**
 * 00-salvage where a tenant, a container or whoever has a volume on the disk has laid out what it may find:
 * the cluster's own keys come back, never his.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { createCipheriv, createPrivateKey, randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { parse, stringify } from "yaml";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa } from "../../shared/pki/issue.ts";
import { keyPair } from "../../shared/pki/keys.ts";
import { serviceAccountKeyId } from "../../shared/pki/sa-keys.ts";
import { FACTS, healthyCp, type Objects, otherCa, write } from "../pretend/cluster.ts";
import { layOut } from "../pretend/lost-disk.ts";
import {
  bigInt,
  DELEGATED,
  POD_UID,
  type PretendProcess,
  podRecord,
  pretendProcess,
  STATIC_UID,
} from "../pretend/memory.ts";
import { CRICTL, type NodeOptions, pretendNode, type Transcript } from "../pretend/node.ts";
import { newKeyOf, tokenBy } from "../pretend/old-keys.ts";

/** Milliseconds. A script takes half a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const { root: healthy } = await healthyCp();
const pki = (file: string) => readFileSync(`${healthy}/etc/kubernetes/pki/${file}`, "utf8");
const scalar = (pem: string) => bigInt(createPrivateKey(pem));
const OWN = { key: pki("sa.key"), pub: pki("sa.pub") };
/** The attacker's. */
const his = {
  sa: newKeyOf("ECDSA-P256"),
  ca: await otherCa(),
  etcdCa: await issueCa(certRow("etcd-ca"), FACTS),
};
const HIS_UID = "66666666-0a9b-4c8d-8e7f-1a2b3c4d5e6f";
const SHARED = ["ca.crt", "ca.key", "sa.key", "sa.pub"];

const MANAGER: PretendProcess = {
  pid: 31,
  comm: "kube-controller",
  holds: [scalar(pki("ca.key")), scalar(pki("sa.key"))],
};

/** A tenant's container that calls itself a controller-manager, with his keys in its memory. */
const IMPOSTOR: PretendProcess = {
  pid: 20,
  comm: "kube-controller",
  holds: [scalar(his.sa.key), scalar(his.ca.key)],
  cgroup: `/kubepods/besteffort/pod${HIS_UID}/${"d".repeat(64)}`,
};

type Node = Awaited<ReturnType<typeof pretendNode>>;

/**
 * A control plane node whose /etc/kubernetes is gone, with a pod of kube-system that has a token, and a
 * tenant's pod.
 */
async function wiped(processes: PretendProcess[], options: NodeOptions = {}): Promise<Node> {
  const node = await pretendNode(options);
  for (const process of processes) pretendProcess(node.root, process);
  mkdirSync(`${node.root}/dev/shm`, { recursive: true });
  podRecord(node.root, "kube-system", "kube-proxy-x", POD_UID);
  podRecord(node.root, "a-team", "kube-proxy-x", HIS_UID);
  inVolume(
    node,
    POD_UID,
    "token",
    tokenBy(OWN, { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 1_790_000_000 }),
  );
  return node;
}

/** A file in a projected volume of a pod: any ConfigMap with `path: token` makes one. */
function inVolume(node: Node, uid: string, file: string, content: string) {
  write(
    `${node.root}/var/lib/kubelet/pods/${uid}/volumes/kubernetes.io~projected/${file}-volume/${file}`,
    content,
  );
}

const HIS_TOKEN = tokenBy(his.sa, { alg: "ES256", of: "kube-system:kube-proxy", issuedAt: 9_999_999_999 });

function expectOwn(node: Node, run: Transcript, files: readonly string[]) {
  const found = files.map((file) => [
    file,
    node.exists(`/etc/kubernetes/pki/${file}`) && node.read(`/etc/kubernetes/pki/${file}`),
  ]);
  expect([run.stderr, found]).toEqual([run.stderr, files.map((file) => [file, pki(file)])]);
}

/** No file that the node uses has what he laid out; the rescue folder may. */
function expectNothingOf(node: Node, texts: readonly string[], below = "/etc") {
  if (!existsSync(node.root + below)) return;
  const names = readdirSync(node.root + below, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  const contents = names.map((entry) => readFileSync(`${entry.parentPath}/${entry.name}`, "utf8"));
  for (const text of texts) expect(contents.filter((content) => content.includes(text.trim()))).toEqual([]);
}

test("a tenant's token, and his key in a process called kube-controller: the cluster's own sa.key comes back", async () => {
  using node = await wiped([IMPOSTOR, MANAGER]);
  inVolume(node, HIS_UID, "token", HIS_TOKEN);
  const run = await node.run("00-salvage");
  expectOwn(node, run, SHARED);
  expect(run.stderr).toContain("kube-controller (pid 20): not searched: it only has this name");
});

test("a tenant's token without a key of his anywhere does not keep the own key from its place", async () => {
  using node = await wiped([MANAGER]);
  inVolume(node, HIS_UID, "token", HIS_TOKEN);
  expectOwn(node, await node.run("00-salvage"), SHARED);
});

test("where etcd cannot be read, a tenant's ca.crt does not make his CA the cluster's", async () => {
  using node = await wiped([
    { ...IMPOSTOR, pid: 40, comm: "etcd" },
    { ...MANAGER, holds: [...MANAGER.holds!, scalar(his.ca.key)] },
  ]);
  rmSync(`${node.root}/var/lib/etcd`, { recursive: true });
  mkdirSync(`${node.root}/var/lib/etcd`);
  // whatever order folders are read in
  for (const digit of ["0", "9"]) inVolume(node, HIS_UID.replaceAll("6", digit), "ca.crt", his.ca.cert);
  inVolume(node, POD_UID, "ca.crt", pki("ca.crt"));
  expectOwn(node, await node.run("00-salvage memory"), SHARED);
});

test("a tenant's token Secret decides nothing", async () => {
  const secret = {
    token: Buffer.from(HIS_TOKEN).toString("base64"),
    "ca.crt": Buffer.from(his.ca.cert).toString("base64"),
  };
  const etcd = (objects: Objects) => {
    objects["secrets/a-team/t"] = {
      ...{ apiVersion: "v1", kind: "Secret", type: "kubernetes.io/service-account-token" },
      ...{ metadata: { name: "t", namespace: "a-team" }, data: secret },
    };
  };
  using node = await wiped(
    [{ ...MANAGER, holds: [...MANAGER.holds!, scalar(his.sa.key), scalar(his.ca.key)] }],
    { etcd },
  );
  rmSync(`${node.root}/var/lib/kubelet/pods/${POD_UID}`, { recursive: true });
  const run = await node.run("00-salvage memory");
  expectOwn(node, run, ["ca.crt", "ca.key"]);
  expectNothingOf(node, [his.sa.key, his.sa.pub, his.ca.cert]);
});

test("01-etcd --new-cas is not blinded by a tenant's token: it refuses to end the process that holds the own keys", async () => {
  using node = await wiped([MANAGER]);
  inVolume(node, HIS_UID, "token", HIS_TOKEN);
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect([exitCode, stderr]).toEqual([
    1,
    expect.stringMatching(/ca\.key is still in the memory .*, sa\.key is still in the memory/),
  ]);
  expect(node.calls().filter((call) => /stop/.test(call))).toEqual([]);
});

test("01-etcd --new-cas refuses for an earlier key of the cluster's as well: which one is in use is not for it to say", async () => {
  const earlier = newKeyOf("ECDSA-P256");
  using node = await wiped([{ ...MANAGER, holds: [scalar(earlier.key), scalar(pki("ca.key"))] }]);
  inVolume(
    node,
    POD_UID,
    "token",
    tokenBy(OWN, { alg: "ES256", of: "kube-system:a", issuedAt: 1_790_000_000 }),
  );
  write(
    `${node.root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/b/token`,
    tokenBy(earlier, { alg: "ES256", of: "kube-system:b", issuedAt: 1_780_000_000 }),
  );
  expect((await node.run("01-etcd --new-cas")).stderr).toContain(
    "sa.key is still in the memory of kube-controller-manager",
  );
});

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const claims = (more: object = {}) => ({
  sub: "system:serviceaccount:kube-system:a",
  iat: 9_999_999_999,
  ...more,
});
const KID = serviceAccountKeyId(his.sa.pub);

const ODD: [what: string, token: string][] = [
  ["alg constructor", `${encode({ alg: "constructor", kid: KID })}.${encode(claims())}.c2ln`],
  ["alg __proto__", `${encode({ alg: "__proto__", kid: KID })}.${encode(claims())}.c2ln`],
  ["alg toString", `${encode({ alg: "toString", kid: KID })}.${encode(claims())}.c2ln`],
  ["alg none", `${encode({ alg: "none", kid: KID })}.${encode(claims())}.c2ln`],
  ["alg HS256", `${encode({ alg: "HS256", kid: KID })}.${encode(claims())}.c2ln`],
  ["an alg that is a list", `${encode({ alg: ["ES256"], kid: KID })}.${encode(claims())}.c2ln`],
  ["a kid that is a number", `${encode({ alg: "ES256", kid: 7 })}.${encode(claims())}.c2ln`],
  ["a kid that is an object", `${encode({ alg: "ES256", kid: { toString: 1 } })}.${encode(claims())}.c2ln`],
  ["a kid that is no hash", `${encode({ alg: "ES256", kid: "../../etc" })}.${encode(claims())}.c2ln`],
  [
    "an iat that is text",
    `${encode({ alg: "ES256", kid: KID })}.${encode(claims({ iat: "9999999999" }))}.c2ln`,
  ],
  [
    "an iat without end",
    `${encode({ alg: "ES256", kid: KID })}.${Buffer.from('{"sub":"system:serviceaccount:a:b","iat":1e999}').toString("base64url")}.c2ln`,
  ],
  [
    "an iat that is an object",
    `${encode({ alg: "ES256", kid: KID })}.${encode(claims({ iat: { valueOf: 1 } }))}.c2ln`,
  ],
  ["a header that is null", `${encode(null)}.${encode(claims())}.c2ln`],
  ["claims that are a list", `${encode({ alg: "ES256", kid: KID })}.${encode([1])}.c2ln`],
  ["no JSON", "YQ.YQ.YQ"],
  ["a megabyte", `${encode({ alg: "ES256", kid: KID, x: "x".repeat(1 << 20) })}.${encode(claims())}.c2ln`],
  [
    "escape sequences",
    `${encode({ alg: "ES256", kid: "\u001b[2J\u001b]0;owned\u0007" })}.${encode(claims())}.c2ln`,
  ],
];

test.each(ODD)(
  "a token with %s neither stops the salvage nor names a key, wherever it lies",
  async (_, token) => {
    const etcd = (objects: Objects) => {
      objects["secrets/a-team/t"] = {
        ...{ apiVersion: "v1", kind: "Secret", type: "kubernetes.io/service-account-token" },
        ...{
          metadata: { name: "t", namespace: "a-team" },
          data: { token: Buffer.from(token).toString("base64") },
        },
      };
    };
    using node = await wiped([MANAGER], { etcd });
    inVolume(node, HIS_UID, "token", token);
    const run = await node.run("00-salvage memory");
    expectOwn(node, run, SHARED);
    expect(run.stderr).not.toContain("\u001b");
  },
);

test("a key that kube-system's tokens name and that verifies none of them is not taken", async () => {
  using node = await wiped([MANAGER]);
  const [head, body] = tokenBy(OWN, {
    alg: "ES256",
    of: "kube-system:kube-proxy",
    issuedAt: 1_790_000_000,
  }).split(".");
  const foreign = tokenBy(his.sa, {
    alg: "ES256",
    of: "kube-system:kube-proxy",
    issuedAt: 1_790_000_000,
  }).split(".")[2];
  inVolume(node, POD_UID, "token", `${head}.${body}.${foreign}`);
  const run = await node.run("00-salvage memory");
  expect([run.exitCode, run.stderr]).toEqual([
    2,
    expect.stringContaining("verifies none of them: not taken"),
  ]);
  expectOwn(node, run, ["ca.crt", "ca.key"]);
  expect(node.exists("/etc/kubernetes/pki/sa.key")).toBe(false);
});

test("of two keys that kube-system's tokens name with equal right none is taken, until a person says which: --kid", async () => {
  const other = newKeyOf("ECDSA-P256");
  using node = await wiped([{ ...MANAGER, holds: [...MANAGER.holds!, scalar(other.key)] }]);
  write(
    `${node.root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/b/token`,
    tokenBy(other, { alg: "ES256", of: "kube-system:b", issuedAt: 1_790_000_000 }),
  );
  const run = await node.run("00-salvage memory");
  const kid = serviceAccountKeyId(OWN.pub);
  expect([run.exitCode, run.stderr]).toEqual([
    1,
    expect.stringContaining("sa.key: 2 were found, and each can be the one in use"),
  ]);
  expect(run.stderr).toContain(`--kid=${kid}`);
  expect(node.exists("/etc/kubernetes/pki/sa.key")).toBe(false);
  expectOwn(node, run, ["ca.crt", "ca.key"]);
  expectOwn(node, await node.run(`00-salvage memory --kid=${kid}`), SHARED);
});

test("where only an earlier key is found, it is kept in the rescue folder, named, and taken with --kid alone", async () => {
  const earlier = newKeyOf("ECDSA-P256");
  using node = await wiped([{ ...MANAGER, holds: [scalar(pki("ca.key")), scalar(earlier.key)] }]);
  write(
    `${node.root}/var/lib/kubelet/pods/${POD_UID}/volumes/kubernetes.io~projected/b/token`,
    tokenBy(earlier, { alg: "ES256", of: "kube-system:b", issuedAt: 1_780_000_000 }),
  );
  const run = await node.run("00-salvage memory");
  const kid = serviceAccountKeyId(earlier.pub);
  expect([run.exitCode, run.stderr]).toEqual([
    2,
    expect.stringContaining(
      `only an earlier sa.key was found; if it is the one in use: the same command with --kid=${kid}`,
    ),
  ]);
  const [rescue] = readdirSync(`${node.root}/root`);
  expect(
    readdirSync(`${node.root}/root/${rescue}/unproved`).filter((name) => name.startsWith("sa-")),
  ).toHaveLength(2);
  expect(node.exists("/dev/shm/kube-pki-repair-salvage")).toBe(false);
  await node.run(`00-salvage memory --kid=${kid}`);
  expect(node.read("/etc/kubernetes/pki/sa.key")).toContain("EC PRIVATE KEY");
  expect((await node.run("00-salvage memory --kid nonsense")).stderr).toContain(
    'error: "nonsense" names none of the known sa keys',
  );
});

// ---- processes ----

/** As pretendProcess gives it to MANAGER. */
const MANAGERS_UID = `0031${STATIC_UID.slice(4)}`;

const OTHERS: { place: string; is: Partial<PretendProcess>; record?: true }[] = [
  { place: "a tenant's container", is: {} },
  {
    place: "a cgroup of its own below its container's, named as a static pod's",
    is: { cgroup: `${IMPOSTOR.cgroup}/kubepods/burstable/pod${STATIC_UID}/${"c".repeat(64)}` },
  },
  {
    place: "a unit of a user's own",
    is: { cgroup: "/user.slice/user-1000.slice/user@1000.service/kube-controller-manager.service" },
  },
  { place: "a unit of another name", is: { cgroup: "/system.slice/evil.service" } },
  {
    place: "a unit below a container's cgroup",
    is: { cgroup: `${IMPOSTOR.cgroup}/system.slice/kube-controller-manager.service` },
  },
  {
    place: "a pod of kube-system that is no static pod of that name",
    is: { cgroup: `/kubepods/besteffort/pod${POD_UID}/${"e".repeat(64)}` },
  },
  { place: "no cgroup at all", is: { cgroup: "/" } },
  {
    place: "a cgroup that a user has named as the static pod's",
    is: { cgroup: `${DELEGATED}/app.slice/pod${MANAGERS_UID}/x`, his: DELEGATED },
  },
  {
    place: "a cgroup that a unit's user has named as the static pod's",
    is: { cgroup: `/system.slice/ci.service/pod${MANAGERS_UID}/x`, his: "/system.slice/ci.service" },
  },
  {
    place: "a pod of another namespace that has a static pod's name",
    is: { cgroup: `/kubepods/burstable/pod${STATIC_UID}/${"f".repeat(64)}` },
    record: true,
  },
];

// to lay out a user's folder takes root
test.each(OTHERS.filter(({ is }) => !is.his || process.getuid?.() === 0))(
  "a process called kube-controller in $place is not read: its files and its memory may be endless",
  async (other) => {
    using node = await wiped([{ ...IMPOSTOR, mapped: 2 ** 40, ...other.is }, MANAGER]);
    if (other.record) podRecord(node.root, "a-team", "kube-controller-manager-m1", STATIC_UID);
    fifo(`${node.root}/proc/20/root/etc/kubernetes/controller-manager.conf`);
    const run = await node.run("00-salvage memory");
    expectOwn(node, run, SHARED);
    expect(run.stderr).toContain("kube-controller (pid 20): not searched");
  },
);

test("a worker's mirror pod in kube-system that claims a tenant's pod as its own does not make the tenant's volumes kube-system's", async () => {
  const annotations = {
    "kubernetes.io/config.mirror": HIS_UID,
    "kubernetes.io/config.hash": HIS_UID,
    "kubernetes.io/config.source": "file",
  };
  const etcd = (objects: Objects) => {
    objects["pods/kube-system/x-w1"] = {
      ...{
        apiVersion: "v1",
        kind: "Pod",
        metadata: { name: "x-w1", namespace: "kube-system", uid: "uid-of-x", annotations },
      },
      spec: { nodeName: "w1", containers: [{ name: "x", image: "x" }] },
    };
  };
  using node = await wiped([{ ...MANAGER, holds: [...MANAGER.holds!, scalar(his.sa.key)] }], { etcd });
  inVolume(node, HIS_UID, "token", HIS_TOKEN);
  expectOwn(node, await node.run("00-salvage memory"), SHARED);
});

test("a runtime's container of another namespace is none of the control plane's, whatever its name", async () => {
  const id = "d".repeat(64);
  const labels = {
    "io.kubernetes.pod.name": "kube-controller-manager-m1",
    "io.kubernetes.pod.namespace": "a-team",
    "io.kubernetes.pod.uid": HIS_UID,
  };
  const container = { id, metadata: { name: "kube-controller-manager" }, labels, state: "CONTAINER_RUNNING" };
  const commands = [
    { command: `${CRICTL} ps -a -o json`, stdout: JSON.stringify({ containers: [container] }) },
  ];
  using node = await wiped([IMPOSTOR, MANAGER], { commands });
  const run = await node.run("00-salvage memory");
  expectOwn(node, run, SHARED);
  expect(run.stderr).toContain(
    "is the container kube-controller-manager of a-team/kube-controller-manager-m1",
  );
});

test("--pid reads a process that the operator vouches for, and nothing that is called otherwise", async () => {
  using node = await wiped([{ ...MANAGER, cgroup: "/odd" }]);
  expect((await node.run("00-salvage memory")).exitCode).toBe(2);
  expect((await node.run("00-salvage memory --pid 99")).stderr).toContain(
    "error: No process 99 here has the name of a control plane's process",
  );
  expectOwn(node, await node.run("00-salvage memory --pid 31"), SHARED);
});

const IN_THE_WAY: [what: string, lay: (path: string) => void][] = [
  ["a pipe", fifo],
  ["a link to a file of this node", (path) => symlinkSync("/etc/shadow", path)],
  [
    "a link to a pipe",
    (path) => {
      fifo(`${path}.pipe`);
      symlinkSync(`${path}.pipe`, path);
    },
  ],
  ["a folder", (path) => void mkdirSync(path)],
  ["a file of 100 MB", (path) => writeFileSync(path, Buffer.alloc(100e6))],
  ["nothing that can be read", (path) => writeFileSync(path, "users: {a: b}\nclusters: 7\n")],
];

test.each(IN_THE_WAY)(
  "%s in the place of a mounted kubeconfig does not keep the keys from their place",
  async (_, lay) => {
    using node = await wiped([MANAGER]);
    for (const name of ["admin.conf", "controller-manager.conf", "scheduler.conf", "super-admin.conf"])
      lay(`${node.root}/proc/31/root/etc/kubernetes/${name}`);
    const run = await node.run("00-salvage memory");
    expectOwn(node, run, SHARED);
    expect(node.exists("/etc/kubernetes/controller-manager.conf")).toBe(false);
  },
);

test("a link on the way to a mounted kubeconfig is not followed", async () => {
  using node = await wiped([MANAGER]);
  const conf = readFileSync(`${healthy}/etc/kubernetes/controller-manager.conf`, "utf8");
  rmSync(`${node.root}/proc/31/root/etc`, { recursive: true });
  write(`${node.root}/srv/kubernetes/controller-manager.conf`, conf);
  symlinkSync("../../../srv", `${node.root}/proc/31/root/etc`);
  expectOwn(node, await node.run("00-salvage memory"), SHARED);
  expect(node.exists("/etc/kubernetes/controller-manager.conf")).toBe(false);
});

// ---- the stash ----

const STASHES: [what: string, lay: (folder: string) => void][] = [
  ["somebody else's", (folder) => chownSync(folder, 65534, 65534)],
  ["open to all", (folder) => chmodSync(folder, 0o777)],
];

test.each(STASHES)(
  "a folder for found keys that is %s is neither read, nor used, nor removed",
  async (_, lay) => {
    using node = await wiped([MANAGER]);
    const folder = `${node.root}/dev/shm/kube-pki-repair-salvage`;
    mkdirSync(folder, { mode: 0o700 });
    fifo(`${folder}/ca.key`);
    lay(folder);
    const run = await node.run("00-salvage memory");
    expectOwn(node, run, SHARED);
    expect(readdirSync(folder)).toEqual(["ca.key"]);
  },
);

test("a link to nowhere in the place of that folder does not stop the salvage", async () => {
  using node = await wiped([MANAGER]);
  symlinkSync("/nowhere", `${node.root}/dev/shm/kube-pki-repair-salvage`);
  const run = await node.run("00-salvage memory");
  expectOwn(node, run, SHARED);
  expect(run.stderr).toContain("/dev/shm/kube-pki-repair-salvage belongs to another user: not used");
});

// ---- the disk ----

function encryption(...keys: [name: string, secret: Buffer][]): string {
  const aescbc = { keys: keys.map(([name, secret]) => ({ name, secret: secret.toString("base64") })) };
  const resources = [{ resources: ["secrets"], providers: [{ aescbc }, { identity: {} }] }];
  return stringify({ apiVersion: "apiserver.config.k8s.io/v1", kind: "EncryptionConfiguration", resources });
}

/** The API server's mirror pod names a file of this node by this flag. */
function withFlag(flag: string) {
  return (objects: Objects) => {
    const pod = objects["pods/kube-system/kube-apiserver-m1"] as {
      spec: { containers: { command: string[]; volumeMounts: object[] }[]; volumes: object[] };
    };
    pod.spec.containers[0]!.command.push(`${flag}=/etc/kubernetes/extra/config.yaml`);
    pod.spec.containers[0]!.volumeMounts.push({ name: "extra", mountPath: "/etc/kubernetes/extra" });
    pod.spec.volumes.push({ name: "extra", hostPath: { path: "/etc/kubernetes/extra" } });
    // aescbc of nobody's key: nothing here opens it
    objects["secrets/kube-system/sealed"] = `k8s:enc:aescbc:v1:one:${"0123456789abcdef".repeat(4)}`;
  };
}

async function searchImage(node: Node, files: Record<string, string>, args = ""): Promise<Transcript> {
  const image = `${node.root}/root/image`;
  writeFileSync(image, layOut(files, 4096));
  const run = await node.run(`00-salvage disk --image ${image} ${args}`.trim());
  rmSync(image);
  return run;
}

function aside(node: Node): string[] {
  const rescue = readdirSync(`${node.root}/root`).find((name) => name.startsWith("kube-pki-repair-"));
  const folder = `${node.root}/root/${rescue}/unproved`;
  return rescue && existsSync(folder) ? readdirSync(folder) : [];
}

test("a planted encryption configuration is not put to use: it is named, laid aside, and the command that would take it is printed", async () => {
  const planted = encryption(["one", Buffer.alloc(32, "his")]);
  using node = await wiped([], { etcd: withFlag("--encryption-provider-config") });
  const run = await searchImage(node, { planted, ca: pki("ca.key"), sa: pki("sa.key") });
  expectOwn(node, run, SHARED);
  expectNothingOf(node, [planted]);
  expect(run.stderr).toContain("/etc/kubernetes/extra/config.yaml, 1 of 1 found: NOT put to use");
  expect(run.stderr).toMatch(
    /install -D -m 600 \/root\/kube-pki-repair-TIME\/unproved\/\S+ \/etc\/kubernetes\/extra\/config\.yaml/,
  );
  expect(aside(node)).toEqual(["encryption-provider-config-1-config.yaml"]);
});

test("a planted pair of etcd's CA is not put to use, however well it belongs together", async () => {
  using node = await wiped([]);
  const run = await searchImage(node, {
    a: his.etcdCa.cert,
    b: his.etcdCa.key,
    ca: pki("ca.key"),
    sa: pki("sa.key"),
  });
  expectOwn(node, run, SHARED);
  expectNothingOf(node, [his.etcdCa.cert, his.etcdCa.key]);
  expect(run.stderr).toMatch(/etcd\/ca\.key \(CA sha256:HASH, made on DATE\): NOT put to use/);
  expect(run.stderr).toMatch(
    /install -D -m 600 \S+\/unproved\/etcd-ca-\w+\.key \/etc\/kubernetes\/pki\/etcd\/ca\.key/,
  );
});

test("an encryption configuration that opens what etcd holds comes back out of a heap of others'", async () => {
  const secret = Buffer.alloc(32, "own");
  const etcd = (objects: Objects) => {
    withFlag("--encryption-provider-config")(objects);
    objects["secrets/kube-system/sealed"] = seal(secret, "one", '{"kind":"Secret","apiVersion":"v1"}');
  };
  const own = encryption(["one", secret]);
  const heap = Object.fromEntries(
    Array.from({ length: 20 }, (_, i) => [`his-${i}`, encryption(["one", Buffer.alloc(32, `${i}`)])]),
  );
  using node = await wiped([], { etcd });
  await searchImage(node, { ...heap, own, ca: pki("ca.key"), sa: pki("sa.key") });
  expect(node.read("/etc/kubernetes/extra/config.yaml")).toBe(own);
});

test.each([
  [
    "two that open it",
    "2 versions decrypt etcd's data, and each can be the one in use",
    ["one", "two"],
    "2 of 2 found, writes with aescbc ",
  ],
  [
    "one that writes in clear",
    "new values would be written in clear: identity is its first provider",
    ["clear"],
    "1 of 1 found, writes with identity: NOT put",
  ],
])(
  "of encryption configurations on the disk that open etcd's data, %s are a question, and nothing is put into the place",
  async (_, words, names, label) => {
    const secret = Buffer.alloc(32, "own");
    const etcd = (objects: Objects) => {
      withFlag("--encryption-provider-config")(objects);
      objects["secrets/kube-system/sealed"] = seal(secret, "one", '{"kind":"Secret","apiVersion":"v1"}');
    };
    const texts: Record<string, string> = {
      one: encryption(["one", secret]),
      two: encryption(["two", Buffer.alloc(32, "new")], ["one", secret]),
      clear: clearFirst(encryption(["one", secret])),
    };
    using node = await wiped([], { etcd });
    const files = Object.fromEntries(names.map((name) => [name, texts[name]!]));
    const run = await searchImage(node, { ...files, ca: pki("ca.key"), sa: pki("sa.key") });
    expectOwn(node, run, SHARED);
    expect(run.exitCode).toBe(1);
    expectNothingOf(node, Object.values(files));
    expect(run.stderr).toContain(label);
    expect(run.stderr).toContain(
      `error: /etc/kubernetes/extra/config.yaml: ${words}\nhint: type the install line of the right one, above, then `,
    );
    for (const i of names.keys())
      expect(run.stderr).toMatch(
        new RegExp(
          `install -D -m 600 /root/kube-pki-repair-TIME/unproved/encryption-provider-config-${i + 1}-config.yaml /etc/kubernetes/extra/config.yaml`,
        ),
      );
    expect(aside(node).filter((name) => name.startsWith("encryption"))).toHaveLength(names.length);
  },
);

/** As while an administrator decrypts all of it. */
function clearFirst(text: string): string {
  const config = parse(text);
  config.resources[0].providers.reverse();
  return stringify(config);
}

test("an encryption configuration with so many keys that one fits by chance is none", async () => {
  const etcd = withFlag("--encryption-provider-config");
  // "{" and right padding come out of one key in 65,536; here of the 200th
  const lucky = Buffer.alloc(32, "lucky");
  const chance = (objects: Objects) => {
    etcd(objects);
    objects["secrets/kube-system/sealed"] = seal(lucky, "one", "{ no JSON at all");
  };
  using node = await wiped([], { etcd: chance });
  const many = encryption(
    ...Array.from({ length: 200 }, (_, i): [string, Buffer] => [
      "one",
      i === 3 ? lucky : Buffer.alloc(32, `${i}`),
    ]),
  );
  const run = await searchImage(node, { many, ca: pki("ca.key"), sa: pki("sa.key") });
  expectOwn(node, run, SHARED);
  expectNothingOf(node, [many]);
});

/** As kube-apiserver's aescbc provider stores a value. */
function seal(key: Buffer, name: string, plain: string): Buffer {
  const iv = randomBytes(16);
  const cipher = createCipheriv("aes-256-cbc", key, iv);
  return Buffer.concat([Buffer.from(`k8s:enc:aescbc:v1:${name}:`), iv, cipher.update(plain), cipher.final()]);
}

const ODD_YAML: [what: string, text: string][] = [
  ["resources that are a map", config("resources: {a: b}")],
  ["resources that are text", config("resources: abc")],
  ["a kind that is a list", `kind: [EncryptionConfiguration]\n${config("resources: []")}`],
  ["a key __proto__", config("__proto__: {polluted: 1}\nresources: []")],
  [
    "aliases that blow up",
    config(
      `resources: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c]`,
    ),
  ],
  ["an alias to nothing", config("resources: *nothing")],
  ["tags", config("resources: !!js/function 'x'\nb: !!binary abc\nc: !!timestamp 7")],
  [
    "an odd shape",
    config(
      "resources: [7, null, {providers: {a: b}}, {providers: [null, {aescbc: 7}, {aescbc: {keys: {a: b}}}]}]",
    ),
  ],
  ["itself in it", config("resources: [&a [*a, *a]]")],
  ["keys nested a thousand deep", config(`resources: ${"[".repeat(1000)}${"]".repeat(1000)}`)],
  ["two documents and a mark", `%YAML 1.1\n---\n${config("resources: 1")}...\n`],
];

function config(rest: string): string {
  return `apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n${rest}\n`;
}

test.each(ODD_YAML)(
  "an encryption configuration with %s on the disk does not keep the keys behind it from being found",
  async (_, text) => {
    using node = await wiped([], { etcd: withFlag("--encryption-provider-config") });
    const run = await searchImage(node, {
      odd: text,
      "odd-again": `${text}# ${"x".repeat(5000)}\n`,
      ca: pki("ca.key"),
      sa: pki("sa.key"),
    });
    expectOwn(node, run, SHARED);
  },
);

test("what throws in the search of the disk, whatever it is, does not keep the keys out of memory from their place", async () => {
  using node = await wiped([MANAGER], { etcd: withFlag("--encryption-provider-config") });
  writeFileSync(`${node.root}/root/image`, layOut({ odd: ODD_YAML[0]![1] }, 4096));
  const run = await node.run(`00-salvage --image ${node.root}/root/image`);
  expectOwn(node, run, SHARED);
});

test("3,000 planted encryption configurations make no 3,000 files", async () => {
  using node = await wiped([], { etcd: withFlag("--encryption-provider-config") });
  const planted = Object.fromEntries(
    Array.from({ length: 3000 }, (_, i) => [`p${i}`, encryption(["one", Buffer.alloc(32, `${i}`)])]),
  );
  const run = await searchImage(node, { ...planted, ca: pki("ca.key"), sa: pki("sa.key") });
  expectOwn(node, run, SHARED);
  const rescue = `${node.root}/root/${readdirSync(`${node.root}/root`)[0]}`;
  expect(readdirSync(rescue, { recursive: true }).length).toBeLessThan(20);
});

test("thousands of cut keys and of ends of keys do not keep the own ones from being found", async () => {
  using node = await wiped([]);
  const pairs = await Promise.all(Array.from({ length: 20 }, () => keyPair("RSA-2048")));
  const cut = Object.fromEntries(
    Array.from({ length: 4000 }, (_, i) => {
      const { key } = pairs[i % pairs.length]!;
      const noise = String(i).padStart(8, "0");
      return i % 2 === 0
        ? [`h${i}`, `${key.slice(0, 500)}${noise}${key.slice(508, 900)}`]
        : [`e${i}`, `${noise}${key.slice(1000)}`];
    }),
  );
  const run = await searchImage(node, { ...cut, ca: pki("ca.key"), sa: pki("sa.key") });
  expectOwn(node, run, SHARED);
});

test("a search that has used up its time puts back what it has proved by then, and says that it was ended", async () => {
  using node = await wiped([MANAGER]);
  const image = `${node.root}/root/image`;
  writeFileSync(image, layOut({ ca: pki("ca.key"), sa: pki("sa.key") }, 4096));
  const run = await node.run(`00-salvage disk --image ${image} --minutes 0.0000001`);
  expect([run.exitCode, run.stderr]).toEqual([1, expect.stringContaining("ended early: it has taken")]);
  expectOwn(node, run, SHARED);
});

test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
  "%s in the middle of a search: what is proved goes into its place",
  async (signal) => {
    using node = await wiped([
      { ...MANAGER, holds: [scalar(pki("ca.key"))] },
      { pid: 34, comm: "etcd", mapped: 2 ** 40 },
    ]);
    const child = Bun.spawn([process.execPath, "scripts/00-salvage.ts", "memory"], {
      cwd: `${import.meta.dir}/../..`,
      env: { ...process.env, PATH: `${node.env.PATH}:${process.env.PATH}`, KUBE_PKI_REPAIR_ROOT: node.root },
      stderr: "pipe",
    });
    await node.written("/dev/shm/kube-pki-repair-salvage");
    child.kill(signal);
    expect(await child.exited).toBe(130);
    expect(await new Response(child.stderr).text()).toContain("stopped: the search is not at its end");
    expect(node.read("/etc/kubernetes/pki/ca.key")).toBe(pki("ca.key"));
    expect([
      node.exists("/dev/shm/kube-pki-repair-salvage"),
      node.exists("/etc/kubernetes/pki/sa.key"),
    ]).toEqual([false, false]);
  },
);

// ---- 00-token-key and 00-assess ----

test("00-token-key trusts kube-system's tokens alone, also where only the kubelet's records name them", async () => {
  using node = await wiped([]);
  inVolume(node, HIS_UID, "token", HIS_TOKEN);
  for (const [i, [, token]] of ODD.entries())
    inVolume(node, HIS_UID.replace(/..$/, String(10 + i)), "token", token);
  const run = await node.run("00-token-key");
  expect([run.exitCode, run.stderr]).toEqual([0, expect.stringContaining("the tokens' kid names it")]);
  expect(node.read("/etc/kubernetes/pki/sa-old.pub").trim()).toBe(OWN.pub.trim());
});

test("00-assess --deep searches no process that only has such a name, and names it", async () => {
  using node = await wiped([IMPOSTOR, MANAGER]);
  inVolume(node, HIS_UID, "token", HIS_TOKEN);
  fifo(`${node.root}/proc/20/root/etc/kubernetes/admin.conf`);
  const { stdout, stderr } = await node.run("00-assess --deep --no-disk");
  expect(stdout).toContain("the memory of kube-controller-manager (pid 31)");
  expect(stderr).toContain("kube-controller (pid 20): not searched");
});

function fifo(path: string) {
  mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  Bun.spawnSync(["mkfifo", path]);
}
