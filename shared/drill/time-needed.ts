/**
 * How long a repair of rung 5 takes on a cluster of this size: an estimate, by the rehearsals' figures (`npm run rehearse`, two cores, all
 * nodes on one machine), for an operator who types without reading. Where the cluster is larger than the lab's, it is a straight line.
 */
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { stat } from "../files/files.ts";
import type { Restarts, TimeNeeded } from "./drill-report.ts";

/** Seconds. all-lost: the API is back 32 to 36 s after the first command, with one control plane node. */
const FIRST_CONTROL_PLANE = 35;
/** ha-all-lost, ha-hardened: 90 to 110 s with three. */
const NEXT_CONTROL_PLANE = 35;
/** Bytes a second: the copy of etcd's data, on a disk that others use. */
const COPY = 100e6;
/** One after the other, over ssh, a worker joins in about 8 s; the playbook takes the first alone, then 20 at a time. */
const BATCH = 8;
const WORKERS_AT_ONCE = 20;
/** all-lost: part 4 takes 30 to 60 s with 20 pods; most of it are test pods and programs that end slowly. */
const PART_4 = 45;
/** Seconds for a pod of a DaemonSet, which replaces one after the other; other workloads go side by side (rollout.ts: 20 of them). */
const POD = 6;
const WORKLOADS_AT_ONCE = 20;

export function timeNeeded({ cluster, data, etcd }: ControlPlaneNode, restarts: Restarts): TimeNeeded {
  const controlPlanes = cluster.nodes.filter(({ controlPlane }) => controlPlane).length;
  const workers = cluster.nodes.length - controlPlanes;
  const bytes = stat(`${etcd.dir}/member/snap/db`)?.size ?? 0;
  const untilApi = FIRST_CONTROL_PLANE + (controlPlanes - 1) * NEXT_CONTROL_PLANE + bytes / COPY;
  const batches = workers === 0 ? 0 : 1 + Math.ceil((workers - 1) / WORKERS_AT_ONCE);
  const untilNodes = untilApi + batches * BATCH;
  return {
    ...{ untilApi, untilNodes, untilPods: untilNodes + ofPods(restarts) },
    ...{ controlPlanes, workers, bytes, keys: data.keyCount },
  };
}

/** The slowest workload, or all of them in turn. */
function ofPods({ workloads }: Restarts): number {
  const pods = workloads.map(({ pods }) => pods.length);
  const all = pods.reduce((sum, count) => sum + count, 0);
  return PART_4 + POD * Math.max(all / WORKLOADS_AT_ONCE, ...pods, 0);
}
