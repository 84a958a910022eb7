/** All control plane nodes are lost: restore on a new machine, as operators run it. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { readEtcdData } from "../../shared/etcd-data/data.ts";
import { hostOf } from "../../shared/etcd-location/reach-etcd.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa, issueLeaf, type Pair } from "../../shared/pki/issue.ts";
import { REVISION_BUMP } from "../../shared/restore/write-data.ts";
import { closedOnce } from "../pretend/closed-once.ts";
import {
  ADDRESS,
  clusterObjects,
  FACTS,
  healthyCp,
  type Objects,
  otherCa,
  write,
} from "../pretend/cluster.ts";
import { BALANCER, said } from "../pretend/endpoint.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { MEMBER, type NodeOptions, pretendNode, routesOf, SHOWN_ADDRESS } from "../pretend/node.ts";
import { here } from "../pretend/typed-here.ts";
import { type Content, snapshotOf } from "../pretend/write-db.ts";
import { type WrittenMember, writeEtcdData } from "../pretend/write-wal.ts";

setDefaultTimeout(300_000);

const DAY = 24 * 3600_000;
const TAKEN = new Date(Date.now() - 3 * DAY);

/** Leases, which tell of the time. A worker's clock decides nothing. */
function more(objects: Objects) {
  objects["leases/kube-node-lease/m1"] = {
    ...{ apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name: "m1" } },
    spec: { renewTime: TAKEN.toISOString() },
  };
  objects["leases/kube-node-lease/w1"] = {
    ...{ apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: { name: "w1" } },
    spec: { renewTime: new Date(Date.now() + DAY).toISOString() },
  };
}

interface Lost {
  objects?: (objects: Objects) => void;
  members?: WrittenMember[];
  buckets?: Content;
  machine?: NodeOptions;
}

async function putsOf(change: (objects: Objects) => void = () => undefined) {
  const { ca } = await healthyCp();
  const objects = clusterObjects(ca.cert);
  more(objects);
  change(objects);
  return Object.entries(objects).map(
    ([key, object]) =>
      [`/registry/${key}`, typeof object === "string" ? object : JSON.stringify(object)] as [string, string],
  );
}

/** A machine on which nothing is but a snapshot of the lost cluster. */
async function newMachine({ objects, members = [MEMBER], buckets, machine }: Lost = {}) {
  const node = here(await pretendNode({ kind: "no node", ...machine }));
  const puts = await putsOf(objects);
  writeFileSync(`${node.root}/root/snapshot.db`, snapshotOf({ members, puts, ...(buckets && { buckets }) }));
  return Object.assign(node, { puts });
}

const LINE = "restore snapshot.db --as m1";

test("a snapshot becomes etcd's data and the kubelet's files; what it holds is said before", async () => {
  using node = await newMachine();
  const { exitCode, stderr } = await node.run(LINE);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("its SHA-256 is right");
  expect(stderr).toMatch(/as of DATE \d\d:\d\d UTC, 3 days ago, by the newest Lease of a control plane node/);
  expect(stderr).toContain("3 node(s), 4 pod(s)\n");
  expect(stderr).toContain("objects created since then are lost, and objects deleted since then come back");
  expect(stderr.indexOf("comes back")).toBeLessThan(stderr.indexOf("== S.4"));
  expect(stderr).toContain(`nobody answers at https://${SHOWN_ADDRESS}:6443`);
  using data = readEtcdData(join(node.root, "var/lib/etcd"));
  expect(data.members.map(({ name, peerURLs }) => [name, peerURLs])).toEqual([
    ["m1", [`https://${ADDRESS}:2380`]],
  ]);
  expect(data.revision).toBe(node.puts.length + 1 + REVISION_BUMP);
  expect(data.keyCount).toBe(node.puts.length);
  expect(node.read("/var/lib/kubelet/config.yaml")).toBe(
    'serverTLSBootstrap: false\ncontainerRuntimeEndpoint: "unix:///run/containerd/containerd.sock"\n',
  );
  expect(node.read("/var/lib/kubelet/kubeadm-flags.env")).toBe('KUBELET_KUBEADM_ARGS=""\n');
  expect(stderr).toEndWith(
    "\ndone.  next: systemctl enable kubelet, then ./bunw scripts/hand-over.ts unpack BUNDLE (without a bundle: part 1 with --new-cas), then parts 1 to 5 (./bunw scripts/plan.ts prints them)\n",
  );
});

