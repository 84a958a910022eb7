/** What is said of nodes that are missed, and which of those that are left out really are. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { LeftOut } from "../../../shared/again.ts";
import { DeafWebhook } from "../../../shared/api/api-error.ts";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { failOf } from "../../../shared/fail.ts";
import {
  findSilent,
  missedOf,
  printSilentNodes,
  proveNodes,
  refuseDeafLeases,
  type Silent,
  sayReduced,
  sayWindows,
  servingByCa,
} from "../../../shared/workers/node-status.ts";
import { workersOf } from "../../../shared/workers/own-pods.ts";
import { NO_TLS, pretendApi, status } from "../../pretend/api.ts";
import { healthyCp, otherCa, write } from "../../pretend/cluster.ts";
import { controlPlaneOf, pretendData } from "../../pretend/control-plane-node.ts";
import { variablesHere } from "../../pretend/programs.ts";
import { LEASES, lease, living } from "../../pretend/running.ts";
import { sandbox } from "../../pretend/sandbox.ts";

setDefaultTimeout(300_000);

const { ca } = await healthyCp();
const before = await otherCa();

const SILENT: Silent = {
  ...{ unrepaired: [], controlPlanes: [], workers: [], named: [], here: [] },
  ...{ deaf: undefined, last: new Map() },
};
const DEAF = new DeafWebhook("guard", "restart it");
const REFUSES = `the API refuses it, because the webhook "guard" does not answer: ${DEAF.hint}`;
const UNCHANGED = "The CA is unchanged, so these kubelets' client certificates have expired or are missing";
const last = new Map([["w1", new Date("2026-01-01T00:00:00Z")]]);

test.each<[string, Partial<Silent>, string[]]>([
  ["nobody is missed", {}, []],
  ["named, and here", { here: ["w2"] }, ["w2: it renews its Lease, so it is not left out"]],
  [
    "no API server",
    { unrepaired: ["m2", "m3"] },
    ["m2, m3: no API server there, so part 2 has not run there yet; not waited for"],
  ],
  [
    "a control plane node and a worker",
    { controlPlanes: ["m2"], workers: ["w1"], last },
    [
      `no Lease renewal from m2 (last never). ${UNCHANGED}: run part 2 on these nodes`,
      `no Lease renewal from w1 (last 2026-01-01T00:00:00.000Z). ${UNCHANGED}: join is for these nodes, and for no other; or they are away`,
    ],
  ],
  [
    "a webhook stops all renewals",
    { controlPlanes: ["m2"], workers: ["w1"], deaf: DEAF },
    [`no Lease renewal from m2 (last never), w1 (last never): ${REFUSES}`],
  ],
  [
    "a webhook stops a worker's",
    { workers: ["w1"], deaf: DEAF },
    [`no Lease renewal from w1 (last never): ${REFUSES}`],
  ],
  [
    "a webhook, and only control plane nodes without an API server are missed",
    { unrepaired: ["m2"], deaf: DEAF },
    ["m2: no API server there, so part 2 has not run there yet; not waited for"],
  ],
])("what is said of who does not renew a Lease: %s", (_, silent, lines) => {
  using box = sandbox();
  printSilentNodes({ ...SILENT, ...silent });
  expect(box.said).toEqual(lines);
});

/** A control plane node whose CA is `on` disk, and whose etcd knew the usual one. */
async function placeOf(box: { dir: string }, on = ca.cert) {
  write(`${box.dir}/etc/kubernetes/pki/ca.crt`, on);
  return controlPlaneOf(await pretendData());
}

const REDUCED = "the controller-manager stays reduced, and nothing is evicted, until";
const CLOSE = "./bunw scripts/03-workers.ts close";

test.each<[string, Partial<Silent> & { leader?: string }, string, string]>([
  [
    "a worker is missed, and another node's leads in full",
    { workers: ["w1"], leader: "m2" },
    ca.cert,
    `this node's controller-manager stays reduced until they are back: ./bunw scripts/03-workers.ts open, then on w1 the line that it prints, then on each control plane node: ${CLOSE}. If one of them cannot come now: --without NODE`,
  ],
  [
    "two workers are missed: no line leaves them out before they were to join",
    { workers: ["w1", "w3"] },
    ca.cert,
    `${REDUCED} they are back: ./bunw scripts/03-workers.ts open, then on w1, w3 the line that it prints, then on each control plane node: ${CLOSE}. If one of them cannot come now: --without NODE`,
  ],
  [
    "a control plane node is missed",
    { controlPlanes: ["m2"] },
    ca.cert,
    `${REDUCED} they are back, then on each control plane node: ${CLOSE}`,
  ],
  [
    "the CA is a new one",
    { unrepaired: ["m3"], controlPlanes: ["m2"], workers: ["w1"] },
    before.cert,
    `not back yet: m3, m2, w1; ${REDUCED} part 3 is closed`,
  ],
])("what ends it: %s", async (_, { leader, ...silent }, on, line) => {
  using box = sandbox();
  sayReduced(await placeOf(box, on), { ...SILENT, ...silent }, leader);
  expect(box.said).toEqual([line]);
  expect(
    missedOf({ ...SILENT, unrepaired: ["a"], controlPlanes: ["b"], workers: ["c"], named: ["d"] }),
  ).toEqual(["a", "b", "c"]);
});

