/** What the pods of the cluster hold, and whether they are well. */
import type { KubeApi } from "../api/kube-api.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { trustSince } from "../facts/sa-key.ts";
import { label } from "../workloads/rollout.ts";
import { staleGroups } from "../workloads/stale-pods.ts";
import type { Answer, Checks } from "./checks.ts";

/** Names of one kind of trouble that are shown; the rest is counted. */
const SHOWN = 10;

export async function checkPods(checks: Checks, cp: ControlPlaneNode, caPem: string, api: KubeApi) {
  await checks.check("pods", "Ready", async () => {
    const late: string[] = [];
    for await (const pod of api.items<RunningPod>("/api/v1/pods"))
      if (pod.status?.phase !== "Succeeded" && !isReady(pod)) late.push(`${pod.metadata.namespace}/${pod.metadata.name}`);
    return late.length === 0 ? "all" : { warning: `not Ready: ${shown(late)}` };
  });
  await checks.check("pods", "started after they could see today's CA", async (): Promise<Answer> => {
    const owners = (await staleGroups(api, caPem, trustSince(cp))).flatMap((group) => group.owners);
    const restarts = owners.filter(({ kind }) => kind !== "report").map(label);
    if (restarts.length > 0) throw new Error(`not ${shown(restarts)}: ./bunw scripts/04-sa-tokens.ts restarts them`);
    return owners.length === 0 ? "all" : { warning: `not ${shown(owners.map(label))}: nothing here can restart them` };
  });
}

function isReady({ status }: RunningPod): boolean {
  return (status?.conditions ?? []).some(({ type, status: value }) => type === "Ready" && value === "True");
}

function shown(names: string[]): string {
  const more = names.length - SHOWN;
  return names.slice(0, SHOWN).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
