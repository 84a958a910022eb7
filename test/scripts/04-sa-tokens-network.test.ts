/**
 * 04-sa-tokens on clusters with a real network plugin: all that a new pod's network needs is one unit, which
 * restarts after kube-proxy and before anything that needs a new pod; test pods come after it, and no test
 * pod stops the others.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { type ApiRequest, status } from "../pretend/api.ts";
import { healthyCp, otherCa } from "../pretend/cluster.ts";
import { knewCa, LEASES, lease, living, oldPod, renewPod, serveRunning } from "../pretend/running.ts";
import { nodeHere } from "../pretend/typed-here.ts";

setDefaultTimeout(300_000);

await healthyCp();
const before = await otherCa();
const WAITS = { KUBE_PKI_REPAIR_PATIENCE: "1" };
const SHORT = { KUBE_PKI_REPAIR_PATIENCE: "0.004" };
const CANARY = /pods\/kube-pki-repair-canary-/;

type Objects = Record<string, object>;
type Api = { objects: Map<string, ReturnType<typeof JSON.parse>> };

function afterPart3() {
  return nodeHere({ kind: "healthy control plane node", etcd: knewCa(before.cert) });
}

/** How its pods run. */
interface Runs {
  host?: boolean;
  /** Of a system-critical priority. */
  critical?: boolean;
  /** Mounts the folders of CNI. */
  cni?: boolean;
  env?: object[];
  on?: string[];
  labels?: Record<string, string>;
}

/** A Deployment or DaemonSet with an old pod on each of these nodes, `NAME-NODE`. */
function workload(
  kind: "Deployment" | "DaemonSet",
  namespace: string,
  name: string,
  runs: Runs = {},
): Objects {
  const { host = false, critical = false, cni = false, env = [], on = ["w1"], labels = { app: name } } = runs;
  const apps = `/apis/apps/v1/namespaces/${namespace}`;
  const [owner, set] = kind === "Deployment" ? ["ReplicaSet", `${name}-5`] : [kind, name];
  const parent = { apiVersion: "apps/v1", kind: "Deployment", name, uid: `uid-of-${name}`, controller: true };
  const paths = cni ? [{ name: "conf", hostPath: { path: "/etc/cni/net.d" } }] : [];
  const pods = on.map((node) => {
    const pod = oldPod(`${name}-${node}`, { kind: owner, name: set }, labels);
    const more = {
      nodeName: node,
      hostNetwork: host,
      ...(critical ? { priorityClassName: "system-cluster-critical" } : {}),
    };
    const spec = {
      ...pod.spec,
      ...more,
      volumes: [...pod.spec.volumes, ...paths],
      containers: [{ name, env }],
    };
    return [`/api/v1/namespaces/${namespace}/pods/${name}-${node}`, { ...pod, spec }];
  });
  const all = on.length;
  return {
    [`/api/v1/namespaces/${namespace}`]: { status: { phase: "Active" } },
    ...Object.fromEntries(pods),
    ...(kind === "Deployment"
      ? { [`${apps}/replicasets/${set}`]: { metadata: { ownerReferences: [parent] } } }
      : {}),
    [`${apps}/${kind.toLowerCase()}s/${name}`]: {
      metadata: { generation: 1 },
      spec: {
        replicas: all,
        selector: { matchLabels: labels },
        template: { spec: { containers: [{ image: `${name}:v1` }] } },
      },
      status: {
        ...{ observedGeneration: 1, replicas: all, updatedReplicas: all, availableReplicas: all },
        ...{
          desiredNumberScheduled: all,
          currentNumberScheduled: all,
          updatedNumberScheduled: all,
          numberAvailable: all,
        },
      },
    },
  };
}

const NODES = ["m1", "w1", "w2"];

/** kube-proxy, DNS and a workload of the cluster's users. */
const USUAL: Objects = {
  ...workload("DaemonSet", "kube-system", "kube-proxy", {
    host: true,
    critical: true,
    on: NODES,
    labels: { "k8s-app": "kube-proxy" },
  }),
  ...workload("Deployment", "kube-system", "coredns", { critical: true }),
  ...workload("Deployment", "shop", "web"),
};

