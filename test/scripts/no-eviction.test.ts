/**
 * Nothing is evicted before every known node is back, or is named as away: with the old CA, too. Parts 2 and
 * 3 as operators run them.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync, rmSync, utimesSync } from "node:fs";
import { parse } from "yaml";
import { manifestText } from "../../shared/manifests/on-disk.ts";
import { REDUCED, reduced } from "../../shared/manifests/repair-changes.ts";
import { RESTARTS } from "../pretend/after-part2.ts";
import type { ApiOptions } from "../pretend/api.ts";
import { ADDRESS, FACTS, manifest, mirrorPod, write } from "../pretend/cluster.ts";
import { LOST, sameEtcd, serveEtcd, serveOtherMember } from "../pretend/etcd.ts";
import { M2, mirrorPodOfM2, withM2 } from "../pretend/lost-cp.ts";
import { CRICTL, crictlPs, MEMBER, type NodeOptions } from "../pretend/node.ts";
import { LEASES, lease, living, MANAGER_LEASE, serveRunning } from "../pretend/running.ts";
import { nodeHere } from "../pretend/typed-here.ts";

/** Milliseconds. A script takes a quarter of a second, on a machine that has nothing else to do. */
setDefaultTimeout(300_000);

const MANAGER = "/etc/kubernetes/manifests/kube-controller-manager.yaml";
const PODS = "/api/v1/namespaces/kube-system/pods";
const AWAY = { [`${LEASES}/w2`]: lease(4000) };
/** The Lease that w2 could renew in vain is waited for a hundredth of its 25 s. */
const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "0.05" };

/** All of part 2 is well but the controller-manager, whose manifest is gone: the CA is the old one. */
async function managerLost(options: NodeOptions = {}) {
  const node = await nodeHere({ kind: "healthy control plane node", commands: RESTARTS, ...options });
  rmSync(node.root + MANAGER);
  return node;
}

const isReduced = (node: { read: (path: string) => string }) =>
  parse(node.read(MANAGER)).metadata.annotations?.[REDUCED] !== undefined;

/** As the API has a pod on w2. */
const podOn = (namespace: string, name: string, more: { owner?: boolean; tolerations?: object[] }) => ({
  [`/api/v1/namespaces/${namespace}/pods/${name}`]: {
    metadata: more.owner
      ? { name, ownerReferences: [{ kind: "ReplicaSet", name, controller: true }] }
      : { name },
    spec: { nodeName: "w2", tolerations: more.tolerations ?? [unreachable(300)] },
    status: { phase: "Running" },
  },
});
const unreachable = (tolerationSeconds?: number) => ({
  key: "node.kubernetes.io/unreachable",
  operator: "Exists",
  effect: "NoExecute",
  ...(tolerationSeconds === undefined ? {} : { tolerationSeconds }),
});
const PODS_OF_W2 = {
  ...podOn("shop", "web-1", { owner: true }),
  ...podOn("shop", "debug", {}),
  ...podOn("kube-system", "kube-proxy-2", { owner: true, tolerations: [{ operator: "Exists" }] }),
};

type Running = Pick<ApiOptions, "objects" | "on">;

/** Beside this file's own address: at 127.77.0.12 nobody may answer, as other tests run at the same time. */
const M2_AT = ADDRESS.replace(/11$/, "12");

/** `alive`: they renew their Leases. */
async function part2(
  line: string,
  {
    api = {},
    alive = ["m1", "w1", "w2"],
    ...options
  }: NodeOptions & { api?: Running; alive?: string[] } = {},
) {
  const node = await managerLost(options);
  const state = { ...sameEtcd(node.stored), members: options.members ?? [MEMBER] };
  using _etcd = serveEtcd(node.root, state);
  using _other = options.members && (await serveOtherMember(node.root, state, M2_AT));
  using _api = serveRunning(node, { ...api, on: living(alive, api.on) });
  return { node, ...(await node.run(line, WAITS)) };
}

test("part 2 with the old CA lets the controller-manager run in full by itself where every node renews its Lease", async () => {
  const { node, exitCode, stderr } = await part2("02-control-plane");
  using _node = node;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(`wrote ${MANAGER} (from its mirror pod in etcd, reduced: no taints, no evictions`);
  expect(parse(node.read(MANAGER))).toEqual(manifest("kube-controller-manager"));
  expect(stderr).toEndWith("\ndone.  next: ./bunw scripts/05-verify.ts\n");
});

