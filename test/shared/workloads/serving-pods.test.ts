/**
 * Which pods others need: the network plugin and what it asks, by what they are and never by their names; and what the
 * API server calls, and what is said if a webhook does not answer.
 */
import { expect, test } from "bun:test";
import { asDeafWebhook, pastWebhooks } from "../../../shared/api/api-error.ts";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { RunningPod } from "../../../shared/facts/pod-trust.ts";
import { Fail, failOf } from "../../../shared/fail.ts";
import {
  type Agents,
  networkUnit,
  noteAgent,
  refuseDeafWebhook,
  servingPods,
} from "../../../shared/workloads/serving-pods.ts";
import { type ApiOptions, NO_TLS, pretendApi, status } from "../../pretend/api.ts";

interface Made {
  namespace?: string;
  owner?: [kind: string, name: string];
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  spec?: RunningPod["spec"];
}

function pod({
  namespace = "kube-system",
  owner,
  labels = {},
  annotations = {},
  spec = {},
}: Made): RunningPod {
  const [kind = "", name = ""] = owner ?? [];
  const ownerReferences = owner ? [{ apiVersion: "apps/v1", kind, name, uid: name, controller: true }] : [];
  return {
    metadata: { name: "x", namespace, uid: "own", labels, annotations, ownerReferences },
    spec,
  } as RunningPod;
}

const cni = (path: string) => [{ name: "cni", hostPath: { path } }];
const AGENT: Made = {
  owner: ["DaemonSet", "net"],
  spec: { hostNetwork: true, volumes: cni("/etc/cni/net.d") },
};

test.each<[string, Made, boolean]>([
  ["on the host's network, with CNI's settings", AGENT, true],
  ["with CNI's programs", { spec: { hostNetwork: true, volumes: cni("/opt/cni") } }, true],
  ["of another folder alike", { spec: { hostNetwork: true, volumes: cni("/etc/cnix") } }, false],
  ["with another folder", { spec: { hostNetwork: true, volumes: cni("/etc") } }, false],
  ["beside the host's network", { spec: { volumes: cni("/etc/cni/net.d") } }, false],
  ["without volumes", { spec: { hostNetwork: true } }, false],
  ["of a static pod", { ...AGENT, annotations: { "kubernetes.io/config.mirror": "x" } }, false],
])("whether a pod is an agent that is %s", (_, made, isOne) => {
  const agents: Agents = new Map();
  noteAgent(agents, pod(made));
  expect(agents.size).toBe(isOne ? 1 : 0);
});

test("agents of one owner are one; one without an owner counts by itself, and has no name to ask for", () => {
  const agents: Agents = new Map();
  const env = [{ name: "A", value: "typha" }];
  noteAgent(agents, pod({ ...AGENT, spec: { ...AGENT.spec, containers: [{ env }, {}] } }));
  noteAgent(agents, pod({ ...AGENT, spec: { ...AGENT.spec, containers: [{ env }] } }));
  noteAgent(agents, pod({ ...AGENT, owner: ["ReplicaSet", "net-1"] }));
  expect([...agents.get("kube-system")!.entries()]).toEqual([
    ["net", { name: "net", env }],
    ["net-1", { name: "", env: [] }],
  ]);
});

const CRITICAL = { hostNetwork: true, priorityClassName: "system-cluster-critical" };
const RBAC = "/apis/rbac.authorization.k8s.io/v1";
const rule = (verbs: string[], apiGroups = ["net.example"]) => ({ rules: [{ apiGroups, verbs }] });
const bound = (role: string, name: string, kind = "ServiceAccount") => ({
  roleRef: { name: role },
  subjects: [{ kind, namespace: "ops", name }],
});
/** Its agents name two Services, one through a ConfigMap; an operator's custom resource owns their DaemonSet. */
const OBJECTS = {
  "/api/v1/namespaces/kube-system/configmaps/net": { data: { service: "by-map" } },
  "/api/v1/namespaces/kube-system/services/typha": { spec: { selector: { app: "typha" } } },
  "/api/v1/namespaces/kube-system/services/by-map": { spec: { selector: { app: "by-map" } } },
  "/api/v1/namespaces/kube-system/services/empty": { spec: { selector: {} } },
  "/api/v1/namespaces/kube-system/services/other": { spec: { selector: { app: "other" } } },
  "/apis/apps/v1/namespaces/kube-system/daemonsets/net": {
    metadata: {
      ownerReferences: [{ apiVersion: "net.example/v1", kind: "Installation", name: "x", controller: true }],
    },
  },
  [`${RBAC}/clusterroles/may`]: rule(["get", "update"]),
  [`${RBAC}/clusterroles/all`]: rule(["*"]),
  [`${RBAC}/clusterroles/reads`]: rule(["get", "create"]),
  [`${RBAC}/clusterroles/others`]: rule(["*"], ["apps"]),
  [`${RBAC}/clusterroles/several`]: {
    rules: [
      { apiGroups: ["apps"], verbs: ["get"] },
      { apiGroups: ["apps", "net.example"], verbs: ["update"] },
    ],
  },
  [`${RBAC}/clusterroles/none`]: { rules: null },
  [`${RBAC}/clusterrolebindings/1`]: bound("may", "operator"),
  [`${RBAC}/clusterrolebindings/2`]: bound("all", "boss"),
  [`${RBAC}/clusterrolebindings/3`]: bound("reads", "reader"),
  [`${RBAC}/clusterrolebindings/4`]: bound("others", "deployer"),
  [`${RBAC}/clusterrolebindings/5`]: bound("may", "person", "User"),
  [`${RBAC}/clusterrolebindings/6`]: bound("several", "deputy"),
  [`${RBAC}/clusterrolebindings/7`]: { roleRef: { name: "may" } },
};

