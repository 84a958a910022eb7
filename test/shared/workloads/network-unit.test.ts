/** Which pods are the network plugin and what it asks: by what they are, never by their names. */
import { expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import type { RunningPod } from "../../../shared/facts/pod-trust.ts";
import { type Agents, networkUnit, noteAgent } from "../../../shared/workloads/network-unit.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";

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
