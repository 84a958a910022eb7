/** Who led when etcd's data was read, and since when that is known by our own clock. */
import { expect, test } from "bun:test";
import { readdirSync, utimesSync } from "node:fs";
import {
  lastLeaderElsewhere,
  leaderHost,
  leaderLease,
  leadersSeen,
  leadsHere,
  renewalBefore,
} from "../../../shared/facts/leaders.ts";
import { findRepair } from "../../../shared/facts/repair.ts";
import { manifestText } from "../../../shared/manifests/on-disk.ts";
import { clusterObjects, healthyCp, manifest, write } from "../../pretend/cluster.ts";
import { NODE, writeData } from "../../pretend/control-plane-node.ts";
import { pretendProcess } from "../../pretend/memory.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { writeEtcdData } from "../../pretend/write-wal.ts";

const usual = clusterObjects((await healthyCp()).ca.cert);
const RENEWED = "2031-01-01T00:00:00.000000Z";
const lease = (spec: object) => ({ apiVersion: "coordination.k8s.io/v1", kind: "Lease", metadata: {}, spec });

test("leadersSeen() has the leaders of etcd's copy, seen when etcd last wrote: never before the copy was begun", () => {
  using box = sandbox();
  const objects = {
    ...usual,
    "leases/kube-system/kube-controller-manager": lease({ holderIdentity: "m2_1b2c", renewTime: RENEWED }),
    "leases/kube-system/kube-scheduler": lease({}),
  };
  for (const dir of ["/var/lib/etcd", "/root/kube-pki-repair-20260101T000000/etcd"])
    writeData(box.dir + dir, objects);
  const wal = `${box.dir}/root/kube-pki-repair-20260101T000000/etcd/member/wal`;
  const started = new Date(Date.now() - 3600_000);
  for (const [i, start] of [new Date(), started].entries())
    pretendProcess(box.dir, { pid: 100 + i, comm: "kube-scheduler", started: start });
  for (const [written, at] of [
    ["2026-01-01T00:00:09Z", "2026-01-01T00:00:09Z"],
    ["2025-12-31T00:00:00Z", "2026-01-01T00:00:00Z"],
  ] as const) {
    for (const name of readdirSync(wal)) utimesSync(`${wal}/${name}`, new Date(written), new Date(written));
    const repair = findRepair({ dir: "/var/lib/etcd", wal: undefined });
    const seen = leadersSeen({ ...repair, node: NODE });
    expect([...seen.started.keys()]).toEqual(["kube-scheduler"]);
    expect(Math.abs(seen.started.get("kube-scheduler")!.getTime() - started.getTime())).toBeLessThan(60_000);
    expect(seen).toMatchObject({
      leases: ["kube-controller-manager", "kube-scheduler"],
      leaders: new Map([["kube-controller-manager", { holder: "m2_1b2c", renewTime: RENEWED }]]),
      at: new Date(at),
    });
    expect(leaderHost(repair.data)).toBe("m2");
  }
});

test.each([
  ["kubeadm's", [], "kube-scheduler"],
  ["another name", ["--leader-elect-resource-name=own"], "own"],
  ["another namespace", ["--leader-elect-resource-namespace=leaders"], "leaders/kube-scheduler"],
  ["none", ["--leader-elect=false"], undefined],
  [
    "its configuration's, whatever the flags",
    ["--config=/etc/kubernetes/scheduler.yaml", "--leader-elect-resource-name=own"],
    "in-file",
  ],
])("leaderLease() of a scheduler with %s", (_, words, lease) => {
  using box = sandbox();
  const pod = manifest("kube-scheduler");
  pod.spec.containers[0]!.command!.push(...words);
  pod.spec.containers[0]!.volumeMounts!.push({ name: "config", mountPath: "/etc/kubernetes" });
  pod.spec.volumes!.push({ name: "config", hostPath: { path: "/etc/kubernetes" } });
  write(`${box.dir}/etc/kubernetes/manifests/kube-scheduler.yaml`, manifestText(pod));
  write(`${box.dir}/etc/kubernetes/scheduler.yaml`, "leaderElection: {resourceName: in-file}\n");
  expect(leaderLease(NODE, "kube-scheduler")).toBe(lease);
});

