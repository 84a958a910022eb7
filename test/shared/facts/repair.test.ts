/**
 * Which repair is the current one: there is no progress file, the rescue folders and the certificates decide.
 */

import { expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { findRepair } from "../../../shared/facts/repair.ts";
import { writeFile } from "../../../shared/files/files.ts";
import { REDUCED } from "../../../shared/manifests/repair-changes.ts";
import type { Manifest } from "../../../shared/objects/objects.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa } from "../../../shared/pki/issue.ts";
import { clusterObjects, FACTS, healthyCp, type Objects, otherCa } from "../../pretend/cluster.ts";
import { writeData } from "../../pretend/control-plane-node.ts";
import { fakeMirror } from "../../pretend/hostile-pods.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const objects = clusterObjects((await healthyCp()).ca.cert);
/** A CA that is older than the cluster's. */
const stale = await issueCa(certRow("ca"), FACTS, { now: new Date("2020-01-01") });
const DATA = "/var/lib/etcd";
const HERE = { dir: DATA, wal: undefined };
const OLD = "/root/kube-pki-repair-20260101T000000";
const NEWER = "/root/kube-pki-repair-20260102T000000";

test("without a rescue folder a new repair begins; its folder is named after the time and does not exist yet", () => {
  using box = sandbox();
  writeData(box.dir + DATA, objects);
  const { rescue, dataFrom, data } = findRepair(HERE);
  expect([dataFrom, data.revision]).toEqual([DATA, 13]);
  expect(rescue.dir).toMatch(/^\/root\/kube-pki-repair-\d{8}T\d{6}$/);
  expect(Math.abs(rescue.made.getTime() - Date.now())).toBeLessThan(60_000);
});

test("a repair continues while etcd has not written since its copy was made", () => {
  using box = sandbox();
  writeData(box.dir + DATA, objects);
  writeData(`${box.dir}${OLD}/etcd`, objects);
  const { rescue, dataFrom } = findRepair(HERE);
  expect(rescue.dir).toBe(OLD);
  expect(dataFrom).toBe(`${OLD}/etcd`);
  expect(rescue.made).toEqual(new Date("2026-01-01T00:00:00Z"));
});

test("a repair continues when etcd's certificate is newer than its folder, whatever etcd has written since", async () => {
  using box = sandbox();
  writeData(box.dir + DATA, objects, { more: 5 });
  writeData(`${box.dir}${OLD}/etcd`, objects);
  for (const file of ["ca.crt", "etcd/server.crt"])
    writeFile(`/etc/kubernetes/pki/${file}`, (await otherCa()).cert);
  expect(findRepair(HERE)).toMatchObject({
    rescue: { dir: OLD },
    dataFrom: `${OLD}/etcd`,
    data: { revision: 13 },
  });
});

test("a repair with the old CA is over when the cluster has all its static pods again; its folder does not count any more", async () => {
  using box = sandbox();
  const { "pods/kube-system/kube-scheduler-m1": _, ...less } = objects;
  writeFile("/etc/kubernetes/pki/etcd/server.crt", (await otherCa()).cert);
  writeData(`${box.dir}${OLD}/etcd`, objects);
  writeData(box.dir + DATA, less, { more: 5 });
  expect(findRepair(HERE).dataFrom).toBe(`${OLD}/etcd`);
  writeData(box.dir + DATA, objects, { more: 5 });
  for (const ca of [undefined, (await healthyCp()).ca.cert, stale.cert]) {
    if (ca) writeFile("/etc/kubernetes/pki/ca.crt", ca);
    const { rescue, dataFrom } = findRepair(HERE);
    expect(dataFrom).toBe(DATA);
    expect(rescue.dir).not.toBe(OLD);
  }
});

test("a repair stays over while a control plane node joins again as a new Node, whose static pods come one by one", async () => {
  using box = sandbox();
  const withM2 = (uid: string, pods: Objects = {}): Objects => {
    const node = control("m2");
    return { ...objects, "minions/m2": { ...node, metadata: { ...node.metadata, uid } }, ...pods };
  };
  const scheduler = fakeMirror("kube-system", "kube-scheduler", { node: "m2", suffix: "m2" });
  writeFile("/etc/kubernetes/pki/etcd/server.crt", (await otherCa()).cert);
  writeData(`${box.dir}${OLD}/etcd`, withM2("first", scheduler));
  writeData(box.dir + DATA, withM2("first"), { more: 5 });
  expect(findRepair(HERE).dataFrom).toBe(`${OLD}/etcd`);
  writeData(box.dir + DATA, withM2("second"), { more: 5 });
  expect(findRepair(HERE).dataFrom).toBe(DATA);
});

test("the certificates that tell a repair lie where kubeadm's certificatesDir says", async () => {
  using box = sandbox();
  const configuration = (
    objects["configmaps/kube-system/kubeadm-config"] as { data: { ClusterConfiguration: string } }
  ).data.ClusterConfiguration;
  const elsewhere: Objects = {
    ...objects,
    "configmaps/kube-system/kubeadm-config": {
      metadata: { name: "kubeadm-config" },
      data: { ClusterConfiguration: configuration.replace("/etc/kubernetes/pki", "/etc/kubernetes/ssl") },
    },
  };
  const newCa = await otherCa();
  writeData(box.dir + DATA, elsewhere, { more: 5 });
  writeData(`${box.dir}${OLD}/etcd`, elsewhere);
  for (const file of ["ca.crt", "etcd/server.crt"]) writeFile(`/etc/kubernetes/ssl/${file}`, newCa.cert);
  expect(findRepair(HERE)).toMatchObject({
    rescue: { dir: OLD },
    dataFrom: `${OLD}/etcd`,
    data: { revision: 13 },
  });
});

test("a repair is also over where a control plane node is lost for good and its Node is deleted", async () => {
  using box = sandbox();
  const withM2 = (pods: Objects): Objects => ({
    ...pods,
    ...fakeMirror("kube-system", "kube-scheduler", { node: "m2", suffix: "m2" }),
  });
  writeFile("/etc/kubernetes/pki/etcd/server.crt", (await otherCa()).cert);
  writeData(`${box.dir}${OLD}/etcd`, withM2(objects));
  writeData(box.dir + DATA, { ...objects, "minions/m2": control("m2") }, { more: 5 });
  expect(findRepair(HERE).dataFrom).toBe(`${OLD}/etcd`);
  writeData(box.dir + DATA, objects, { more: 5 });
  expect(findRepair(HERE).dataFrom).toBe(DATA);
});

function control(name: string) {
  const status = { addresses: [{ type: "InternalIP", address: "127.77.0.12" }] };
  return {
    ...(objects["minions/m1"] as object),
    status,
    metadata: { name, labels: { "node-role.kubernetes.io/control-plane": "" } },
  };
}

/** A pod with a mounted token, of a DaemonSet or without an owner. */
function pod(name: string, created: string, owner?: string) {
  const ownerReferences = owner
    ? [
        {
          apiVersion: owner === "Job" ? "batch/v1" : "apps/v1",
          kind: owner,
          name: "its-owner",
          controller: true,
        },
      ]
    : [];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default", creationTimestamp: created, ownerReferences },
    spec: {
      nodeName: "w1",
      volumes: [{ name: "token", projected: { sources: [{ serviceAccountToken: {} }] } }],
    },
    status: { phase: "Running", containerStatuses: [{ state: { running: { startedAt: created } } }] },
  };
}

