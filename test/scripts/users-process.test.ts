/**
 * A user of a control plane node, without any right there: his process is called as the control plane's are, and runs
 * in a cgroup that he has named as their pod's. What he lays out is neither etcd's data nor a lost file.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { lchownSync, mkdirSync, readdirSync } from "node:fs";
import { clusterObjects, healthyCp, mirrorPod, type Objects, write } from "../pretend/cluster.ts";
import { sameEtcd, serveEtcd } from "../pretend/etcd.ts";
import {
  DELEGATED,
  type PretendProcess,
  podRecord,
  pretendProcess,
  STATIC_UID,
  USER,
} from "../pretend/memory.ts";
import { CRICTL, crictlPs, MEMBER, type NodeOptions, pretendNode } from "../pretend/node.ts";
import { writeEtcdData } from "../pretend/write-wal.ts";

/** Milliseconds. A script takes half a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const { ca } = await healthyCp();
const HOME = "/home/eve";
const ID = "e".repeat(64);
const IMAGE = "evil.example/apiserver";
const asRoot = test.skipIf(process.getuid?.() !== 0);

const CGROUPS: [what: string, is: Pick<PretendProcess, "cgroup" | "his">][] = [
  ["by its UID", { cgroup: `${DELEGATED}/app.slice/pod${STATIC_UID}/x`, his: DELEGATED }],
  ["by its container's id", { cgroup: `${DELEGATED}/${ID}/x`, his: DELEGATED }],
  [
    "in a unit of his own",
    { cgroup: `/system.slice/ci.service/pod${STATIC_UID}/x`, his: "/system.slice/ci.service" },
  ],
];

/** Etcd has ended; its container, and its kubelet's record, are still there. */
const RUNTIME = [
  {
    command: `${CRICTL} ps -a -o json`,
    stdout: crictlPs(["kube-proxy", "etcd"])
      .replaceAll("etcd-id", ID)
      .replace(/CONTAINER_RUNNING(?=[^{]*$)/, "CONTAINER_EXITED"),
  },
  { command: `${CRICTL} inspect -o json ${ID}`, stderr: "no such container\n", exit: 1 },
];

async function nodeWith(process: Partial<PretendProcess>, options: NodeOptions = {}) {
  const node = await pretendNode({ commands: RUNTIME, ...options });
  const { comm = "etcd" } = process;
  pretendProcess(node.root, { pid: 66, comm, ...process });
  const mounts = "1 1 8:1 / / rw - ext4 /dev/x rw\n";
  for (const pid of [1, 66]) write(`${node.root}/proc/${pid}/mountinfo`, mounts);
  write(`${node.root}/proc/1/cgroup`, "0::/init.scope\n");
  podRecord(node.root, "kube-system", `${comm}-m1`, STATIC_UID);
  return node;
}

/** Of this node, with the public CA, and his image. */
function layOutData(root: string) {
  const objects = clusterObjects(ca.cert);
  const pod = mirrorPod("kube-apiserver");
  pod.spec.containers[0]!.image = IMAGE;
  objects["pods/kube-system/kube-apiserver-m1"] = pod;
  writeEtcdData(`${root}${HOME}/etcd`, {
    ...{ clusterId: "66", members: [{ ...MEMBER, id: "66" }] },
    puts: Object.entries(objects).map(([key, object]) => [`/registry/${key}`, JSON.stringify(object)]),
  });
  const all = readdirSync(root + HOME, { recursive: true, encoding: "utf8" });
  for (const path of ["", ...all.map((one) => `/${one}`)]) lchownSync(root + HOME + path, USER, USER);
}

asRoot.each(CGROUPS)(
  "his data is not etcd's, though his process names it, in a cgroup like the pod's: %s",
  async (_, is) => {
    using node = await nodeWith({ ...is, args: ["etcd", "--name=m1", `--data-dir=${HOME}/etcd`] });
    layOutData(node.root);
    const assessed = await node.run("00-assess");
    expect(assessed.stderr + assessed.stdout).not.toContain(HOME);
    const part1 = await node.run("01-etcd --new-cas --dry-run");
    expect([part1.exitCode, part1.stderr]).toEqual([0, expect.not.stringContaining(HOME)]);
    if (is !== CGROUPS[0]![1]) return;
    const running = node.run("01-etcd --new-cas", { KUBE_PKI_REPAIR_PATIENCE: "1" });
    await node.called("systemctl restart kubelet");
    using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
    expect(await running).toMatchObject({ exitCode: 0, stderr: expect.not.stringContaining(HOME) });
    expect(node.read("/etc/kubernetes/manifests/etcd.yaml")).not.toContain(HOME);
    const part2 = await node.run("02-control-plane --dry-run");
    expect(part2.stderr).toContain("kube-apiserver.yaml");
    expect(part2.stderr).not.toContain(IMAGE);
  },
);

const CONFIG = "/etc/kubernetes/authentication.yaml";

/** The API server's flag names a file that was deleted. */
function named(objects: Objects) {
  const pod = mirrorPod("kube-apiserver");
  pod.spec.containers[0]!.command!.push(`--authentication-config=${CONFIG}`);
  pod.spec.containers[0]!.volumeMounts!.push({ name: "a", mountPath: CONFIG });
  pod.spec.volumes!.push({ name: "a", hostPath: { path: CONFIG, type: "File" } });
  objects["pods/kube-system/kube-apiserver-m1"] = pod;
}

asRoot.each(CGROUPS)(
  "a file that he shows at the path of a flag is not the lost one, in a cgroup like the pod's: %s",
  async (_, is) => {
    using node = await nodeWith(
      { ...is, comm: "kube-apiserver" },
      {
        etcd: named,
        commands: [{ ...RUNTIME[0]!, stdout: RUNTIME[0]!.stdout!.replaceAll("etcd", "kube-apiserver") }],
      },
    );
    mkdirSync(`${node.root}/proc/66/root/etc/kubernetes`, { recursive: true });
    write(`${node.root}/proc/66/root${CONFIG}`, "kind: AuthenticationConfiguration\n");
    const { stdout } = await node.run("00-assess");
    expect(stdout).toContain(CONFIG);
    expect(stdout).not.toContain("still mounted");
    await node.run("00-salvage");
    expect(node.exists(CONFIG)).toBe(false);
  },
);
