/**
 * The usual cluster's objects, as kubeadm leaves them in etcd, with kube-proxy, CoreDNS and one application;
 * and how a row makes more.
 */
import { readFileSync } from "node:fs";
import { parse, stringify } from "yaml";
import type { Pair } from "../../shared/pki/issue.ts";
import { localServer } from "../../shared/pki/kubeconfigs.ts";
import { yamlText } from "../../shared/yaml.ts";
import { clusterObjects, FACTS, type Objects } from "./cluster.ts";

// biome-ignore lint/suspicious/noExplicitAny: objects of every kind
type Any = any;

const NAMES = ["m1", "w1", "w2"];
const SYSTEM_POD = {
  volumes: [{ name: "kube-api-access", projected: { sources: [{ serviceAccountToken: {} }] } }],
};

/** What etcd has; `root` has the files of the node m1. */
export function usualObjects(root: string, ca: Pair): Objects {
  return { ...withStatus(clusterObjects(ca.cert)), ...clusterTrust(root, ca), ...workloads() };
}

/** The static pods run. */
function withStatus(objects: Objects): Objects {
  for (const [key, pod] of Object.entries(objects))
    if (key.startsWith("pods/")) Object.assign(pod, { status: RUNNING });
  return objects;
}

function clusterTrust(root: string, { cert }: Pair): Objects {
  const namespaces = ["default", "kube-system", "kube-public", "kube-node-lease", "shop"];
  const cluster = {
    "certificate-authority-data": Buffer.from(cert).toString("base64"),
    server: localServer(FACTS),
  };
  const kubeconfig = yamlText({
    ...{ apiVersion: "v1", clusters: [{ cluster, name: "" }], contexts: null },
    ...{ "current-context": "", kind: "Config", preferences: {}, users: null },
  });
  const frontProxy = readFileSync(`${root}/etc/kubernetes/pki/front-proxy-ca.crt`, "utf8");
  const authentication = { "client-ca-file": cert, "requestheader-client-ca-file": frontProxy };
  const node = parse(readFileSync(`${root}/etc/kubernetes/kubelet.conf`, "utf8"));
  return {
    ...Object.fromEntries(
      namespaces.map((name) => [
        `namespaces/${name}`,
        object("Namespace", { name }, { status: { phase: "Active" } }),
      ]),
    ),
    ...Object.fromEntries(
      namespaces.map((namespace) => [
        `configmaps/${namespace}/kube-root-ca.crt`,
        object("ConfigMap", { name: "kube-root-ca.crt", namespace }, { data: { "ca.crt": cert } }),
      ]),
    ),
    "configmaps/kube-public/cluster-info": configMap("kube-public/cluster-info", { kubeconfig }),
    "configmaps/kube-system/extension-apiserver-authentication": configMap(
      "kube-system/extension-apiserver-authentication",
      authentication,
    ),
    "configmaps/kube-system/kube-proxy": configMap("kube-system/kube-proxy", {
      "config.conf": 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ""\n',
      "kubeconfig.conf": stringify({
        ...node,
        clusters: [
          {
            cluster: {
              "certificate-authority": "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
              server: localServer(FACTS),
            },
            name: "default",
          },
        ],
        contexts: [
          { context: { cluster: "default", namespace: "default", user: "default" }, name: "default" },
        ],
        "current-context": "default",
        users: [
          { name: "default", user: { tokenFile: "/var/run/secrets/kubernetes.io/serviceaccount/token" } },
        ],
      }),
    }),
    "clusterrolebindings/kubeadm:cluster-admins": object("ClusterRoleBinding", {
      name: "kubeadm:cluster-admins",
    }),
    ...Object.fromEntries(
      NAMES.map((name) => [`leases/kube-node-lease/${name}`, lease("kube-node-lease", name, name)]),
    ),
    "leases/kube-system/kube-controller-manager": lease(
      "kube-system",
      "kube-controller-manager",
      "m1_manager",
    ),
    "leases/kube-system/kube-scheduler": lease("kube-system", "kube-scheduler", "m1_scheduler"),
  };
}

