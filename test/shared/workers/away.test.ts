/** Who is left out, and is here all the same; and what a controller-manager in full does to those that are not. */
import { expect, setDefaultTimeout, setSystemTime, test } from "bun:test";
import type { LeftOut } from "../../../shared/again.ts";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { failOf } from "../../../shared/fail.ts";
import { savedOptionsOf, saveTypedOptions, useTypedOptions } from "../../../shared/node/words.ts";
import { mode } from "../../../shared/run.ts";
import {
  confirmLeftOut,
  countReturningWorkers,
  sayEvictions,
  secondsTolerated,
} from "../../../shared/workers/away.ts";
import { type ApiOptions, NO_TLS, pretendApi } from "../../pretend/api.ts";
import { healthyCp, write } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { LEASES, lease, living } from "../../pretend/running.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const KEY = "node.kubernetes.io/unreachable";

test.each([
  ["none: at once", [], 0],
  [
    "one for another taint: at once",
    [
      {
        key: "node.kubernetes.io/not-ready",
        operator: "Exists",
        effect: "NoExecute",
        tolerationSeconds: 300,
      },
    ],
    0,
  ],
  ["that of admission", [{ key: KEY, operator: "Exists", effect: "NoExecute", tolerationSeconds: 300 }], 300],
  [
    "the shortest of two",
    [
      { key: KEY, operator: "Exists", tolerationSeconds: 60 },
      { operator: "Exists", tolerationSeconds: 300 },
    ],
    60,
  ],
  ["less than nothing is nothing", [{ key: KEY, operator: "Exists", tolerationSeconds: -5 }], 0],
  ["a DaemonSet's, without end", [{ key: KEY, operator: "Exists", effect: "NoExecute" }], undefined],
  ["a static pod's: everything that executes", [{ operator: "Exists", effect: "NoExecute" }], undefined],
  ["of another effect: at once", [{ key: KEY, operator: "Exists", effect: "NoSchedule" }], 0],
  ["Equal to no value, as the taint has", [{ key: KEY, effect: "NoExecute", tolerationSeconds: 10 }], 10],
  ["Equal to a value: at once", [{ key: KEY, operator: "Equal", value: "x", effect: "NoExecute" }], 0],
])("tolerations: %s", (_, tolerations, seconds) => {
  expect(secondsTolerated({ spec: { tolerations } })).toBe(seconds);
});

const POD = "/api/v1/namespaces/shop/pods";
const tolerating = (tolerationSeconds?: number) => [
  { key: KEY, operator: "Exists", ...(tolerationSeconds === undefined ? {} : { tolerationSeconds }) },
];
const ownerReferences = [
  { apiVersion: "apps/v1", kind: "ReplicaSet", name: "x", uid: "x", controller: true },
];
const pod = (nodeName: string, seconds?: number, more: { bare?: true; phase?: string } = {}) => ({
  ...(more.bare ? {} : { metadata: { ownerReferences } }),
  spec: { nodeName, tolerations: tolerating(seconds) },
  status: { phase: more.phase ?? "Running" },
});
const tainted = (key: string, effect: string) => ({
  spec: {
    taints: [
      { key, effect },
      { key: "more", effect: "NoSchedule" },
    ],
  },
});

/** What is said at 12:00:00 of w1 (and w2), without the times' days. */
async function saidOf(
  objects: Record<string, object>,
  { nodes = ["w1"], isFull = true, kubernetesVersion = "v1.34.4" } = {},
) {
  using box = sandbox();
  using server = pretendApi({ objects });
  setSystemTime(new Date(2026, 0, 1, 12));
  try {
    const cp = { cluster: { kubernetesVersion } } as never;
    await sayEvictions(cp, new KubeApi({ server: server.url, ca: NO_TLS }), { nodes, isFull });
    return box.said;
  } finally {
    setSystemTime();
  }
}

test.each<[string, Record<string, object>, Parameters<typeof saidOf>[1], string[]]>([
  ["nothing runs there", {}, {}, []],
  [
    "only what stays or has ended",
    { a: pod("w1"), b: pod("w1", 0, { phase: "Succeeded" }), c: pod("w1", 0, { phase: "Failed" }) },
    {},
    [],
  ],
  [
    "one pod",
    { a: pod("w1", 300) },
    {},
    ["w1: 1 pod to be deleted from 12:05:50 on, unless it renews its Lease before"],
  ],
  [
    "before 1.32 the controller-manager waits for 40 s",
    { a: pod("w1", 300) },
    { kubernetesVersion: "v1.31.9" },
    ["w1: 1 pod to be deleted from 12:05:40 on, unless it renews its Lease before"],
  ],
  [
    "the first of several decides; what nobody makes again is named, and comes first",
    { a: pod("w1", 300), z: pod("w1", 60, { bare: true }), y: pod("w1", 90, { bare: true }) },
    {},
    [
      "w1: 3 pods to be deleted from 12:01:50 on, unless it renews its Lease before. Nobody makes these 2 again: shop/y, shop/z",
    ],
  ],
  [
    "a Node that is tainted already: at once",
    { a: pod("w1", 60, { bare: true }), w1: tainted(KEY, "NoExecute") },
    {},
    [
      "w1: 1 pod to be deleted from 12:01:00 on, unless it renews its Lease before. Nobody makes this one again: shop/a",
    ],
  ],
  [
    "another taint, and another effect, are no such taint",
    { a: pod("w1", 60), b: pod("w2", 60), w1: tainted("other", "NoExecute"), w2: tainted(KEY, "NoSchedule") },
    { nodes: ["w2", "w1"] },
    ["w1", "w2"].map(
      (name) => `${name}: 1 pod to be deleted from 12:01:50 on, unless it renews its Lease before`,
    ),
  ],
  [
    "a reduced controller-manager deletes nothing",
    { a: pod("w1", 300) },
    { isFull: false },
    [
      "w1: nothing is evicted now. When the controller-manager runs in full again, it deletes 1 pod from 12:05:50 on",
    ],
  ],
  [
    "of many nodes the first ones",
    {},
    { nodes: Array.from({ length: 23 }, (_, i) => `w${i}`) },
    ["and 3 more nodes"],
  ],
])("what is said of a silent node's pods: %s", async (_, named, options, lines) => {
  const objects = Object.entries(named).map(([name, one]) => [
    /^w\d$/.test(name) ? `/api/v1/nodes/${name}` : `${POD}/${name}`,
    one,
  ]);
  expect(await saidOf(Object.fromEntries(objects), options)).toEqual(lines);
});