test("a dry run writes nothing, and a second run writes over nothing", async () => {
  using node = await newMachine();
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(`${LINE} --dry-run`);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("would write /var/lib/etcd/member");
  expect(stderr).toContain(`its SHA-256 is right, and each of its ${node.puts.length} values is whole`);
  expect(node.fingerprint()).toEqual(before);
  expect((await node.run(LINE)).exitCode).toBe(0);
  const after = node.fingerprint();
  const again = await node.run(LINE);
  expect(again.exitCode).toBe(1);
  expect(again.stderr).toContain('There is something in "/var/lib/etcd": member');
  expect(node.fingerprint()).toEqual(after);
});

test.each<[string, (db: Buffer, at: number) => unknown, RegExp]>([
  ["a value", (db, at) => db.fill(0, at + 40, at + 80), /1 value\(s\) are damaged, .*: \/registry\//],
  ["a page", (db, at) => db.fill(0, at & -4096, (at & -4096) + 4096), /is damaged: page \d+/],
])("a dry run says that %s of the snapshot was zeros when it was taken", async (_, damage, why) => {
  using node = await newMachine();
  const path = `${node.root}/root/snapshot.db`;
  const db = readFileSync(path).subarray(0, -32);
  damage(db, db.indexOf('{"apiVersion"'));
  writeFileSync(path, Buffer.concat([db, createHash("sha256").update(db).digest()]));
  const { exitCode, stderr } = await node.run(`${LINE} --dry-run`);
  expect({ exitCode, stderr }).not.toMatchObject({ exitCode: 0 });
  expect(stderr).toMatch(why);
});

test("cut off before etcd's data has its name, it begins again", async () => {
  using node = await newMachine();
  expect((await node.run(LINE)).exitCode).toBe(0);
  const member = `${node.root}/var/lib/etcd/member`;
  renameSync(member, `${node.root}/var/lib/etcd/.member.999999.kube-pki-repair.partial`);
  const { exitCode, stderr } = await node.run(LINE);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(readdirSync(`${node.root}/var/lib/etcd`)).toEqual(["member"]);
});

test("under another host name the kubelet is told the node's; before 1.34 its runtime, too", async () => {
  using node = await newMachine({
    machine: { commands: [{ command: "uname -n", stdout: "spare7\n" }] },
    objects(objects) {
      const config = objects["configmaps/kube-system/kubeadm-config"] as { data: Record<string, string> };
      config.data.ClusterConfiguration = config.data.ClusterConfiguration!.replace(/v1\.\d+\.\d+/, "v1.31.2");
    },
  });
  write(`${node.root}/var/run/crio/crio.sock`, "");
  expect(await node.run(LINE)).toMatchObject({ exitCode: 0 });
  expect(node.read("/var/lib/kubelet/kubeadm-flags.env")).toBe(
    'KUBELET_KUBEADM_ARGS="--container-runtime-endpoint=unix:///var/run/crio/crio.sock --hostname-override=m1"\n',
  );
  expect(node.read("/var/lib/kubelet/config.yaml")).toBe("serverTLSBootstrap: false\n");
  expect(node.exists("/var/lib/kubelet/instance-config.yaml")).toBe(false);
});

test.each(["/run/containerd/containerd.sock", "/var/run/crio/crio.sock", "/var/run/cri-dockerd.sock"])(
  "the kubelet is told of the runtime that is here, at %s",
  async (socket) => {
    using node = await newMachine();
    write(node.root + socket, "");
    expect(await node.run(LINE)).toMatchObject({ exitCode: 0 });
    expect(node.read("/var/lib/kubelet/config.yaml")).toContain(
      `containerRuntimeEndpoint: "unix://${socket}"`,
    );
  },
);

test("a kubelet's files that are here are kept", async () => {
  using node = await newMachine();
  write(`${node.root}/var/lib/kubelet/config.yaml`, "staticPodPath: /etc/kubernetes/manifests\n");
  const { exitCode, stderr } = await node.run(LINE);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("unchanged /var/lib/kubelet/config.yaml");
  expect(node.exists("/var/lib/kubelet/kubeadm-flags.env")).toBe(false);
});

const alarm = String.fromCharCode(8, 77, 16, 1);
const version = (stored: string): Content => ({
  meta: { consistent_index: Buffer.alloc(8), storageVersion: stored, term: Buffer.alloc(8) },
});

test.each<[string, Lost, string, string, number]>([
  ["no name", {}, "restore snapshot.db", "needs the name of the control plane node", 64],
  ["nothing to restore", {}, "restore --as m1", "needs one snapshot, or --from", 64],
  ["both", {}, "restore snapshot.db --as m1 --from /mnt", "No etcd data in", 1],
  ["a worker's name", {}, "restore snapshot.db --as w1", '"w1" is not one of the control plane nodes', 3],
  ["an alarm", { buckets: { alarm: { [alarm]: "" } } }, LINE, "has the alarm NOSPACE", 3],
  ["users", { buckets: { auth: { authEnabled: "\x01" } } }, LINE, "is of an etcd with users", 3],
  ["a newer etcd than its image", { buckets: version("3.9.0") }, LINE, "The data is of etcd 3.9.0", 3],
  [
    "no cluster of kubeadm's",
    { objects: without("configmaps/kube-system/kubeadm-config") },
    LINE,
    "kubeadm-config",
    3,
  ],
  [
    "an address that is not here",
    {},
    `${LINE} --address 10.1.2.3`,
    'This machine has no address "10.1.2.3"',
    1,
  ],
  ["another host name in its flags", { machine: { kind: "worker" } }, LINE, 'calls itself "w1"', 1],
])("with %s nothing is changed", async (_, lost, line, said, code) => {
  using node = await newMachine(lost);
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run(line);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: code });
  expect(stderr).toContain(said);
  expect(stderr).toMatch(/\nhint: .+\n(?: {2}.+\n)*$/);
  expect(node.fingerprint()).toEqual(before);
});

