/**
 * What a repair of rung 5 costs on this cluster: the pods that part 4 restarts, and the time. The restarts
 * are found by part 4's own code in etcd's data: the API server is asked nothing, and whether a webhook
 * answers only part 4 itself can find out. What each command takes on one node is measured by the rehearsals
 * (plan/effort.ts); what grows with the cluster is added to that as a straight line. The time in which an
 * operator reads is not.
 */
import { withOpened } from "../etcd-location/etcd-folders.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { failOf } from "../fail.ts";
import { stat } from "../files/files.ts";
import { EFFORTS } from "../plan/effort.ts";
import { reportedOf, restartsOf } from "../workloads/choice.ts";
import { label, type PodOwner } from "../workloads/pod-owners.ts";
import { refuseHopeless } from "../workloads/rollout.ts";
import { staleGroups } from "../workloads/stale-pods.ts";
import type { RestartedWorkload, Restarts, TimeNeeded } from "./drill-report.ts";
import { storedApi } from "./stored-api.ts";

/** `newCa`: the CA that the repair has made. All that has the old one mounted is stale then. */
export async function predictRestarts(cp: ControlPlaneNode, newCa: string): Promise<Restarts> {
  const restarts: Restarts = { workloads: [], left: [] };
  const unread = await failOf(async () => {
    const api = storedApi(withOpened(cp.data, cp.etcd.apiServer));
    const groups = await staleGroups(api, newCa, { since: new Date() });
    for (const owner of groups.flatMap(restartsOf)) {
      const why = await failOf(() => refuseHopeless(api, owner));
      if (why) restarts.left.push({ ...shown(owner), why: why.message, hint: why.hint });
      else restarts.workloads.push(shown(owner));
    }
    for (const owner of reportedOf(groups)) restarts.left.push({ ...shown(owner), why: owner.reason ?? "" });
  });
  return unread ? { ...restarts, unknown: unread.message } : restarts;
}

function shown(owner: PodOwner): RestartedWorkload {
  return { workload: label(owner), pods: owner.pods.map(({ metadata }) => metadata.name) };
}

/** Bytes a second: the copy of etcd's data, on a disk that others use. */
const COPY = 100e6;
/** As the playbook does it: the first worker alone, then so many at a time. */
const WORKERS_AT_ONCE = 20;
/**
 * Seconds for a new pod to be Ready; a DaemonSet replaces one after the other, other workloads go side by
 * side (restart-order.ts: WIDTH).
 */
const POD = [2, 15] as const;
const WORKLOADS_AT_ONCE = 20;

type Range = readonly [least: number, most: number];

export function timeNeeded({ cluster, data, etcd }: ControlPlaneNode, restarts: Restarts): TimeNeeded {
  const controlPlanes = cluster.nodes.filter(({ controlPlane }) => controlPlane).length;
  const [workers, others] = [cluster.nodes.length - controlPlanes, controlPlanes - 1];
  const bytes = stat(`${etcd.dir}/member/snap/db`)?.size ?? 0;
  const copy: Range = [bytes / COPY, bytes / COPY];
  const batches = workers === 0 ? 0 : 1 + Math.ceil((workers - 1) / WORKERS_AT_ONCE);
  const carried = sum(taking("hand-over"), times(others, sum(taking("unpack"), taking("etcd-there"), copy)));
  const untilApi = sum(
    taking("look"),
    taking("new-cas"),
    copy,
    others > 0 ? carried : NONE,
    taking("control-plane"),
  );
  const join = sum(taking("open"), times(batches, taking("join")), taking("close"));
  const untilNodes = sum(untilApi, times(others, taking("control-plane")), join);
  const untilPods = sum(untilNodes, taking("tokens"), times(podsInTurn(restarts), POD));
  return { untilApi, untilNodes, untilPods, controlPlanes, workers, bytes, keys: data.keyCount };
}

const NONE: Range = [0, 0];

function taking(task: keyof typeof EFFORTS): Range {
  return EFFORTS[task].seconds;
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