/** As Calico's own manifest has it, with Typha; with tigera-operator's `namespace` as that has it. */
function calico(namespace: string): Objects {
  const name = {
    name: "FELIX_TYPHAK8SSERVICENAME",
    valueFrom: { configMapKeyRef: { name: "calico-config", key: "typha_service_name" } },
  };
  const own = namespace !== "kube-system";
  return {
    ...workload("DaemonSet", namespace, "calico-node", {
      host: true,
      critical: true,
      cni: true,
      on: NODES,
      env: [name],
    }),
    // an old manifest gives it no priority
    ...workload("Deployment", namespace, "calico-typha", { host: true, critical: own }),
    ...workload("Deployment", namespace, "calico-kube-controllers", { critical: true }),
    [`/api/v1/namespaces/${namespace}/services/calico-typha`]: {
      spec: { selector: { app: "calico-typha" } },
    },
    [`/api/v1/namespaces/${namespace}/configmaps/calico-config`]: {
      data: { typha_service_name: "calico-typha" },
    },
  };
}

/**
 * Names of what was restarted, in order: by a patch, or the first of its pods that was evicted; "test" for
 * the first test pod.
 */
function order(changes: readonly string[]): string[] {
  const names = changes.flatMap((change) => {
    if (/^POST .*kube-system\/pods$/.test(change)) return ["test"];
    const patched = /^PATCH .*\/(?:deployments|daemonsets|statefulsets)\/([^/]+)$/.exec(change)?.[1];
    const evicted = /^POST .*\/pods\/(.+)-(?:m1|w1|w2)\/eviction$/.exec(change)?.[1];
    return patched ?? evicted ?? [];
  });
  return [...new Set(names)];
}

/** A rolling update gives each Deployment's old pods up. */
function rolls({ method, path }: ApiRequest, { objects }: Api) {
  const [, namespace, name] = /namespaces\/([^/]+)\/(?:deployments|daemonsets)\/([^/?]+)$/.exec(path) ?? [];
  if (method === "PATCH")
    for (const pod of objects.keys())
      if (pod.startsWith(`/api/v1/namespaces/${namespace}/pods/${name}-`)) renewPod(objects as never, pod);
  return undefined;
}

/** The controller-manager has given the namespace the current CA. */
function rootCas(node: { read: (path: string) => string }): Objects {
  const data = { "ca.crt": node.read("/etc/kubernetes/pki/ca.crt") };
  const namespaces = ["calico-system", "tigera-operator"];
  return Object.fromEntries(
    namespaces.map((name) => [`/api/v1/namespaces/${name}/configmaps/kube-root-ca.crt`, { data }]),
  );
}

async function part4(
  objects: Objects,
  { line = "04-sa-tokens", env = WAITS, on = rolls }: { line?: string; env?: object; on?: Reacts } = {},
) {
  using node = await afterPart3();
  using api = serveRunning(node, { objects: { ...rootCas(node), ...USUAL, ...objects }, on });
  const run = await node.run(line, env as Record<string, string>);
  return {
    ...run,
    order: order(api.changes()),
    changes: api.changes(),
    objects: api.objects,
    requests: api.requests,
  };
}

type Reacts = (request: ApiRequest, api: Api) => Response | undefined;

test("Calico in kube-system: Typha, which gives each node its pods, then calico-node, then test pods, then all that needs a new pod", async () => {
  const { exitCode, stderr, order } = await part4(calico("kube-system"));
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(order.slice(0, 4)).toEqual(["kube-proxy", "calico-typha", "calico-node", "test"]);
  expect(order.slice(4, 6).sort()).toEqual(["calico-kube-controllers", "coredns"]);
  expect(order.slice(6)).toEqual(["web"]);
  expect(stderr).toContain("  test pods: reached on 3 of 3 nodes\n");
});

