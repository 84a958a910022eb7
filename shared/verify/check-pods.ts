/** Checks of all pods: are they Ready, and do they hold today's CA and tokens? */
import type { KubeApi } from "../api/kube-api.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { trustSince } from "../facts/sa-key.ts";
import { listed } from "../plain.ts";
import { isReady } from "../workloads/evict.ts";
import { label } from "../workloads/pod-owners.ts";
import { staleGroups } from "../workloads/stale-pods.ts";
import type { Answer, CheckRow } from "./checks.ts";

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
  return late.length === 0 ? "all" : { warning: `not Ready: ${listed(late)}` };
}

async function freshPods(cp: ControlPlaneNode, api: KubeApi, caPem: string): Promise<Answer> {
  const owners = (await staleGroups(api, caPem, trustSince(cp))).flatMap((group) => group.owners);
  const restarts = owners.filter(({ kind }) => kind !== "report").map(label);
  if (restarts.length > 0) return { failed: `not ${listed(restarts)}` };
  return owners.length === 0 ? "all" : { warning: `not ${listed(owners.map(label))}: the scripts cannot restart them` };
}