async function unit(namespaces: readonly string[]) {
  const agents: Agents = new Map();
  const env = [
    ...["typha", "empty"].map((value) => ({ name: "A", value })),
    { name: "B", valueFrom: { configMapKeyRef: { name: "net", key: "service" } } },
    { name: "C", valueFrom: { configMapKeyRef: { name: "gone", key: "service" } } },
  ];
  for (const namespace of namespaces)
    noteAgent(agents, pod({ ...AGENT, namespace, spec: { ...AGENT.spec, containers: [{ env }] } }));
  using server = pretendApi({ objects: OBJECTS });
  const partOf = await networkUnit(new KubeApi({ server: server.url, ca: NO_TLS }), agents);
  return { partOf, asked: server.requests.map(({ path }) => path) };
}

const as = (serviceAccountName: string): Made => ({ namespace: "ops", spec: { serviceAccountName } });

test.each<[string, Made, string | undefined, string[]?]>([
  ["an agent", AGENT, "agent"],
  ["what a Service selects that agents name", { labels: { app: "typha" }, spec: CRITICAL }, "asked"],
  ["the same, beside the host's network", { labels: { app: "typha" } }, "beside"],
  ["what a Service selects that a ConfigMap of agents names", { labels: { app: "by-map" } }, "beside"],
  ["what another Service selects", { labels: { app: "other" } }, undefined],
  ["a control part: critical, on the host's network", { spec: CRITICAL }, "asked"],
  [
    "the same, critical for its node",
    { spec: { ...CRITICAL, priorityClassName: "system-node-critical" } },
    "asked",
  ],
  ["the same of a DaemonSet: a storage driver", { owner: ["DaemonSet", "csi"], spec: CRITICAL }, undefined],
  [
    "critical, beside the host's network: CoreDNS",
    { spec: { priorityClassName: "system-cluster-critical" } },
    undefined,
  ],
  ["on the host's network, and not critical", { spec: { hostNetwork: true } }, undefined],
  ["anything in the agents' own namespace", { namespace: "net" }, "beside", ["kube-system", "net"]],
  ["the same on the host's network", { namespace: "net", spec: { hostNetwork: true } }, "asked", ["net"]],
  ["the same where agents are in the namespace default", { namespace: "default" }, undefined, ["default"]],
  ["a namespace without agents", { namespace: "shop", spec: CRITICAL }, undefined],
  ["their operator, which may update their owner", as("operator"), "beside"],
  ["one that may do all", as("boss"), "beside"],
  ["one whose role has more rules", as("deputy"), "beside"],
  ["one that may read and create", as("reader"), undefined],
  ["one that may change other things", as("deployer"), undefined],
  ["a person's name", as("person"), undefined],
])("%s", async (_, made, part, namespaces = ["kube-system"]) => {
  const { partOf } = await unit(namespaces);
  expect(partOf(pod(made))).toBe(part as never);
});

test("without agents nothing is asked; without an owner of theirs nobody is their operator", async () => {
  expect((await unit([])).asked).toEqual([]);
  const { partOf, asked } = await unit(["net"]);
  expect([partOf(pod(as("operator"))), asked.filter((path) => path.startsWith(RBAC))]).toEqual([
    undefined,
    [],
  ]);
});

test("an owner's name is a stranger's: what is no name is not asked for", async () => {
  using server = pretendApi();
  const agents: Agents = new Map();
  noteAgent(agents, pod({ ...AGENT, owner: ["DaemonSet", "../../../secrets/x"] }));
  noteAgent(agents, pod({ ...AGENT, owner: undefined as never }));
  await networkUnit(new KubeApi({ server: server.url, ca: NO_TLS }), agents);
  expect(server.requests).toEqual([]);
});

const HOOKS = "/apis/admissionregistration.k8s.io/v1";
const at = (name: string, namespace = "hooks") => ({ clientConfig: { service: { namespace, name } } });
const CALLED = {
  [`${HOOKS}/validatingwebhookconfigurations/checks`]: {
    webhooks: [
      { name: "outside.example", clientConfig: { url: "https://outside.example" } },
      { name: "checks.example", ...at("checks") },
    ],
  },
  [`${HOOKS}/mutatingwebhookconfigurations/empty`]: {},
  "/apis/apiregistration.k8s.io/v1/apiservices/v1.apps": { spec: {} },
  "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics": {
    spec: { service: { namespace: "hooks", name: "metrics" } },
  },
  [`${HOOKS}/mutatingwebhookconfigurations/all`]: {
    webhooks: [
      { name: "all.example", ...at("all") },
      { name: "gone.example", ...at("gone") },
    ],
  },
  "/api/v1/namespaces/hooks/services/checks": { spec: { selector: { app: "checks", tier: "a" } } },
  "/api/v1/namespaces/hooks/services/metrics": { spec: { selector: { app: "metrics" } } },
  "/api/v1/namespaces/hooks/services/all": { spec: {} },
};