function without(key: string) {
  return (objects: Objects) => void delete objects[key];
}

test.each(["at the first question", "later"])(
  "a member that still answers, %s, by the CA of etcd that lies here, is a cluster that still lives, whatever the operator says",
  async (when) => {
    using node = await newMachine();
    const { root } = await healthyCp();
    cpSync(root, `${node.root}/old`, { recursive: true });
    write(
      `${node.root}/etc/kubernetes/pki/etcd/ca.crt`,
      readFileSync(`${root}/etc/kubernetes/pki/etcd/ca.crt`),
    );
    const serve = () => serveEtcd(`${node.root}/old`, sameEtcd(new Map(node.puts)));
    using _etcd = when === "later" ? closedOnce({ hostname: ADDRESS, port: 2380 }, serve) : serve();
    const { exitCode, stderr } = await node.run(`${LINE} --lost-on m1`, { KUBE_PKI_REPAIR_PATIENCE: "1" });
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 3 });
    expect(stderr).toContain(`The old control plane still answers: m1's etcd at ${SHOWN_ADDRESS}:2380`);
    expect(stderr).toMatch(
      /\. Nothing was changed\nhint: repair the old control plane: .*\n {2}If .* on those nodes systemctl disable --now kubelet; for p in .*restore\.ts snapshot\.db --as m1 --lost-on m1\n$/,
    );
    expect(node.exists("/var/lib/etcd")).toBe(false);
  },
);

const M2 = ADDRESS.replace(/11$/, "12");
const API = certRow("apiserver");

/** Serves there with a certificate of this name; without a CA it has signed itself. */
async function answers(at: { hostname: string; port: number }, cn: string, by?: Pair) {
  const tls = by ? await issueLeaf({ ...API, cn }, by, FACTS) : await issueCa({ ...API, cn }, FACTS);
  const server = Bun.serve({ ...at, tls, fetch: () => new Response() });
  return { [Symbol.dispose]: () => void server.stop(true) };
}

/** It takes connections, and says nothing. */
function mute(at: { hostname: string; port: number }) {
  const server = Bun.listen({ ...at, socket: { data() {} } });
  return { [Symbol.dispose]: () => void server.stop(true) };
}

const PEER = { hostname: ADDRESS, port: 2380 };
const SERVER = { hostname: ADDRESS, port: 6443 };
const { ca } = await healthyCp();

