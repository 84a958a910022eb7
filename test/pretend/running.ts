/** The pretend cluster after part 2: what its API serves, and what its controllers and kubelets do. */
import { readFileSync } from "node:fs";
import { stringify } from "yaml";
import { type ApiOptions, type ApiRequest, pretendApi } from "./api.ts";
import { ADDRESS, type Objects } from "./cluster.ts";

const NODES = ["m1", "w1", "w2"];
const POD = /^\/api\/v1\/namespaces\/([^/]+)\/pods\/([^/]+)/;

export const LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
export const MANAGER_LEASE =
  "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager";

export const SCHEDULER_LEASE = MANAGER_LEASE.replace("controller-manager", "scheduler");

/** Lets etcd's data name another CA than the one on disk: the repair has made a new CA. */
export function knewCa(caPem: string) {
  return (objects: Objects) => {
    Object.assign(objects["configmaps/kube-system/kube-root-ca.crt"] as object, {
      data: { "ca.crt": caPem },
    });
  };
}

/**
 * Serves at a healthy control plane node's address, with its certificate, or at another one's. All nodes
 * renew their Leases. `objects` are added to the usual ones.
 */
export function serveRunning(
  node: { root: string },
  options: Pick<ApiOptions, "objects" | "on" | "hostname" | "tls"> = {},
) {
  const pki = (file: string) => readFileSync(`${node.root}/etc/kubernetes/pki/${file}`, "utf8");
  return pretendApi({
    hostname: options.hostname ?? ADDRESS,
    port: 6443,
    tls: options.tls ?? { cert: pki("apiserver.crt"), key: pki("apiserver.key") },
    objects: { ...usual(pki("ca.crt")), ...options.objects },
    on: async (request, api) => (await options.on?.(request, api)) ?? controllers(request, api),
  });
}

/** What a kubelet that is well says of its Node. */
const READY = { status: { conditions: [{ type: "Ready", status: "True" }] } };

function usual(ca: string): Record<string, object> {
  const namespaces = ["default", "kube-system", "shop"];
  const cluster = {
    "certificate-authority-data": Buffer.from(ca).toString("base64"),
    server: `https://${ADDRESS}:6443`,
  };
  const clusterInfo = {
    kubeconfig: stringify({ apiVersion: "v1", clusters: [{ cluster, name: "" }], kind: "Config" }),
  };
  return {
    ...Object.fromEntries(NODES.map((name) => [`/api/v1/nodes/${name}`, READY])),
    ...Object.fromEntries(NODES.map((name) => [`${LEASES}/${name}`, lease(0)])),
    ...Object.fromEntries(
      namespaces.map((name) => [`/api/v1/namespaces/${name}`, { status: { phase: "Active" } }]),
    ),
    ...Object.fromEntries(
      namespaces.map((name) => [
        `/api/v1/namespaces/${name}/configmaps/kube-root-ca.crt`,
        { data: { "ca.crt": ca } },
      ]),
    ),
    "/api/v1/namespaces/kube-public/configmaps/cluster-info": { data: clusterInfo },
    [SCHEDULER_LEASE]: { spec: { holderIdentity: "m1_scheduler", renewTime: new Date().toISOString() } },
    [MANAGER_LEASE]: { spec: { holderIdentity: "m1_before", renewTime: new Date().toISOString() } },
  };
}

/** A Lease that was renewed so many seconds ago. */
export function lease(secondsAgo: number) {
  return { spec: { renewTime: new Date(Date.now() - secondsAgo * 1000).toISOString() } };
}

/** Kubelets that live: each question finds their Leases renewed. */
export function living(names: readonly string[], also?: ApiOptions["on"]): NonNullable<ApiOptions["on"]> {
  let renewals = 0;
  return (request, api) => {
    if (request.method === "GET" && request.path.startsWith(LEASES))
      for (const name of names)
        if (api.objects.has(`${LEASES}/${name}`))
          Object.assign(api.objects.get(`${LEASES}/${name}`), lease(-renewals++ / 1000));
    return also?.(request, api);
  };
}

