/**
 * A cluster that is reached at another place than kubeadm-config says: who says which place, and a balancer
 * that answers there.
 */
import { readFileSync, utimesSync } from "node:fs";
import { type ClusterFacts, certRow } from "../../shared/pki/certs.ts";
import { issueLeaf, type Pair } from "../../shared/pki/issue.ts";
import { ADDRESS, FACTS, type Objects, write } from "./cluster.ts";
import { serveRunning } from "./running.ts";

type Root = { root: string };

/** A balancer of today, and the one before, where nobody answers any more. */
export const BALANCER = ADDRESS.replace(/11$/, "15");
export const OLD = ADDRESS.replace(/11$/, "16");

interface Said {
  /** `host:port`; undefined: it names none. */
  kubeadm?: string | undefined;
  clusterInfo?: string;
  kubeProxy?: string;
}

/** Who says in etcd's data where the API is: `host:port` each. */
export function said({ kubeadm, clusterInfo, kubeProxy }: Said) {
  return (objects: Objects) => {
    const config = objects["configmaps/kube-system/kubeadm-config"] as {
      data: { ClusterConfiguration: string };
    };
    const line = kubeadm ? `controlPlaneEndpoint: ${kubeadm}\n` : "";
    config.data.ClusterConfiguration = config.data.ClusterConfiguration.replace(
      /controlPlaneEndpoint: .*\n/,
      line,
    );
    if (clusterInfo)
      objects["configmaps/kube-public/cluster-info"] = configMap(
        "kube-public",
        "cluster-info",
        "kubeconfig",
        clusterInfo,
      );
    if (kubeProxy)
      objects["configmaps/kube-system/kube-proxy"] = configMap(
        "kube-system",
        "kube-proxy",
        "kubeconfig.conf",
        kubeProxy,
      );
  };
}

function configMap(namespace: string, name: string, key: string, server: string) {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name, namespace },
    data: { [key]: leadingTo(`https://${server}`) },
  };
}

/** A kubeconfig without a user, as cluster-info holds one. */
export function leadingTo(server: string, ca = ""): string {
  const trust = ca ? `certificate-authority-data: ${Buffer.from(ca).toString("base64")}\n    ` : "";
  return `apiVersion: v1\nkind: Config\nclusters:\n- cluster:\n    ${trust}server: ${server}\n  name: default\ncontexts:\n- context: {cluster: default, user: default}\n  name: default\ncurrent-context: default\n`;
}

/** Lets a kubeconfig of this node lead to another server. */
export function lead({ root }: Root, name: string, server: string) {
  const path = `${root}/etc/kubernetes/${name}`;
  longAgo(path, readFileSync(path, "utf8").replace(/server: .*/, `server: ${server}`));
}

/** Before the containers were started: they have read it. */
function longAgo(path: string, content: string, mode = 0o600) {
  write(path, content, mode);
  utimesSync(path, LONG_AGO, LONG_AGO);
}

const LONG_AGO = new Date(Date.now() - 3600_000);

/** Gives the API server a certificate of the cluster's CA with these facts. */
export async function certify({ root, ca }: Root & { ca: Pair }, facts: Partial<ClusterFacts>) {
  const pair = await issueLeaf(certRow("apiserver"), ca, { ...FACTS, ...facts });
  longAgo(`${root}/etc/kubernetes/pki/apiserver.crt`, pair.cert, 0o644);
  longAgo(`${root}/etc/kubernetes/pki/apiserver.key`, pair.key);
}

/** A balancer that leads to this node's API server: the same certificate. */
export function serveBalancer(node: Root, options: Parameters<typeof serveRunning>[1] = {}) {
  return serveRunning(node, { hostname: BALANCER, ...options });
}