test.each<[string, () => Disposable | Promise<Disposable>, string, RegExp]>([
  [
    "a stranger who calls himself m1 at its etcd's port",
    () => answers(PEER, "m1"),
    "etcd",
    /the name "m1" and the key sha256:\S+; no CA of etcd is here/,
  ],
  [
    "a stranger whose name is an order to the terminal",
    () => answers(PEER, "\x1b[2Jm1"),
    "etcd",
    /the name "\\u001b\[2Jm1" and the key/,
  ],
  [
    "somebody who takes connections at etcd's port and says nothing",
    () => mute(PEER),
    "etcd",
    /shows no certificate/,
  ],
  [
    "a kubelet, by its serving certificate of the cluster's CA, at the endpoint",
    () => answers(SERVER, "system:node:w1", ca),
    "kube-apiserver",
    /the name "system:node:w1" and the key sha256:\S+; the cluster's CA has signed it/,
  ],
])("where %s answers, it asks, and --lost-on goes on", async (_, serve, what, shows) => {
  using node = await newMachine();
  using _server = await serve();
  const before = node.fingerprint();
  const asked = await node.run(LINE);
  expect({ exitCode: asked.exitCode, stderr: asked.stderr }).toMatchObject({ exitCode: 3 });
  expect(asked.stderr).toContain(`may be ${what} of m1, but nothing here proves it`);
  expect(asked.stderr).toMatch(shows);
  expect(asked.stderr).toContain("./bunw scripts/restore.ts snapshot.db --as m1 --lost-on m1\n  If it is");
  expect(node.fingerprint()).toEqual(before);
  const { exitCode, stderr } = await node.run(`${LINE} --lost-on m1`);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toMatch(
    new RegExp(`m1: the server at \\S+ is not its ${what}, by your --lost-on. It shows `),
  );
  expect(node.exists("/var/lib/etcd/member")).toBe(true);
});

test.each<[string, () => Disposable | Promise<Disposable>, RegExp]>([
  [
    "a server of another CA, as a balancer's own page",
    async () => answers(SERVER, "kube-apiserver", await otherCa()),
    /:6443: another server answers: its certificate is not of this cluster's CA/,
  ],
  [
    "a balancer that takes connections and has nobody behind it",
    () => mute(SERVER),
    /nobody answers at https:\S+:6443/,
  ],
])("%s at the endpoint is said, and stops nothing", async (_, serve, said) => {
  using node = await newMachine();
  using _server = await serve();
  const { exitCode, stderr } = await node.run(LINE);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toMatch(said);
});

test("an API server of the cluster's CA is the old control plane, whatever name it is asked by and the operator says", async () => {
  using node = await newMachine({ objects: said({ kubeadm: `${BALANCER}:6443` }) });
  using _server = await answers({ hostname: BALANCER, port: 6443 }, "kube-apiserver", ca);
  const { exitCode, stderr } = await node.run(`${LINE} --lost-on m1`);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 3 });
  expect(stderr).toMatch(/The old control plane still answers: https:\S+\.15:6443\. Nothing was changed\n/);
});

test("of two members whose places strangers have, each is asked for by its name, and no other name is taken", async () => {
  const two = { id: "b2", name: "m2", peerURLs: [`https://${M2}:2380`] };
  using node = await newMachine({ members: [MEMBER, two] });
  using _one = await answers(PEER, "m1");
  using _two = await answers({ hostname: M2, port: 2380 }, "x");
  expect((await node.run(LINE)).stderr).toContain("may be etcd of m1, m2");
  const half = await node.run(`${LINE} --lost-on m1`);
  expect({ exitCode: half.exitCode, stderr: half.stderr }).toMatchObject({ exitCode: 3 });
  expect(half.stderr).toContain("may be etcd of m2, but");
  expect(half.stderr).toContain("--lost-on m1,m2");
  const wrong = await node.run(`${LINE} --lost-on m3`);
  expect({ exitCode: wrong.exitCode, stderr: wrong.stderr }).toMatchObject({ exitCode: 3 });
  expect(wrong.stderr).toContain('etcd knew no node "m3"');
  expect(await node.run(`${LINE} --lost-on m1,m2`)).toMatchObject({ exitCode: 0 });
});

// an address of the loopback tells nothing of a machine; at one of documentation nobody answers (RFC 3849)
const OTHER: WrittenMember = { id: "b2", name: "m2", peerURLs: ["https://[2001:db8::12]:2380"] };
const THIRD: WrittenMember = { id: "c3", name: "m3", peerURLs: ["https://[2001:db8::13]:2380"] };