setDefaultTimeout(300_000);

const { ca } = await healthyCp();

async function placeOf(box: { dir: string }) {
  write(`${box.dir}/etc/kubernetes/pki/ca.crt`, ca.cert);
  return controlPlaneOf(await pretendData());
}

interface Row {
  out: LeftOut;
  objects?: Record<string, object>;
  living?: string[];
  dryRun?: true;
}

const W = (seconds: number, name = "w1") => ({ [`${LEASES}/${name}`]: lease(seconds) });

test.each<[string, Row, LeftOut | string, string[]]>([
  ["nobody is", { out: { without: [], lost: [] }, objects: W(0) }, { without: [], lost: [] }, []],
  ["no Lease is there", { out: { without: ["w1"], lost: [] } }, { without: ["w1"], lost: [] }, []],
  [
    "its Lease is old",
    { out: { without: ["w1"], lost: ["w2"] }, objects: { ...W(4000), ...W(4000, "w2") } },
    { without: ["w1"], lost: ["w2"] },
    [],
  ],
  [
    "one of two is here",
    { out: { without: ["w1", "w2"], lost: [] }, objects: { ...W(0), ...W(4000, "w2") }, living: ["w1"] },
    { without: ["w2"], lost: [] },
    ["w1: it renews its Lease, so it is not left out"],
  ],
  [
    "a lost one lives",
    { out: { without: [], lost: ["w1"] }, objects: W(0), living: ["w1"] },
    "w1 is not lost: it renews its Lease",
    [],
  ],
  [
    "a dry run waits for nobody",
    { out: { without: ["w1"], lost: [] }, objects: W(0), dryRun: true },
    { without: [], lost: [] },
    [],
  ],
  [
    "a dry run, and one was lost a moment ago",
    { out: { without: [], lost: ["w1"] }, objects: W(34), dryRun: true },
    { without: [], lost: ["w1"] },
    [],
  ],
  [
    "a dry run, and its Lease is old",
    { out: { without: ["w1"], lost: [] }, objects: W(4000), dryRun: true },
    { without: ["w1"], lost: [] },
    [],
  ],
])("who is left out: %s", async (_, { out, objects = {}, dryRun = false, ...row }, expected, said) => {
  using box = sandbox();
  const cp = await placeOf(box);
  const on = living(row.living ?? []) as NonNullable<ApiOptions["on"]>;
  using server = pretendApi({ objects, on });
  mode.dryRun = dryRun;
  let left: LeftOut | undefined;
  const refused = await failOf(async () => {
    left = await confirmLeftOut(cp, new KubeApi({ server: server.url, ca: NO_TLS }), out);
  });
  expect(refused?.message ?? left).toEqual(expected);
  expect(box.said.filter((line) => line.includes("it renews its Lease"))).toEqual(said);
});

/** Of this test alone. At the other one nobody listens, as a firewall says it of a machine that is off. */
const [OPEN, CLOSED] = ["127.83.4.1", "127.83.4.2"];

test("open counts a worker that an earlier line left out, and whose machine is on; not one that this line names", async () => {
  using box = sandbox();
  const cp = await placeOf(box);
  const nodes = cp.cluster.nodes.map((node) => {
    const ips = [node.name === "w2" ? CLOSED : OPEN];
    return { ...node, claimed: { ...node.claimed, ips } };
  });
  using _kubelet = Bun.serve({ hostname: OPEN, port: 10250, fetch: () => new Response() });
  const out = { without: ["m1", "w1", "w2"], lost: ["m9"] };
  const counted = () => countReturningWorkers({ cluster: { ...cp.cluster, nodes } }, out);
  useTypedOptions({ without: out.without });
  saveTypedOptions("m1");
  expect(await counted()).toEqual({ ...out, lost: ["m9"] });
  Object.assign(mode, { began: new Date(), dryRun: false });
  expect(await counted()).toEqual({ without: ["m1", "w2"], lost: ["m9"] });
  expect(savedOptionsOf("without").map(({ value }) => value)).toEqual(["m1", "w2"]);
  expect(box.said).toContain(
    "w2 does not answer, and gets no token. Is it on? ./bunw scripts/words.ts --back w2",
  );
  const ended = expect.stringMatching(/: w1 is away: not any more, its machine is on again$/);
  expect(box.said).toContainEqual(ended);
});