const NAMED = [
  { name: "m1", claimed: { names: ["m1"], ips: [] } },
  { name: "m2", claimed: { names: ["m2", "ip-10-0-0-2"], ips: [] } },
  { name: "m3.example", claimed: { names: ["m3.example"], ips: [] } },
];

test.each([
  ["m2", { host: "m2", nodes: ["m2"] }],
  ["ip-10-0-0-2", { host: "ip-10-0-0-2", nodes: ["m2"] }],
  ["m3", { host: "m3", nodes: ["m3.example"] }],
  ["M2.example", { host: "M2.example", nodes: ["m2"] }],
  ["elsewhere", { host: "elsewhere", nodes: ["m2", "m3.example"] }],
  ["m1", undefined],
  ["host-1", undefined],
])("of three control plane nodes, the host %s that led last is %j", (host, leader) => {
  using box = sandbox();
  const objects = {
    ...usual,
    "leases/kube-system/kube-controller-manager": lease({ holderIdentity: `${host}_1`, renewTime: RENEWED }),
  };
  const members = NAMED.map(({ name }, i) => ({
    id: `a${i}`.padEnd(16, "1"),
    name,
    peerURLs: [`https://10.77.0.1${i + 1}:2380`],
  }));
  writeEtcdData(`${box.dir}/var/lib/etcd`, {
    clusterId: "c1",
    members,
    puts: Object.entries(objects).map(([key, object]) => [`/registry/${key}`, JSON.stringify(object)]),
  });
  const { data } = findRepair({ dir: "/var/lib/etcd", wal: undefined });
  const node = { hostName: "host-1", name: "m1", addresses: ["10.77.0.11"] };
  expect(lastLeaderElsewhere({ data, node, cluster: { nodes: NAMED } })).toEqual(leader);
});

const RESCUE = "/root/kube-pki-repair-20260101T000000";
/** Written when etcd's log ends, in these places; what a repair finds there. */
function repairOf(
  box: { dir: string },
  objects: object,
  dirs: readonly string[],
  written = "2031-01-01T00:00:14Z",
) {
  for (const dir of dirs) {
    writeData(box.dir + dir, { ...usual, ...objects });
    const wal = `${box.dir}${dir}/member/wal`;
    for (const name of readdirSync(wal)) utimesSync(`${wal}/${name}`, new Date(written), new Date(written));
  }
  return {
    ...findRepair({ dir: "/var/lib/etcd", wal: undefined }),
    node: NODE,
    etcd: { dir: "/var/lib/etcd" },
  };
}
const ledBy = (holderIdentity: string, more = {}) => ({
  "leases/kube-system/kube-scheduler": lease({ holderIdentity, renewTime: RENEWED, ...more }),
});

test.each<[string, object, { dirs?: string[]; written?: string }, boolean]>([
  ["it led when etcd last wrote", ledBy("m1_x"), {}, true],
  ["another host led", ledBy("m2_x"), {}, false],
  ["nobody led", {}, {}, false],
  ["its last renewal was long before", ledBy("m1_x"), { written: "2031-01-01T00:00:15Z" }, false],
  [
    "it renews less often, as its flags say",
    ledBy("m1_x", { leaseDurationSeconds: 137 }),
    { written: "2031-01-01T00:00:30Z" },
    true,
  ],
  ["a copy of before says so", ledBy("m1_x"), { dirs: ["/var/lib/etcd", `${RESCUE}/etcd`] }, false],
])("this node's scheduler works: %s", (_, objects, { dirs = ["/var/lib/etcd"], written }, expected) => {
  using box = sandbox();
  expect(leadsHere(repairOf(box, objects, dirs, written), "kube-scheduler")).toBe(expected);
});

test("a node's last renewal before a repair is that of etcd's copy; without a copy, or a Lease, it is not known", () => {
  using box = sandbox();
  const objects = { "leases/kube-node-lease/w1": lease({ renewTime: RENEWED }) };
  const [none, copied] = [["/var/lib/etcd"], [`${RESCUE}/etcd`]].map((dirs) => repairOf(box, objects, dirs));
  const of = (repair: object) => renewalBefore({ ...none!, ...repair }, "w1")?.toISOString();
  expect(of({})).toBeUndefined();
  expect(of(copied!)).toBe("2031-01-01T00:00:00.000Z");
  expect(of({ earlier: copied })).toBe("2031-01-01T00:00:00.000Z");
  expect(renewalBefore(copied!, "w2")).toBeUndefined();
});