/** Disks of m1 and m2; m2 has less of the log. */
async function disks(node: Awaited<ReturnType<typeof newMachine>>) {
  for (const [dir, own, less] of [
    ["cp1", MEMBER, 0],
    ["cp2", OTHER, 2],
  ] as const) {
    const members = [own, ...[MEMBER, OTHER, THIRD].filter((one) => one !== own)];
    mkdirSync(`${node.root}/mnt/${dir}`, { recursive: true });
    const puts = node.puts.slice(0, node.puts.length - less);
    writeEtcdData(`${node.root}/mnt/${dir}`, { clusterId: "77", members, puts, hasRoom: true });
  }
}

test("of the disks of lost members the newest log is taken, and its member goes on alone", async () => {
  using node = await newMachine();
  await disks(node);
  const { exitCode, stderr } = await node.run("restore --from /mnt/cp2,/mnt/cp1 --as m1");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toMatch(/\/mnt\/cp1: m1, written DATE .*: this one is taken\n/);
  expect(stderr).toContain("2 of 3 members: a quorum, so every acknowledged write is there");
  using data = readEtcdData(join(node.root, "var/lib/etcd"));
  expect(data.members.map(({ id }) => id)).toEqual([MEMBER.id]);
  expect(data.keyCount).toBe(node.puts.length);
  expect(data.revision).toBe(node.puts.length + 1);
});

test("data that an etcd still writes is refused, as what is written later would be lost", async () => {
  using node = await newMachine();
  await disks(node);
  expect(await node.run("restore --from /mnt/cp1 --as m1")).toMatchObject({ exitCode: 0 });
  renameSync(`${node.root}/var/lib/etcd`, `${node.root}/mnt/before`);
  const { dev, ino } = statSync(`${node.root}/mnt/before/member/snap/db`);
  const device = [dev >> 8, dev & 0xff].map((part) => part.toString(16).padStart(2, "0")).join(":");
  const locked = (kind: string) =>
    write(
      `${node.root}/proc/locks`,
      `1: POSIX  ADVISORY  WRITE 1 00:19:4 0 EOF\n2: FLOCK  ADVISORY  ${kind} 4711 ${device}:${ino} 0 EOF\n`,
    );
  locked("WRITE");
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("restore --from /mnt/cp2,/mnt/before --as m1");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 3 });
  expect(stderr).toContain('"/mnt/before/member/snap/db" is open: process 4711 writes to it');
  expect(stderr).toContain("systemctl stop kubelet; for p in");
  expect(node.fingerprint()).toEqual(before);
  // who only reads it, as bbolt's own program does, is no reason
  locked("READ ");
  expect(await node.run("restore --from /mnt/before --as m1")).toMatchObject({ exitCode: 0 });
});

test("where later writes may be lost, the revision is raised, and clients of before list again", async () => {
  using node = await newMachine();
  await disks(node);
  const { exitCode, stderr } = await node.run("restore --from /mnt/cp1 --as m1");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("its revision is raised, so that clients list all objects again");
  using before = readEtcdData(`${node.root}/mnt/cp1`);
  using data = readEtcdData(join(node.root, "var/lib/etcd"));
  expect(data.revision).toBe(before.revision + REVISION_BUMP);
  expect(data.compactedRevision).toBe(before.revision + REVISION_BUMP);
  expect([...data.list("")]).toEqual([...before.list("")]);
});

test("the disk of one of three may lack writes, and its member keeps its name", async () => {
  using node = await newMachine();
  await disks(node);
  const { exitCode, stderr } = await node.run("restore --from /mnt/cp2 --as m1");
  expect(exitCode).toBe(1);
  expect(stderr).toContain("1 of 3 members: writes of the others alone are lost");
  expect(stderr).toContain('error: The data is that of "m2", and it continues under this name');
  expect(node.exists("/var/lib/etcd")).toBe(false);
});

test.each([
  ["a snapshot", LINE],
  ["a lost member's disk", "restore --from /mnt/cp1 --as m1"],
])("parts 0 and 1 go on from %s", async (_, line) => {
  using node = await newMachine();
  await disks(node);
  expect(await node.run(line)).toMatchObject({ exitCode: 0 });
  const look = await node.run("00-assess");
  expect({ exitCode: look.exitCode, stdout: look.stdout }).toMatchObject({ exitCode: 2 });
  expect(look.stdout).toContain("manifests/etcd.yaml and 3 more");
  const part1 = await node.run("01-etcd --new-cas --dry-run");
  expect({ exitCode: part1.exitCode, stderr: part1.stderr }).toMatchObject({ exitCode: 0 });
  expect(part1.stderr).toContain("1 member(s)");
  expect(part1.stderr).toContain(
    "would write /etc/kubernetes/manifests/etcd.yaml (from its mirror pod in etcd)",
  );
});

