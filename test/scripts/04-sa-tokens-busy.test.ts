/**
 * 04-sa-tokens on a busy cluster: twenty workloads that cannot be restarted, each for another reason, never
 * keep it from the others.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { type ApiRequest, status } from "../pretend/api.ts";
import { healthyCp, otherCa } from "../pretend/cluster.ts";
import { type NodeOptions, pretendNode } from "../pretend/node.ts";
import { knewCa, oldPod, renewPod, serveRunning } from "../pretend/running.ts";

setDefaultTimeout(300_000);

await healthyCp();
const before = await otherCa();
const SHOP = "/api/v1/namespaces/shop";
const APPS = "/apis/apps/v1/namespaces/shop";
const SHORT = { KUBE_PKI_REPAIR_PATIENCE: "0.004" };

type Objects = Record<string, object>;
type Api = { objects: Map<string, ReturnType<typeof JSON.parse>> };

function afterPart3(options: NodeOptions = {}) {
  return pretendNode({ kind: "healthy control plane node", etcd: knewCa(before.cert), ...options });
}

const through = {
  observedGeneration: 1,
  replicas: 1,
  updatedReplicas: 1,
  availableReplicas: 1,
  updateRevision: "b",
  currentRevision: "b",
};
const onAll = {
  observedGeneration: 1,
  desiredNumberScheduled: 1,
  currentNumberScheduled: 1,
  updatedNumberScheduled: 1,
  numberAvailable: 1,
};

/** A workload with one old pod, `NAME-1`. */
function workload(
  kind: "Deployment" | "StatefulSet" | "DaemonSet",
  name: string,
  spec: object = {},
  state: object = {},
): Objects {
  const [owner, set] = kind === "Deployment" ? ["ReplicaSet", `${name}-5`] : [kind, name];
  const parent = { apiVersion: "apps/v1", kind: "Deployment", name, uid: `uid-of-${name}`, controller: true };
  return {
    [`${SHOP}/pods/${name}-1`]: oldPod(`${name}-1`, { kind: owner, name: set }, { app: name }),
    ...(kind === "Deployment"
      ? { [`${APPS}/replicasets/${set}`]: { metadata: { ownerReferences: [parent] } } }
      : {}),
    [`${APPS}/${kind.toLowerCase()}s/${name}`]: {
      metadata: { generation: 1 },
      spec: { replicas: 1, selector: { matchLabels: { app: name } }, template: {}, ...spec },
      status: { ...(kind === "DaemonSet" ? onAll : through), ...state },
    },
  };
}

/** One old pod of another controller. */
function owned(kind: string, apiVersion: string, name: string): Objects {
  return { [`${SHOP}/pods/${name}-1`]: oldPod(`${name}-1`, { kind, apiVersion, name }, { app: name }) };
}

const budget = (app: string) => ({
  spec: { selector: { matchLabels: { app } } },
  status: { expectedPods: 1, desiredHealthy: 1 },
});
const waiting = (app: string, reason: string) => ({
  metadata: { labels: { app } },
  spec: { nodeName: "w1" },
  status: { phase: "Pending", containerStatuses: [{ state: { waiting: { reason, message: `of ${app}` } } }] },
});
const late = { type: "Progressing", status: "False", reason: "ProgressDeadlineExceeded" };
const stuck = { updatedReplicas: 0 };

