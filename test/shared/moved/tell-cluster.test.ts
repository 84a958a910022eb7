/** What the cluster's own objects say after a move: addresses, a name, and an endpoint that is put in. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { Fail } from "../../../shared/fail.ts";
import { tellCluster } from "../../../shared/moved/tell-cluster.ts";
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