/** The Nodes of m2 and m3. */
function threeControlPlanes(objects: Objects) {
  const node = objects["minions/m1"] as { metadata: object };
  const labels = { "node-role.kubernetes.io/control-plane": "" };
  for (const { name, peerURLs } of [OTHER, THIRD])
    objects[`minions/${name}`] = {
      ...node,
      metadata: { ...node.metadata, name, uid: `uid-${name}`, labels },
      status: { addresses: [{ type: "InternalIP", address: hostOf(peerURLs[0]!) }] },
    };
}

/** etcd 3.5 never writes the name of a member that has joined into its db. */
const nameless = (member: WrittenMember) => ({ ...member, name: "" });

const ALL = [MEMBER, OTHER, THIRD];

test.each([
  ["a snapshot", LINE, ALL],
  ["a snapshot of etcd 3.5", `${LINE} --lost m2,m3`, [MEMBER, nameless(OTHER), nameless(THIRD)]],
  [
    "the same as another one",
    "restore snapshot.db --as m1 --lost m3,m2",
    [nameless(MEMBER), OTHER, nameless(THIRD)],
  ],
  ["one member's disk", "restore --from /mnt/cp1 --as m1", ALL],
])("from %s of three, every part knows that the other two are lost", async (_, line, members) => {
  using node = await newMachine({ objects: threeControlPlanes, members });
  await disks(node);
  const { exitCode, stderr } = await node.run(line);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("m2: lost, and left out by all later scripts");
  const plan = await node.run("plan");
  expect({ exitCode: plan.exitCode, stderr: plan.stderr }).toMatchObject({ exitCode: 2 });
  expect(plan.stdout).toContain("02-control-plane.ts");
  expect(plan.stdout).toContain("delete node --ignore-not-found m2 m3");
});

/** Root on w1 had the network plugin's token: m2's address and the label of a control plane node are w1's. */
function asM2(objects: Objects) {
  threeControlPlanes(objects);
  const swap = (name: string, address: string, labels: object) => {
    const { metadata, ...node } = objects[`minions/${name}`] as { metadata: object };
    objects[`minions/${name}`] = {
      ...node,
      metadata: { ...metadata, labels },
      status: { addresses: [{ type: "InternalIP", address }] },
    };
  };
  swap("w1", hostOf(OTHER.peerURLs[0]!), { "node-role.kubernetes.io/control-plane": "" });
  swap("m2", "10.77.0.99", {});
  const image = { name: "kube-apiserver", image: "evil.example/apiserver", command: ["kube-apiserver"] };
  objects["pods/kube-system/kube-apiserver-w1"] = {
    ...(objects["pods/kube-system/kube-apiserver-m1"] as object),
    metadata: {
      ...{ name: "kube-apiserver-w1", namespace: "kube-system" },
      annotations: { "kubernetes.io/config.mirror": "x", "kubernetes.io/config.hash": "x" },
    },
    spec: { nodeName: "w1", containers: [image] },
  };
}

const UNNAMED = [MEMBER, nameless(OTHER), nameless(THIRD)];

test("whose a member without a name was, is asked: not who has its address, nor who has the label", async () => {
  using node = await newMachine({ objects: asM2, members: UNNAMED });
  const before = node.fingerprint();
  const asked = await node.run(LINE);
  expect(asked.exitCode).toBe(3);
  expect(asked.stderr).toContain("2 of 3 members have no name in this data, as in a snapshot of etcd 3.5");
  expect(asked.stderr).toContain("--lost NODE1,NODE2");
  const strange = await node.run(`${LINE} --lost m2,m9`);
  expect([strange.exitCode, strange.stderr]).toEqual([3, expect.stringContaining('has no Node "m9"')]);
  const tooFew = await node.run(`${LINE} --lost m2`);
  expect([tooFew.exitCode, tooFew.stderr]).toEqual([3, expect.stringContaining("--lost m2,NODE1.")]);
  expect(node.fingerprint()).toEqual(before);
  expect(await node.run(`${LINE} --lost m2,m3 --dry-run`)).toMatchObject({ exitCode: 0 });
});

