/** The pods that hold old trust, and their restart in the order that lets each find what it needs. */
import type { KubeApi } from "../api/kube-api.ts";
import { inParallel } from "../api/many.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { trustSince } from "../facts/sa-key.ts";
import { mode, say } from "../run.ts";
import { caIsNew } from "../static-pods/restore.ts";
import { canaries, label, restart } from "./rollout.ts";
import type { PodOwner } from "./stale-pods.ts";
import { type Group, staleGroups } from "./stale-pods.ts";

/** Owners restarted at the same time. */
const WIDTH = 20;

/** Prints what it finds. */
export async function findStale(cp: ControlPlaneNode, api: KubeApi, caPem: string): Promise<Group[]> {
  const groups = await staleGroups(api, caPem, trustSince(cp));
  if (groups.every(({ owners }) => owners.length === 0))
    say(caIsNew(cp) ? "none" : "none: the cluster knew its CA before, no pod has to restart");
  for (const group of groups) {
    const restarts = restartsOf(group).map(label);
    if (restarts.length > 0) say(`${group.name}: ${restarts.join(", ")}`);
  }
  for (const owner of reportedOf(groups)) say(`not restarted: ${label(owner)}: ${owner.reason}`);
  return groups;
}

/** A group is through when its new pods are available; after those that new sandboxes need, a test pod on every node proves it. */
export async function restartInOrder(api: KubeApi, groups: readonly Group[], nodes: readonly string[]) {
  const waiting = groups.filter((group) => restartsOf(group).length > 0);
  if (waiting.length === 0) return say("nothing to restart");
  for (const group of waiting) {
    const restarts = restartsOf(group);
    if (mode.dryRun) {
      say(`would restart: ${restarts.map(label).join(", ")}`);
      continue;
    }
    await inParallel(restarts, WIDTH, (owner) => restart(api, owner));
    if (group.name === "kube-proxy" || group.name === "network plugins") await canaries(api, nodes);
  }
}

/** Pods that are only named: nothing makes them anew. */
export function reportedOf(groups: readonly Group[]): PodOwner[] {
  return groups.flatMap(({ owners }) => owners.filter(({ kind }) => kind === "report"));
}

function restartsOf({ owners }: Group): PodOwner[] {
  return owners.filter(({ kind }) => kind !== "report");
}