test.each<[string, Record<string, object>, string]>([
  [
    "all are there",
    { m1: { uid: "uid-of-m1" }, w1: { uid: "uid-of-w1" }, w2: { uid: "uid-of-w2" } },
    "3 Nodes, all with their old UIDs",
  ],
  [
    "one is another",
    { m1: { uid: "uid-of-m1" }, w1: { uid: "new" } },
    "1 of 3 Nodes, with their old UIDs; deleted or created again since: w1, w2",
  ],
  [
    "none is the same",
    { m1: { uid: "new" } },
    "The API serves 1 Nodes, and none of the 3 that etcd's data has",
  ],
])("the Nodes that the API serves: %s", async (_, nodes, line) => {
  using box = sandbox();
  const cp = await placeOf(box);
  const all = cp.cluster.nodes.map((node) => ({ ...node, uid: `uid-of-${node.name}` }));
  using server = pretendApi({
    objects: Object.fromEntries(
      Object.entries(nodes).map(([name, metadata]) => [
        `/api/v1/nodes/${name}`,
        { metadata: { name, ...metadata } },
      ]),
    ),
  });
  const place = { ...cp, cluster: { ...cp.cluster, nodes: all } };
  const failed = await failOf(() => proveNodes(place, new KubeApi({ server: server.url, ca: NO_TLS })));
  expect([failed?.message ?? box.said].flat()).toEqual([line]);
});

test("workers may join, but for those that are left out; one with Windows has another way", async () => {
  using box = sandbox();
  const cp = await placeOf(box);
  const nodes = cp.cluster.nodes.map((node) =>
    node.name === "w2" ? { ...node, windows: true as const } : node,
  );
  const place = { ...cp, cluster: { ...cp.cluster, nodes } };
  expect([workersOf(place, []), workersOf(place, ["w1"])]).toEqual([["w1", "w2"], ["w2"]]);
  const said = (out: LeftOut, silent: Silent | undefined) => {
    const from = box.said.length;
    sayWindows(place, out, silent);
    return box.said.slice(from).map((line) => line.split(":")[0]);
  };
  const NONE = { without: [], lost: [] };
  expect(said(NONE, undefined)).toEqual(["w2"]);
  expect(said({ without: ["w2"], lost: [] }, undefined)).toEqual([]);
  expect([said(NONE, SILENT), said(NONE, { ...SILENT, workers: ["w2"] })]).toEqual([[], ["w2"]]);
});

/** Nobody answers there. */
const NOBODY_AT = "127.77.0.12";

test("each node that does not renew its Lease is missed in one way: named, without an API server, or as what it is", async () => {
  using box = sandbox();
  using _patience = variablesHere({ KUBE_PKI_REPAIR_PATIENCE: "0" });
  const cp = await placeOf(box);
  const known = (name: string, places: string[]) => ({
    ...{ name, uid: "", places, controlPlane: places.length > 0 },
    claimed: { names: [name], ips: [] },
  });
  const others = { m2: [NOBODY_AT], m3: ["127.0.0.1"], m4: [NOBODY_AT], w1: [], w2: [] };
  const names = [cp.node.name, ...Object.keys(others), "deleted"];
  const nodes = names.map((name) => known(name, others[name as keyof typeof others] ?? ["127.0.0.1"]));
  using server = pretendApi({
    objects: Object.fromEntries(
      names.slice(0, -1).flatMap((name) => [
        [`/api/v1/nodes/${name}`, {}],
        [`${LEASES}/${name}`, lease(4000)],
      ]),
    ),
    on: living([cp.node.name, "w2"]),
  });
  const facts = { ...cp.facts, bindPort: Number(new URL(server.url).port) };
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const found = await findSilent({ ...cp, facts, cluster: { ...cp.cluster, nodes } }, api, ["m4", "w2"]);
  expect(found).toMatchObject({
    ...{ unrepaired: ["m2"], controlPlanes: ["m3"], workers: ["w1"], named: ["m4"], here: ["w2"] },
  });
});

const HOOK = 'Internal error occurred: failed calling webhook "guard.shop": refused';

test.each<[string, lease: number, hook: boolean, fails: boolean]>([
  ["it is renewed", -10, true, false],
  ["it is not, and a webhook does not answer", 4000, true, true],
  ["it is not, and nobody refuses it", 4000, false, false],
])("whether a webhook keeps this node's kubelet from renewing its Lease: %s", async (_, ago, hook, fails) => {
  using box = sandbox();
  const cp = await placeOf(box, ca.cert);
  using server = pretendApi({
    objects: { [`${LEASES}/${cp.node.name}`]: lease(ago) },
    on: ({ method }) => (method === "PATCH" && hook ? status(500, HOOK) : undefined),
  });
  const fail = await failOf(() => refuseDeafLeases(cp, new KubeApi({ server: server.url, ca: NO_TLS })));
  expect(fail?.message.startsWith(`The Lease of ${cp.node.name} is not renewed: `) ?? false).toBe(fails);
});

test.each([
  ["kubeadm's own", "serverTLSBootstrap: true\n", true],
  ["with a comment behind it", "serverTLSBootstrap: true # since 2025\n", true],
  ["in capitals, as YAML 1.1 has it", "serverTLSBootstrap: True\n", true],
  ["none", "serverTLSBootstrap: false\n", false],
  ["what cannot be read", "serverTLSBootstrap: [", false],
])(
  "the kubelets' serving certificates come from the CA, by kubelet-config: %s",
  async (_, kubelet, expected) => {
    using _box = sandbox();
    const data = await pretendData((objects) => {
      objects["configmaps/kube-system/kubelet-config"] = {
        kind: "ConfigMap",
        metadata: {},
        data: { kubelet },
      };
    });
    expect(servingByCa(controlPlaneOf(data))).toBe(expected);
  },
);
