/** Workloads in etcd's data, one for each way in which part 4 restarts pods, or leaves them. */
import type { Objects } from "./cluster.ts";
import { oldPod } from "./running.ts";

/** As etcd holds it. */
export function inEtcd(
  objects: Objects,
  key: string,
  object: { metadata?: object; [field: string]: unknown },
) {
  const [, namespace, name] = key.split("/");
  objects[key] = {
    ...object,
    kind: "Thing",
    metadata: { name, namespace, uid: `uid-of-${name}`, ...object.metadata },
  };
}

/** Rolling updates, one of them paused; updates by hand behind a budget; and pods that nobody makes again. */
export function busyWorkloads(objects: Objects) {
  const rolling = { metadata: { generation: 1 }, spec: { replicas: 2, template: {} }, status: {} };
  for (const name of ["web", "paused"]) {
    inEtcd(objects, `deployments/shop/${name}`, {
      ...rolling,
      spec: { ...rolling.spec, paused: name === "paused" },
    });
    const owner = {
      apiVersion: "apps/v1",
      kind: "Deployment",
      name,
      uid: `uid-of-${name}`,
      controller: true,
    };
    inEtcd(objects, `replicasets/shop/${name}-5`, { metadata: { ownerReferences: [owner] } });
    for (const n of [1, 2])
      inEtcd(
        objects,
        `pods/shop/${name}-5-${n}`,
        oldPod(`${name}-5-${n}`, { kind: "ReplicaSet", name: `${name}-5` }),
      );
  }
  inEtcd(objects, "statefulsets/shop/guarded", {
    spec: { updateStrategy: { type: "OnDelete" } },
    status: { replicas: 1, updatedReplicas: 1 },
  });
  inEtcd(
    objects,
    "pods/shop/guarded-0",
    oldPod("guarded-0", { kind: "StatefulSet", name: "guarded" }, { app: "guarded" }),
  );
  const budget = {
    spec: { selector: { matchLabels: { app: "guarded" } } },
    status: { expectedPods: 1, desiredHealthy: 1 },
  };
  inEtcd(objects, "poddisruptionbudgets/shop/guarded", budget);
  const bare = oldPod("task", { kind: "Job", name: "task", apiVersion: "batch/v1" });
  inEtcd(objects, "pods/shop/task", bare);
  inEtcd(objects, "pods/shop/on-a-deleted-node", { ...bare, spec: { ...bare.spec, nodeName: "w9" } });
}
