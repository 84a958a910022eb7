/**
 * The usual cluster, in full: what kubeadm leaves in etcd and at the API, with kube-proxy, CoreDNS and one
 * application. All that a row of unlike-*.ts may change before it is served. Its API serves the objects that
 * its etcd has; what lives renews its Lease.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Pair } from "../../shared/pki/issue.ts";
import { type ApiOptions, pretendApi } from "./api.ts";
import { ADDRESS, makeControlPlane, type Objects } from "./cluster.ts";
import type { NodeOptions } from "./node.ts";
import { usualObjects } from "./unlike-objects.ts";

// biome-ignore lint/suspicious/noExplicitAny: objects of every kind
type Any = any;

/** The cluster while a row changes it. */
export interface Place {
  /** A folder with the node's files below /etc/kubernetes and /var/lib/kubelet; more may be written there. */
  root: string;
  objects: Objects;
  ca: Pair;
  node: Pick<NodeOptions, "commands" | "without" | "members"> & { containers: string[] };
  /** For the scripts, as in root's shell. */
  env: Record<string, string>;
  /** PEM, of an etcd that kubeadm did not make: it lives in each disaster. `at`: on another machine. */
  etcd?: { cert: string; key: string; ca: string; at?: string };
  /** Where m1's API server listens, what it shows (default: pki/apiserver), and what else answers. */
  api: { hostname: string; port: number; tls?: { cert: string; key: string }; on?: ApiOptions["on"] };
  /** Nodes whose kubelets do not renew their Lease. */
  away: string[];
  /** Servers and balancers of others; they end with the row. */
  others: Disposable[];
  /** The kubelet's static pod folder. */
  manifests: string;
}

/** Before every pod. */
const MONTH_MS = 30 * 24 * 3600_000;

let made: ReturnType<typeof makeControlPlane> | undefined;