test.each([
  ["04-sa-tokens", ["coredns", "web"]],
  ["04-sa-tokens --only-system", ["coredns"]],
])("Calico in calico-system: %s restarts the whole unit before DNS", async (line, others) => {
  const { exitCode, stderr, order } = await part4(calico("calico-system"), { line });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(order).toEqual([
    "kube-proxy",
    "calico-typha",
    "calico-node",
    "calico-kube-controllers",
    "test",
    ...others,
  ]);
});

test("an operator that owns the plugin's agents belongs to the unit, wherever it runs; it is known by what it may change", async () => {
  const own = [
    {
      apiVersion: "operator.tigera.io/v1",
      kind: "Installation",
      name: "default",
      uid: "1",
      controller: true,
    },
  ];
  const objects = {
    ...calico("calico-system"),
    ...workload("Deployment", "tigera-operator", "tigera-operator", { host: true }),
  };
  const set = objects["/apis/apps/v1/namespaces/calico-system/daemonsets/calico-node"] as {
    metadata: object;
  };
  Object.assign(set.metadata, { ownerReferences: own });
  const pod = objects["/api/v1/namespaces/tigera-operator/pods/tigera-operator-w1"] as { spec: object };
  Object.assign(pod.spec, { serviceAccountName: "tigera-operator" });
  const rbac = "/apis/rbac.authorization.k8s.io/v1";
  const rules = [{ apiGroups: ["operator.tigera.io"], resources: ["*"], verbs: ["get", "update"] }];
  const { exitCode, stderr, order } = await part4(
    {
      ...objects,
      [`${rbac}/clusterroles/tigera`]: { rules },
      [`${rbac}/clusterroles/nobody`]: { rules: null },
      [`${rbac}/clusterrolebindings/tigera`]: {
        roleRef: { name: "tigera" },
        subjects: [{ kind: "ServiceAccount", namespace: "tigera-operator", name: "tigera-operator" }],
      },
    },
    { line: "04-sa-tokens --only-system" },
  );
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(order.slice(0, 3)).toEqual(["kube-proxy", "calico-typha", "calico-node"]);
  expect(order.slice(3, 5).sort()).toEqual(["calico-kube-controllers", "tigera-operator"]);
  expect(order.slice(5)).toEqual(["test", "coredns"]);
});

test("a plugin's own webhook, which refuses all new pods until it restarts, comes even before kube-proxy", async () => {
  const hook = "kube-ovn-webhook";
  let deaf = true;
  const on: Reacts = (request, api) => {
    const { method, path } = request;
    if (method === "PATCH" && path.endsWith(`deployments/${hook}`)) deaf = false;
    const isPod = method === "POST" && /kube-system\/pods(\?|$)/.test(path);
    const refused =
      'Internal error occurred: failed calling webhook "pods.kube-ovn.io": failed to call webhook: refused';
    return deaf && isPod && request.body.metadata.labels?.app !== hook
      ? status(500, refused)
      : rolls(request, api);
  };
  const { exitCode, stderr, order } = await part4(
    {
      ...workload("DaemonSet", "kube-system", "kube-ovn-cni", {
        host: true,
        critical: true,
        cni: true,
        on: NODES,
      }),
      ...workload("Deployment", "kube-system", "kube-ovn-controller", { host: true, critical: true }),
      ...workload("Deployment", "kube-system", hook, { host: true, critical: true }),
      [`/api/v1/namespaces/kube-system/services/${hook}`]: { spec: { selector: { app: hook } } },
      "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/kube-ovn": {
        webhooks: [
          { name: "pods.kube-ovn.io", clientConfig: { service: { namespace: "kube-system", name: hook } } },
        ],
      },
    },
    { on },
  );
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(order.slice(0, 5)).toEqual([hook, "kube-proxy", "kube-ovn-controller", "kube-ovn-cni", "test"]);
});

test("a kube-proxy that does not come back on one of many nodes is named, and all others restart", async () => {
  const on: Reacts = (request, api) => {
    if (!request.path.endsWith("kube-proxy-w2/eviction")) return rolls(request, api);
    api.objects.delete(request.path.replace("/eviction", ""));
    return Response.json({}, { status: 201 });
  };
  const { exitCode, stderr, order } = await part4(calico("calico-system"), { on, env: SHORT });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(stderr).toContain(
    "  - kube-system/kube-proxy (DaemonSet) still trusts the old CA: no new pod that is Ready on w2: ",
  );
  expect(stderr).toContain("  no test pod there: w2 (no Ready kube-proxy)\n");
  expect(order.slice(1)).toEqual([
    "calico-typha",
    "calico-node",
    "calico-kube-controllers",
    "test",
    "coredns",
    "web",
  ]);
});