test("part 2 with the old CA leaves it reduced while a worker is away, and says what that protects and how it ends", async () => {
  const { node, exitCode, stderr } = await part2("02-control-plane", {
    alive: ["m1", "w1"],
    api: { objects: { ...AWAY, ...PODS_OF_W2 } },
  });
  using _node = node;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(isReduced(node)).toBe(true);
  expect(stderr).toMatch(/^ {2}no Lease renewal from w2 \(last TIME\)\. /m);
  expect(stderr).toMatch(
    /^ {2}w2: nothing is evicted now\. When the controller-manager runs in full again, it deletes 2 pods from \d\d:\d\d:\d\d on\. Nobody makes this one again: shop\/debug$/m,
  );
  expect(stderr).toContain(
    "the controller-manager stays reduced, and nothing is evicted, until they are back: ./bunw scripts/03-workers.ts open, then on w2 the line that it prints, then on each control plane node: ./bunw scripts/03-workers.ts close. If one of them cannot come now: --without NODE\n",
  );
  expect(stderr).toEndWith("\ndone.  next: ./bunw scripts/03-workers.ts open\n");
});

test("part 2 --without names a worker as away: in full, and it says what is deleted from when on", async () => {
  const { node, exitCode, stderr } = await part2("02-control-plane --without w2", {
    alive: ["m1", "w1"],
    api: { objects: { ...AWAY, ...PODS_OF_W2 } },
  });
  using _node = node;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(isReduced(node)).toBe(false);
  expect(stderr).toMatch(
    /^ {2}w2: 2 pods to be deleted from \d\d:\d\d:\d\d on, unless it renews its Lease before\. Nobody makes this one again: shop\/debug$/m,
  );
});

/** Another control plane node, whose etcd runs. */
const BOTH = { members: [MEMBER, { ...LOST, peerURLs: [`https://${M2_AT}:2380`] }], etcd: withM2 };
const OTHER = { "/api/v1/nodes/m2": { ...M2, status: {} }, [`${LEASES}/m2`]: lease(4000) };

test("part 2 waits for no control plane node on which part 2 has not run, and stays reduced for it", async () => {
  const { node, exitCode, stderr } = await part2("02-control-plane", { ...BOTH, api: { objects: OTHER } });
  using _node = node;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain("  m2: no API server there, so part 2 has not run there yet; not waited for\n");
  expect(stderr).not.toContain("still waiting");
  expect(isReduced(node)).toBe(true);
  expect(stderr).toEndWith(
    "\ndone.  next: part 2 on m2 where it is not done yet, then ./bunw scripts/03-workers.ts open\n",
  );
});

const OTHERS_POD = mirrorPodOfM2("kube-controller-manager");
const othersManager = (pod: object) => ({ [`${PODS}/kube-controller-manager-m2`]: pod });

test("the last part 2 runs in full, and names the control plane nodes that are still reduced", async () => {
  const objects = {
    "/api/v1/nodes/m2": M2,
    [`${LEASES}/m2`]: lease(0),
    ...othersManager({ ...OTHERS_POD, ...reduced(OTHERS_POD, FACTS.kubernetesVersion) }),
  };
  const { node, exitCode, stderr } = await part2("02-control-plane", {
    alive: ["m1", "m2", "w1", "w2"],
    ...BOTH,
    api: { objects },
  });
  using _node = node;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(isReduced(node)).toBe(false);
  expect(stderr).toEndWith(
    "\ndone.  next: part 2 on m2 where it is not done yet, then on m2: ./bunw scripts/03-workers.ts close, then ./bunw scripts/05-verify.ts\n",
  );
});

/**
 * The holder of the leader's Lease is a host's own name, which no other host sees: --hostname-override and
 * upper case make the Node another one.
 */
