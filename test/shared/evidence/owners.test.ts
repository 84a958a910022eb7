/** Whose a process is: by its cgroup, of each form that a node has. */
import { expect, test } from "bun:test";
import { chownSync } from "node:fs";
import { knownHere, ofPodFolder, processOwner, stoppedProcesses } from "../../../shared/evidence/owners.ts";
import type { Container } from "../../../shared/node/containers.ts";
import { write } from "../../pretend/cluster.ts";
import { cgroupFolder, DELEGATED, POD_UID, podRecord, STATIC_UID } from "../../pretend/memory.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const ID = "a".repeat(64);
const container = (more: Partial<Container> = {}) =>
  ({
    ...{ id: ID, name: "etcd", pod: "etcd-m1", namespace: "kube-system", podUid: STATIC_UID, running: true },
    ...more,
  }) as Container;

const KUBEPODS = `/kubepods.slice/kubepods-pod${STATIC_UID}.slice`;
const OURS = "a control plane process";
const OTHER = "another process";
const CONTAINER = "the container etcd of kube-system/etcd-m1";

interface Row {
  /** /proc/7/cgroup; undefined: it has ended. */
  cgroup: string | undefined;
  first?: string;
  name?: string;
  containers?: Container[];
  record?: [namespace: string, pod: string, uid: string];
}

test.each<[string, Row, string, string]>([
  [
    "of version 2",
    { cgroup: `0::${KUBEPODS}/cri-${ID}.scope\n`, containers: [container()] },
    OURS,
    CONTAINER,
  ],
  [
    "of both versions: systemd's own hierarchy counts",
    {
      cgroup: `12:pids:/user.slice\n1:name=systemd:${KUBEPODS}/${ID}\n0::/other\n`,
      containers: [container()],
    },
    OURS,
    CONTAINER,
  ],
  [
    "of both versions, without systemd",
    { cgroup: `12:pids:/user.slice\n0::${KUBEPODS}/${ID}\n`, containers: [container()] },
    OURS,
    CONTAINER,
  ],
  [
    "of version 1, without systemd",
    { cgroup: `12:pids:${KUBEPODS}/${ID}\n`, containers: [container()] },
    OTHER,
    "a process without a cgroup",
  ],
  ["it has ended", { cgroup: undefined }, OTHER, "a process without a cgroup"],
  [
    "a unit of the host",
    { cgroup: "0::/system.slice/etcd.service\n" },
    OURS,
    "the unit etcd.service of this node",
  ],
  [
    "a unit of another name",
    { cgroup: "0::/system.slice/etcd2.service\n" },
    OTHER,
    'a process of no pod that this node knows (cgroup "/system.slice/etcd2.service")',
  ],
  ...["user", "machine", "kubepods"].map((slice): [string, Row, string, string] => [
    `a unit in ${slice}.slice is anybody's`,
    { cgroup: `0::/${slice}.slice/etcd.service\n` },
    OTHER,
    `a process of no pod that this node knows (cgroup "/${slice}.slice/etcd.service")`,
  ]),
  [
    "on a node that is a container itself",
    { cgroup: "0::/docker/x/system.slice/etcd.service\n", first: "0::/docker/x/init.scope\n" },
    OURS,
    "the unit etcd.service of this node",
  ],
  [
    "another container with a longer name beside it",
    { cgroup: "0::/docker/xy/system.slice/etcd.service\n", first: "0::/docker/x\n" },
    OTHER,
    'a process of no pod that this node knows (cgroup "/docker/xy/system.slice/etcd.service")',
  ],
  [
    "another container of that pod",
    { cgroup: `0::${KUBEPODS}/${ID}\n`, containers: [container({ name: "sidecar" })] },
    OTHER,
    "the container sidecar of kube-system/etcd-m1",
  ],
  [
    "a pod with another name",
    { cgroup: `0::${KUBEPODS}/${ID}\n`, containers: [container({ pod: "x-m1" })] },
    OTHER,
    "the container etcd of kube-system/x-m1",
  ],
  [
    "a tenant's",
    { cgroup: `0::${KUBEPODS}/${ID}\n`, containers: [container({ namespace: "shop" })] },
    OTHER,
    "the container etcd of shop/etcd-m1",
  ],
  [
    "a pod of the API",
    { cgroup: `0::${KUBEPODS}/${ID}\n`, containers: [container({ podUid: POD_UID })] },
    OTHER,
    CONTAINER,
  ],
  [
    "no runtime answers, and the kubelet's record has it",
    { cgroup: `0::${KUBEPODS}/${ID}\n`, record: ["kube-system", "etcd-m1", STATIC_UID] },
    OURS,
    CONTAINER,
  ],
  [
    "in the static pod's own folder, below which its containers are: the runtime puts none there",
    { cgroup: `0::${KUBEPODS}\n`, record: ["kube-system", "etcd-m1", STATIC_UID] },
    OTHER,
    `a process of no pod that this node knows (cgroup "${KUBEPODS}")`,
  ],
  [
    "with a UID in systemd's form",
    {
      cgroup: `0::/kubepods.slice/kubepods-pod${POD_UID.replaceAll("-", "_")}.slice/${ID}\n`,
      record: ["kube-system", "coredns-x", POD_UID],
    },
    OTHER,
    "kube-system/coredns-x",
  ],
  [
    "whatever a container has made below",
    {
      cgroup: `0::/kubepods.slice/kubepods-pod${POD_UID}.slice/${"b".repeat(64)}/pod${STATIC_UID}/${ID}\n`,
      record: ["kube-system", "etcd-m1", STATIC_UID],
    },
    OTHER,
    `a process of no pod that this node knows (cgroup "/kubepods.slice/kubepods-pod${POD_UID}.slice/${"b".repeat(64)}/pod${STATIC_UID}/${ID}")`,
  ],
])(
  "whose a process is: %s",
  (_, { cgroup, first = "0::/init.scope\n", name = "etcd", containers = [], record }, source, is) => {
    using box = sandbox();
    write(`${box.dir}/proc/1/cgroup`, first);
    if (cgroup !== undefined) inCgroup(box.dir, cgroup);
    if (record) podRecord(box.dir, ...record);
    expect(processOwner(7, name, knownHere(containers))).toEqual({ source, is } as never);
  },
);