test("a new pod that the scheduler puts on a node that is away is named, and neither its rollout nor anything after it waits for it", async () => {
  const typha = "/apis/apps/v1/namespaces/calico-system/deployments/calico-typha";
  const pod = "/api/v1/namespaces/calico-system/pods/calico-typha-m1";
  const on: Reacts = (request, api) => {
    if (request.method === "PATCH" && request.path === typha) {
      const { metadata } = api.objects.get(pod);
      api.objects.delete(pod);
      const unready = { status: { phase: "Pending", conditions: [{ type: "Ready", status: "False" }] } };
      api.objects.set(pod.replace("m1", "w2"), {
        metadata: { ...metadata, name: "calico-typha-w2" },
        spec: { nodeName: "w2" },
        ...unready,
      });
      Object.assign(api.objects.get(typha).status, { availableReplicas: 1 });
    }
    return living(["m1", "w1"], rolls)(request, api) as Response | undefined;
  };
  const objects = {
    ...calico("calico-system"),
    ...workload("Deployment", "calico-system", "calico-typha", {
      host: true,
      critical: true,
      on: ["m1", "w1"],
    }),
    [`${LEASES}/w2`]: lease(7200),
  };
  const { exitCode, stderr, order } = await part4(objects, {
    line: "04-sa-tokens --without w2",
    on,
    env: { KUBE_PKI_REPAIR_PATIENCE: "0.05" },
  });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(stderr).toContain(
    "  replaced 2 pods of calico-system/calico-typha (Deployment) by a rolling update, 1 of 2 on w2, which is away\n",
  );
  expect(order.at(-1)).toBe("web");
});

test("Kube-OVN: its controller, which gives pods their addresses, restarts before its agents and before any test pod", async () => {
  const { exitCode, stderr, order } = await part4({
    ...workload("DaemonSet", "kube-system", "kube-ovn-cni", {
      host: true,
      critical: true,
      cni: true,
      on: NODES,
    }),
    ...workload("Deployment", "kube-system", "kube-ovn-controller", { host: true, critical: true }),
    ...workload("DaemonSet", "kube-system", "csi-node", { host: true, critical: true, on: NODES }),
  });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(order.slice(0, 4)).toEqual(["kube-proxy", "kube-ovn-controller", "kube-ovn-cni", "test"]);
  expect(order.slice(4).sort()).toEqual(["coredns", "csi-node", "web"]);
});

test("test pods that an earlier run left are removed, and no new one is started before the network plugin has restarted", async () => {
  const left = {
    metadata: { labels: { "kube-pki-repair": "canary" } },
    spec: { nodeName: "w1" },
    status: { phase: "Pending" },
  };
  const path = "/api/v1/namespaces/kube-system/pods/kube-pki-repair-canary-w1";
  const { exitCode, stderr, order, changes } = await part4({ ...calico("kube-system"), [path]: left });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(order.slice(0, 4)).toEqual(["kube-proxy", "calico-typha", "calico-node", "test"]);
  const [removed, started] = [
    changes.indexOf(`DELETE ${path}`),
    changes.indexOf("POST /api/v1/namespaces/kube-system/pods"),
  ];
  expect(removed).toBeGreaterThanOrEqual(0);
  expect(removed).toBeLessThan(started);
});

/** What becomes of a test pod on w1; the others are well. */
function canaryOnW1(becomes: object | Response): Reacts {
  return (request, api) => {
    const { method, path, body } = request;
    if (method !== "POST" || !path.endsWith("kube-system/pods") || body.spec.nodeName !== "w1")
      return rolls(request, api);
    if (becomes instanceof Response) return becomes.clone() as Response;
    api.objects.set(`${path}/${body.metadata.name}`, { ...body, ...becomes });
    return Response.json({}, { status: 201 });
  };
}