test.each([
  ["m2", "m2_full", OTHERS_POD],
  ["m2", "M2_full", OTHERS_POD],
  ["ip-10-0-0-12.example", "ip-10-0-0-12.example_full", OTHERS_POD],
  [
    undefined,
    "ip-10-0-0-12.example_full",
    { ...OTHERS_POD, ...reduced(OTHERS_POD, FACTS.kubernetesVersion) },
  ],
  [undefined, "ip-10-0-0-12.example_full", undefined],
])(
  "what a controller-manager in full does that leads elsewhere is said; part 2 may be about to end it, so this one stays reduced: %p %#",
  async (leads, holderIdentity, pod) => {
    const others = pod ? othersManager(pod) : {};
    const objects = { "/api/v1/nodes/m2": M2, [`${LEASES}/m2`]: lease(0), ...AWAY, ...PODS_OF_W2, ...others };
    let renewals = 0;
    const on: ApiOptions["on"] = ({ method, path }, api) => {
      if (method === "GET" && path === MANAGER_LEASE)
        api.objects.set(path, {
          metadata: {},
          spec: { holderIdentity, renewTime: new Date(Date.now() + renewals++).toISOString() },
        });
      return undefined;
    };
    const { node, exitCode, stderr } = await part2("02-control-plane", {
      alive: ["m1", "m2", "w1"],
      ...BOTH,
      api: { objects, on },
    });
    using _node = node;
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(isReduced(node)).toBe(true);
    if (leads === undefined) return expect(stderr).not.toContain("leads in full");
    expect(stderr).toContain(
      `  the controller-manager on ${leads} leads in full: it handles them as usual\n`,
    );
    expect(stderr).toContain("w2: 2 pods to be deleted from ");
    expect(stderr).toContain(
      "\n  this node's controller-manager stays reduced until they are back: ./bunw scripts/03-workers.ts open, then ",
    );
  },
);

const TAINTED = {
  "/api/v1/nodes/w2": { spec: { taints: [{ key: "node.kubernetes.io/unreachable", effect: "NoExecute" }] } },
};
const [[, DELETED], [, KEPT]] = [Object.entries(PODS_OF_W2)[0]!, Object.entries(PODS_OF_W2)[2]!] as const;

test.each<[string, Record<string, object>, boolean]>([
  [
    "it is tainted, and has only what tolerates that without end",
    { ...TAINTED, "/api/v1/namespaces/kube-system/pods/kube-proxy-2": KEPT },
    true,
  ],
  [
    "it is tainted, and its pods are deleted already",
    {
      ...TAINTED,
      "/api/v1/namespaces/shop/pods/web-1": {
        ...DELETED,
        metadata: { ...DELETED.metadata, deletionTimestamp: "2026-01-01T00:00:00Z" },
      },
    },
    true,
  ],
  ["it is tainted, and the time of one pod still runs", { ...TAINTED, ...PODS_OF_W2 }, false],
  ["it has no such pods, and nobody has tainted it", {}, false],
])(
  "a worker that has been away since before this repair holds up nobody where nothing is left to evict: %s",
  async (_, objects, isFull) => {
    const { node, exitCode, stderr } = await part2("02-control-plane", {
      alive: ["m1", "w1"],
      api: { objects: { ...AWAY, ...objects } },
    });
    using _node = node;
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(isReduced(node)).toBe(!isFull);
    expect(stderr).toMatch(/^ {2}no Lease renewal from w2 /m);
  },
);

test("a full controller-manager that only waited in the folder, as an interrupted part 1 leaves it, begins reduced", async () => {
  using node = await nodeHere({ kind: "healthy control plane node" });
  write(`${node.root}${MANAGER.replace("/kube-c", "/.kube-c")}`, node.read(MANAGER));
  rmSync(node.root + MANAGER);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveRunning(node, { objects: AWAY, on: living(["m1", "w1"]) });
  const { exitCode, stderr } = await node.run("02-control-plane", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(isReduced(node)).toBe(true);
});

test("a kubelet that part 2 restarts starts no controller-manager in full, and one that runs in full is left alone", async () => {
  using node = await nodeHere({ kind: "healthy control plane node" });
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveRunning(node, { objects: AWAY, on: living(["m1", "w1"]) });
  expect((await node.run("02-control-plane", WAITS)).exitCode).toBe(0);
  expect(isReduced(node)).toBe(false);
  rmSync(`${node.root}/etc/kubernetes/controller-manager.conf`);
  expect((await node.run("02-control-plane", WAITS)).exitCode).toBe(0);
  expect(isReduced(node)).toBe(true);
});

const CONF = "/etc/kubernetes/controller-manager.conf";
const SERVERS = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];
/** The runtime's containers have run for an hour. */
const RUNNING = crictlPs(SERVERS).replaceAll(
  /"createdAt":"\d+"/g,
  `"createdAt":"${Date.now() - 3_600_000}000000"`,
);
/** Whether the manifest is reduced that the kubelet has when the process ends, and when the kubelet starts anew. */
const NOTES = `grep -c ${REDUCED} "$NODE${MANAGER}" >> "$FAKE/starts"; :`;

