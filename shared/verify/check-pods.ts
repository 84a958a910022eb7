/** Checks of all pods: are they Ready, and do they hold today's CA and tokens? */
import type { KubeApi } from "../api/kube-api.ts";
import { nameOf } from "../api/kube-object.ts";
import { readAll } from "../api/many.ts";
import { isReady } from "../api/pod-ready.ts";
import type { Answer, CheckRow } from "../checks/check.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { podTrust } from "../facts/sa-key.ts";
import { listed } from "../plain.ts";
import { byHand, leftOver, reportedOf, waysOn } from "../workloads/choice.ts";
import { label } from "../workloads/pod-owners.ts";
import { type Group, staleGroups } from "../workloads/stale-pods.ts";

export async function* podChecks(cp: ControlPlaneNode, api: KubeApi, caPem: string): AsyncGenerator<CheckRow> {
  yield { id: "pods-ready", look: () => readyPods(api) };
  const trust = podTrust(cp);
  const groups = await staleGroups(api, caPem, trust);
  const left = leftOver(groups, trust.since);
  yield { id: "pods-fresh", look: () => freshPods(groups, left) };
  if (left.skipped.length > 0)
    yield { id: "pods-skipped", look: () => ({ warning: `skipped by you, still with the old CA or token: ${byHand(left.skipped)}` }) };
}

async function readyPods(api: KubeApi): Promise<Answer> {
  const late: string[] = [];
  await readAll("pods", api.items<RunningPod>("/api/v1/pods"), (pod) => {
    if (pod.status?.phase !== "Succeeded" && !isReady(pod)) late.push(nameOf(pod));
  });
  return late.length === 0 ? "all" : { warning: `not Ready: ${listed(late)}` };
}

function freshPods(groups: readonly Group[], left: ReturnType<typeof leftOver>): Answer {
  if (left.later.length > 0) return { failed: `not ${listed(left.later.map(label))}`, mend: waysOn(left) };
  const reported = reportedOf(groups).map(label);
  if (reported.length > 0) return { warning: `not ${listed(reported)}: the scripts cannot restart them` };
  return left.skipped.length > 0 ? "all others" : "all";
}