test.each([
  [
    "is full",
    canaryOnW1({
      status: { phase: "Failed", reason: "OutOfpods", message: "Node didn't have enough resource: pods" },
    }),
    "OutOfpods: Node didn't have enough resource: pods",
  ],
  [
    "has no room on its disk",
    canaryOnW1({
      status: { phase: "Failed", reason: "Evicted", message: "The node had condition: [DiskPressure]. " },
    }),
    "[DiskPressure]",
  ],
  [
    "is guarded by a policy",
    canaryOnW1(status(403, 'admission webhook "policy" denied the request: set limits')),
    'admission webhook "policy" denied the request: set limits',
  ],
  [
    "reaches no new pod",
    canaryOnW1({ status: { phase: "Running", podIP: "255.255.255.255" } }),
    "a new pod there is not reached from m1",
  ],
])("a node that %s is named with its own reason, and the others restart", async (_, on, why) => {
  const { exitCode, stderr, order, objects } = await part4(calico("calico-system"), { on, env: SHORT });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(order.at(-1)).toBe("web");
  expect(stderr).toContain("  test pods: reached on 2 of 3 nodes\n");
  const lines = stderr.split("\n").filter((line) => line.startsWith("  - left: test pod on w1: "));
  expect(lines).toEqual([expect.stringContaining(why)]);
  expect([...objects.keys()].filter((path) => CANARY.test(path))).toEqual([]);
});

test("where no node gives a new pod a network, the kubelets' reason is printed, nothing that needs a new pod is begun, and the next run continues", async () => {
  const sandbox =
    "Failed to create pod sandbox: plugin type calico failed: x509: certificate signed by unknown authority";
  let mended = false;
  const on: Reacts = (request, api) => {
    const { method, path, body } = request;
    if (mended || method !== "POST" || !path.endsWith("kube-system/pods")) return rolls(request, api);
    const { name } = body.metadata;
    api.objects.set(`${path}/${name}`, { ...body, status: { phase: "Pending" } });
    const event = {
      metadata: { name },
      involvedObject: { name },
      type: "Warning",
      reason: "FailedCreatePodSandBox",
      message: sandbox,
    };
    api.objects.set(`/api/v1/namespaces/kube-system/events/${name}`, event);
    return Response.json({}, { status: 201 });
  };
  using node = await afterPart3();
  using api = serveRunning(node, { objects: { ...rootCas(node), ...USUAL, ...calico("calico-system") }, on });
  const { exitCode, stderr } = await node.run("04-sa-tokens", SHORT);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(stderr).toContain(
    `  - kube-system/coredns (Deployment) still trusts the old CA: not begun: no node gives a new pod a network: m1: ${sandbox}`,
  );
  expect(stderr).toContain("shop/web (Deployment) still trusts the old CA: not begun");
  expect(order(api.changes()).at(-1)).toBe("test");
  expect([...api.objects.keys()].filter((path) => CANARY.test(path))).toEqual([]);

  mended = true;
  const again = await node.run("04-sa-tokens", WAITS);
  expect({ exitCode: again.exitCode, stderr: again.stderr }).toMatchObject({ exitCode: 0 });
  expect(order(api.changes()).slice(-2)).toEqual(["coredns", "web"]);
});