/** A process 7 there; the folders of each of its cgroups are where their hierarchy is mounted, and root's. */
function inCgroup(root: string, cgroup: string) {
  write(`${root}/proc/7/cgroup`, cgroup);
  for (const [, controllers, path] of cgroup.matchAll(/^\d+:([^:]*):(.*)$/gm))
    cgroupFolder(root, path!, { top: controllers === "name=systemd" ? "/systemd" : "" });
}

interface Hierarchy {
  first?: string;
  /** The line of /proc/7/cgroup before the path. */
  line?: string;
  path: string;
  /** Where the hierarchy is mounted, below /sys/fs/cgroup. */
  top?: string;
  /** Where the path's folders are there; default: the path. "": nowhere. */
  at?: string;
  /** Of them this one, and those below it, are a user's. */
  his?: string;
  /** This one alone is the user's as whom the container runs that is the node. */
  own?: string;
  isOurs?: boolean;
}

const HIS = `${DELEGATED}/app.slice/pod${STATIC_UID}/x`;
const SCOPE = `/docker/${"d".repeat(64)}`;
const POD = `${KUBEPODS}/cri-${ID}.scope`;
const asRoot = test.skipIf(process.getuid?.() !== 0);

/** The record and the container are those of the static pod: only whose folders they are decides. */
asRoot.each<[string, Hierarchy]>([
  ["a pod's", { path: POD, isOurs: true }],
  ["of version 1", { line: "1:name=systemd:", top: "/systemd", path: POD, isOurs: true }],
  ["of both versions, without systemd", { top: "/unified", path: POD, isOurs: true }],
  ["below a folder of --cgroup-root", { path: `/my.slice/my-kubepods.slice${POD}`, isOurs: true }],
  ["the container's own is a user namespace's", { path: POD, his: POD, isOurs: true }],
  ["without a folder for the pod", { path: `/k8s.io/${ID}`, his: `/k8s.io/${ID}`, isOurs: true }],
  ["a container as a node", { first: `0::${SCOPE}/init.scope\n`, path: SCOPE + POD, isOurs: true }],
  [
    "the same, with its part of the hierarchy alone",
    { first: `0::${SCOPE}/init.scope\n`, path: SCOPE + POD, at: POD, isOurs: true },
  ],
  [
    "a container as a node, whose own folder is another user's",
    { first: "0::/lxc/cp1/init.scope\n", path: `/lxc/cp1${POD}`, own: "/lxc/cp1", isOurs: true },
  ],
  [
    "seen from a container of the node",
    { first: "0::/../../../init.scope\n", path: `/../../..${POD}`, at: POD, isOurs: true },
  ],
  ["a user's, named as the pod's", { path: HIS, his: DELEGATED }],
  ["a user's, by the container's id", { path: `${DELEGATED}/${ID}/x`, his: DELEGATED }],
  ["a user's, of version 1", { line: "1:name=systemd:", top: "/systemd", path: HIS, his: DELEGATED }],
  ["a user's, of both versions, without systemd", { top: "/unified", path: HIS, his: DELEGATED }],
  [
    "a user's, on a container as a node",
    { first: `0::${SCOPE}/init.scope\n`, path: SCOPE + HIS, at: HIS, his: DELEGATED },
  ],
  ["in user.slice, though the folder is root's", { path: HIS }],
  ["in a container of systemd-nspawn", { path: `/machine.slice/a.scope${POD}` }],
  [
    "a unit's that is delegated to its user",
    { path: `/system.slice/ci.service${POD}`, his: "/system.slice/ci.service" },
  ],
  ["given to a user by hand", { path: `/eve${POD}`, his: "/eve" }],
  ["his from the pod's folder on", { path: POD, his: KUBEPODS }],
  ["a unit in a slice that was given to him", { path: "/eve.slice/etcd.service", his: "/eve.slice" }],
  [
    "below another container, which is root's",
    { path: `/system.slice/docker-${"d".repeat(64)}.scope/pod${STATIC_UID}/x` },
  ],
  ["that is mounted nowhere", { path: POD, at: "" }],
  ["longer than a path can be", { path: `/ci${`/${"x".repeat(250)}`.repeat(17)}${POD}`, at: "" }],
])(
  "whose a cgroup's folders are: %s",
  (_, { first = "0::/init.scope\n", line = "0::", path, top = "", at = path, his, own, isOurs = false }) => {
    using box = sandbox();
    write(`${box.dir}/proc/1/cgroup`, first);
    write(`${box.dir}/proc/7/cgroup`, `${line}${path}\n`);
    write(`${box.dir}/proc/7/stat`, stat("etcd", "T"));
    if (at) cgroupFolder(box.dir, at, { top, ...(his && { his }) });
    if (own) chownSync(`${box.dir}/sys/fs/cgroup${own}`, 65534, 65534);
    podRecord(box.dir, "kube-system", "etcd-m1", STATIC_UID);
    const known = knownHere([container()]);
    expect(processOwner(7, "etcd", known).source).toBe(isOurs ? OURS : OTHER);
    const isPods = isOurs && path.includes(STATIC_UID);
    expect(stoppedProcesses(known)).toHaveLength(isPods ? 1 : 0);
  },
);

