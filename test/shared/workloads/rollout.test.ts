/**
 * Restarting what owns pods: once, whatever was cut off, and never more than a PodDisruptionBudget allows.
 */
import { afterEach, expect, setSystemTime, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { LabelSelector } from "../../../shared/api/kube-object.ts";
import { canaries } from "../../../shared/workloads/canaries.ts";
import type { PodOwner } from "../../../shared/workloads/pod-owners.ts";
import { restart as restartOwner } from "../../../shared/workloads/rollout.ts";
import { NO_TLS, pretendApi, status } from "../../pretend/api.ts";
import { variablesHere } from "../../pretend/programs.ts";
import { sandbox } from "../../pretend/sandbox.ts";

afterEach(() => void setSystemTime());

const SINCE = new Date("2026-06-01T00:00:00Z");
const RESTARTED = "kubectl.kubernetes.io/restartedAt";
const DEPLOYMENT = "/apis/apps/v1/namespaces/shop/deployments/web";
const POD = "/api/v1/namespaces/shop/pods/web-1";

/** A pod of one controller. */
function podOf(name: string, uid: string, kind = "ReplicaSet", apiVersion = "apps/v1") {
  return {
    metadata: {
      name,
      namespace: "shop",
      uid,
      ownerReferences: [{ apiVersion, kind, name: "web", uid: "web", controller: true }],
    },
    spec: {},
  };
}

function owner(controller: string, how: PodOwner["restart"] = "rollout"): PodOwner {
  const path = `/apis/apps/v1/namespaces/shop/${controller.toLowerCase()}s/web`;
  const own = ["Deployment", "DaemonSet", "StatefulSet"].includes(controller) ? { path } : {};
  return {
    restart: how,
    controller,
    ...own,
    namespace: "shop",
    name: "web",
    since: SINCE,
    pods: [podOf("web-1", "old")],
  };
}

function restart(api: KubeApi, one: PodOwner, away: string[] = []) {
  return restartOwner(api, one, { caPem: "the CA", away: new Set(away), kept: new Map() });
}

/** A rolled-out workload; `restartedAt` as an earlier run may have left it. */
function workload(restartedAt?: string) {
  return {
    metadata: { generation: 2 },
    spec: {
      replicas: 2,
      template: { metadata: { annotations: restartedAt ? { [RESTARTED]: restartedAt } : {} } },
    },
    status: {
      observedGeneration: 2,
      replicas: 2,
      updatedReplicas: 2,
      availableReplicas: 2,
      updateRevision: "b",
      currentRevision: "b",
    },
  };
}

const client = (server: { url: string }) => new KubeApi({ server: server.url, ca: NO_TLS });

test.each([
  ["never", undefined, 1],
  ["before the new CA", "2026-05-01T00:00:00Z", 1],
  ["by a run that was cut off", "2026-06-01T00:01:00Z", 0],
])("a Deployment that was restarted %s is patched %#", async (_, restartedAt, patches) => {
  using box = sandbox();
  using server = pretendApi({ objects: { [DEPLOYMENT]: workload(restartedAt) } });
  await restart(client(server), owner("Deployment"));
  expect(server.changes()).toEqual(Array(patches).fill(`PATCH ${DEPLOYMENT}`));
  if (patches === 1) {
    const at = server.objects.get(DEPLOYMENT).spec.template.metadata.annotations[RESTARTED];
    expect(new Date(at).getTime()).toBeGreaterThan(SINCE.getTime());
  }
  expect(box.said).toEqual(["replaced 1 pod of shop/web (Deployment) by a rolling update"]);
});

test("a rollout that an operator takes back leaves the old pods: they are evicted, and not called replaced", async () => {
  using box = sandbox();
  const set = { ...workload(), spec: { ...workload().spec, selector: { matchLabels: { app: "web" } } } };
  const old = podOf("web-1", "old");
  using server = pretendApi({
    objects: {
      [DEPLOYMENT]: set,
      [POD]: { ...old, metadata: { ...old.metadata, labels: { app: "web" } }, ...READY },
    },
    on: ({ method, path }, { objects }) => {
      // its operator writes the template that it knows
      if (method === "PATCH" && path === DEPLOYMENT) return Response.json(set);
      if (method === "POST" && path === `${POD}/eviction`)
        return replaced(objects, POD, podOf("web-2", "new"));
      return undefined;
    },
  });
  await restart(client(server), owner("Deployment"));
  expect(server.changes()).toEqual([`PATCH ${DEPLOYMENT}`, `POST ${POD}/eviction`]);
  expect(box.said).toEqual([
    "will evict 1 pod of shop/web (Deployment), which is still there: something took the restart back",
    "evicted 1 pod of shop/web (Deployment): new ones are Ready",
  ]);
});

test("a DaemonSet and a StatefulSet are waited for by their own counters", async () => {
  using _box = sandbox();
  const counted = {
    observedGeneration: 2,
    desiredNumberScheduled: 3,
    updatedNumberScheduled: 3,
    numberAvailable: 3,
  };
  using server = pretendApi({
    objects: {
      "/apis/apps/v1/namespaces/shop/daemonsets/web": { ...workload(), status: counted },
      "/apis/apps/v1/namespaces/shop/statefulsets/web": workload(),
    },
  });
  await restart(client(server), owner("DaemonSet"));
  await restart(client(server), owner("StatefulSet"));
});

test("a workload that was scaled to nothing meanwhile is through", async () => {
  using _box = sandbox();
  const none = {
    metadata: { generation: 2 },
    spec: { replicas: 0, template: {} },
    status: { observedGeneration: 2 },
  };
  using server = pretendApi({
    objects: {
      [DEPLOYMENT]: none,
      "/apis/apps/v1/namespaces/shop/daemonsets/web": { ...none, spec: { template: {} } },
    },
  });
  await restart(client(server), owner("Deployment"));
  await restart(client(server), owner("DaemonSet"));
});

test("a rollout stands still for as long as its new pods have to be ready, by minReadySeconds", async () => {
  using _box = sandbox();
  const [spec, now] = [{ ...workload().spec, minReadySeconds: 600 }, Date.now()];
  let looks = 0;
  using server = pretendApi({
    objects: { [DEPLOYMENT]: { ...workload(), spec } },
    on: ({ method, path }, { objects }) => {
      if (method !== "GET" || path !== DEPLOYMENT) return undefined;
      // of 200 seconds each: the new pod is Ready, and available only after three of them
      setSystemTime(now + looks++ * 200_000);
      const status = { ...workload().status, availableReplicas: looks < 5 ? 1 : 2 };
      return Response.json({ ...(objects.get(path) as object), status });
    },
  });
  await restart(client(server), owner("Deployment"));
  expect(looks).toBe(5);
});

test("an old observedGeneration is not taken for a finished rollout", async () => {
  using _box = sandbox();
  let looks = 0;
  using server = pretendApi({
    objects: { [DEPLOYMENT]: workload() },
    on: ({ method, path }) => {
      if (method !== "GET" || path !== DEPLOYMENT || ++looks !== 3) return undefined;
      return Response.json({ ...workload(), metadata: { name: "web", generation: 3 } });
    },
  });
  await restart(client(server), owner("Deployment"));
  expect(looks).toBe(4);
});

const READY = { status: { conditions: [{ type: "Ready", status: "True" }] } };

/** The controller of an evicted pod makes a new one. */
function replaced(objects: Map<string, unknown>, path: string, by?: object) {
  const name = path.slice(path.lastIndexOf("/") + 1);
  objects.delete(path);
  objects.set(`${path}-new`, {
    ...(by ?? podOf(`${name}-new`, `${name}-new`, "Cluster", "postgresql.cnpg.io/v1")),
    ...READY,
  });
  return Response.json({}, { status: 201 });
}

test("an eviction that a PodDisruptionBudget refuses is asked again until it is allowed", async () => {
  using box = sandbox();
  let refusals = 2;
  using server = pretendApi({
    objects: { [POD]: { ...podOf("web-1", "old"), ...READY } },
    on: ({ method, path }, { objects }) => {
      if (method !== "POST" || path !== `${POD}/eviction`) return undefined;
      if (refusals-- > 0)
        return status(429, "Cannot evict pod as it would violate the pod's disruption budget.");
      objects.set(`${POD}-new`, { ...podOf("web-1-new", "new"), ...READY });
      objects.delete(POD);
      return Response.json({}, { status: 201 });
    },
  });
  await restart(client(server), owner("ReplicaSet", "evict"));
  expect(server.changes()).toEqual(Array(3).fill(`POST ${POD}/eviction`));
  expect(box.said).toEqual(["evicted 1 pod of shop/web (ReplicaSet): new ones are Ready"]);
});

/**
 * web-1 here and web-2 on n2, of which nobody hears; each replica set's or StatefulSet's pods have its UID.
 */
function onTwoNodes(kind: string, set: object) {
  const labels = { app: "web" };
  const pod = (name: string, node: string, uid: string, more: object) => {
    const { metadata } = podOf(name, uid, kind === "StatefulSet" ? kind : "ReplicaSet");
    return { metadata: { ...metadata, labels }, spec: { nodeName: node }, ...more };
  };
  const selector = { matchLabels: labels };
  return {
    [`/apis/apps/v1/namespaces/shop/${kind.toLowerCase()}s/web`]: {
      ...workload(),
      ...set,
      spec: { ...workload().spec, selector },
    },
    [POD]: pod("web-1", "n1", "old", READY),
    "/api/v1/namespaces/shop/pods/web-2": pod("web-2", "n2", "on-away", { status: { phase: "Pending" } }),
  };
}

/**
 * Evicted pods are replaced by this one; whoever looks at the workload finds that twenty seconds are over.
 */
function hurried(by: object) {
  let now = Date.now();
  return {
    on: (
      { method, path }: { method: string; path: string },
      { objects }: { objects: Map<string, unknown> },
    ) => {
      if (method === "GET" && path.endsWith("s/web")) now += 20_000;
      setSystemTime(now);
      return method === "POST" && path.endsWith("/eviction")
        ? replaced(objects, path.slice(0, -"/eviction".length), by)
        : undefined;
    },
  };
}

test("a rolling update that waits for a new pod on a node that is away is ended: the old pods are evicted, and that pod is named", async () => {
  using box = sandbox();
  const status = { observedGeneration: 2, replicas: 2, updatedReplicas: 1, availableReplicas: 1 };
  using server = pretendApi({
    objects: onTwoNodes("Deployment", { status }),
    ...hurried(podOf("web-3", "new")),
  });
  await restart(client(server), owner("Deployment"), ["n2"]);
  expect(server.changes()).toEqual([`PATCH ${DEPLOYMENT}`, `POST ${POD}/eviction`]);
  expect(box.said.slice(-2)).toEqual([
    "will evict 1 pod of shop/web (Deployment), which is still there: its rolling update goes no further: 1 of 2 on n2, which is away",
    "evicted 1 pod of shop/web (Deployment): new ones are Ready",
  ]);
});

/** Whoever looks again and again finds that it is done after all: what ends at once, as given up, never comes there. */
function doneAfterAll() {
  let looks = 0;
  return (
    { method, path }: { method: string; path: string },
    { objects }: { objects: Map<string, unknown> },
  ) => {
    if (method !== "GET" || path !== DEPLOYMENT || ++looks <= 4) return undefined;
    objects.delete(POD);
    return Response.json(workload());
  };
}

test("a rolling update that Kubernetes has given up because it waits for a node that is away is ended at once", async () => {
  using _box = sandbox();
  const done = doneAfterAll();
  const conditions = [{ type: "Progressing", status: "False", reason: "ProgressDeadlineExceeded" }];
  const status = { observedGeneration: 2, replicas: 2, updatedReplicas: 1, availableReplicas: 1, conditions };
  using server = pretendApi({
    objects: onTwoNodes("Deployment", { status }),
    on: (asked, server) =>
      asked.method === "POST" && asked.path === `${POD}/eviction`
        ? replaced(server.objects, POD, podOf("web-3", "new"))
        : done(asked, server),
  });
  await restart(client(server), owner("Deployment"), ["n2"]);
  expect(server.changes()).toEqual([`PATCH ${DEPLOYMENT}`, `POST ${POD}/eviction`]);
});

test("a pod that is not Ready on a node that is there is waited for, also beside one on a node that is away", async () => {
  using _box = sandbox();
  const conditions = [{ type: "Progressing", status: "False", reason: "ProgressDeadlineExceeded" }];
  const status = { observedGeneration: 2, replicas: 3, updatedReplicas: 3, availableReplicas: 1, conditions };
  const objects = onTwoNodes("Deployment", { status });
  using server = pretendApi({
    objects: {
      ...objects,
      [DEPLOYMENT]: { ...objects[DEPLOYMENT], spec: { ...workload().spec, replicas: 3 } },
    },
    on: doneAfterAll(),
  });
  await expect(restart(client(server), owner("Deployment"), ["n2"])).rejects.toThrow(
    "its rollout does not continue: 3 of 3 pods are new, 1",
  );
});

test.each([
  ["after its number is kept, as no new one would come", "web-9", []],
  ["before its number is evicted", "web-1", [`POST ${POD}/eviction`]],
])("of a StatefulSet with a pod on a node that is away, an old pod %s", async (_, name, evictions) => {
  using _sandbox = sandbox();
  const status = {
    observedGeneration: 2,
    replicas: 2,
    updatedReplicas: 0,
    availableReplicas: 1,
    updateRevision: "b",
    currentRevision: "a",
  };
  const { [POD]: here, ...others } = onTwoNodes("StatefulSet", { status });
  const path = POD.replace("web-1", name);
  using server = pretendApi({
    objects: {
      ...others,
      [path]: { ...here, metadata: { ...(here as { metadata: object }).metadata, name } },
    },
    ...hurried(podOf(name, "new", "StatefulSet")),
  });
  const one: PodOwner = {
    ...owner("StatefulSet"),
    newPodsWaitFor: "lower numbers",
    pods: [podOf(name, "old", "StatefulSet")],
  };
  const run = restart(client(server), one, ["n2"]);
  if (evictions.length > 0) await run;
  else
    await expect(run).rejects.toThrow(
      "a StatefulSet creates no new pod after web-2 on n2, which is away. Unchanged: web-9",
    );
  expect(server.changes()).toEqual(["PATCH /apis/apps/v1/namespaces/shop/statefulsets/web", ...evictions]);
});

test("a pod that has been replaced under its name is not evicted a second time", async () => {
  using _box = sandbox();
  using server = pretendApi({ objects: { [POD]: podOf("web-1", "new") } });
  await restart(client(server), owner("ReplicaSet", "evict"));
  expect(server.changes()).toEqual([]);
});

test("pods of an operator's Cluster are evicted one after the other: the next when as many are Ready as before", async () => {
  using box = sandbox();
  const members = ["web-9", "web-10", "web-11"].map((name) =>
    podOf(name, name, "Cluster", "postgresql.cnpg.io/v1"),
  );
  const away: string[] = [];
  using server = pretendApi({
    objects: Object.fromEntries(
      members.map((pod) => [`/api/v1/namespaces/shop/pods/${pod.metadata.name}`, { ...pod, ...READY }]),
    ),
    on: ({ method, path }, { objects }) => {
      const isReady = (pod: typeof READY) => pod.status !== undefined;
      if (method === "POST" && path.endsWith("/eviction")) {
        away.push(`${path.split("/").at(-2)} of ${[...objects.values()].filter(isReady).length}`);
        return replaced(objects, path.slice(0, -"/eviction".length));
      }
      return undefined;
    },
  });
  await restart(client(server), { ...owner("Cluster", "evict"), pods: members });
  expect(away).toEqual(["web-11 of 3", "web-10 of 3", "web-9 of 3"]);
  expect(box.said).toEqual(["evicted 3 pods of shop/web (Cluster): new ones are Ready"]);
});

test.each([
  ["of labels", { matchLabels: {} }],
  ["of all pods", {}],
  ["of an expression", { matchExpressions: [{ key: "app", operator: "DoesNotExist" }] }],
] as [string, LabelSelector][])(
  "a PodDisruptionBudget %s that allows no eviction ever is named at once; an operator's own pods are asked for again",
  async (_, selector) => {
    const budget = { spec: { selector }, status: { expectedPods: 1, desiredHealthy: 1 } };
    using _box = sandbox();
    let refusals = 2;
    using server = pretendApi({
      objects: {
        [POD]: { ...podOf("web-1", "old"), ...READY },
        "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/tight": budget,
      },
      on: ({ method, path }, { objects }) => {
        if (method !== "POST" || path !== `${POD}/eviction`) return undefined;
        return refusals-- > 0 ? status(429, "Cannot evict pod") : replaced(objects, POD);
      },
    });
    await expect(restart(client(server), owner("ReplicaSet", "evict"))).rejects.toThrow(
      'the PodDisruptionBudget "tight" allows no eviction, even if all its pods are Ready',
    );
    expect(server.changes()).toEqual([`POST ${POD}/eviction`]);
    await restart(client(server), {
      ...owner("Cluster", "evict"),
      pods: [podOf("web-1", "old", "Cluster", "postgresql.cnpg.io/v1")],
    });
    expect(server.changes()).toEqual(Array(3).fill(`POST ${POD}/eviction`));
  },
);

test("a paused Deployment is refused before anything is changed, with kubectl's way on", async () => {
  using _box = sandbox();
  using server = pretendApi({
    objects: { [DEPLOYMENT]: { ...workload(), spec: { ...workload().spec, paused: true } } },
  });
  await expect(restart(client(server), owner("Deployment"))).rejects.toMatchObject({
    message: "it is paused, and kubectl rollout restart refuses that, too",
    hint: expect.stringContaining("kubectl -n shop rollout resume deployment/web"),
  });
  expect(server.changes()).toEqual([]);
});

test.each([
  ["with a change of its template that waits", 0, 1],
  ["without one", 1, 0],
])(
  "a DaemonSet with OnDelete %s: its pods are evicted only where they come back the same",
  async (_, updated, refusals) => {
    using _box = sandbox();
    const set = { ...workload(), spec: { ...workload().spec, updateStrategy: { type: "OnDelete" } } };
    using server = pretendApi({
      objects: {
        [POD]: { ...podOf("web-1", "old", "DaemonSet"), ...READY },
        "/apis/apps/v1/namespaces/shop/daemonsets/web": {
          ...set,
          status: { currentNumberScheduled: 1, updatedNumberScheduled: updated },
        },
      },
      on: ({ method, path }, { objects }) => {
        if (method !== "POST" || path !== `${POD}/eviction`) return undefined;
        objects.set(POD, { ...podOf("web-1", "new", "DaemonSet"), ...READY });
        return Response.json({}, { status: 201 });
      },
    });
    const run = restart(client(server), {
      ...owner("DaemonSet", "evict"),
      pods: [podOf("web-1", "old", "DaemonSet")],
    });
    if (refusals > 0) await expect(run).rejects.toThrow("OnDelete, and its template has a change that waits");
    else await run;
    expect(server.changes()).toHaveLength(1 - refusals);
  },
);

test.each([
  [
    "its quota",
    { conditions: [{ type: "ReplicaFailure", status: "True", message: "exceeded quota: small" }] },
    {},
    "exceeded quota: small",
  ],
  [
    "an image",
    {},
    { containerStatuses: [{ state: { waiting: { reason: "ErrImagePull", message: "no such image" } } }] },
    "web-2: ErrImagePull: no such image",
  ],
  [
    "no room",
    {},
    {
      conditions: [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/3 nodes" }],
    },
    "web-2: Unschedulable: 0/3 nodes",
  ],
])(
  "a rollout that Kubernetes has given up because of %s ends at once, and says why",
  async (_, more, pod, why) => {
    using _box = sandbox();
    const late = { type: "Progressing", status: "False", reason: "ProgressDeadlineExceeded" };
    const { conditions = [] } = more as { conditions?: object[] };
    const given = {
      ...workload(),
      status: {
        observedGeneration: 2,
        replicas: 3,
        updatedReplicas: 1,
        availableReplicas: 2,
        conditions: [late, ...conditions],
      },
    };
    using server = pretendApi({
      objects: {
        [DEPLOYMENT]: { ...given, spec: { ...given.spec, selector: { matchLabels: { app: "web" } } } },
        "/api/v1/namespaces/shop/pods/web-2": { metadata: { labels: { app: "web" } }, spec: {}, status: pod },
      },
      on: doneAfterAll(),
    });
    await expect(restart(client(server), owner("Deployment"))).rejects.toMatchObject({
      message: `its rollout does not continue: 1 of 2 pods are new, 2 available: ${why}`,
      hint: expect.stringContaining("kubectl -n shop rollout status deployment/web"),
    });
  },
);

const PODS = "/api/v1/namespaces/kube-system/pods";
const CANARY = `${PODS}/kube-pki-repair-canary-w1`;
const PROXY = {
  spec: {
    template: {
      spec: { containers: [{ image: "kube-proxy:v1" }], imagePullSecrets: [{ name: "registry" }] },
    },
  },
};
const isReady = { conditions: [{ type: "Ready", status: "True" }] };

/** A node with a kube-proxy. */
const PROXIED = {
  "/api/v1/nodes/w1": { status: isReady },
  "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy": PROXY,
  [`${PODS}/kube-proxy-1`]: {
    metadata: { labels: { "k8s-app": "kube-proxy" } },
    spec: { nodeName: "w1" },
    status: isReady,
  },
};

test.each([
  [{ phase: "Running", podIP: "127.0.0.1" }, "reached on 1 of 1 nodes", []],
  [{ phase: "Failed", reason: "OutOfpods" }, "reached on 0 of 1 nodes", ["test pod on w1: OutOfpods"]],
  [{ phase: "Failed" }, "reached on 0 of 1 nodes", ["test pod on w1: it failed"]],
])("a test pod that is %o is removed, with what was there of before", async (becomes, words, left) => {
  using box = sandbox();
  using server = pretendApi({
    objects: { ...PROXIED, [CANARY]: {} },
    on: ({ method, body }) => {
      if (method === "POST") body.status = becomes;
      return undefined;
    },
  });
  expect(await canaries(client(server), "m1")).toEqual({ left });
  expect(server.changes()).toEqual([`DELETE ${CANARY}`, `POST ${PODS}`, `DELETE ${CANARY}`]);
  expect(box.said).toEqual([`test pods: ${words}`]);
  const { image, imagePullPolicy } = server.requests.find(({ method }) => method === "POST")!.body.spec
    .containers[0];
  expect([image, imagePullPolicy]).toEqual(["kube-proxy:v1", "IfNotPresent"]);
});

const SANDBOX = { reason: "FailedCreatePodSandBox", message: "plugin type calico failed: x509" };
const IMAGE = { reason: "Failed", message: "Back-off pulling image kube-proxy:v1" };
const NOT_ONE = "no node gives a new pod a network: w1: plugin type calico failed: x509";

test.each<[what: string, w1: object, w2: object | undefined, why: string[], noNetwork?: string]>([
  ["of every node says so", SANDBOX, SANDBOX, [SANDBOX.message, SANDBOX.message], NOT_ONE],
  ["of one says so, and the other misses an image", SANDBOX, IMAGE, [SANDBOX.message, IMAGE.message]],
  ["of one says so, and the other's runs", SANDBOX, undefined, [SANDBOX.message]],
  ["of one says nothing", {}, undefined, ["not started within 90 s, and nothing says why"]],
])("there is no network for new pods only where the kubelet of every node says so: %s", async (...row) => {
  const [, w1, w2, why, noNetwork] = row;
  using box = sandbox();
  using _variables = variablesHere({ KUBE_PKI_REPAIR_PATIENCE: "0.0005" });
  const second = { ...PROXIED[`${PODS}/kube-proxy-1`], spec: { nodeName: "w2" } };
  using server = pretendApi({
    objects: { ...PROXIED, "/api/v1/nodes/w2": { status: isReady }, [`${PODS}/kube-proxy-2`]: second },
    on: ({ method, path, body }, { objects }) => {
      if (method !== "POST") return undefined;
      const { name } = body.metadata;
      const event = name.endsWith("w1") ? w1 : w2;
      const status = event ? { phase: "Pending" } : { phase: "Running", podIP: "127.0.0.1" };
      objects.set(`${path}/${name}`, { ...body, status });
      if (event && "reason" in event)
        objects.set(`/api/v1/namespaces/kube-system/events/${name}`, {
          ...{ metadata: { name }, involvedObject: { name }, type: "Warning", ...event },
        });
      return Response.json({}, { status: 201 });
    },
  });
  const shown = await canaries(client(server), "m1");
  expect(shown.left).toEqual(why.map((words, at) => `test pod on w${at + 1}: ${words}`));
  expect(shown.noNetwork?.message).toBe(noNetwork as string);
  expect(box.said).toEqual([`test pods: reached on ${2 - why.length} of 2 nodes`]);
});

test("a test pod that a deaf webhook refuses is named, and ends nothing", async () => {
  using box = sandbox();
  using server = pretendApi({
    objects: PROXIED,
    on: ({ method }) =>
      method === "POST"
        ? status(500, 'Internal error occurred: failed calling webhook "all.hook": refused')
        : undefined,
  });
  const why = 'test pod on w1: refused: the API refuses it, because the webhook "all.hook" does not answer';
  expect(await canaries(client(server), "m1")).toEqual({ left: [why] });
  expect(box.said).toEqual(["test pods: reached on 0 of 1 nodes"]);
});

test("where no node should take a test pod, each is named with the reason", async () => {
  using box = sandbox();
  using server = pretendApi({
    objects: {
      ...PROXIED,
      "/api/v1/nodes/w1": { status: {} },
      "/api/v1/nodes/w2": { status: isReady },
      "/api/v1/nodes/v1": { spec: { taints: [{ key: "virtual-kubelet.io/provider" }] }, status: isReady },
    },
  });
  expect(await canaries(client(server), "m1")).toEqual({ left: [] });
  expect(box.said).toEqual(["no test pod there: w1 (not Ready), w2 (no Ready kube-proxy), v1 (virtual)"]);
  expect(server.changes()).toEqual([]);
});

test("a DaemonSet's pods are replaced at once, and each node is waited for; its pods are asked of the API server's memory", async () => {
  const pods = "/api/v1/namespaces/shop/pods";
  const ready = {
    status: { conditions: [{ type: "Ready", status: "True" }] },
    metadata: { labels: { app: "web" } },
  };
  const set = {
    spec: { selector: { matchLabels: { app: "web" } }, template: {} },
    status: { desiredNumberScheduled: 2 },
  };
  let asked = 0;
  using server = pretendApi({
    objects: {
      "/apis/apps/v1/namespaces/shop/daemonsets/web": set,
      [`${pods}/web-1`]: { ...ready, metadata: { ...ready.metadata, uid: "old-1" } },
      [`${pods}/web-2`]: { ...ready, metadata: { ...ready.metadata, uid: "old-2" } },
    },
    on: ({ method, path }, { objects }) => {
      const name = /pods\/(web-\d)\/eviction$/.exec(path)?.[1];
      if (method === "POST" && name) {
        objects.delete(`${pods}/${name}`);
        return Response.json({});
      }
      // The second new pod comes only when it has been asked for twice; another old one is none.
      const node = /spec\.nodeName%3D(n\d)/.exec(path)?.[1];
      if (!node) return undefined;
      if (node === "n2") asked++;
      const uid = node === "n2" && asked < 3 ? `old-${3 - asked}` : node;
      return Response.json({ items: [{ ...ready, metadata: { name: uid, uid } }], metadata: {} });
    },
  });
  const stale = ["1", "2"].map((n) => {
    const { metadata } = podOf(`web-${n}`, `old-${n}`, "DaemonSet");
    // that of the second is not known
    const version = n === "1" ? { resourceVersion: "4711" } : {};
    return { metadata: { ...metadata, ...version }, spec: { nodeName: `n${n}` } };
  });
  await restart(client(server), { ...owner("DaemonSet", "replace"), atOnce: "all", pods: stale });
  expect(server.changes().sort()).toEqual([`POST ${pods}/web-1/eviction`, `POST ${pods}/web-2/eviction`]);
  expect(asked).toBe(3);
  // a list in pages is read from etcd
  const queries = server.requests.flatMap(({ path }) =>
    path.includes("spec.nodeName") ? path.split("?")[1] : [],
  );
  expect([...new Set(queries)].sort()).toEqual([
    "labelSelector=app%3Dweb&resourceVersion=0&fieldSelector=spec.nodeName%3Dn2",
    "labelSelector=app%3Dweb&resourceVersion=4711&resourceVersionMatch=NotOlderThan&fieldSelector=spec.nodeName%3Dn1",
  ]);
});

test.each([
  ["go on past a few nodes where no new pod comes", [5, 6], [1, 2, 3, 4, 5, 6, 7, 8, 9]],
  ["end where none comes on the first nodes: the other old pods are kept", [1, 2], [1, 2]],
  ["end where none comes on more nodes than not", [2, 3], [1, 2, 3]],
])("a DaemonSet's pods are replaced one after the other, and %s", async (_, without, asked) => {
  using _box = sandbox();
  const numbers = [1, 2, 3, 4, 5, 6, 7, 8, 9];
  const pods = "/api/v1/namespaces/shop/pods";
  const evicted: number[] = [];
  using server = pretendApi({
    objects: {
      "/apis/apps/v1/namespaces/shop/daemonsets/web": {
        spec: { selector: { matchLabels: { app: "web" } }, template: {} },
        status: {},
      },
      "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/tight": {
        spec: { selector: {} },
        status: { expectedPods: 1, desiredHealthy: 1 },
      },
      ...Object.fromEntries(numbers.map((n) => [`${pods}/web-${n}`, podOf(`web-${n}`, `old-${n}`)])),
    },
    on: ({ method, path }, { objects }) => {
      const number = Number(/web-(\d)\/eviction$/.exec(path)?.[1]);
      if (method === "POST" && number) {
        evicted.push(number);
        if (without.includes(number)) return status(429, "Cannot evict pod");
        objects.delete(`${pods}/web-${number}`);
        return Response.json({}, { status: 201 });
      }
      const node = /spec\.nodeName%3D(n\d)/.exec(path)?.[1];
      return node
        ? Response.json({ items: [{ ...READY, metadata: { name: node, uid: node } }], metadata: {} })
        : undefined;
    },
  });
  const stale = numbers.map((n) => ({
    ...podOf(`web-${n}`, `old-${n}`, "DaemonSet"),
    spec: { nodeName: `n${n}` },
  }));
  const run = restart(client(server), { ...owner("DaemonSet", "replace"), pods: stale });
  await expect(run).rejects.toThrow(`no new pod that is Ready on ${without.map((n) => `n${n}`).join(", ")}`);
  expect(evicted).toEqual(asked);
});