test("a repair with a new CA is over when parts 3 and 4 have nothing left to do", async () => {
  using box = sandbox();
  const [before, after] = ["2025-12-01T00:00:00Z", new Date(Date.now() + 3_600_000).toISOString()];
  const fresh = (await otherCa()).cert;
  for (const file of ["ca.crt", "etcd/server.crt"]) writeFile(`/etc/kubernetes/pki/${file}`, fresh);
  writeData(`${box.dir}${OLD}/etcd`, objects);
  const controllerManager = structuredClone(
    objects["pods/kube-system/kube-controller-manager-m1"],
  ) as Manifest;
  controllerManager.metadata.annotations = { ...controllerManager.metadata.annotations, [REDUCED]: "" };
  const rootCa = (caPem: string) => clusterObjects(caPem)["configmaps/kube-system/kube-root-ca.crt"]!;
  const done = { ...clusterObjects(fresh), "configmaps/default/kube-root-ca.crt": rootCa(fresh) };
  const left: [string, Objects][] = [
    ["a DaemonSet's pod of before", { "pods/kube-system/proxy": pod("proxy", before, "DaemonSet") }],
    ["a reduced controller-manager", { "pods/kube-system/kube-controller-manager-m1": controllerManager }],
    ["an encrypted pod", { "pods/kube-system/secret": "k8s:enc:aescbc:v1:key1:…" }],
    [
      "a pod without a shape",
      { "pods/kube-system/odd": { apiVersion: "v1", kind: "Pod", metadata: {}, spec: { volumes: "all" } } },
    ],
  ];
  for (const [what, objects] of left) {
    writeData(box.dir + DATA, { ...done, ...objects }, { more: 5 });
    expect([what, findRepair(HERE).dataFrom]).toEqual([what, `${OLD}/etcd`]);
  }
  const named = {
    "pods/kube-system/bare": pod("bare", before),
    "pods/kube-system/run": pod("run", before, "Job"),
  };
  writeData(
    box.dir + DATA,
    { ...done, ...named, "pods/kube-system/proxy": pod("proxy", after, "DaemonSet") },
    { more: 5 },
  );
  expect(findRepair(HERE).dataFrom).toBe(DATA);

  const reduced = {
    like: "kube-controller-manager",
    change: ({ metadata }: Manifest) => Object.assign(metadata.annotations!, { [REDUCED]: "" }),
  };
  const strangers: [string, Objects][] = [
    ["a tenant's pod that waits for ever", { "pods/a-team/proxy": pod("proxy", before, "DaemonSet") }],
    ["a tenant's pod that says it is reduced", fakeMirror("a-team", "kube-controller-manager", reduced)],
    [
      "a worker's mirror pod that says so",
      fakeMirror("kube-system", "kube-controller-manager", { ...reduced, node: "w1", suffix: "w1" }),
    ],
    ["a tenant's old CA", { "configmaps/a-team/kube-root-ca.crt": rootCa((await healthyCp()).ca.cert) }],
    ["a tenant's encrypted pod", { "pods/a-team/secret": "k8s:enc:aescbc:v1:key1:…" }],
    [
      "a tenant's pod without a shape",
      { "pods/a-team/odd": { apiVersion: "v1", kind: "Pod", metadata: null, spec: { volumes: "all" } } },
    ],
  ];
  for (const [what, more] of strangers) {
    writeData(box.dir + DATA, { ...done, ...more }, { more: 5 });
    expect([what, findRepair(HERE).dataFrom]).toEqual([what, DATA]);
  }
});

