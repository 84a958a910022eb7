/** Which pods hold on to the old CA, in which order they are restarted, and by what. */
import { expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { mountedBefore, type RunningPod } from "../../../shared/facts/pod-trust.ts";
import { label } from "../../../shared/workloads/pod-owners.ts";
import { staleGroups } from "../../../shared/workloads/stale-pods.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";
import { sharedFiles } from "../../pretend/bundles.ts";

/** The CA was made at 00:00:00, the namespaces had it at 00:01:00. */
const CA = new TextDecoder().decode((await sharedFiles(new Date("2026-06-01T00:00:00Z"))).get("ca.crt"));
const PUBLISHED = "2026-06-01T00:01:00Z";
const [BEFORE, AFTER] = ["2026-05-31T23:00:00Z", "2026-06-01T00:05:00Z"];
const AT_ONCE = "2026-06-01T00:00:59Z";
const TOKEN = {
  name: "kube-api-access",
  projected: { sources: [{ serviceAccountToken: {} }, { configMap: { name: "kube-root-ca.crt" } }] },
};

interface Different {
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  owner?: [kind: string, name: string, apiVersion?: string];
  spec?: object;
  created?: string;
  started?: string;
  phase?: string;
}

function pod({
  labels = {},
  annotations = {},
  owner,
  spec = {},
  created = BEFORE,
  started = BEFORE,
  phase = "Running",
}: Different = {}) {
  return {
    metadata: {
      labels,
      annotations,
      creationTimestamp: created,
      ...(owner
        ? {
            ownerReferences: [
              {
                apiVersion: owner[2] ?? "apps/v1",
                kind: owner[0],
                name: owner[1],
                uid: `uid-of-${owner[1]}`,
                controller: true,
              },
            ],
          }
        : {}),
    },
    spec: { nodeName: "w1", volumes: [TOKEN], ...spec },
    status: { phase, containerStatuses: [{ state: { running: { startedAt: started } } }] },
  };
}

const data = { managedFields: [{ time: PUBLISHED, fieldsV1: { "f:data": {} } }] };
const ROOT_CAS = Object.fromEntries(
  ["a", "shop", "kube-system", "flannel", "policy"].map((namespace) => [
    `/api/v1/namespaces/${namespace}/configmaps/kube-root-ca.crt`,
    { metadata: data, data: { "ca.crt": CA } },
  ]),
);

/** "group: owner" of each that is stale, and for those that nothing restarts, why. */
async function groups(objects: Record<string, object>): Promise<string[]> {
  using server = pretendApi({ objects: { "/api/v1/nodes/w1": {}, ...ROOT_CAS, ...objects } });
  const found = await staleGroups(new KubeApi({ server: server.url, ca: NO_TLS }), CA, {
    since: new Date("2026-06-01T00:00:00Z"),
  });
  expect(server.changes()).toEqual([]);
  return found.flatMap(({ name, owners }) =>
    owners.map(
      (owner) =>
        `${name}: ${label(owner)}${["evict", "replace"].includes(owner.restart) ? ` ${owner.restart}` : ""}${owner.reason ? `, ${owner.reason}` : ""}`,
    ),
  );
}

const pods = (namespace: string) => `/api/v1/namespaces/${namespace}/pods`;
const apps = (namespace: string) => `/apis/apps/v1/namespaces/${namespace}`;

test("pods are grouped so that each group can start new pods with what came before it", async () => {
  const cni = { hostNetwork: true, volumes: [TOKEN, { name: "cni", hostPath: { path: "/etc/cni/net.d" } }] };
  const set = { kind: "DaemonSet", spec: {} };
  expect(
    await groups({
      [`${pods("shop")}/web-1`]: pod({ owner: ["StatefulSet", "web"] }),
      [`${pods("kube-system")}/coredns-1`]: pod({
        labels: { "k8s-app": "kube-dns" },
        owner: ["ReplicaSet", "coredns-5"],
      }),
      [`${pods("kube-system")}/metrics-1`]: pod({ owner: ["ReplicaSet", "metrics-7"] }),
      [`${pods("flannel")}/flannel-1`]: pod({ spec: cni, owner: ["DaemonSet", "flannel"] }),
      [`${pods("kube-system")}/kube-proxy-1`]: pod({
        labels: { "k8s-app": "kube-proxy" },
        owner: ["DaemonSet", "kube-proxy"],
      }),
      [`${pods("policy")}/hook-1`]: pod({ labels: { app: "hook" }, owner: ["DaemonSet", "hook"] }),
      [`${pods("policy")}/api-1`]: pod({ labels: { app: "api" }, owner: ["DaemonSet", "api"] }),
      [`${apps("policy")}/daemonsets/api`]: set,
      "/api/v1/namespaces/policy/services/api": { spec: { selector: { app: "api" } } },
      "/apis/apiregistration.k8s.io/v1/apiservices/v1.policy": {
        spec: { service: { namespace: "policy", name: "api" } },
      },
      [`${apps("kube-system")}/replicasets/coredns-5`]: {
        metadata: {
          ownerReferences: [
            {
              apiVersion: "apps/v1",
              kind: "Deployment",
              name: "coredns",
              uid: "uid-of-coredns",
              controller: true,
            },
          ],
        },
      },
      [`${apps("kube-system")}/replicasets/metrics-7`]: {
        metadata: {
          ownerReferences: [
            {
              apiVersion: "apps/v1",
              kind: "Deployment",
              name: "metrics",
              uid: "uid-of-metrics",
              controller: true,
            },
          ],
        },
      },
      [`${apps("kube-system")}/deployments/coredns`]: set,
      [`${apps("kube-system")}/deployments/metrics`]: set,
      [`${apps("kube-system")}/daemonsets/kube-proxy`]: set,
      [`${apps("flannel")}/daemonsets/flannel`]: set,
      [`${apps("policy")}/daemonsets/hook`]: set,
      [`${apps("shop")}/statefulsets/web`]: set,
      "/api/v1/namespaces/policy/services/hook": { spec: { selector: { app: "hook" } } },
      "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/hook": {
        webhooks: [
          { name: "hook.policy", clientConfig: { service: { namespace: "policy", name: "hook" } } },
          { name: "other.policy", clientConfig: { url: "https://elsewhere" } },
        ],
      },
    }),
  ).toEqual([
    "kube-proxy: kube-system/kube-proxy (DaemonSet) replace",
    "network plugins: flannel/flannel (DaemonSet) replace",
    "webhooks: policy/hook (DaemonSet)",
    "DNS, aggregated APIs and the rest of kube-system: kube-system/coredns (Deployment)",
    "DNS, aggregated APIs and the rest of kube-system: kube-system/metrics (Deployment)",
    "DNS, aggregated APIs and the rest of kube-system: policy/api (DaemonSet)",
    "all others: shop/web (StatefulSet)",
  ]);
});

test("pods of one owner are one restart; what nothing brings back is only told", async () => {
  expect(
    await groups({
      [`${pods("a")}/d-1`]: pod({ owner: ["ReplicaSet", "d-1"] }),
      [`${pods("a")}/d-2`]: pod({ owner: ["ReplicaSet", "d-1"] }),
      [`${apps("a")}/replicasets/d-1`]: {
        metadata: {
          ownerReferences: [
            { apiVersion: "apps/v1", kind: "Deployment", name: "d", uid: "uid-of-d", controller: true },
          ],
        },
      },
      [`${apps("a")}/deployments/d`]: {},
      [`${pods("a")}/bare`]: pod(),
      [`${pods("a")}/job-1`]: pod({ owner: ["Job", "job", "batch/v1"] }),
      [`${pods("a")}/lone-1`]: pod({ owner: ["ReplicaSet", "lone"] }),
      [`${apps("a")}/replicasets/lone`]: {},
      [`${pods("a")}/by-hand-1`]: pod({ owner: ["DaemonSet", "by-hand"] }),
      [`${apps("a")}/daemonsets/by-hand`]: { spec: { updateStrategy: { type: "OnDelete" } } },
    }),
  ).toEqual([
    "all others: a/d (Deployment)",
    "all others: a/bare, a bare pod: nothing would bring it back",
    "all others: a/job-1, of the Job job: it runs until it is finished",
    "all others: a/lone (ReplicaSet) evict",
    "all others: a/by-hand (DaemonSet) evict",
  ]);
});

test.each([
  ["Workflow", "argoproj.io/v1alpha1", "Never"],
  ["TaskRun", "tekton.dev/v1", "Never"],
  ["PyTorchJob", "kubeflow.org/v1", "OnFailure"],
  ["Job", "batch.volcano.sh/v1alpha1", "OnFailure"],
  ["VirtualMachineInstance", "kubevirt.io/v1", "Never"],
])("a pod of a %s runs to its end: it is only told", async (kind, apiVersion, restartPolicy) => {
  expect(
    await groups({
      [`${pods("a")}/one`]: pod({ owner: [kind, "own", apiVersion], spec: { restartPolicy } }),
    }),
  ).toEqual([
    `all others: a/one, of the ${kind} own, with restartPolicy ${restartPolicy}: it may run until it is finished`,
  ]);
});

test.each([
  ["Cluster", "postgresql.cnpg.io/v1"],
  ["StrimziPodSet", "core.strimzi.io/v1beta2"],
  ["CloneSet", "apps.kruise.io/v1alpha1"],
  ["StatefulSet", "apps.kruise.io/v1beta1"],
  ["DaemonSet", "apps.kruise.io/v1alpha1"],
  ["ReplicationController", "v1"],
])(
  "pods of a %s that are kept running are evicted, as one owner: its controller makes new ones",
  async (kind, apiVersion) => {
    const ofIt = pod({ owner: [kind, "own", apiVersion], spec: { restartPolicy: "Always" } });
    expect(await groups({ [`${pods("a")}/own-1`]: ofIt, [`${pods("a")}/own-2`]: ofIt })).toEqual([
      `all others: a/own (${kind}) evict`,
    ]);
  },
);

test("pods of a ReplicaSet of another controller, an Argo Rollout, are evicted: its own restart does the same", async () => {
  const parent = { apiVersion: "argoproj.io/v1alpha1", kind: "Rollout", name: "web", controller: true };
  expect(
    await groups({
      [`${pods("a")}/web-1`]: pod({ owner: ["ReplicaSet", "web-5"] }),
      [`${apps("a")}/replicasets/web-5`]: { metadata: { ownerReferences: [parent] } },
    }),
  ).toEqual(["all others: a/web (Rollout) evict"]);
});

test("pods of a StatefulSet with a partition are evicted: its rollout would end at the partition, an eviction changes no revision", async () => {
  const updateStrategy = { type: "RollingUpdate", rollingUpdate: { partition: 1 } };
  expect(
    await groups({
      [`${pods("a")}/db-0`]: pod({ owner: ["StatefulSet", "db"] }),
      [`${apps("a")}/statefulsets/db`]: { spec: { updateStrategy } },
    }),
  ).toEqual(["all others: a/db (StatefulSet) evict"]);
});

test.each(["ReplicaSet", "DaemonSet", "StatefulSet"])(
  "a pod whose %s is gone goes with it, and nothing would bring it back",
  async (kind) => {
    expect(await groups({ [`${pods("a")}/left`]: pod({ owner: [kind, "gone"] }) })).toEqual([
      `all others: a/left, its ${kind} gone is no longer there: nothing would bring it back`,
    ]);
  },
);

test("only pods that run, started before they could see the new CA, and mount it or a token, are stale", async () => {
  const source = (one: object) => ({ volumes: [{ name: "p", projected: { sources: [one] } }] });
  const bundle = (clusterTrustBundle: object) => source({ clusterTrustBundle });
  const certificate = source({ podCertificate: { signerName: "example.com/mesh", keyType: "ED25519" } });
  const secretVolume = (secretName: string) => ({ volumes: [{ name: "s", secret: { secretName } }] });
  expect(
    await groups({
      [`${pods("a")}/started-later`]: pod({ started: AFTER }),
      [`${pods("a")}/made-later`]: pod({ created: "2026-06-01T00:01:01Z", started: "2026-06-01T00:01:02Z" }),
      [`${pods("a")}/started-again-before-the-kubelet-caught-up`]: pod({ started: "2026-06-01T00:01:02Z" }),
      [`${pods("nowhere")}/without-the-new-ca`]: pod({ created: AFTER, started: AFTER }),
      [`${pods("a")}/of-a-deleted-node`]: pod({ spec: { nodeName: "gone" } }),
      [`${pods("a")}/leaving`]: { ...pod(), metadata: { ...pod().metadata, deletionTimestamp: AFTER } },
      [`${pods("a")}/done`]: pod({ phase: "Succeeded" }),
      [`${pods("a")}/mirror`]: pod({ annotations: { "kubernetes.io/config.mirror": "1" } }),
      [`${pods("a")}/no-token`]: pod({ spec: { volumes: [{ name: "tmp" }] } }),
      [`${pods("a")}/no-volumes`]: pod({ spec: { volumes: undefined } }),
      [`${pods("a")}/other-secret`]: pod({ spec: secretVolume("password") }),
      [`${pods("a")}/ca-only`]: pod({
        spec: { volumes: [{ name: "ca", configMap: { name: "kube-root-ca.crt" } }] },
      }),
      [`${pods("a")}/bundle-by-signer`]: pod({
        spec: bundle({ signerName: "kubernetes.io/kube-apiserver-serving" }),
      }),
      [`${pods("a")}/bundle-by-name`]: pod({
        spec: bundle({ name: "kubernetes.io:kube-apiserver-serving:0123456789abcdef01234567" }),
      }),
      [`${pods("a")}/bundle-of-others`]: pod({ spec: bundle({ signerName: "example.com/mesh" }) }),
      [`${pods("a")}/certificate-of-others`]: pod({ spec: certificate }),
      [`${pods("a")}/token-secret`]: pod({ spec: secretVolume("token") }),
      "/api/v1/namespaces/a/secrets/token": { type: "kubernetes.io/service-account-token", metadata: data },
      "/api/v1/namespaces/a/secrets/password": { type: "Opaque" },
    }),
  ).toEqual(
    [
      "a/started-again-before-the-kubelet-caught-up",
      "nowhere/without-the-new-ca",
      "a/ca-only",
      "a/bundle-by-signer",
      "a/bundle-by-name",
      "a/token-secret",
    ].map((name) => `all others: ${name}, a bare pod: nothing would bring it back`),
  );
});

test("a CA that has been the same since its namespace was made was never anything else to a pod", async () => {
  const same = { metadata: { ...data, creationTimestamp: PUBLISHED }, data: { "ca.crt": CA } };
  expect(
    await groups({
      "/api/v1/namespaces/a/configmaps/kube-root-ca.crt": same,
      [`${pods("a")}/first`]: pod({ created: AT_ONCE, started: AT_ONCE }),
    }),
  ).toEqual([]);
});

test.each([
  [
    "that starts in a moment may still mount the old files, as on a node that has just come back",
    {},
    "2026-06-01T00:02:59Z",
    true,
  ],
  ["that was never there, too", { phase: "Pending" }, "2026-06-01T00:02:59Z", true],
  ["that starts when every kubelet has written today's files is fresh", {}, "2026-06-01T00:03:01Z", false],
  ["of a newer pod is fresh", { created: AFTER }, "2026-06-01T00:02:59Z", false],
  [
    "that has ended, and is not started again, is over",
    { spec: { restartPolicy: "Never" } },
    "2026-06-01T00:02:59Z",
    false,
  ],
])("a container %s", (_, different, now, isStale) => {
  const { metadata, spec, status } = pod(different);
  const waiting = { ...status, containerStatuses: [{ state: { waiting: { reason: "ContainerCreating" } } }] };
  const cutOff = { rootCa: () => new Date(PUBLISHED), token: () => undefined };
  const found = mountedBefore(
    { metadata, spec, status: waiting } as unknown as RunningPod,
    cutOff,
    new Date(now),
  );
  expect(found !== undefined).toBe(isStale);
});

test("owners are not asked for one after the other: there may be tens of thousands", async () => {
  const names = ["one", "two", "three"];
  const { promise, resolve } = Promise.withResolvers<void>();
  AbortSignal.timeout(2000).addEventListener("abort", () => resolve());
  let [asked, atOnce] = [0, 0];
  using server = pretendApi({
    objects: {
      "/api/v1/nodes/w1": {},
      ...ROOT_CAS,
      ...Object.fromEntries(
        names.flatMap((name) => [
          [`/api/v1/namespaces/shop/pods/${name}`, pod({ owner: ["StatefulSet", name] })],
          [`/apis/apps/v1/namespaces/shop/statefulsets/${name}`, {}],
        ]),
      ),
    },
    async on({ path }) {
      if (!path.includes("/statefulsets/")) return undefined;
      if (++asked === names.length) resolve();
      await promise;
      atOnce ||= asked;
      return undefined;
    },
  });
  const since = new Date("2026-06-01T00:00:00Z");
  const found = await staleGroups(new KubeApi({ server: server.url, ca: NO_TLS }), CA, { since });
  const owners = found.flatMap((group) => group.owners.map((owner) => owner.name));
  expect([owners, atOnce]).toEqual([names, names.length]);
});
