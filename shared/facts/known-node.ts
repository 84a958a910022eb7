/** A node as etcd's data knows it: its own words apart from those that are proved. known-nodes.ts reads it. */

export interface KnownNode {
  name: string;
  uid: string;
  /** It is a member of etcd, or was one before a restore. */
  controlPlane: boolean;
  /** A restore has left it behind. It is known to be lost, and nothing else of it is believed. */
  former?: true;
  /** It only says that it is a control plane node, by its label: nothing of it is believed. */
  onlyLabelled?: true;
  /**
   * Its label says so, which accounts of pods on any worker may write: who has it is not waited for, and never called
   * back.
   */
  windows?: true;
  /**
   * Said by its Node of itself. It decides nothing: it may be shown, asked at, or compared with what is proved.
   * `names`: the Node's own name, its hostname and its DNS names; `ips`: as they are written.
   */
  claimed: { names: string[]; ips: string[] };
  /** Hosts where it is proved to be, addresses in canonical form. None where it is a worker. */
  places: string[];
}
