/** Restarting what owns pods: once, whatever was cut off, and never more than a PodDisruptionBudget allows. */
import { expect, test } from "bun:test";
import { KubeApi } from "../../../shared/api/kube-api.ts";
import { canaries, restart } from "../../../shared/workloads/rollout.ts";
import type { PodOwner } from "../../../shared/workloads/stale-pods.ts";
import { NO_TLS, pretendApi, status } from "../../pretend/api.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const SINCE = new Date("2026-06-01T00:00:00Z");
const RESTARTED = "kubectl.kubernetes.io/restartedAt";
const DEPLOYMENT = "/apis/apps/v1/namespaces/shop/deployments/web";
const POD = "/api/v1/namespaces/shop/pods/web-1";

function owner(kind: PodOwner["kind"], name = "web"): PodOwner {
  return { kind, namespace: "shop", name, since: SINCE, pods: [{ metadata: { name: "web-1", uid: "old" }, spec: {} }] };
}

/** A rolled-out workload; `restartedAt` as an earlier run may have left it. */
function workload(restartedAt?: string) {
  return {
    metadata: { generation: 2 },
    spec: { replicas: 2, template: { metadata: { annotations: restartedAt ? { [RESTARTED]: restartedAt } : {} } } },
    status: { observedGeneration: 2, replicas: 2, updatedReplicas: 2, availableReplicas: 2, updateRevision: "b", currentRevision: "b" },
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
  expect(box.said).toEqual(["shop/web (Deployment): restarted, 1 pod"]);
});

test("a DaemonSet and a StatefulSet are waited for by their own counters", async () => {
  using _box = sandbox();
  const counted = { observedGeneration: 2, desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 3 };
  using server = pretendApi({
    objects: {
      "/apis/apps/v1/namespaces/shop/daemonsets/web": { ...workload(), status: counted },
      "/apis/apps/v1/namespaces/shop/statefulsets/web": workload(),
    },
  });
  await restart(client(server), owner("DaemonSet"));
  await restart(client(server), owner("StatefulSet"));
});

test("an old observedGeneration is not taken for a finished rollout", async () => {
  using _box = sandbox();
  let looks = 0;
  using server = pretendApi({
    objects: { [DEPLOYMENT]: workload() },
    on: ({ method }) => {
      if (method !== "GET" || ++looks !== 2) return undefined;
      return Response.json({ ...workload(), metadata: { name: "web", generation: 3 } });
    },
  });
  await restart(client(server), owner("Deployment"));
  expect(looks).toBe(3);
});

test("an eviction that a PodDisruptionBudget refuses is asked again until it is allowed", async () => {
  using box = sandbox();
  let refusals = 2;
  using server = pretendApi({
    objects: { [POD]: { metadata: { uid: "old" } } },
    on: ({ method, path }, { objects }) => {
      if (method !== "POST" || path !== `${POD}/eviction`) return undefined;
      if (refusals-- > 0) return status(429, "Cannot evict pod as it would violate the pod's disruption budget.");
      objects.delete(POD);
      return Response.json({}, { status: 201 });
    },
  });
  await restart(client(server), owner("evict", "web-1"));
  expect(server.changes()).toEqual(Array(3).fill(`POST ${POD}/eviction`));
  expect(box.said).toEqual(["shop/web-1: evicted"]);
});

test("a pod that has been replaced under its name is not evicted a second time", async () => {
  using _box = sandbox();
  using server = pretendApi({ objects: { [POD]: { metadata: { uid: "new" } } } });
  await restart(client(server), owner("evict", "web-1"));
  expect(server.changes()).toEqual([]);
});

const PROXY = { spec: { template: { spec: { containers: [{ image: "kube-proxy:v1" }] } } } };
const PODS = "/api/v1/namespaces/kube-system/pods";

test.each([["Succeeded"], ["Failed"]])("test pods that end as %s: one on each node, left-overs removed first", async (phase) => {
  using box = sandbox();
  using server = pretendApi({
    objects: { "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy": PROXY, [`${PODS}/kube-pki-repair-canary-w1`]: {} },
    on: ({ method, body }) => {
      if (method === "POST") body.status = { phase };
      return undefined;
    },
  });
  const run = canaries(client(server), ["w1"]);
  if (phase === "Failed") return await expect(run).rejects.toThrow("The test pod on w1 failed");
  await run;
  const path = `${PODS}/kube-pki-repair-canary-w1`;
  expect(server.changes()).toEqual([`DELETE ${path}`, `POST ${PODS}`, `DELETE ${path}`]);
  expect(box.said.at(-1)).toBe("test pods: started and ended on 1 of 1 nodes");
});

test("without kube-proxy there is no image that is surely everywhere, and that is said", async () => {
  using box = sandbox();
  using server = pretendApi();
  await canaries(client(server), ["w1"]);
  expect(box.said[0]).toStartWith("there is no kube-proxy");
  expect(server.changes()).toEqual([]);
});

test("a DaemonSet's pods are replaced at once, and each node is waited for", async () => {
  const pods = "/api/v1/namespaces/shop/pods";
  const ready = { status: { conditions: [{ type: "Ready", status: "True" }] }, metadata: { labels: { app: "web" } } };
  const set = { spec: { selector: { matchLabels: { app: "web" } }, template: {} }, status: { desiredNumberScheduled: 2 } };
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
      // The second new pod comes only when it has been asked for once.
      if (path.includes("labelSelector")) {
        asked++;
        const there = asked === 1 ? ["new-1"] : ["new-1", "new-2"];
        return Response.json({ items: there.map((uid) => ({ ...ready, metadata: { name: uid, uid } })), metadata: {} });
      }
      return undefined;
    },
  });
  const stale = ["1", "2"].map((n) => ({ metadata: { name: `web-${n}`, uid: `old-${n}` }, spec: {} }));
  await restart(client(server), { ...owner("replace"), pods: stale });
  expect(server.changes().sort()).toEqual([`POST ${pods}/web-1/eviction`, `POST ${pods}/web-2/eviction`]);
  expect(asked).toBe(2);
});
