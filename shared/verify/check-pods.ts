/** Checks of all pods: are they Ready, and do they hold today's CA and tokens? */
import type { KubeApi } from "../api/kube-api.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { trustSince } from "../facts/sa-key.ts";
import { label } from "../workloads/rollout.ts";
import { staleGroups } from "../workloads/stale-pods.ts";
import type { Answer, CheckRow } from "./checks.ts";

/** So many names of one kind of trouble are shown; the rest is counted. */
const SHOWN = 10;

export function podChecks(cp: ControlPlaneNode, api: KubeApi, caPem: string): CheckRow[] {
  return [
    { area: "pods", what: "Ready", look: () => readyPods(api) },
    {
      area: "pods",
      what: "started after they could see today's CA",
      look: () => freshPods(cp, api, caPem),
      hint: "./bunw scripts/04-sa-tokens.ts restarts them",
    },
  ];
}

async function readyPods(api: KubeApi): Promise<Answer> {
  const late: string[] = [];
  for await (const pod of api.items<RunningPod>("/api/v1/pods"))
    if (pod.status?.phase !== "Succeeded" && !isReady(pod)) late.push(`${pod.metadata.namespace}/${pod.metadata.name}`);
  return late.length === 0 ? "all" : { warning: `not Ready: ${shown(late)}` };
}

function isReady({ status }: RunningPod): boolean {
  return (status?.conditions ?? []).some(({ type, status: value }) => type === "Ready" && value === "True");
}

async function freshPods(cp: ControlPlaneNode, api: KubeApi, caPem: string): Promise<Answer> {
  const owners = (await staleGroups(api, caPem, trustSince(cp))).flatMap((group) => group.owners);
  const restarts = owners.filter(({ kind }) => kind !== "report").map(label);
  if (restarts.length > 0) return { failed: `not ${shown(restarts)}` };
  return owners.length === 0 ? "all" : { warning: `not ${shown(owners.map(label))}: the scripts cannot restart them` };
}

function shown(names: string[]): string {
  const more = names.length - SHOWN;
  return names.slice(0, SHOWN).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