/** The usual cluster: as kubeadm leaves it, with kube-proxy, CoreDNS and one application. */
export async function usualCluster(): Promise<Place> {
  made ??= makeControlPlane({ now: new Date(Date.now() - MONTH_MS) });
  const { root: healthy, ca } = await made;
  const root = mkdtempSync(join(tmpdir(), `unlike-${process.pid}-`));
  cpSync(healthy, root, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  return {
    ...{ root, ca, objects: usualObjects(root, ca) },
    node: {
      containers: [
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
        "coredns",
      ],
      commands: [],
    },
    ...{
      env: {},
      api: { hostname: ADDRESS, port: 6443 },
      away: [],
      others: [{ [Symbol.dispose]: () => rmSync(root, { recursive: true, force: true }) }],
      manifests: "/etc/kubernetes/manifests",
    },
  };
}

/** Key in etcd → path at the API; undefined for what the API serves otherwise. */
const PATHS: [resource: string, path: string][] = [
  ["minions", "api/v1/nodes"],
  ["services/specs", "api/v1/services"],
  ["services/endpoints", "api/v1/endpoints"],
  ...[
    "namespaces",
    "configmaps",
    "secrets",
    "pods",
    "serviceaccounts",
    "limitranges",
    "resourcequotas",
    "events",
  ].map((name): [string, string] => [name, `api/v1/${name}`]),
  ...["deployments", "daemonsets", "replicasets", "statefulsets"].map((name): [string, string] => [
    name,
    `apis/apps/v1/${name}`,
  ]),
  ["leases", "apis/coordination.k8s.io/v1/leases"],
  ["poddisruptionbudgets", "apis/policy/v1/poddisruptionbudgets"],
  ["networkpolicies", "apis/networking.k8s.io/v1/networkpolicies"],
  ["priorityclasses", "apis/scheduling.k8s.io/v1/priorityclasses"],
  ...["clusterrolebindings", "clusterroles"].map((name): [string, string] => [
    name,
    `apis/rbac.authorization.k8s.io/v1/${name}`,
  ]),
  ...["validatingwebhookconfigurations", "mutatingwebhookconfigurations", "validatingadmissionpolicies"].map(
    (name): [string, string] => [name, `apis/admissionregistration.k8s.io/v1/${name}`],
  ),
  ["apiregistration.k8s.io/apiservices", "apis/apiregistration.k8s.io/v1/apiservices"],
  ["clustertrustbundles", "apis/certificates.k8s.io/v1/clustertrustbundles"],
  ["certificatesigningrequests", "apis/certificates.k8s.io/v1/certificatesigningrequests"],
];

/** "pods/kube-system/etcd-m1" → "/api/v1/namespaces/kube-system/pods/etcd-m1" */
export function apiPath(key: string): string {
  const found = PATHS.find(([resource]) => key.startsWith(`${resource}/`));
  if (!found) throw new Error(`no path of the API is known for ${key}`);
  const [resource, path] = found;
  const [first, second] = key.slice(resource.length + 1).split("/") as [string, string?];
  if (second === undefined) return `/${path}/${first}`;
  const at = path.lastIndexOf("/");
  return `/${path.slice(0, at)}/namespaces/${first}${path.slice(at)}/${second}`;
}

/** What the API says of a kubelet that is well. */
const READY = { conditions: [{ type: "Ready", status: "True" }] };

/**
 * The API server of m1: the same objects as in etcd, and kubelets and leaders that renew their Leases
 * whenever they are asked for.
 */
export function serveUnlike(place: Place, root: string) {
  const pem = (file: string) => readFileSync(`${root}/etc/kubernetes/pki/${file}`, "utf8");
  const objects: Record<string, Any> = {};
  for (const [key, value] of Object.entries(place.objects)) {
    if (typeof value === "string" || value instanceof Uint8Array || key.startsWith("/")) continue;
    const copy = structuredClone(value) as Any;
    if (key.startsWith("minions/")) copy.status = { ...READY, ...copy.status };
    objects[apiPath(key)] = copy;
  }
  const { hostname, port, tls = { cert: pem("apiserver.crt"), key: pem("apiserver.key") } } = place.api;
  return pretendApi({
    ...{ hostname, port, tls, objects },
    on: async (request, api) => (await place.api.on?.(request, api)) ?? controllers(place, request, api),
  });
}

/**
 * Reviews tokens, lets what lives renew its Lease and take one that is free, and answers for the kubelets.
 */
function controllers(
  { away }: Place,
  { method, path }: { method: string; path: string },
  { objects }: { objects: Map<string, Any> },
) {
  if (path.endsWith("/proxy/healthz")) return new Response("ok");
  if (path.endsWith("/serviceaccounts/default/token"))
    return Response.json({ status: { token: "a-new-token" } });
  if (path.endsWith("/tokenreviews"))
    return Response.json({
      status: { authenticated: true, user: { username: "system:serviceaccount:kube-system:default" } },
    });
  const leader = method === "DELETE" && path.includes("/kube-system/leases/") && objects.get(path);
  if (leader) {
    Object.assign(leader.spec, { holderIdentity: `${leader.spec.holderIdentity}_again` });
    return Response.json({});
  }
  if (method === "GET" && path.includes("/leases"))
    for (const [name, { metadata, spec }] of objects)
      if (name.includes("/leases/") && !away.includes(metadata.name))
        spec.renewTime = new Date(Date.now() + renewals++).toISOString();
  return undefined;
}

let renewals = 0;

/**
 * A balancer: what comes at this address and port goes to the API server of m1, or to another of its ports.
 */
export function balancer(place: Place, host: string, port: number, toPort = () => place.api.port): void {
  const server = createServer((from) => {
    const to = connect({ host: place.api.hostname, port: toPort() });
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const)
      one
        .on("error", () => other.destroy())
        .on("close", () => other.destroy())
        .pipe(other);
  }).listen({ host, port });
  place.others.push({ [Symbol.dispose]: () => void server.close() });
}