/** Each with what 4.7 says of it. */
const STUCK: [says: string, objects: Objects][] = [
  [
    "paused (Deployment) still trusts the old CA: it is paused",
    workload("Deployment", "paused", { paused: true }),
  ],
  [
    "deadline (Deployment) still trusts the old CA: its rollout does not continue",
    workload("Deployment", "deadline", {}, { ...stuck, conditions: [late] }),
  ],
  [
    "quota (Deployment) still trusts the old CA: its rollout does not continue: 0 of 1 pods are new, 1 available: exceeded quota",
    workload(
      "Deployment",
      "quota",
      {},
      {
        ...stuck,
        conditions: [{ type: "ReplicaFailure", status: "True", message: "exceeded quota: small" }],
      },
    ),
  ],
  [
    "image (Deployment) still trusts the old CA: its rollout does not continue: 0 of 1 pods are new, 1 available: image-2: ImagePullBackOff: of image",
    {
      ...workload("Deployment", "image", {}, stuck),
      [`${SHOP}/pods/image-2`]: waiting("image", "ImagePullBackOff"),
    },
  ],
  [
    "seen (Deployment) still trusts the old CA: its rollout does not continue: no controller has seen",
    workload("Deployment", "seen", {}, { observedGeneration: 0 }),
  ],
  ["policy (Deployment) still trusts the old CA: admission webhook", workload("Deployment", "policy")],
  ["gone (Deployment) still trusts the old CA", workload("Deployment", "gone")],
  [
    "changed (StatefulSet) still trusts the old CA: its updateStrategy is OnDelete",
    workload("StatefulSet", "changed", { updateStrategy: { type: "OnDelete" } }, stuck),
  ],
  [
    "agent (DaemonSet) still trusts the old CA: its updateStrategy is OnDelete",
    workload("DaemonSet", "agent", { updateStrategy: { type: "OnDelete" } }, { updatedNumberScheduled: 0 }),
  ],
  [
    "ledger (StatefulSet) still trusts the old CA: its rollout does not continue: 0 of 1",
    workload("StatefulSet", "ledger", {}, { ...stuck, updateRevision: "c" }),
  ],
  [
    "log (DaemonSet) still trusts the old CA: its rollout does not continue: 0 of 1 pods are new, 1 available: exceeded quota: pods",
    {
      ...workload("DaemonSet", "log", {}, { updatedNumberScheduled: 0 }),
      [`${SHOP}/events/log.1`]: {
        involvedObject: { name: "log" },
        reason: "FailedCreate",
        message: "exceeded quota: pods",
      },
    },
  ],
  [
    "part (StatefulSet) still trusts the old CA: Waited 300 s",
    workload("StatefulSet", "part", { updateStrategy: { rollingUpdate: { partition: 1 } } }),
  ],
  [
    'lone (ReplicaSet) still trusts the old CA: the PodDisruptionBudget "lone" allows no eviction',
    {
      ...owned("ReplicaSet", "apps/v1", "lone"),
      [`${APPS}/replicasets/lone`]: {},
      "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/lone": budget("lone"),
    },
  ],
  [
    "kafka (StrimziPodSet) still trusts the old CA: Waited 300 s",
    owned("StrimziPodSet", "core.strimzi.io/v1beta2", "kafka"),
  ],
  ["pg (Cluster) still trusts the old CA: Waited 300 s", owned("Cluster", "postgresql.cnpg.io/v1", "pg")],
  [
    "clones (CloneSet) still trusts the old CA: Waited 300 s for shop/clones-1 to be gone",
    owned("CloneSet", "apps.kruise.io/v1alpha1", "clones"),
  ],
  [
    'drain (Rollout) still trusts the old CA: the API refuses it, because the webhook "drain.hook"',
    owned("Rollout", "argoproj.io/v1alpha1", "drain"),
  ],
  [
    'hooked (Deployment) still trusts the old CA: the API refuses it, because the webhook "pods.hook"',
    workload("Deployment", "hooked"),
  ],
  [
    'patched (Deployment) still trusts the old CA: the API refuses it, because the webhook "apps.hook"',
    workload("Deployment", "patched"),
  ],
  ["forbidden (Deployment) still trusts the old CA: forbidden", workload("Deployment", "forbidden")],
];

/** Pods that run to their end: they are named, and nothing is wrong with that. */
const ENDING: Objects = {
  [`${SHOP}/pods/train`]: {
    ...oldPod("train", { kind: "PyTorchJob", apiVersion: "kubeflow.org/v1", name: "train" }),
    ...{},
  },
};
Object.assign((ENDING[`${SHOP}/pods/train`] as { spec: object }).spec, { restartPolicy: "Never" });

const call = (webhook: string) =>
  status(
    500,
    `Internal error occurred: failed calling webhook "${webhook}": failed to call webhook: refused`,
  );

/** What the API, and the controllers behind it, do with each. */
function refusals({ method, path, body }: ApiRequest, { objects }: Api): Response | undefined {
  const name = /(?:pods|deployments)\/([a-z]+)/.exec(path)?.[1];
  if (method === "POST" && path.endsWith("pods?dryRun=All")) {
    // somebody deletes it meanwhile
    if (body.metadata.labels.app === "gone") objects.delete(`${APPS}/deployments/gone`);
    return body.metadata.labels.app === "hooked" ? call("pods.hook") : undefined;
  }
  if (method === "PATCH" && name === "policy")
    return status(403, 'admission webhook "policy" denied the request');
  if (method === "PATCH" && name === "forbidden") return status(403, "forbidden");
  if (method === "PATCH" && name === "patched") return call("apps.hook");
  if (method === "PATCH" && (name === "web" || name === "paused"))
    renewPod(objects as never, `${SHOP}/pods/${name}-1`);
  if (method !== "POST" || !path.endsWith("/eviction")) return undefined;
  if (name === "lone" || name === "kafka")
    return status(429, "Cannot evict pod as it would violate the pod's disruption budget.");
  if (name === "drain") return call("drain.hook");
  if (name === "pg" || name === "part") objects.delete(`${SHOP}/pods/${name}-1`);
  return Response.json({}, { status: 201 });
}

