/** What kind of cluster the lab builds: the usual one, or one that differs from it in these points. */
import { stringify } from "yaml";

export interface Profile {
  /** kubeadm's certificatesDir, the same on every node. */
  certificatesDir: string;
  etcdDataDir: string;
  /** Follows a machine's name in its node name: ".lab.example". A control plane node has its node name as host name. */
  nodeDomain: string;
  /** More fields of kubeadm's ClusterConfiguration. */
  clusterConfiguration: object;
  /** The API server's flags beside the usual ones. A flag may be there twice. */
  apiServerFlags: [name: string, value: string][];
  apiServerVolumes: ExtraVolume[];
  /** Operations of a JSON patch (RFC 6902) on the API server's manifest, after the usual hand edit. */
  apiServerPatch: object[];
  kubeletFlags: Record<string, string>;
  /** Fields of the KubeletConfiguration in place of the usual ones; undefined: left out. */
  kubeletConfiguration: Record<string, unknown>;
  /** Files that kubeadm does not make, mode 0600: path → text. */
  controlPlaneFiles: Record<string, string>;
  nodeFiles: Record<string, string>;
  /** Folders of control plane nodes that are links, as after a move to another disk: path → where its content is. */
  links: Record<string, string>;
  /** Static pods that kubeadm does not make, beside kube-vip: file name → manifest. */
  staticPods: Record<string, string>;
  /** Whether the API answers `kubeadm join`, which has no credentials yet. If not, the operator carries a discovery file to the node. */
  anonymousDiscovery: boolean;
  /** kubectl, when all nodes have joined. */
  afterJoin: string[][];
  /** More objects beside the workloads, as YAML. */
  objects: string[];
}

/** kubeadm's, in an `extraVolumes` list. */
export interface ExtraVolume {
  name: string;
  hostPath: string;
  mountPath: string;
  pathType: string;
  readOnly: boolean;
}

/** A volume that is at the same place on the host and in the container. */
export function samePlace(name: string, path: string, pathType: string, readOnly = true): ExtraVolume {
  return { name, hostPath: path, mountPath: path, pathType, readOnly };
}

export const AUDIT_POLICY = stringify({
  apiVersion: "audit.k8s.io/v1",
  kind: "Policy",
  omitStages: ["RequestReceived"],
  rules: [{ level: "Metadata" }],
});

const POLICY = "/etc/kubernetes/audit-policy.yaml";

export const USUAL: Profile = {
  certificatesDir: "/etc/kubernetes/pki",
  etcdDataDir: "/var/lib/etcd",
  nodeDomain: "",
  clusterConfiguration: {},
  apiServerFlags: [["audit-policy-file", POLICY]],
  apiServerVolumes: [samePlace("audit-policy", POLICY, "File")],
  apiServerPatch: [],
  kubeletFlags: {},
  kubeletConfiguration: {},
  controlPlaneFiles: { [POLICY]: AUDIT_POLICY },
  nodeFiles: {},
  links: {},
  staticPods: {},
  anonymousDiscovery: true,
  afterJoin: [],
  objects: [],
};
