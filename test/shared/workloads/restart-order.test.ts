/** Nodes that are away, and what of a workload is on them: nothing waits for them. */
import { expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { mode } from "../../../shared/run.ts";
import { listenToRun, type RunEvent, startRunEvents } from "../../../shared/this-run.ts";
import type { PodOwner } from "../../../shared/workloads/pod-owners.ts";
import { restartInOrder } from "../../../shared/workloads/restart-order.ts";
import { type ApiOptions, type ApiRequest, NO_TLS, pretendApi, status } from "../../pretend/api.ts";
import { renewPod } from "../../pretend/running.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const PODS = "/api/v1/namespaces/shop/pods";
const ready = { conditions: [{ type: "Ready", status: "True" }] };

/** A DaemonSet with an old pod on each of these nodes. */
function set(name: string, nodes: readonly string[]): { owner: PodOwner; objects: Record<string, object> } {
  const path = `/apis/apps/v1/namespaces/shop/daemonsets/${name}`;
  const pods = nodes.map((node) => ({
    metadata: {
      name: `${name}-${node}`,
      namespace: "shop",
      uid: `uid-of-${name}-${node}`,
      labels: { app: name },
    },
    spec: { nodeName: node },
    status: ready,
  }));
  const workload = {
    spec: { selector: { matchLabels: { app: name } }, template: {} },
    metadata: { generation: 1 },
    status: {},
  };
  return {
    owner: {
      restart: "rollout",
      controller: "DaemonSet",
      namespace: "shop",
      name,
      path,
      since: new Date(),
      pods,
    },
    objects: {
      [path]: workload,
      ...Object.fromEntries(pods.map((pod) => [`${PODS}/${pod.metadata.name}`, pod])),
    },
  };
}

test("pods on nodes that are away are named; a DaemonSet's others are replaced, as its own update does not pass such a node", async () => {
  using box = sandbox();
  const [log, gone] = [set("log", ["w1", "w2", "w3"]), set("gone", ["w2"])];
  using server = pretendApi({
    objects: { ...log.objects, ...gone.objects },
    on: ({ method, path }, { objects }) =>
      method === "POST" && path.endsWith("/eviction") ? renewPod(objects, path.slice(0, -9)) : undefined,
  });
  const api = new KubeApi({ server: server.url, ca: NO_TLS });
  const groups = [{ name: "all others" as const, owners: [log.owner, gone.owner] }];
  const end = await restartInOrder(api, groups, {
    from: "m1",
    away: new Set(["w2"]),
    kept: new Map(),
    caPem: "the CA",
  });
  expect(end).toEqual({
    left: [],
    notes: ["log", "gone"].map(
      (name) => `left: shop/${name} (DaemonSet) on w2, which is away: when it is back, this script again`,
    ),
  });
  expect(server.changes()).toEqual([`POST ${PODS}/log-w1/eviction`, `POST ${PODS}/log-w3/eviction`]);
  expect(box.said).toContain("replaced 2 pods of shop/log (DaemonSet), 1 at a time");
});

test("a Deployment of the system whose pods are all on nodes that are away starts elsewhere: what has to come after may need it", async () => {
  using _box = sandbox();
  const path = "/apis/apps/v1/namespaces/shop/deployments/typha";
  const [old] = set("typha", ["w2"]).owner.pods;
  const done = {
    metadata: { generation: 1 },
    spec: { replicas: 1, selector: { matchLabels: { app: "new" } }, template: {} },
  };
  const status = { observedGeneration: 1, replicas: 1, updatedReplicas: 1, availableReplicas: 1 };
  const owner: PodOwner = {
    restart: "rollout",
    controller: "Deployment",
    namespace: "shop",
    name: "typha",
    path,
    since: new Date(),
    pods: [old!],
  };
  const way = { from: "m1", away: new Set(["w2"]), kept: new Map(), caPem: "the CA" };
  for (const system of [true, false]) {
    using server = pretendApi({ objects: { [path]: { ...done, status } } });
    const api = new KubeApi({ server: server.url, ca: NO_TLS });
    const { left } = await restartInOrder(api, [{ name: "all others", owners: [{ ...owner, system }] }], way);
    expect([left, server.changes()]).toEqual([[], system ? [`PATCH ${path}`] : []]);
  }
});

const WAY = { from: "m1", away: new Set<string>(), kept: new Map(), caPem: "the CA" };
/** Evicted pods are replaced at once; a workload of `broken` cannot be read. `first` may answer before. */
async function ordered(
  groups: Parameters<typeof restartInOrder>[1],
  sets: ReturnType<typeof set>[],
  broken: string[],
  way = WAY,
  first: NonNullable<ApiOptions["on"]> = () => undefined,
) {
  using box = sandbox();
  using server = pretendApi({
    objects: Object.assign({}, ...sets.map(({ objects }) => objects)),
    on: async (request, { objects }) => {
      const answer = await first(request, { objects });
      if (answer) return answer;
      const { method, path } = request;
      if (broken.some((name) => path.endsWith(`/daemonsets/${name}`))) return status(500, "no");
      return method === "POST" && path.endsWith("/eviction")
        ? renewPod(objects, path.slice(0, -9))
        : undefined;
    },
  });
  const heard: RunEvent[] = [];
  startRunEvents({ what: "run", script: "04-sa-tokens", version: "", args: [] });
  listenToRun((event) => heard.push(event));
  const end = await restartInOrder(new KubeApi({ server: server.url, ca: NO_TLS }), groups, way);
  const waited = heard.flatMap((event) => (event.what === "waited" ? event.for : []));
  const evicted = server.changes().flatMap((line) => /pods\/([\w-]+)\/eviction/.exec(line)?.[1] ?? []);
  const asks = server.requests.map(({ method, path }) => `${method} ${path}`);
  return { ...end, evicted, asks, said: box.said, waited: waited.filter((what) => what.includes("webhook")) };
}

const replaced = (name: string, more: Partial<PodOwner> = {}) => {
  const made = set(name, ["w1"]);
  return { ...made, owner: { ...made.owner, restart: "replace" as const, ...more } };
};

test("while kube-proxy is left only webhooks restart, and why is said of each other one; no answer of a webhook is waited for", async () => {
  const [proxy, hook, shop] = [replaced("proxy"), replaced("hook", { webhook: true }), replaced("shop")];
  const groups = [
    { name: "kube-proxy" as const, owners: [proxy.owner] },
    { name: "all others" as const, owners: [hook.owner, shop.owner] },
  ];
  const { left, evicted, said, waited } = await ordered(groups, [proxy, hook, shop], ["proxy"]);
  expect(waited).toEqual([]);
  expect(left.map(({ owner }) => owner.name).sort()).toEqual(["proxy", "shop"]);
  expect(left.find(({ owner }) => owner.name === "shop")!.why.message).toBe(
    "not begun: a new pod gets no traffic from Services until shop/proxy (DaemonSet) has restarted",
  );
  expect(evicted).toEqual(["hook-w1"]);
  expect(said.some((line) => line.startsWith("shop/proxy (DaemonSet): left: "))).toBe(true);
});

test("another workload that is left holds nobody up", async () => {
  const [log, shop] = [replaced("log"), replaced("shop")];
  const groups = [{ name: "all others" as const, owners: [log.owner, shop.owner] }];
  const { left, evicted } = await ordered(groups, [log, shop], ["log"]);
  expect(left.map(({ owner }) => owner.name)).toEqual(["log"]);
  expect(evicted).toEqual(["shop-w1"]);
});

test("a webhook that was restarted lets in what it kept out; what was left for another reason is not tried again", async () => {
  const [hook, shop, log] = [replaced("hook", { webhook: true }), replaced("shop"), replaced("log")];
  let asked = 0;
  const isDeaf = ({ method, path, body }: ApiRequest) =>
    method === "POST" && path.includes("dryRun=All") && body.metadata.labels.app === "shop" && asked++ === 0;
  const groups = [{ name: "all others" as const, owners: [shop.owner, log.owner, hook.owner] }];
  const { left, evicted, asks } = await ordered(groups, [hook, shop, log], ["log"], WAY, (request) =>
    isDeaf(request) ? status(500, 'failed calling webhook "shop.hook": refused') : undefined,
  );
  expect(evicted).toEqual(["hook-w1", "shop-w1"]);
  expect(left.map(({ owner }) => owner.name)).toEqual(["log"]);
  expect(asks.filter((line) => line === `GET ${log.owner.path}`)).toHaveLength(1);
});

test("thirty that are left for one reason are said in a few lines while they come, and thirty on nodes that are away, too", async () => {
  const sets = Array.from({ length: 30 }, (_, i) => set(`log-${i}`, ["w1", `n${i}`]));
  const groups = [{ name: "all others" as const, owners: sets.map(({ owner }) => owner) }];
  const names = sets.map(({ owner }) => owner.name);
  const away = new Set(names.map((_, i) => `n${i}`));
  const { left, said, notes } = await ordered(groups, sets, names, { ...WAY, away });
  expect(left).toHaveLength(30);
  const lines = said.filter((line) => line.includes(": left: "));
  expect([
    lines.length,
    said.filter((line) => /^10 more like shop\/log-\d+ \(DaemonSet\): shop/.test(line)).length,
  ]).toEqual([20, 1]);
  expect(notes).toEqual([
    "left: shop/log-0 (DaemonSet) on n0, which is away: when it is back, this script again",
    expect.stringMatching(
      /^29 more like shop\/log-0 \(DaemonSet\): shop\/log-1 \(DaemonSet\), .* and 9 more$/,
    ),
  ]);
});

test("where nothing has to restart that is said; a dry run names what would", async () => {
  expect((await ordered([{ name: "all others", owners: [] }], [], [])).said).toEqual(["nothing to restart"]);
  const shop = replaced("shop");
  mode.dryRun = true;
  const { said, evicted, left } = await ordered([{ name: "all others", owners: [shop.owner] }], [shop], []);
  expect([said.at(-1), evicted, left]).toEqual(["would restart: shop/shop (DaemonSet)", [], []]);
});
