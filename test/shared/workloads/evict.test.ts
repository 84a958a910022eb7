/** Many owners that wait for pods of one namespace: one list at a time for all, and none from before proves anything. */
import { expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";

import { evictInTurn, PodLists } from "../../../shared/workloads/evict.ts";
import type { PodOwner } from "../../../shared/workloads/pod-owners.ts";
import { restartInOrder } from "../../../shared/workloads/restart-order.ts";
import { type ApiOptions, NO_TLS, pretendApi, status } from "../../pretend/api.ts";
import { renewPod } from "../../pretend/running.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const PODS = "/api/v1/namespaces/shop/pods";
const client = (server: { url: string }) => new KubeApi({ server: server.url, ca: NO_TLS });
const isList = (method: string, path: string) => method === "GET" && path.startsWith(`${PODS}?`);

/** The pods of an operator's Cluster, each Ready. */
function cluster(name: string, howMany: number): { owner: PodOwner; objects: Record<string, object> } {
  const controller = {
    apiVersion: "x.example/v1",
    kind: "Cluster",
    name,
    uid: `uid-${name}`,
    controller: true,
  };
  const pods = Array.from({ length: howMany }, (_, i) => ({
    metadata: { name: `${name}-${i}`, namespace: "shop", uid: `${name}-${i}`, ownerReferences: [controller] },
    spec: {},
    status: { conditions: [{ type: "Ready", status: "True" }] },
  }));
  const since = new Date();
  return {
    owner: { restart: "evict", controller: "Cluster", namespace: "shop", name, since, pods },
    objects: Object.fromEntries(pods.map((pod) => [`${PODS}/${pod.metadata.name}`, pod])),
  };
}

test("twenty owners of a namespace never have it listed twice at the same time, and each comes to its end", async () => {
  using box = sandbox();
  const clusters = Array.from({ length: 20 }, (_, i) => cluster(`c${i}`, 3));
  let [inFlight, most] = [0, 0];
  const on: ApiOptions["on"] = async ({ method, path }, { objects }) => {
    if (method === "POST" && path.endsWith("/eviction")) return renewPod(objects, path.slice(0, -9));
    if (!isList(method, path)) return undefined;
    most = Math.max(most, ++inFlight);
    await new Promise(setImmediate);
    inFlight--;
    return undefined;
  };
  using server = pretendApi({ objects: Object.assign({}, ...clusters.map(({ objects }) => objects)), on });
  const groups = [{ name: "all others" as const, owners: clusters.map(({ owner }) => owner) }];
  const way = { from: "m1", away: new Set<string>(), kept: new Map(), caPem: "the CA" };
  expect(await restartInOrder(client(server), groups, way)).toEqual({ left: [], notes: [] });
  expect(most).toBe(1);
  expect(server.changes()).toHaveLength(60);
  expect(box.said.filter((line) => line.endsWith(": new ones are Ready"))).toHaveLength(20);
});

/** Each list is held until the test lets it go. */
function held(answers: (() => Response)[]) {
  const lists: PromiseWithResolvers<Response>[] = [];
  const begun = answers.map(() => Promise.withResolvers<void>());
  const on: ApiOptions["on"] = ({ method, path }) => {
    if (!isList(method, path)) return undefined;
    begun[lists.length]!.resolve();
    const list = Promise.withResolvers<Response>();
    lists.push(list);
    return list.promise;
  };
  const letGo = (index: number) => lists[index]!.resolve(answers[index]!());
  return { on, begun: begun.map(({ promise }) => promise), letGo, lists };
}

const podsOf =
  (...names: string[]) =>
  () =>
    Response.json({ items: names.flatMap((name) => Object.values(cluster(name, 1).objects)), metadata: {} });

test("a list that began before the evictions is given to nobody who asks for a later one; that one is for all", async () => {
  const { on, begun, letGo, lists } = held([podsOf("old"), podsOf("new")]);
  using server = pretendApi({ on });
  const shared = new PodLists(client(server));
  const first = shared.after("shop", 0);
  await begun[0];
  const evicted = shared.begun("shop");
  const later = [shared.after("shop", evicted), shared.after("shop", evicted)];
  expect([evicted, lists.length]).toEqual([1, 1]);
  letGo(0);
  expect([...(await first)!.keys()]).toEqual(["uid-old"]);
  await begun[1];
  letGo(1);
  for (const all of await Promise.all(later)) expect([...all!.keys()]).toEqual(["uid-new"]);
  expect([lists.length, shared.begun("shop")]).toEqual([2, 2]);
});

test("a large namespace is not listed again at once: who needs a later list is told so, others get the last one", async () => {
  const many = Array.from({ length: 2000 }, (_, i) => `p${i}`);
  const { on, begun, letGo, lists } = held([podsOf(...many), podsOf()]);
  using server = pretendApi({ on });
  const shared = new PodLists(client(server));
  const first = shared.after("shop", 0);
  await begun[0];
  letGo(0);
  await first;
  expect(await shared.after("shop", 1)).toBeUndefined();
  expect((await shared.after("shop", 0))!.size).toBe(2000);
  expect(lists).toHaveLength(1);
});

test("a list that fails is an error to who waits for it, and the next one is asked for at once", async () => {
  const { on, begun, letGo } = held([() => status(500, "no"), podsOf("new")]);
  using server = pretendApi({ on });
  const shared = new PodLists(client(server));
  const both = Promise.allSettled([shared.after("shop", 0), shared.after("shop", 0)]);
  await begun[0];
  letGo(0);
  const failed = { status: "rejected", reason: expect.objectContaining({ status: 500 }) };
  expect(await both).toEqual([failed, failed] as never);
  const next = shared.after("shop", 0);
  await begun[1];
  letGo(1);
  expect([...(await next)!.keys()]).toEqual(["uid-new"]);
});

test("the newest list of a large namespace is from before the eviction, and proves nothing: it is listed until the new pod is there", async () => {
  using _box = sandbox();
  const [mine, others] = [cluster("mine", 1), cluster("others", 300)];
  let [lists, evicted] = [0, false];
  const on: ApiOptions["on"] = ({ method, path }, { objects }) => {
    if (method === "POST" && path.endsWith("/eviction")) {
      evicted = objects.delete(path.slice(0, -9));
      return Response.json({}, { status: 201 });
    }
    if (isList(method, path) && !path.includes("continue") && ++lists === 3)
      Object.entries(cluster("mine", 2).objects).forEach(([name, pod]) => void objects.set(name, pod));
    return undefined;
  };
  using server = pretendApi({ objects: { ...mine.objects, ...others.objects }, on });
  await evictInTurn(client(server), mine.owner, { away: new Set() });
  expect([evicted, lists]).toEqual([true, 3]);
});
