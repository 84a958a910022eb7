/** A decision that a person takes, and its ways. decisions.ts and notes.ts know when it is open. */

import type { Act } from "./act.ts";

/** Questions that the operator may have to decide. */
export type DecisionId =
  | "first"
  | "silent-control-planes"
  | "silent-workers"
  | "no-data"
  | "lost-keys-elsewhere"
  | "said-elsewhere"
  | "lost-files"
  | "label"
  | "given-up"
  | "workers-pods"
  | "new-keys";

/** One way to decide, and what has to be said or done for it. */
export interface Way {
  /** "it is away for now: nobody waits for it". */
  does: string;
  /** Its cost for the cluster. */
  costs?: string;
  /** A sentence about what cannot be taken back. */
  irreversible?: string;
  /** With these words the plan is made again. */
  says?: Partial<Record<List, readonly string[]>>;
  /** This brings what is missing; then the nodes are looked at again. */
  acts?: Act[];
  /** A file of another node, which the operator reads first. */
  brings?: ConfigToBring;
  /** A worker's own static pod, which the operator reads first. */
  puts?: PutPod;
  /** The operator names a file of his machine: it becomes this one on these nodes. `aside`: one that is there moves. */
  upload?: { path: string; to: string[]; aside?: true };
  /** The operator names a bundle of hand-over.ts. */
  bundle?: true;
  /** Nothing is done, and the plan holds. Where nobody is there, this way is taken. */
  leaves?: true;
  /** The disk is searched. */
  deep?: true;
  /** The plan's steps that make keys may be done. */
  newKeys?: true;
}

/** Whoever is root on `from` has written it: it is read beside kubeadm's own, which is `own` on the node `on`. */
export interface ConfigToBring {
  path: string;
  from: string;
  to: string[];
  own: string;
  on: string;
}

/** The manifest that `on` reads out of etcd's data, as a file of each worker's folder of manifests. */
export interface PutPod {
  pod: string;
  on: string;
  to: string[];
  file: string;
}

export type List = (typeof LISTS)[number];

export const LISTS = ["without", "lost", "lost-on", "worker", "start-without"] as const;
