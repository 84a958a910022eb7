/**
 * What part 4 would restart under a new CA, by part 4's own code, and what it would leave to people. Read from etcd's data: the API server is
 * asked nothing. Whether a webhook answers only part 4 itself can find out.
 */

import { withOpened } from "../etcd-location/etcd-folders.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { failOf } from "../fail.ts";
import { reportedOf, restartsOf } from "../workloads/choice.ts";
import { label, type PodOwner } from "../workloads/pod-owners.ts";
import { refuseHopeless } from "../workloads/rollout.ts";
import { staleGroups } from "../workloads/stale-pods.ts";
import type { RestartedWorkload, Restarts } from "./drill-report.ts";
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
