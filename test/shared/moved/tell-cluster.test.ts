/** What the cluster's own objects say after a move: addresses, a name, and an endpoint that is put in. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { Fail } from "../../../shared/fail.ts";
import { restartOldPods, tellCluster } from "../../../shared/moved/tell-cluster.ts";
import { NO_TLS, pretendApi } from "../../pretend/api.ts";
import { lookAt } from "../../pretend/in-process.ts";

setDefaultTimeout(300_000);

const MAPS = "/api/v1/namespaces/kube-system/configmaps";
const PUT_IN = { "https://10.0.1.1:6443": "https://api.example:6443", "10.0.0.1": "10.0.1.1" };

async function told(moved: Record<string, string>, maps: Record<string, Record<string, string>>) {
  const objects = Object.fromEntries(
    Object.entries(maps).map(([name, data]) => [`${MAPS}/${name}`, { data }]),
  );
  return await lookAt({}, async () => {
    using server = pretendApi({ objects });
    const api = new KubeApi({ server: server.url, ca: NO_TLS });
    const end = await tellCluster(api, new Map(Object.entries(moved))).catch((err: unknown) => err);
    const dataOf = (name: string) => server.objects.get(`${MAPS}/${name}`)?.data;
    return { end, dataOf, changes: server.changes() };
  });
}

test.each([
  ["none", "clusterName: lab\n", "clusterName: lab\ncontrolPlaneEndpoint: api.example:6443\n"],
  [
    "none, and no newline at the end",
    "clusterName: lab",
    "clusterName: lab\ncontrolPlaneEndpoint: api.example:6443\n",
  ],
  [
    "an address",
    "controlPlaneEndpoint: 10.0.0.1:6443\nclusterName: lab\n",
    "controlPlaneEndpoint: api.example:6443\nclusterName: lab\n",
  ],
])("kubeadm-config had as its endpoint: %s", async (_, before, after) => {
  const { end, dataOf } = await told(PUT_IN, { "kubeadm-config": { ClusterConfiguration: before } });
  expect({ end, after: dataOf("kubeadm-config") }).toEqual({
    end: undefined,
    after: { ClusterConfiguration: after },
  });
});

test("one that is not as kubeadm writes it is not written, and its next command is said", async () => {
  const { end, changes } = await told(PUT_IN, {
    "kubeadm-config": { ClusterConfiguration: '{"clusterName":"lab"}' },
  });
  expect(end).toBeInstanceOf(Fail);
  expect((end as Fail).hint).toContain("edit configmap kubeadm-config");
  expect(changes).toEqual([]);
});

test("kube-proxy is led to the new server; what names nothing old is not written", async () => {
  const { dataOf, changes } = await told(PUT_IN, {
    "kubeadm-config": { ClusterConfiguration: "controlPlaneEndpoint: api.example:6443\n" },
    "kube-proxy": { "kubeconfig.conf": "server: https://10.0.0.1:6443\n", "config.conf": "mode: ipvs\n" },
  });
  expect(dataOf("kube-proxy")).toEqual({
    "kubeconfig.conf": "server: https://api.example:6443\n",
    "config.conf": "mode: ipvs\n",
  });
  expect(changes).toEqual([`PATCH ${MAPS}/kube-proxy`]);
});

const MADE = new Date("2026-01-01T12:00:00Z");
const [BEFORE, SINCE] = ["2026-01-01T11:00:00Z", "2026-01-01T13:00:00Z"];
const AT_W1 = {
  addresses: ["fe80::1%eth0", "10.0.1.21"].map((address) => ({ type: "InternalIP", address })),
};

/** A pod of a DaemonSet in its node's own network, on w1, which has moved, and whose kubelet is silent. */
test.each<
  [what: string, pod: { kind?: string; metadata?: object; spec?: object; started?: string }, waits: boolean]
>([
  ["one from before the move", {}, true],
  ["one whose container has started since", { started: SINCE }, true],
  ["one that came since", { metadata: { creationTimestamp: SINCE }, started: SINCE }, false],
  [
    "one that came since, and whose container says that it is older",
    { metadata: { creationTimestamp: SINCE } },
    true,
  ],
  ["one that is ending", { metadata: { deletionTimestamp: SINCE } }, false],
  ["one of no DaemonSet", { kind: "ReplicaSet" }, false],
  ["one with a network of its own", { spec: { hostNetwork: false } }, false],
  ["one of a node that has not moved", { spec: { nodeName: "w2" } }, false],
])(
  "a pod that keeps the old address waits for its node: %s",
  async (_, { kind = "DaemonSet", metadata, spec, started = BEFORE }, waits) => {
    const owner = { kind, name: "cni", uid: "cni", apiVersion: "apps/v1", controller: true };
    const pod = {
      metadata: { name: "cni-1", ownerReferences: [owner], creationTimestamp: BEFORE, ...metadata },
      spec: { nodeName: "w1", hostNetwork: true, ...spec },
      status: { containerStatuses: [{ state: { running: { startedAt: started } } }] },
    };
    const objects = {
      "/api/v1/nodes/w1": { status: AT_W1 },
      "/api/v1/nodes/w2": {},
      "/api/v1/namespaces/net/pods/cni-1": pod,
    };
    await lookAt({}, async (_, said) => {
      using server = pretendApi({ objects });
      const api = new KubeApi({ server: server.url, ca: NO_TLS });
      expect(await restartOldPods(api, new Map([["10.0.0.21", "10.0.1.21"]]), MADE)).toEqual({
        silent: waits ? ["w1"] : [],
      });
      expect(server.changes()).toEqual([]);
      const [line] = said;
      expect(line).toContain(
        waits ? "1 of its pods wait for their nodes" : "no pod runs that was started before the move",
      );
    });
  },
);