/** A pod with a mounted token that has run since before the repair. */
export function oldPod(
  name: string,
  owner: { kind: string; name: string; apiVersion?: string; uid?: string },
  labels: Record<string, string> = {},
) {
  const ownerReferences = [
    { apiVersion: "apps/v1", uid: `uid-of-${owner.name}`, controller: true, ...owner },
  ];
  return {
    metadata: { name, labels, ownerReferences, creationTimestamp: "2026-01-01T00:00:00Z" },
    spec: {
      nodeName: "w1",
      volumes: [{ name: "kube-api-access", projected: { sources: [{ serviceAccountToken: {} }] } }],
    },
    status: {
      phase: "Running",
      conditions: [{ type: "Ready", status: "True" }],
      containerStatuses: [{ state: { running: { startedAt: "2026-01-01T00:00:00Z" } } }],
    },
  };
}

type Api = Parameters<NonNullable<ApiOptions["on"]>>[1];

/**
 * Makes and reviews tokens, replaces evicted pods, runs test pods, and gives a deleted Lease to the
 * controller-manager on m1.
 */
function controllers({ method, path, body }: ApiRequest, { objects }: Api): Response | undefined {
  if (path.endsWith("/proxy/healthz")) return new Response("ok");
  if (method === "DELETE" && path === MANAGER_LEASE) return newLeader(objects);
  if (method !== "POST") return undefined;
  if (path.endsWith("/serviceaccounts/default/token"))
    return Response.json({ status: { token: "a-new-token" } });
  if (path.endsWith("/tokenreviews"))
    return Response.json({
      status: { authenticated: true, user: { username: "system:serviceaccount:kube-system:default" } },
    });
  if (path.endsWith("/eviction")) return renewPod(objects, POD.exec(path)![0]);
  if (!path.endsWith("/pods")) return undefined;
  // Nobody listens there: whoever asks is told so at once.
  const pod = { ...body, status: { phase: "Running", podIP: "127.0.0.1" } };
  objects.set(`${path}/${body.metadata.name}`, pod);
  return Response.json(pod, { status: 201 });
}

/** The controller-manager's Lease is deleted, and m1's takes it. */
export function newLeader(objects: Api["objects"]): Response {
  objects.set(MANAGER_LEASE, {
    metadata: {},
    spec: { holderIdentity: "m1_after", renewTime: new Date(Date.now() + 60_000).toISOString() },
  });
  return Response.json({});
}

/** A newer pod replaces the old one. */
export function renewPod(objects: Api["objects"], path: string): Response {
  const old = objects.get(path);
  const later = new Date(Date.now() + 60_000).toISOString();
  const metadata = { ...old.metadata, uid: `${old.metadata.uid}-renewed`, creationTimestamp: later };
  objects.set(path, { ...old, metadata });
  return Response.json({}, { status: 201 });
}

/**
 * The API server of a healthy control plane node, all of whose nodes renewed their Leases a moment ago; those
 * that live do it again and again.
 */
export function serveLeases(node: { read: (path: string) => string }, living: string[]) {
  const renewTime = (ms: number) => ({ spec: { renewTime: new Date(Date.now() + ms).toISOString() } });
  const [cert, key] = ["apiserver.crt", "apiserver.key"].map(
    (file) => node.read(`/etc/kubernetes/pki/${file}`)!,
  ) as [string, string];
  const ca = node.read("/etc/kubernetes/pki/ca.crt")!;
  const objects = {
    ...Object.fromEntries(
      ["m1", "w1", "w2"].flatMap((name) => [
        [`${LEASES}/${name}`, renewTime(-3000)],
        [`/api/v1/nodes/${name}`, {}],
      ]),
    ),
    "/api/v1/namespaces/kube-system": { status: { phase: "Active" } },
    "/api/v1/namespaces/kube-system/configmaps/kube-root-ca.crt": { data: { "ca.crt": ca } },
  };
  let asked = 0;
  const on: ApiOptions["on"] = ({ path }, { objects }) => {
    asked++;
    if (path.startsWith(LEASES))
      for (const name of living) Object.assign(objects.get(`${LEASES}/${name}`), renewTime(asked));
    return undefined;
  };
  return pretendApi({ hostname: ADDRESS, port: 6443, tls: { cert, key }, objects, on });
}
