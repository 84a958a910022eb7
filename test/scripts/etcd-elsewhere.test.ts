/**
 * Clusters whose etcd keeps its data, and its log, in other folders than kubeadm's: nobody has to say which.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, renameSync } from "node:fs";
import type { Objects } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import { mountsAs } from "../pretend/etcd-elsewhere.ts";
import { CRICTL, crictlPs, type NodeOptions, pretendNode } from "../pretend/node.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const ID = "e".repeat(64);

/** etcd's container has ended; the runtime still knows what it had mounted. */
const INSPECT = JSON.stringify({
  status: {
    mounts: [
      { containerPath: "/etc/kubernetes/pki/etcd", hostPath: "/etc/kubernetes/pki/etcd" },
      { containerPath: "/srv/etcd", hostPath: "/srv/etcd" },
      { containerPath: "/fast/wal", hostPath: "/fast/wal" },
    ],
  },
  info: {
    runtimeSpec: {
      process: {
        args: ["etcd", "--name=m1", "--data-dir=/srv/etcd", "--wal-dir=/fast/wal"],
        env: ["PATH=/bin"],
      },
    },
  },
});

const PS = crictlPs(["kube-proxy", "etcd"])
  .replaceAll("etcd-id", ID)
  .replace(/CONTAINER_RUNNING(?=[^{]*$)/, "CONTAINER_EXITED");

const RUNTIME = [
  { command: `${CRICTL} ps -a -o json`, stdout: PS },
  { command: `${CRICTL} inspect -o json ${ID}`, stdout: INSPECT },
];

/** A node whose /etc/kubernetes was deleted, with its data in `dir`. */
async function nodeWith({
  dir = "/srv/etcd",
  wal,
  ...options
}: NodeOptions & { dir?: string; wal?: string }) {
  const move = (objects: Objects) => {
    const pod = objects["pods/kube-system/etcd-m1"] as Parameters<typeof mountsAs>[0];
    objects["pods/kube-system/etcd-m1"] = mountsAs(pod, "/srv/etcd", wal);
  };
  const node = await pretendNode({ etcd: move, ...options });
  const place = (path: string, from: string) => {
    mkdirSync(node.root + path.replace(/\/[^/]*$/, ""), { recursive: true });
    renameSync(node.root + from, node.root + path);
  };
  place(dir, "/var/lib/etcd");
  if (wal) place(wal, `${dir}/member/wal`);
  return node;
}

test("what the stopped container had mounted is found, read, copied with its log, and stands in the manifest again", async () => {
  using node = await nodeWith({ wal: "/fast/wal", commands: RUNTIME });
  const place = "etcd's data: /srv/etcd, its log: /fast/wal";
  const { stdout, stderr, exitCode } = await node.run("00-assess --all");
  expect(stderr).toContain(`  ${place} (the container etcd-m1 (eeeeeeeeeeeee))\n`);
  expect({ exitCode, stdout }).toMatchObject({
    exitCode: 2,
    stdout: expect.stringMatching(/\/srv\/etcd +ok +1 member/),
  });
  expect(stdout).not.toContain("--etcd-data");

  const running = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  await node.called("systemctl restart kubelet");
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  const first = await running;
  expect(first).toMatchObject({
    exitCode: 0,
    stderr: expect.stringContaining("copied /fast/wal to /root/kube-pki-repair-TIME/etcd-wal\n"),
  });
  expect(node.read("/etc/kubernetes/manifests/etcd.yaml")).toMatch(
    /--data-dir=\/srv\/etcd\n.*--wal-dir=\/fast\/wal\n.*path: \/srv\/etcd\n/s,
  );
  const again = await node.run("01-etcd");
  expect(again.stderr).toContain(`  ${place} (/etc/kubernetes/manifests/etcd.yaml)\n`);
  expect(again.stderr).not.toContain("--etcd-data");
  expect(again.exitCode).toBe(0);
});

test("a folder that is typed once is known to what is typed later, and to no command that is printed", async () => {
  using node = await nodeWith({});
  const { stdout } = await node.run("00-assess --etcd-data /srv/etcd");
  expect(stdout).toContain("  ./bunw scripts/00-assess.ts --deep ");
  expect(stdout).not.toContain("--etcd-data");
  const later = await node.run("01-etcd --dry-run --new-cas");
  expect(later.stderr).toMatch(/etcd's data: \/srv\/etcd \(as said at \d\d:\d\d \(00-assess, on m1\)\)\n/);
  expect(later).toMatchObject({ exitCode: 0 });
});

test("a folder that only looks like etcd's data is named with the line to type, and not read", async () => {
  using node = await nodeWith({ kind: "healthy control plane node", dir: "/mnt/disks/vol1" });
  const { stdout, exitCode } = await node.run("00-assess");
  expect(exitCode).toBe(2);
  expect(stdout).toContain(
    "  ./bunw scripts/00-assess.ts --etcd-data /mnt/disks/vol1   # etcd's data is in it, and nothing here says whose\n",
  );
});

test("01-etcd refuses where the manifest has another folder than the data: etcd would start empty there", async () => {
  using node = await nodeWith({ dir: "/data/etcd" });
  const before = node.fingerprint();
  const { exitCode, stderr } = await node.run("01-etcd --new-cas");
  expect(stderr).toContain(
    'error: etcd\'s manifest (from its mirror pod in etcd) has its data in "/srv/etcd", and the data was found in "/data/etcd". Nothing was changed\nhint: ',
  );
  expect({ exitCode, after: node.fingerprint() }).toEqual({ exitCode: 1, after: before });
});
