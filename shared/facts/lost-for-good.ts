/** Nodes that will not come back, as the operator says with --lost, and etcd's members. */
export interface LostNodes {
  names: readonly string[];
  /** Nodes that are away for now, as the operator says with --without. */
  away: readonly string[];
  /** Those of them that are control plane nodes: part 2 takes them out of etcd's members. */
  controlPlanes: readonly string[];
  /** Other members of etcd that do not answer. Looked for only where a node is lost. */
  silent: readonly string[];
}

export const NONE_LOST: LostNodes = { names: [], away: [], controlPlanes: [], silent: [] };