test("after a restore nothing of a worker, and nothing of the nodes that are left behind, is put to use", async () => {
  const objects = (all: Objects) => {
    asM2(all);
    const { spec } = all["pods/kube-system/kube-apiserver-m1"] as {
      spec: { containers: { command: string[] }[] };
    };
    spec.containers[0]!.command.push("--audit-policy-file=/etc/kubernetes/audit/policy.yaml");
  };
  using node = await newMachine({ objects, members: UNNAMED });
  expect(await node.run(`${LINE} --lost m2,m3`)).toMatchObject({ exitCode: 0 });
  const { stdout } = await node.run("00-assess");
  expect(stdout).toContain("audit/policy.yaml");
  expect(stdout).not.toContain("ssh root@");
  const part1 = await node.run("01-etcd --new-cas --dry-run");
  expect(part1.stdout + part1.stderr).not.toMatch(/evil|w1/);
});

const ADDRESSES = JSON.stringify([
  { ifname: "eth0", addr_info: [{ family: "inet", local: "10.9.9.9", prefixlen: 24, scope: "global" }] },
]);

test("an address that a worker's Node claims too is this machine's, with a warning", async () => {
  using node = await newMachine({
    objects(all) {
      const w1 = all["minions/w1"] as { status?: object };
      w1.status = { addresses: [{ type: "InternalIP", address: "10.9.9.9" }] };
    },
    machine: { commands: [{ command: "ip -j addr", stdout: ADDRESSES }] },
  });
  const { exitCode, stderr } = await node.run(`${LINE} --address 10.9.9.9 --dry-run`);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("warning: 10.9.9.9 is also an address of w1, says its Node; it is this machine's");
});

test("a new machine is no node, with a snapshot or without: the plan names the chapter that has its lines", async () => {
  using node = await newMachine();
  const { exitCode, stderr } = await node.run("plan");
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 3 });
  expect(stderr).toContain('RUNBOOK-MORE "Only a snapshot is left"');
});

