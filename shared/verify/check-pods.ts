/** What the pods of the cluster hold, and whether they are well. */
import type { KubeApi } from "../api/kube-api.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { trustSince } from "../facts/sa-key.ts";
import { listed } from "../plain.ts";
import { isReady, label } from "../workloads/rollout.ts";
import { staleGroups } from "../workloads/stale-pods.ts";
import { nameOf } from "../workloads/token-secrets.ts";
import type { Answer, Checks } from "./collect.ts";

export async function checkPods(checks: Checks, cp: ControlPlaneNode, caPem: string, api: KubeApi) {
  await checks.check("pods", "Ready", async () => {
    const late: string[] = [];
    for await (const pod of api.items<RunningPod>("/api/v1/pods"))
      if (pod.status?.phase !== "Succeeded" && !isReady(pod)) late.push(nameOf(pod));
    return late.length === 0 ? "all" : { warning: `not Ready: ${listed(late)}` };
  });
  await checks.check("pods", "started after they could see today's CA", async (): Promise<Answer> => {
    const owners = (await staleGroups(api, caPem, trustSince(cp))).flatMap((group) => group.owners);
    const restarts = owners.filter(({ kind }) => kind !== "report").map(label);
    if (restarts.length > 0) throw new Error(`not ${listed(restarts)}: ./bunw scripts/04-sa-tokens.ts restarts them`);
    return owners.length === 0 ? "all" : { warning: `not ${listed(owners.map(label))}: nothing here can restart them` };
  });
}
