/**
 * All that a script on a control plane node knows before it acts: the node, the cluster as it was, the names
 * to issue, the folders. control-plane-node.ts reads them.
 */
import type { EtcdFolders } from "../etcd-location/etcd-folders.ts";
import type { EtcdHome } from "../etcd-location/etcd-home.ts";
import type { Fail } from "../fail.ts";
import type { Ran } from "../node/containers.ts";
import type { Node } from "../node/node.ts";
import type { ClusterFacts, EtcdCa } from "../pki/certs.ts";
import type { Cluster } from "./cluster-before.ts";
import type { EndpointSeen } from "./endpoint.ts";
import type { Repair } from "./repair.ts";

export interface ControlPlaneNode extends Repair {
  node: Node;
  /** etcd's own folders, as it was started with. */
  etcd: EtcdFolders;
  cluster: Cluster;
  facts: ClusterFacts;
  /** Where the cluster is reached, and who says so. */
  endpoint: EndpointSeen;
  asideDir: string;
  /**
   * The containers of this node's static pods, as far as they are still known: what ran counts, not what
   * admission made of it.
   */
  ran?: readonly Ran[];
  /**
   * Names of flags, and paths, of files that are lost for good, as the operator says: the API server starts without.
   */
  flagsToDrop?: readonly string[];
}

/** The part of it that can be read: first `data`, then `cluster`, then `facts` and `cp`. */
export interface PartialFacts extends Partial<Repair> {
  cluster?: Cluster;
  facts?: ClusterFacts;
  cp?: ControlPlaneNode;
  /** With the next command. All that comes after it is unset. */
  obstacle?: Fail;
  /** etcd's own folders, as they were asked for. */
  etcd: EtcdFolders;
  /** Where etcd runs; parts 1 to 4 are for kubeadm's static pod alone. */
  home: EtcdHome;
  /** As `certificatesDirOn` where the cluster cannot be read. */
  certificatesDir: string;
  etcdCa?: EtcdCa | undefined;
  asideDir: string;
}