const stat = (comm: string, state: string, terminal = 0) => `7 (${comm}) ${state} 1 7 7 ${terminal} -1 0 0\n`;
const MANAGER = container({ name: "kube-controller-manager", pod: "kube-controller-manager-m1" });
const IN_POD = `0::${KUBEPODS}/${ID}\n`;

test.each<[string, string, string, Container[], object | undefined]>([
  [
    "the controller-manager",
    stat("kube-controller", "T"),
    IN_POD,
    [MANAGER],
    {
      comm: "kube-controller",
      of: "the container kube-controller-manager of kube-system/kube-controller-manager-m1",
      isManager: true,
      inKubeSystem: true,
    },
  ],
  ["it goes on", stat("kube-controller", "S"), IN_POD, [MANAGER], undefined],
  ["somebody has typed Ctrl-Z", stat("kube-controller", "T", 34816), IN_POD, [MANAGER], undefined],
  ["a process of no pod", stat("kube-controller", "T"), "0::/user.slice\n", [MANAGER], undefined],
  [
    "another process of its pod",
    stat("sleep) x", "T"),
    IN_POD,
    [MANAGER],
    { comm: "sleep) x", isManager: false, inKubeSystem: true },
  ],
  [
    "a tenant's of that name",
    stat("kube-controller", "T"),
    IN_POD,
    [{ ...MANAGER, namespace: "shop" }],
    { isManager: false, inKubeSystem: false },
  ],
  [
    "a pod that nobody knows",
    stat("kube-controller", "T"),
    IN_POD,
    [],
    { of: `the pod with the UID ${STATIC_UID}`, isManager: false, inKubeSystem: false },
  ],
])("what a signal has stopped: %s", (_, line, cgroup, containers, found) => {
  using box = sandbox();
  write(`${box.dir}/proc/1/cgroup`, "0::/init.scope\n");
  write(`${box.dir}/proc/7/stat`, line);
  inCgroup(box.dir, cgroup);
  write(`${box.dir}/proc/self/stat`, line);
  const all = stoppedProcesses(knownHere(containers));
  expect(all).toHaveLength(found ? 1 : 0);
  if (found) expect(all[0]).toMatchObject({ pid: 7, ...found });
});

test("a pod's folder is kube-system's by its UID alone", () => {
  expect([ofPodFolder("a", new Set(["a"])), ofPodFolder("b", new Set(["a"]))]).toEqual([
    "a pod of kube-system",
    "a pod",
  ]);
});
