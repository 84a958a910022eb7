/** What part 4 finds after a repair with a new CA: a token Secret and pods of before. */
import { newKeyOf, tokenBy } from "./old-keys.ts";
import { oldPod, renewPod, serveRunning } from "./running.ts";

export const STALE_SECRET = "/api/v1/namespaces/shop/secrets/cart-token";
export const STALE_PROXY = "/api/v1/namespaces/kube-system/pods/kube-proxy-1";
export const STALE_WEB = "/apis/apps/v1/namespaces/shop/deployments/web";
const STALE_WEB_POD = "/api/v1/namespaces/shop/pods/web-1";

const rolledOut = {
  observedGeneration: 1,
  replicas: 1,
  updatedReplicas: 1,
  availableReplicas: 1,
  desiredNumberScheduled: 1,
};

function workload(spec: object = {}) {
  return {
    metadata: { generation: 1 },
    spec: { replicas: 1, template: { spec: { containers: [{ image: "kube-proxy:v1" }] } }, ...spec },
    status: rolledOut,
  };
}

/** A kube-proxy that somebody has restarted since. */
function newProxy(node: string) {
  const { metadata, spec, status } = oldPod(
    "kube-proxy",
    { kind: "DaemonSet", name: "kube-proxy" },
    { "k8s-app": "kube-proxy" },
  );
  const later = new Date(Date.now() + 60_000).toISOString();
  return {
    metadata: { ...metadata, name: `kube-proxy-1-on-${node}`, creationTimestamp: later },
    spec: { ...spec, nodeName: node },
    status,
  };
}

/** A token Secret, a DaemonSet, a Deployment and a bare pod, all of before the repair. */
export function staleObjects(oldCa: string): Record<string, object> {
  const token = btoa(tokenBy(newKeyOf("ECDSA-P256"), { alg: "ES256", of: "shop:cart" }));
  return {
    "/api/v1/namespaces/shop/serviceaccounts/cart": {},
    [STALE_SECRET]: {
      type: "kubernetes.io/service-account-token",
      metadata: { annotations: { "kubernetes.io/service-account.name": "cart" } },
      data: { token, "ca.crt": btoa(oldCa) },
    },
    [STALE_PROXY]: oldPod(
      "kube-proxy-1",
      { kind: "DaemonSet", name: "kube-proxy" },
      { "k8s-app": "kube-proxy" },
    ),
    ...Object.fromEntries(["m1", "w2"].map((node) => [`${STALE_PROXY}-on-${node}`, newProxy(node)])),
    "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy": workload({
      selector: { matchLabels: { "k8s-app": "kube-proxy" } },
    }),
    [STALE_WEB_POD]: oldPod("web-1", { kind: "ReplicaSet", name: "web-5" }),
    "/apis/apps/v1/namespaces/shop/replicasets/web-5": {
      metadata: {
        ownerReferences: [
          { apiVersion: "apps/v1", kind: "Deployment", name: "web", uid: "uid-of-web", controller: true },
        ],
      },
    },
    [STALE_WEB]: workload(),
  };
}

/** The API with what is stale; a Deployment that is restarted gets a new pod. */
export function serveStale(node: { root: string }, oldCa: string, objects: Record<string, object> = {}) {
  return serveRunning(node, {
    objects: { ...staleObjects(oldCa), ...objects },
    on: ({ method, path }, api) => {
      if (method === "PATCH" && path === STALE_WEB) renewPod(api.objects, STALE_WEB_POD);
      return undefined;
    },
  });
}