test("then the plan unpacks a bundle that lies there, and restarts the workers' kubelets before part 3", async () => {
  using node = await newMachine();
  expect(await node.run(LINE)).toMatchObject({ exitCode: 0 });
  const without = await node.run("plan");
  expect(without.stdout).not.toContain("A bundle of keys lies here");
  // they join, which restarts them
  expect(without.stdout).not.toContain("systemctl restart kubelet");
  write(`${node.root}/root/keys.age`, "x");
  const { stdout } = await node.run("plan");
  expect(stdout).toMatch(
    /```sh\n# on m1:\n\.\/bunw scripts\/hand-over\.ts unpack keys\.age\n\.\/bunw scripts\/plan\.ts/,
  );
  expect(stdout.indexOf("hand-over.ts unpack keys.age")).toBeLessThan(stdout.indexOf("01-etcd.ts --new-cas"));
  cpSync(`${(await healthyCp()).root}/etc/kubernetes/pki`, `${node.root}/etc/kubernetes/pki`, {
    recursive: true,
  });
  const kept = (await node.run("plan")).stdout;
  expect(kept).not.toContain("hand-over.ts unpack keys.age");
  const places = ["02-control-plane.ts", "systemctl restart kubelet", "03-workers.ts open"].map((words) =>
    kept.indexOf(words),
  );
  expect(places).not.toContain(-1);
  expect(places).toEqual(places.toSorted((a, b) => a - b));
});

test("at another address the plan begins with move, then a bundle that lies there, then the parts; the moves stand between them", async () => {
  const addr_info = [{ scope: "global", local: "127.66.0.7" }];
  const shown = JSON.stringify([{ addr_info }]);
  const commands = [
    { command: "ip -j addr", stdout: shown },
    { command: "ip -j -4 route show default", stdout: '[{"dst":"default","dev":"eth0"}]' },
    { command: "ip -j -4 addr show dev eth0", stdout: shown },
  ];
  using node = await newMachine({ machine: { commands } });
  write(`${node.root}/root/keys.age`, "x");
  expect(await node.run(LINE)).toMatchObject({ exitCode: 0 });
  const first = async () =>
    /comes first.*\n\n```sh\n([\s\S]*?)\n```/.exec((await node.run("plan")).stdout)?.[1];
  expect(await first()).toBe("./bunw scripts/move.ts\n./bunw scripts/plan.ts");
  expect(await node.run("move")).toMatchObject({ exitCode: 0 });
  expect(await first()).toBe("# on m1:\n./bunw scripts/hand-over.ts unpack keys.age\n./bunw scripts/plan.ts");
  cpSync(`${(await healthyCp()).root}/etc/kubernetes/pki`, `${node.root}/etc/kubernetes/pki`, {
    recursive: true,
  });
  const { stdout } = await node.run("plan");
  const places = [
    "02-control-plane.ts",
    "systemctl restart kubelet",
    "03-workers.ts open",
    "scripts/move.ts\n",
    "05-verify.ts",
  ].map((words) => stdout.indexOf(words));
  expect(places).not.toContain(-1);
  expect(places).toEqual(places.toSorted((a, b) => a - b));
});

const NO_SNAPSHOT = 'snapshot.db" is no snapshot of etcd, or not all of it: ';
const WAYS = ["file /root/snapshot.db", "gunzip", "hand-over.ts snapshot /root/snapshot.db"];

test.each<[string, (bytes: Buffer) => Buffer, string, string[]]>([
  [
    "a compressed one",
    gzipSync,
    'snapshot.db" is compressed (gzip)',
    ["gunzip < /root/snapshot.db > /root/snapshot.db.as-it-was"],
  ],
  [
    "one in base64",
    (bytes) => Buffer.from(bytes.toString("base64")),
    'snapshot.db" is in base64',
    ["base64 -d < /root/snapshot.db > /root/snapshot.db.as-it-was"],
  ],
  ["an error of a bucket", () => Buffer.from('<?xml version="1.0"?><Error/>'), NO_SNAPSHOT, WAYS],
  ["a locked one", () => Buffer.from("age-encryption.org/v1\n-> X25519"), NO_SNAPSHOT, WAYS],
  ["an empty file", () => Buffer.alloc(0), NO_SNAPSHOT, WAYS],
])("in place of a snapshot %s is refused, with what shows and opens it", async (_, made, said, ways) => {
  using node = await newMachine();
  const path = `${node.root}/root/snapshot.db`;
  writeFileSync(path, made(readFileSync(path)));
  const { exitCode, stderr } = await node.run(LINE);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 3 });
  expect(stderr).toContain(said);
  const hint = stderr.slice(stderr.indexOf("hint:"));
  for (const words of ways) expect(hint).toContain(words);
});

test.each([
  ["alone", [{ local: "10.9.0.100", prefixlen: 32 }], undefined],
  [
    "first on the card",
    [
      { local: "10.9.0.100", prefixlen: 24 },
      { local: "10.9.0.7", prefixlen: 24, secondary: true },
    ],
    "10.9.0.7",
  ],
])("the cluster's VIP, %s, is not this machine's address", async (_, addresses, own) => {
  const objects = said({ kubeadm: "10.9.0.100:6443" });
  using node = await newMachine({ machine: { commands: routesOf(addresses) }, objects });
  const { exitCode, stderr } = await node.run(LINE);
  if (own === undefined) {
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
    return expect(stderr).toContain("Cannot tell which address is the node's");
  }
  expect(stderr).toContain(`m1 at ${own} (it was at ${SHOWN_ADDRESS})`);
});

test("at another address the line that says so comes before part 1, and part 1 counts no member but its own", async () => {
  const addr_info = [{ scope: "global", local: "10.9.0.7" }];
  const stdout = JSON.stringify([{ addr_info }]);
  using node = await newMachine({ machine: { commands: [{ command: "ip -j addr", stdout }] } });
  const { exitCode, stderr } = await node.run(LINE);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(`m1 at 10.9.0.7 (it was at ${SHOWN_ADDRESS})`);
  expect(stderr).toContain(
    `, then ./bunw scripts/move.ts --moved ${SHOWN_ADDRESS}=10.9.0.7, then parts 1 to 5 (./bunw scripts/plan.ts prints them)\n`,
  );
  expect(await node.run(`move --moved ${ADDRESS}=10.9.0.7`)).toMatchObject({ exitCode: 0 });
  const part1 = await node.run("01-etcd --new-cas --dry-run");
  expect({ exitCode: part1.exitCode, stderr: part1.stderr }).toMatchObject({ exitCode: 0 });
  expect(part1.stderr).toContain("node m1 (from the host name), 10.9.0.7;");
  expect(part1.stderr).not.toContain("m1, 10.9.0.7: no etcd answers");
});
