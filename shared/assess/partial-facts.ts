/** What etcd's data tells about this control plane node and its cluster, as far as it can be read. */
import type { EtcdData } from "../etcd-data/data.ts";
import { type Cluster, readCluster } from "../facts/cluster.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { type ClusterEvidence, readEvidence } from "../facts/evidence.ts";
import { factsFor, ownNode } from "../facts/issue-facts.ts";
import { findRepair } from "../facts/repair.ts";
import { Fail } from "../fail.ts";
import type { Node } from "../node/node.ts";
import type { ClusterFacts } from "../pki/certs.ts";
import type { Row } from "./report.ts";

/** Each is set if all before it could be read; `obstacle` is what the first that could not stopped at. */
export interface PartialFacts {
  data?: EtcdData;
  cluster?: Cluster;
  facts?: ClusterFacts;
  cp?: ControlPlaneNode;
  obstacle?: Fail;
  rows: Row[];
}

export function readPartialFacts(node: Node, dataDir: string): PartialFacts {
  const known: PartialFacts = { rows: [] };
  try {
    const repair = findRepair(dataDir);
    known.data = repair.data;
    known.rows.push(...dataRows(repair));
    known.cluster = readCluster(repair.data);
    const own = ownNode(node, known.cluster);
    known.facts = factsFor(own, known.cluster, repair.data);
    known.cp = { ...repair, node: own, dataDir, cluster: known.cluster, facts: known.facts, asideDir: "" };
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    known.obstacle = err;
    if (known.data) known.rows.push({ what: "facts in etcd's data", state: "!INCOMPLETE!", detail: err.message });
    else known.rows.push({ what: dataDir, state: "!UNREADABLE!", detail: err.message });
  }
  return known;
}

function dataRows({ data, dataFrom }: { data: EtcdData; dataFrom: string }): Row[] {
  const members = `${data.members.length} member${data.members.length === 1 ? "" : "s"}`;
  const lastWrite = `${data.lastWrite.toISOString().slice(0, 19)}Z`;
  return [
    {
      what: dataFrom,
      state: "ok",
      detail: `${members}, ${data.keyCount} keys, revision ${data.revision}, last write ${lastWrite}`,
    },
    ...data.warnings.map((detail) => ({ what: dataFrom, state: "known", detail })),
  ];
}

/** What the cluster's public keys are known by, in etcd's data and on this node. */
export function evidenceOf(node: Node, { data, cluster }: PartialFacts): ClusterEvidence {
  return readEvidence({ data, node, certificatesDir: cluster?.certificatesDir ?? "/etc/kubernetes/pki" });
}
