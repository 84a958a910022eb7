/** All that a script on a control plane node knows before it acts: the node, the cluster as it was, the names to issue, the folders. */
import { attempt, Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { type Node, readNode } from "../node/node.ts";
import { newRescue, type Rescue } from "../node/rescue-folder.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import type { ApplyOptions } from "../pki/ensure.ts";
import type { NewCas, PlanOptions } from "../pki/plan.ts";
import { refuseWrongClock } from "./clock.ts";
import { type Cluster, readCluster } from "./cluster.ts";
import { readEvidence } from "./evidence.ts";
import { factsFor, ownNode } from "./issue-facts.ts";
import { controlPlaneWithoutData, noControlPlane, withoutDataFail } from "./no-etcd-data.ts";
import { findRepair, type Repair } from "./repair.ts";

export interface ControlPlaneNode extends Repair {
  node: Node;
  /** etcd's own data directory. */
  dataDir: string;
  cluster: Cluster;
  facts: ClusterFacts;
  /** Wrong files are moved there, never deleted. */
  asideDir: string;
  /** Flags that the API server starts without, as the operator says: their files are lost for good. */
  givenUp?: readonly string[];
}

/** The part of it that can be read: first `data`, then `cluster`, then `facts` and `cp`. */
export interface PartialFacts extends Partial<Repair> {
  cluster?: Cluster;
  facts?: ClusterFacts;
  cp?: ControlPlaneNode;
  /** What cannot be read, and why, with the next command. All that comes after it is unset. */
  obstacle?: Fail;
  /** kubeadm's default where the cluster cannot be read. */
  certificatesDir: string;
  asideDir: string;
}

/** Looks at this control plane node; reads only. Without `node` (a machine that may be none), the look ends with the cluster. */
export function lookAtControlPlaneNode(dataDir: string, node?: Node): PartialFacts {
  const certificatesDir = "/etc/kubernetes/pki";
  const repair = attempt(() => findRepair(dataDir));
  if (repair instanceof Fail) {
    const withoutData = node && controlPlaneWithoutData(node, dataDir);
    const obstacle = withoutData ? withoutDataFail(withoutData, node, dataDir) : repair;
    return { obstacle, certificatesDir, asideDir: asideOf(newRescue()) };
  }
  const asideDir = asideOf(repair.rescue);
  const cluster = attempt(() => readCluster(repair.data));
  if (cluster instanceof Fail) return { ...repair, obstacle: cluster, certificatesDir, asideDir };
  const known = { ...repair, cluster, certificatesDir: cluster.certificatesDir, asideDir };
  if (!node) return known;
  const own = ownNode(node, cluster);
  const facts = attempt(() => factsFor(own, cluster, repair.data));
  if (facts instanceof Fail) return { ...known, obstacle: facts };
  return { ...known, facts, cp: { ...repair, node: own, dataDir, cluster, facts, asideDir } };
}

function asideOf({ dir }: Rescue): string {
  return `${dir}/aside`;
}

/** The same where all must be known. Errors: Fail as `readNode`, and the obstacle. */
export async function readControlPlaneNode(dataDir: string): Promise<ControlPlaneNode> {
  const node = await readNode();
  const { cp, obstacle } = lookAtControlPlaneNode(dataDir, node);
  if (obstacle && !exists(dataDir) && !controlPlaneWithoutData(node, dataDir)) throw noControlPlane(dataDir);
  if (obstacle) throw obstacle;
  return cp!;
}

/** The same for a repair: what it makes has dates. Errors: also Fail where this node's clock is proved wrong. */
export async function controlPlaneToRepair(dataDir: string): Promise<ControlPlaneNode> {
  const cp = await readControlPlaneNode(dataDir);
  await refuseWrongClock(cp);
  return cp;
}

/** How part 1 treats shared keys on this node. The evidence for a key is read only where the key is not sound. */
export function ensureOptions({ data, node, facts, asideDir }: ControlPlaneNode, newCas?: NewCas): ApplyOptions & PlanOptions {
  return { asideDir, newCas, evidence: () => readEvidence({ data, node, certificatesDir: facts.certificatesDir }) };
}