function workloads(): Objects {
  return {
    ...workload("DaemonSet", "kube-system", "kube-proxy", NAMES),
    ...workload("Deployment", "kube-system", "coredns", ["m1", "w1"]),
    ...workload("Deployment", "shop", "cart", ["w1", "w2"]),
  };
}

const GROUPS: Record<string, string> = {
  Deployment: "apps/v1",
  DaemonSet: "apps/v1",
  ReplicaSet: "apps/v1",
  Lease: "coordination.k8s.io/v1",
};

export function object(
  kind: string,
  metadata: { name: string; namespace?: string } & Record<string, Any>,
  rest: Any = {},
): Any {
  return {
    apiVersion: GROUPS[kind] ?? "v1",
    kind,
    metadata: { uid: `uid-of-${metadata.name}`, ...metadata },
    ...rest,
  };
}

/** `of`: "kube-system/coredns". */
export function configMap(of: string, data: Record<string, string>): Any {
  const [namespace, name] = of.split("/") as [string, string];
  return object("ConfigMap", { name, namespace }, { data });
}

/** That somebody holds, and renewed just now. */
export function lease(namespace: string, name: string, holderIdentity: string) {
  return object(
    "Lease",
    { name, namespace },
    { spec: { holderIdentity, renewTime: new Date().toISOString(), leaseDurationSeconds: 40 } },
  );
}

/** A Deployment or DaemonSet with a pod on each of these nodes, all well. */
export function workload(
  kind: "Deployment" | "DaemonSet",
  namespace: string,
  name: string,
  nodes: string[],
  spec: Any = {},
): Objects {
  const labels = { "k8s-app": name };
  const pod = { containers: [{ name, image: `registry.k8s.io/${name}:v1` }], ...SYSTEM_POD, ...spec };
  const count = nodes.length;
  const status = {
    observedGeneration: 1,
    replicas: count,
    updatedReplicas: count,
    availableReplicas: count,
    desiredNumberScheduled: count,
  };
  const template = { metadata: { labels }, spec: pod };
  const replicaSet = object("ReplicaSet", {
    name: `${name}-5f`,
    namespace,
    ownerReferences: [owner("Deployment", name)],
  });
  const resource = kind === "Deployment" ? "deployments" : "daemonsets";
  const set = object(
    kind,
    { name, namespace, generation: 1 },
    { spec: { replicas: count, selector: { matchLabels: labels }, template }, status },
  );
  const of = kind === "Deployment" ? owner("ReplicaSet", `${name}-5f`) : owner("DaemonSet", name);
  return {
    [`${resource}/${namespace}/${name}`]: set,
    ...(kind === "Deployment" ? { [`replicasets/${namespace}/${name}-5f`]: replicaSet } : {}),
    ...Object.fromEntries(
      nodes.map((node) => [
        `pods/${namespace}/${name}-${node}`,
        podOf(`${name}-${node}`, namespace, node, { labels, of, spec: pod }),
      ]),
    ),
  };
}

function owner(kind: string, name: string) {
  return { apiVersion: "apps/v1", kind, name, uid: `uid-of-${name}`, controller: true };
}

const RUNNING = { phase: "Running", conditions: [{ type: "Ready", status: "True" }] };

function podOf(
  name: string,
  namespace: string,
  nodeName: string,
  { labels, of, spec }: { labels: Any; of: Any; spec: Any },
) {
  const startedAt = new Date(Date.now() - 3600_000).toISOString();
  const metadata = { name, namespace, labels, ownerReferences: [of], creationTimestamp: startedAt };
  const status = {
    ...RUNNING,
    containerStatuses: spec.containers.map((container: Any) => ({
      name: container.name,
      ready: true,
      state: { running: { startedAt } },
    })),
  };
  return object("Pod", metadata, { spec: { ...spec, nodeName }, status });
}