test("twenty workloads that cannot be restarted are each named with a command; the others restart, and a second run does what is left", async () => {
  expect(STUCK).toHaveLength(20);
  using node = await afterPart3();
  using api = serveRunning(node, {
    objects: {
      ...Object.assign({}, ...STUCK.map(([, objects]) => objects)),
      ...ENDING,
      ...workload("Deployment", "web"),
    },
    on: refusals,
  });
  const { exitCode, stderr } = await node.run("04-sa-tokens", SHORT);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  const left = stderr.split("\n").filter((line) => line.includes("still trusts the old CA"));
  const unsaid = STUCK.filter(
    ([says]) => left.filter((line) => line.startsWith(`  - shop/${says}`)).length !== 1,
  );
  expect({ unsaid: unsaid.map(([says]) => says), left: unsaid.length > 0 ? left : [] }).toEqual({
    unsaid: [],
    left: [],
  });
  expect(left).toHaveLength(21);
  expect(left.at(-1)).toBe(
    "  - shop/train still trusts the old CA (of the PyTorchJob train, with restartPolicy Never: it may run until it is finished): restart it, unless it never calls the API",
  );
  expect(stderr).toContain("  replaced 1 pod of shop/web (Deployment) by a rolling update\n");
  expect(api.changes().filter((change) => /train|paused|agent|changed|hooked|gone/.test(change))).toEqual([]);
  expect(stderr).toContain("  a new token: accepted as system:serviceaccount:kube-system:default\n");
  expect(stderr).toEndWith(
    "error: Not all could be renewed. Left for you: 20 workloads, 0 token Secrets\nhint: type the commands that 4.7 names. Then run the same line again: it does only what is left\n",
  );

  for (const path of [...api.objects.keys()])
    if (/\/(pods|deployments|statefulsets|daemonsets)\/(?!web|paused|train)/.test(path))
      api.objects.delete(path);
  Object.assign(api.objects.get(`${APPS}/deployments/paused`).spec, { paused: false });
  const first = api.changes().length;
  const again = await node.run("04-sa-tokens", { KUBE_PKI_REPAIR_PATIENCE: "1" });
  expect({ exitCode: again.exitCode, stderr: again.stderr }).toMatchObject({ exitCode: 0 });
  const restarted = api
    .changes()
    .slice(first)
    .filter((change) => !/token/.test(change));
  expect(restarted).toEqual([`PATCH ${APPS}/deployments/paused`]);
});

test("a kube-proxy that does not start again is named with its kubelet's reason, and nothing is begun that needs it", async () => {
  const KUBE_SYSTEM = "/api/v1/namespaces/kube-system";
  const labels = { "k8s-app": "kube-proxy" };
  const event = {
    involvedObject: { name: "kube-proxy-2" },
    reason: "FailedMount",
    lastTimestamp: "2026-11-26T10:00:00Z",
  };
  using node = await afterPart3();
  using api = serveRunning(node, {
    objects: {
      ...workload("Deployment", "web"),
      [`${KUBE_SYSTEM}/pods/kube-proxy-1`]: oldPod(
        "kube-proxy-1",
        { kind: "DaemonSet", name: "kube-proxy" },
        labels,
      ),
      "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy": {
        spec: { selector: { matchLabels: labels } },
        status: onAll,
      },
      [`${KUBE_SYSTEM}/events/1`]: { ...event, type: "Warning", message: "object kube-proxy not registered" },
      [`${KUBE_SYSTEM}/events/2`]: {
        ...event,
        type: "Normal",
        message: "Pulled",
        lastTimestamp: "2026-11-26T10:00:01Z",
      },
    },
    on({ method, path }, { objects }) {
      if (method !== "POST" || !path.endsWith("kube-proxy-1/eviction")) return undefined;
      objects.delete(`${KUBE_SYSTEM}/pods/kube-proxy-1`);
      const creating = [{ state: { waiting: { reason: "ContainerCreating" } } }];
      objects.set(`${KUBE_SYSTEM}/pods/kube-proxy-2`, {
        metadata: { name: "kube-proxy-2", namespace: "kube-system", labels },
        ...{ spec: {}, status: { containerStatuses: creating } },
      });
      return Response.json({}, { status: 201 });
    },
  });
  const { exitCode, stderr } = await node.run("04-sa-tokens", SHORT);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(stderr).toContain("no new pod that is Ready on w1: kube-proxy-2: object kube-proxy not registered");
  expect(stderr).toContain("  - shop/web (Deployment) still trusts the old CA: not begun");
  expect(api.changes().filter((change) => change.startsWith("PATCH"))).toEqual([]);
});

test("--skip leaves a workload to its operator: it is named, also by the dry run, and a name that nothing has is mistyped", async () => {
  using node = await afterPart3();
  using api = serveRunning(node, {
    objects: { ...workload("Deployment", "web"), ...workload("Deployment", "shy") },
    on: refusals,
  });
  for (const line of ["04-sa-tokens --skip shop/shy --dry-run", "04-sa-tokens --skip shop/shy"]) {
    const { exitCode, stderr } = await node.run(line, { KUBE_PKI_REPAIR_PATIENCE: "1" });
    expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
    expect(stderr).toContain("  skipped by you: shop/shy (Deployment)\n");
    expect(stderr).toContain(
      "  - shop/shy (Deployment) still trusts the old CA (skipped by you): kubectl -n shop rollout restart deployment/shy",
    );
  }
  expect(api.changes().filter((change) => change.startsWith("PATCH"))).toEqual([
    `PATCH ${APPS}/deployments/web`,
  ]);
  const { exitCode, stderr } = await node.run("04-sa-tokens --skip shop/sly");
  expect([exitCode, stderr]).toEqual([
    1,
    expect.stringContaining(
      "error: --skip shop/sly: no workload of this name has to restart\nhint: take the name out of --skip, or correct it. These workloads restart: shop/shy\n",
    ),
  ]);
});
