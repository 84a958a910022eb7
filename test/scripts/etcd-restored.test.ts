/**
 * etcd's data was restored from a snapshot before its certificates were lost: as Kubernetes' documentation
 * shows it, which is not as kubeadm made it.
 */

import { expect, setDefaultTimeout, test } from "bun:test";
import { utimesSync } from "node:fs";
import { stringify } from "yaml";
import type { Manifest } from "../../shared/objects/objects.ts";
import { manifest, mirrorPod, type Objects, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd, TAKEN_OUT } from "../pretend/etcd.ts";
import { mountsAs } from "../pretend/etcd-elsewhere.ts";
import { MEMBER, type NodeOptions, pretendNode } from "../pretend/node.ts";
import { type WrittenMember, writeEtcdData } from "../pretend/write-wal.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const CONTROL_PLANE = ["kube-apiserver", "kube-controller-manager", "kube-proxy"];
const PATIENCE = { KUBE_PKI_REPAIR_PATIENCE: "1" };

/**
 * `etcdutl snapshot restore` without --name and --initial-cluster: before its first start it is called
 * default, then as it was started.
 */
const alone = (name: string): WrittenMember => ({ ...MEMBER, name, peerURLs: ["http://localhost:2380"] });

test.each(["default", "m1"])(
  "01-etcd brings a member back that was restored alone: %s at localhost is this machine's",
  async (name) => {
    using node = await pretendNode({ containers: CONTROL_PLANE, members: [alone(name)] });
    const plan = await node.run("01-etcd --dry-run --new-cas");
    expect({ exitCode: plan.exitCode, stderr: plan.stderr }).toMatchObject({ exitCode: 0 });
    const running = node.run("01-etcd --new-cas", PATIENCE);
    await node.called("systemctl restart kubelet");
    using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), members: [alone("m1")] });
    const { exitCode, stdout, stderr } = await running;
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stdout + stderr).not.toContain("no etcd answers");
    expect(stderr).toContain("1 of 1 members answer\n");
    expect(stderr).toEndWith("\ndone.  next: ./bunw scripts/02-control-plane.ts\n");
    expect((await node.run("01-etcd", PATIENCE)).exitCode).toBe(0);
  },
);

test("part 2 counts this member as its own, not as a peer that is silent", async () => {
  using node = await pretendNode({ kind: "healthy control plane node", members: [alone("default")] });
  using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), members: [alone("m1")] });
  const { stderr } = await node.run("02-control-plane");
  expect(stderr).toContain("== 2.2 ");
  expect(stderr).not.toContain("default");
});

test.each([
  ["of a member at localhost beside others", [alone("default"), TAKEN_OUT]],
  ["of another member, whatever address this machine's own has", [TAKEN_OUT, MEMBER]],
])("01-etcd refuses the data %s", async (_, members) => {
  using node = await pretendNode({ containers: CONTROL_PLANE, members });
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect(exitCode).toBe(3);
  expect(stderr).toContain(
    `error: etcd's data is of no member at this machine's addresses (127.77.0.11), but of "${members[0]!.name}"`,
  );
  expect(node.fingerprint()).toEqual(before);
});

const NEW = "/var/lib/etcd-from-backup";
const MANIFEST = "/etc/kubernetes/manifests/etcd.yaml";

/**
 * A healthy node; etcd's manifest names a folder with a restored member, and the old one's data is still in
 * its place.
 */
async function restoredBeside(member: WrittenMember, clusterId: string, options: NodeOptions = {}) {
  const etcd = (objects: Objects) => {
    objects["pods/kube-system/etcd-m1"] = mountsAs(mirrorPod("etcd"), NEW);
  };
  const node = await pretendNode({ kind: "healthy control plane node", etcd, ...options });
  write(node.root + MANIFEST, stringify(mountsAs(manifest("etcd"), NEW), { lineWidth: 0 }));
  writeEtcdData(node.root + NEW, { clusterId, members: [member], puts: [...node.stored] });
  for (const file of ["wal/0000000000000000-0000000000000000.wal"]) {
    const past = new Date(Date.now() - 3600_000);
    utimesSync(`${node.root}/var/lib/etcd/member/${file}`, past, past);
  }
  return node;
}

test.each([
  ["of another member", { ...MEMBER, id: "77" }, "5", '"/var/lib/etcd" is of another member, an older one ('],
  [
    "restored alone",
    { ...alone("default"), id: "78" },
    "6",
    '"/var/lib/etcd" is of another member, an older one (',
  ],
  ["with the ids from before", MEMBER, "c1d2e3f4", 'not "/var/lib/etcd" ('],
] as const)(
  "the old data beside the restored one, %s: etcd's manifest decides, and each script says so",
  async (_, member, clusterId, says) => {
    using node = await restoredBeside(member, clusterId);
    using _etcd = serveEtcd(node.root, { ...sameEtcd(node.stored), clusterId, members: [member] });
    const runs = [
      await node.run("00-assess"),
      await node.run("01-etcd", PATIENCE),
      await node.run("05-verify"),
    ];
    for (const { stdout, stderr } of runs) expect(stdout + stderr).not.toContain("Several folders");
    expect(runs[1]).toMatchObject({ exitCode: 0 });
    expect(runs[1]!.stderr).toContain(`etcd's data: ${NEW} (etcd is started from it (named by ${MANIFEST}, `);
    expect(runs[1]!.stderr).toContain(`; ${says}`);
  },
);

const BACKUP = {
  name: "backup",
  image: "example.org/backup:v1",
  command: ["backup", "--data-dir=/backup/etcd"],
  volumeMounts: [{ name: "backup", mountPath: "/backup" }],
};

test.each(["initContainers", "containers"] as const)(
  "a backup with its own --data-dir in etcd's pod, in %s, names no folder of etcd's",
  async (kind) => {
    const withBackup = (pod: Manifest) => {
      pod.spec[kind] = [BACKUP, ...(pod.spec[kind] ?? [])];
      pod.spec.volumes!.push({
        name: "backup",
        hostPath: { path: "/srv/backup", type: "DirectoryOrCreate" },
      });
      return pod;
    };
    using node = await pretendNode({
      containers: CONTROL_PLANE,
      etcd: (objects) => {
        objects["pods/kube-system/etcd-m1"] = withBackup(mirrorPod("etcd"));
      },
    });
    const { exitCode, stderr } = await node.run("01-etcd --new-cas --dry-run");
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  },
);
