/** Checks of all pods: are they Ready, and do they hold current CA and tokens? */
import { command } from "../again.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { isReady, nameOf } from "../api/kube-object.ts";
import { readAll } from "../api/many.ts";
import type { Answer, CheckRow } from "../checks/check.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { podTrust } from "../facts/sa-key.ts";
import { listed } from "../plain.ts";
import { byHand, leftOver, reportedOf, resumeCommands } from "../workloads/choice.ts";
import { type AwayNodes, awayNames, isOn } from "../workloads/on-away.ts";
import { label, type PodOwner } from "../workloads/pod-owners.ts";
import { type Group, staleGroups } from "../workloads/stale-pods.ts";

/** `away`: no pod starts or ends there, whatever is done here. */
export async function* podChecks(
  cp: ControlPlaneNode,
  api: KubeApi,
  caPem: string,
  away: AwayNodes,
): AsyncGenerator<CheckRow> {
  yield { id: "pods-ready", look: () => readyPods(api, away) };
  const trust = podTrust(cp);
  const all = await staleGroups(api, caPem, trust);
  const groups = withoutPods(all, (pod) => isOn(pod, away));
  const left = leftOver(groups, trust.since);
  const elsewhere = withoutPods(all, (pod) => !isOn(pod, away)).flatMap(({ owners }) => owners);
  yield { id: "pods-fresh", look: () => freshPods(groups, left, elsewhere) };
  if (left.skipped.length > 0)
    yield {
      id: "pods-skipped",
      look: () => ({ warning: `skipped by you, still with the old CA or token: ${byHand(left.skipped)}` }),
    };
}

function withoutPods(groups: readonly Group[], isMeant: (pod: RunningPod) => boolean): Group[] {
  return groups.map(({ name, owners }) => ({
    name,
    owners: owners
      .map((owner) => ({ ...owner, pods: owner.pods.filter((pod) => !isMeant(pod)) }))
      .filter(({ pods }) => pods.length > 0),
  }));
}

async function readyPods(api: KubeApi, away: AwayNodes): Promise<Answer> {
  const late: RunningPod[] = [];
  await readAll("pods", api.items<RunningPod>("/api/v1/pods"), (pod) => {
    if (pod.status?.phase !== "Succeeded" && !isReady(pod)) late.push(pod);
  });
  const where = (pod: RunningPod) => (isOn(pod, away) ? "there" : isJustLate(pod) ? "soon" : "here");
  const { here = [], there = [], soon = [] } = Object.groupBy(late, where);
  const rest = [
    ...(soon.length > 0 ? [`that are not Ready for less than a minute: ${listed(soon.map(nameOf))}`] : []),
    ...(there.length > 0 ? [`on ${awayNames(there)}: ${listed(there.map(nameOf))}`] : []),
  ];
  if (here.length > 0) return { warning: [`not Ready: ${listed(here.map(nameOf))}`, ...rest].join("; ") };
  return ["all", ...rest].join(" but those ");
}

/** As after part 3, which restarts it. */
function isJustLate({ status }: RunningPod): boolean {
  const since = status?.conditions?.find(({ type }) => type === "Ready")?.lastTransitionTime;
  const seconds = since === undefined ? Number.NaN : (Date.now() - Date.parse(since)) / 1000;
  return seconds > -5 && seconds < 60;
}

function freshPods(
  groups: readonly Group[],
  left: ReturnType<typeof leftOver>,
  elsewhere: readonly PodOwner[],
): Answer {
  if (left.later.length > 0)
    return { failed: `not ${listed(left.later.map(label))}`, mend: resumeCommands(left) };
  const reported = reportedOf(groups).map(label);
  if (reported.length > 0) return { warning: `not ${listed(reported)}: the scripts cannot restart them` };
  const all = left.skipped.length > 0 ? "all others" : "all";
  if (elsewhere.length === 0) return all;
  const on = awayNames(elsewhere.flatMap(({ pods }) => pods));
  return {
    warning: `${all} but those on ${on}: ${listed(elsewhere.map(label))}: when it is back, ${command("04-sa-tokens")}`,
  };
}
