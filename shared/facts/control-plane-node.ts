/** All that a script on a control plane node knows before it does anything: the node, the cluster as it was, the names to issue, where to put things. */
import { attempt, Fail } from "../fail.ts";
import { type Node, readNode } from "../node/node.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import type { ApplyOptions } from "../pki/ensure.ts";
import type { NewCas, PlanOptions } from "../pki/plan.ts";
import { type Cluster, readCluster } from "./cluster.ts";
import { readEvidence } from "./evidence.ts";
import { factsFor, ownNode } from "./issue-facts.ts";
import { controlPlaneWithoutData, withoutDataFail } from "./no-etcd-data.ts";
import { findRepair, type Repair } from "./repair.ts";

export interface ControlPlaneNode extends Repair {
  node: Node;
  /** etcd's own data directory. */
  dataDir: string;
  cluster: Cluster;
  facts: ClusterFacts;
  /** Where files that are wrong are moved, never deleted. */
  asideDir: string;
}

/**
 * Looks at this control plane node; reads only. Errors: Fail as `readNode`, `readEtcdData`, `readCluster` and `factsFor`, and where there is no etcd data
 * on a machine that is a control plane node nevertheless.
 */
export async function readControlPlaneNode(dataDir: string): Promise<ControlPlaneNode> {
  const found = await readNode();
  const repair = repairOf(found, dataDir);
  const cluster = readCluster(repair.data);
  const node = ownNode(found, cluster);
  return { ...repair, node, dataDir, cluster, facts: factsFor(node, cluster, repair.data), asideDir: `${repair.rescue.dir}/aside` };
}

function repairOf(node: Node, dataDir: string): Repair {
  const repair = attempt(() => findRepair(dataDir));
  if (!(repair instanceof Fail)) return repair;
  const withoutData = controlPlaneWithoutData(node, dataDir);
  throw withoutData ? withoutDataFail(withoutData, node, dataDir) : repair;
}

/** How shared keys are to be treated on this control plane node: what they are known by is asked for where one is not sound. */
export function ensureOptions({ data, node, facts, asideDir }: ControlPlaneNode, newCas?: NewCas): ApplyOptions & PlanOptions {
  return { asideDir, newCas, evidence: () => readEvidence({ data, node, certificatesDir: facts.certificatesDir }) };
}