test.each<[string, (node: { root: string }) => void]>([
  ["its kubeconfig is lost, and part 2 makes it anew", ({ root }) => rmSync(root + CONF)],
  [
    "somebody has renewed its kubeconfig, and it does not lead with what it has read",
    ({ root }) => utimesSync(root + CONF, new Date(), new Date(Date.now() - 1_800_000)),
  ],
])("no controller-manager is started in full while a worker is silent: %s", async (_, damage) => {
  const commands = [
    { command: `${CRICTL} ps -a -o json`, stdout: RUNNING },
    { command: `${CRICTL} stop --timeout 0 kube-controller-manager-id`, does: NOTES },
    { command: "systemctl restart kubelet", does: NOTES },
  ];
  using node = await nodeHere({ kind: "healthy control plane node", commands });
  damage(node);
  using _etcd = serveEtcd(node.root, sameEtcd(node.stored));
  using _api = serveRunning(node, { objects: AWAY, on: living(["m1", "w1"]) });
  const { exitCode, stderr } = await node.run("02-control-plane", { ...WAITS, NODE: node.root });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(isReduced(node)).toBe(true);
  const starts = readFileSync(`${node.env.FAKE}/starts`, "utf8").trim().split("\n");
  expect(new Set(starts)).toEqual(new Set(["1"]));
  const [reducedAt, issuedAt] = ["(reduced: no taints", `wrote ${CONF}`].map((line) => stderr.indexOf(line));
  if (issuedAt! >= 0) expect(reducedAt!).toBeLessThan(issuedAt!);
});

test("open and close bring each reduced controller-manager back", async () => {
  using node = await nodeHere({ kind: "healthy control plane node", ...BOTH, commands: RESTARTS });
  write(
    node.root + MANAGER,
    manifestText(reduced(manifest("kube-controller-manager"), FACTS.kubernetesVersion)),
  );
  const mirror = mirrorPod("kube-controller-manager");
  const objects = {
    "/api/v1/nodes/m2": M2,
    [`${LEASES}/m2`]: lease(0),
    ...othersManager(
      reduced(
        { ...mirror, metadata: { ...mirror.metadata, name: "kube-controller-manager-m2" } },
        FACTS.kubernetesVersion,
      ),
    ),
  };
  using _api = serveRunning(node, { objects, on: living(["m1", "m2", "w1", "w2"]) });
  const { stderr } = await node.run("03-workers open", WAITS);
  expect(stderr).toContain("  the controller-manager is reduced on m1, m2: close lets it run in full\n");
  expect(stderr).toEndWith("\ndone.  next: on m1, m2: ./bunw scripts/03-workers.ts close\n");
});

test("close --without says what is evicted of whom, and from when on, before the controller-manager runs in full", async () => {
  using node = await nodeHere({ kind: "healthy control plane node", commands: RESTARTS });
  write(
    node.root + MANAGER,
    manifestText(reduced(manifest("kube-controller-manager"), FACTS.kubernetesVersion)),
  );
  using _api = serveRunning(node, { objects: { ...AWAY, ...PODS_OF_W2 } });
  const { exitCode, stderr } = await node.run("03-workers close --without w2", {
    KUBE_PKI_REPAIR_PATIENCE: "1",
  });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toMatch(
    /w2: 2 pods to be deleted from \d\d:\d\d:\d\d on, unless [^\n]+ shop\/debug\n(.*\n)*.*irreversible: the controller-manager/,
  );
});
