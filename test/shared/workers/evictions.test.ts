/**
 * When the taint of a silent node makes the controller-manager delete a pod: as pkg/controller/tainteviction
 * counts.
 */
import { expect, setSystemTime, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { sayEvictions, secondsTolerated } from "../../../shared/workers/evictions.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";
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
    ["w1: nothing is evicted. A controller-manager in full would delete 1 pod from 12:05:50 on"],
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
