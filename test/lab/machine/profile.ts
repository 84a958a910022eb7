/** What kind of cluster the lab builds: the usual one, or one that differs from it in these points. */
import { stringify } from "yaml";
import type { Family } from "./families.ts";
import type { Image } from "./images.ts";
import type { Needed } from "./packages.ts";

/** What is built, put into images and applied beside the cluster itself: a network plugin, cert-manager. */
export interface AddOn {
  /** Debian packages of this machine that its images are made of. */
  packages: Needed;
  /** Builds it, the first time. */
  images(): Promise<Image[]>;
  /** YAML. */
  objects(): Promise<string>;
  /** What it writes on the nodes' disks while a cluster runs. */
  writes: RegExp[];
  /**
   * NAMESPACE/POD/CONTAINER: who ends by himself, and starts again, when the API is unavailable for longer than his
   * leader Lease.
   */
  endsWithoutApi?: RegExp;
}

export interface Profile {
  /** Of the nodes', pods' and Services' addresses: the first is the cluster's main one. */
  families: readonly Family[];
  /**
   * undefined: a bridge on each node, and routes between the nodes. Else no pod gets an address before it is
   * applied.
   */
  podNetwork?: AddOn;
  addOns: readonly AddOn[];
  /** kubeadm's certificatesDir, the same on every node. */
  certificatesDir: string;
  etcdDataDir: string;
  /**
   * Follows a machine's name in its node name: ".lab.example". A control plane node has its node name as host
   * name.
   */
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
  /**
   * Folders of control plane nodes that are links, as after a move to another disk: path → where its content
   * is.
   */
  links: Record<string, string>;
  /** Static pods of control plane nodes that kubeadm does not make, beside kube-vip: file name → manifest. */
  staticPods: Record<string, string>;
  /** The same on workers. They come after the join, as kubeadm wants an empty folder. */
  workerStaticPods: Record<string, string>;
  /** More names of the API server's certificate. */
  certSANs: string[];
  /** containerd pulls what it is asked for from a registry of the lab's. */
  hasRegistry: boolean;
  /** Names of nodes whose kubelet signs its own serving certificate, whatever the others do. */
  selfSigned: string[];
  /** Lines of shell on each node whose name fits, before kubeadm runs anywhere; $NAME, $IP and $NUMBER are the node's. */
  beforeKubeadm: [node: RegExp, line: string][];
  /** Lines of shell on each node whose name fits, when all nodes are Ready. */
  nodeLines: [node: RegExp, line: string][];
  /** What the operator's shell on the nodes has in its environment. */
  shell: Record<string, string>;
  /**
   * Whether the API answers `kubeadm join`, which has no credentials yet. If not, the operator carries a
   * discovery file to the node.
   */
  anonymousDiscovery: boolean;
  /** kubectl, when all nodes have joined. */
  afterJoin: string[][];
  /** Objects that are there before the other nodes join, as YAML, or "". */
  firstObjects: string;
  /** Pods on each node ask each other all the time, and the record has what was lost. */
  pings: boolean;
  /** More objects beside the workloads, as YAML. */
  objects: string[];
}

/** The network plugin's first. */
export function addOnsOf({ podNetwork, addOns }: Pick<Profile, "podNetwork" | "addOns">): AddOn[] {
  return [...(podNetwork ? [podNetwork] : []), ...addOns];
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
  families: [4],
  addOns: [],
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
  workerStaticPods: {},
  certSANs: [],
  hasRegistry: false,
  selfSigned: [],
  beforeKubeadm: [],
  nodeLines: [],
  shell: {},
  firstObjects: "",
  anonymousDiscovery: true,
  afterJoin: [],
  pings: false,
  objects: [],
};