test("a worker's former static pod does not keep a repair going, and a pod bound to a worker does not replace a control plane node's static pod", async () => {
  using box = sandbox();
  const { "pods/kube-system/kube-scheduler-m1": _, ...less } = objects;
  writeFile("/etc/kubernetes/pki/etcd/server.crt", (await otherCa()).cert);
  const ofWorker = fakeMirror("kube-system", "kube-scheduler", { node: "w1", suffix: "w1" });
  writeData(`${box.dir}${OLD}/etcd`, { ...objects, ...ofWorker });
  writeData(box.dir + DATA, objects, { more: 5 });
  expect(findRepair(HERE).dataFrom).toBe(DATA);
  writeData(
    box.dir + DATA,
    { ...less, ...fakeMirror("kube-system", "kube-scheduler", { node: "w1" }) },
    { more: 5 },
  );
  expect(findRepair(HERE).dataFrom).toBe(`${OLD}/etcd`);
});

test("a stale rescue folder is ignored: etcd has written since, and its certificate is older", () => {
  using box = sandbox();
  writeData(box.dir + DATA, objects, { more: 5 });
  writeData(`${box.dir}${OLD}/etcd`, objects);
  const { rescue, dataFrom, data } = findRepair(HERE);
  expect([dataFrom, data.revision]).toEqual([DATA, 18]);
  expect(rescue.dir).not.toBe(OLD);
});

test("a certificate of etcd that is cut off proves nothing, and stops nothing", async () => {
  using box = sandbox();
  writeData(box.dir + DATA, objects, { more: 5 });
  writeData(`${box.dir}${OLD}/etcd`, objects);
  writeFile("/etc/kubernetes/pki/etcd/server.crt", (await otherCa()).cert.slice(0, 300));
  expect(findRepair(HERE).dataFrom).toBe(DATA);
});

test("of several folders the newest counts, but not one with an incomplete copy", () => {
  using box = sandbox();
  writeData(box.dir + DATA, objects);
  writeData(`${box.dir}${OLD}/etcd`, objects);
  writeData(`${box.dir}${NEWER}/etcd.partial`, objects);
  mkdirSync(`${box.dir}/root/kube-pki-repair-notes/etcd`, { recursive: true });
  expect(findRepair(HERE).rescue.dir).toBe(OLD);
  writeData(`${box.dir}${NEWER}/etcd`, objects);
  expect(findRepair(HERE).rescue.dir).toBe(NEWER);
});

test("a lost data directory does not stop a repair that has its copy", async () => {
  using box = sandbox();
  writeData(`${box.dir}${OLD}/etcd`, objects);
  writeFile("/etc/kubernetes/pki/etcd/server.crt", (await otherCa()).cert);
  expect(findRepair(HERE).dataFrom).toBe(`${OLD}/etcd`);
});
