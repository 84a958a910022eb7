/**
 * How long a repair of rung 5 takes on a cluster of this size: an estimate. What each command takes on one node is measured by the
 * rehearsals (plan/effort.ts); what grows with the cluster is added to that as a straight line. The time in which an operator reads is not.
 */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { stat } from "../files/files.ts";
import { effortOf } from "../plan/effort.ts";
import type { Restarts, TimeNeeded } from "./drill-report.ts";

/** Bytes a second: the copy of etcd's data, on a disk that others use. */
const COPY = 100e6;
/** As the playbook does it: the first worker alone, then so many at a time. */
const WORKERS_AT_ONCE = 20;
/** Seconds for a new pod to be Ready; a DaemonSet replaces one after the other, other workloads go side by side (restart-order.ts: WIDTH). */
const POD = [2, 15] as const;
const WORKLOADS_AT_ONCE = 20;

type Range = readonly [least: number, most: number];

export function timeNeeded({ cluster, data, etcd }: ControlPlaneNode, restarts: Restarts): TimeNeeded {
  const controlPlanes = cluster.nodes.filter(({ controlPlane }) => controlPlane).length;
  const [workers, others] = [cluster.nodes.length - controlPlanes, controlPlanes - 1];
  const bytes = stat(`${etcd.dir}/member/snap/db`)?.size ?? 0;
  const copy: Range = [bytes / COPY, bytes / COPY];
  const batches = workers === 0 ? 0 : 1 + Math.ceil((workers - 1) / WORKERS_AT_ONCE);
  const carried = sum(taking("hand-over.ts pack"), times(others, sum(taking("hand-over.ts unpack"), taking("01-etcd.ts"), copy)));
  const untilApi = sum(taking("00-assess.ts"), taking("01-etcd.ts"), copy, others > 0 ? carried : NONE, taking("02-control-plane.ts"));
  const join = sum(taking("03-workers.ts open"), times(batches, taking("03-join.ts")), taking("03-workers.ts close"));
  const untilNodes = sum(untilApi, times(others, taking("02-control-plane.ts")), join);
  const untilPods = sum(untilNodes, taking("04-sa-tokens.ts"), times(podsInTurn(restarts), POD));
  return { untilApi, untilNodes, untilPods, controlPlanes, workers, bytes, keys: data.keyCount };
}

const NONE: Range = [0, 0];

function taking(script: string): Range {
  return effortOf(`./bunw scripts/${script}`).seconds;
}

function sum(...ranges: Range[]): Range {
  return [0, 1].map((i) => ranges.reduce((total, range) => total + range[i]!, 0)) as unknown as Range;
}

function times(count: number, [least, most]: Range): Range {
  return [count * least, count * most];
}

/** Of the slowest workload, or of all of them where they are many. */
function podsInTurn({ workloads }: Restarts): number {
  const pods = workloads.map(({ pods }) => pods.length);
  return Math.max(pods.reduce((total, count) => total + count, 0) / WORKLOADS_AT_ONCE, ...pods, 0);
}