const servingPod = (uid: string, labels: Record<string, string>, namespace = "hooks"): RunningPod => ({
  metadata: { name: uid, uid, namespace, labels },
  spec: {},
});
const PODS = [
  servingPod("checks", { app: "checks", tier: "a", more: "x" }),
  servingPod("half", { app: "checks" }),
  servingPod("metrics", { app: "metrics" }),
  servingPod("elsewhere", { app: "checks", tier: "a" }, "other"),
];

async function withApi<T>(
  action: (api: KubeApi) => Promise<T>,
  on?: ApiOptions["on"],
  objects = CALLED,
): Promise<T> {
  using server = pretendApi({ objects, ...(on ? { on } : {}) });
  return await action(new KubeApi({ server: server.url, ca: NO_TLS }));
}

test("pods that serve are those that a Service selects, in its namespace; one without a selector selects none", async () => {
  const { webhooks, apis } = await withApi((api) => servingPods(api, PODS));
  expect([[...webhooks], [...apis]]).toEqual([["checks"], ["metrics"]]);
});

test("a Service's name that is a path leads nowhere else", async () => {
  const asked: string[] = [];
  const objects = {
    [`${HOOKS}/validatingwebhookconfigurations/odd`]: {
      webhooks: [
        { name: "a.example", ...at("../../../../apis/apps/v1/deployments") },
        { name: "b.example", ...at("x?watch=1", "a/secrets") },
      ],
    },
  };
  await withApi(
    (api) => servingPods(api, PODS),
    ({ path }) => void asked.push(path),
    objects as never,
  );
  expect(asked.filter((path) => path.startsWith("/api/v1/"))).toEqual([
    "/api/v1/namespaces/hooks/services/..%2F..%2F..%2F..%2Fapis%2Fapps%2Fv1%2Fdeployments",
    "/api/v1/namespaces/a%2Fsecrets/services/x%3Fwatch%3D1",
  ]);
  expect(asked).toHaveLength(5);
});

const refusing =
  (webhook: string): ApiOptions["on"] =>
  ({ method }) =>
    method === "POST"
      ? status(500, `Internal error occurred: failed calling webhook "${webhook}": connection refused`)
      : undefined;
const GET = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations";

test.each<[string, ApiOptions["on"], string | undefined, string]>([
  ["nothing stands in its way", () => undefined, undefined, ""],
  [
    "the servingPod itself is refused",
    ({ method }) => (method === "POST" ? status(403, "quota") : undefined),
    undefined,
    "",
  ],
  [
    "a webhook of a Service does not answer",
    refusing("checks.example"),
    'the API refuses it, because the webhook "checks.example" does not answer',
    `its pods serve hooks/checks: kubectl -n hooks get pods. If they do not come back, it is your decision to continue unchecked: kubectl patch --type=json --patch '[{"op":"replace","path":"/webhooks/1/failurePolicy","value":"Ignore"}]' validatingwebhookconfiguration checks, this script again, then the same with "Fail"`,
  ],
  [
    "one outside of the cluster does not answer",
    refusing("outside.example"),
    'the API refuses it, because the webhook "outside.example" does not answer',
    `If they do not come back, it is your decision to continue unchecked: kubectl patch --type=json --patch '[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]' validatingwebhookconfiguration checks, this script again, then the same with "Fail"`,
  ],
  [
    "nobody knows it",
    refusing("unknown.example"),
    'the API refuses it, because the webhook "unknown.example" does not answer',
    GET,
  ],
  [
    "its configuration may not be read",
    (request, api) =>
      request.path.startsWith(HOOKS) ? status(403, "no") : refusing("checks.example")!(request, api),
    'the API refuses it, because the webhook "checks.example" does not answer',
    GET,
  ],
])("a servingPod is asked for without being made; %s", async (_, on, message, hint) => {
  const refused = await withApi((api) => failOf(() => refuseDeafWebhook(api, PODS[0]!)), on);
  expect([refused?.message, refused?.hint]).toEqual([message, message && hint] as never);
});

test("an error of another kind is not a webhook's", async () => {
  const bug = new TypeError("a bug");
  await withApi(async (api) => {
    expect(await asDeafWebhook(api, bug)).toBeUndefined();
    const passed = pastWebhooks(api, () => Promise.reject(bug));
    await expect(passed).rejects.toBe(bug);
    expect(await pastWebhooks(api, async () => 7)).toBe(7);
    const deaf = await failOf(() => pastWebhooks(api, () => api.create("/api/v1/namespaces/hooks/pods", {})));
    expect(deaf).toBeInstanceOf(Fail);
    expect(deaf!.message).toContain('"all.example" does not answer');
  }, refusing("all.example"));
});