test("no test pod goes to a Windows node, to a virtual one, or to one without a Ready kube-proxy; none takes another pod's place", async () => {
  const READY = { status: { conditions: [{ type: "Ready", status: "True" }] } };
  const proxies = workload("DaemonSet", "kube-system", "kube-proxy", {
    on: ["w1", "win1", "vk1"],
    labels: { "k8s-app": "kube-proxy" },
  });
  const { exitCode, stderr, requests } = await part4({
    ...Object.fromEntries(Object.entries(proxies).filter(([path]) => path.includes("/pods/"))),
    "/api/v1/nodes/win1": { ...READY, metadata: { labels: { "kubernetes.io/os": "windows" } } },
    "/api/v1/nodes/vk1": { ...READY, metadata: { labels: { type: "virtual-kubelet" } } },
    "/api/v1/namespaces/kube-system/pods/kube-proxy-w2": {
      spec: { nodeName: "w2" },
      status: { phase: "Pending" },
    },
  });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  const started = requests
    .filter(({ method, path }) => method === "POST" && path.endsWith("kube-system/pods"))
    .map(({ body }) => body.spec);
  expect(started.map(({ nodeName }) => nodeName).sort()).toEqual(["m1", "w1"]);
  for (const spec of started) {
    // a critical one would make a full node's kubelet end another pod
    expect(spec.priorityClassName).toBeUndefined();
    expect(spec.activeDeadlineSeconds).toBeGreaterThan(0);
    expect(spec.containers[0].resources).toEqual({ requests: expect.anything(), limits: expect.anything() });
  }
});

test("without kube-proxy, test pods go to the nodes that are Ready", async () => {
  const agents = workload("DaemonSet", "kube-system", "cilium", {
    host: true,
    critical: true,
    cni: true,
    on: NODES,
  });
  const operator = workload("Deployment", "kube-system", "cilium-operator", { host: true, critical: true });
  using node = await afterPart3();
  using api = serveRunning(node, {
    objects: { ...agents, ...operator, ...workload("Deployment", "shop", "web") },
    on: rolls,
  });
  const { exitCode, stderr } = await node.run("04-sa-tokens", WAITS);
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 0 });
  expect(order(api.changes())).toEqual(["cilium-operator", "cilium", "test", "web"]);
  expect(stderr).toContain("  test pods: reached on 3 of 3 nodes\n");
});

test("a plugin's agents are replaced a tenth of the nodes at a time, and one node whose agent does not come back stops no other", async () => {
  const nodes = Array.from({ length: 30 }, (_, i) => `n${i + 1}`);
  const READY = { status: { conditions: [{ type: "Ready", status: "True" }] } };
  const agents = workload("DaemonSet", "kube-system", "calico-node", {
    host: true,
    critical: true,
    cni: true,
    on: nodes,
  });
  const away = new Set<string>();
  const evicted: string[] = [];
  let most = 0;
  const on: Reacts = (request, { objects }) => {
    const node = /pods\/calico-node-(n\d+)\/eviction$/.exec(request.path)?.[1];
    const asked = /app%3Dcalico-node.*spec\.nodeName%3D(n\d+)/.exec(request.path)?.[1] ?? "";
    if (node) {
      // that of n7 is waited for until a moment that differs
      if (node !== "n7") most = Math.max(most, away.add(node).size);
      evicted.push(node);
      return renewPod(objects as never, request.path.replace("/eviction", ""));
    }
    // the new pod is Ready when it is asked for the second time; that of n7 never
    if (asked === "n7" || away.delete(asked)) return Response.json({ items: [], metadata: {} });
    return rolls(request, { objects });
  };
  const { exitCode, stderr, changes } = await part4(
    { ...agents, ...Object.fromEntries(nodes.map((name) => [`/api/v1/nodes/${name}`, READY])) },
    { on, env: { KUBE_PKI_REPAIR_PATIENCE: "0.02" } },
  );
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(evicted).toHaveLength(30);
  expect(most).toBeLessThanOrEqual(3);
  expect(stderr).toContain(
    "  - kube-system/calico-node (DaemonSet) still trusts the old CA: no new pod that is Ready on n7",
  );
  expect(changes.filter((change) => change.startsWith("PATCH") && /coredns|web/.test(change))).toHaveLength(
    2,
  );
});

test("what is left is printed, too, where the API does not accept its own new token", async () => {
  const on: Reacts = (request, api) =>
    request.path.endsWith("/tokenreviews")
      ? Response.json({ status: {} }, { status: 201 })
      : canaryOnW1({ status: { phase: "Failed", reason: "OutOfpods" } })(request, api);
  const { exitCode, stderr } = await part4({}, { on });
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  expect(stderr).toContain("  - left: test pod on w1: OutOfpods\n");
  expect(stderr).toContain("error: The API does not accept the token that it has just signed\n");
});
