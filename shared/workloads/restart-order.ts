/** The pods that hold old trust, and their restart in the order that lets each find what it needs. No workload stops the others. */
import type { KubeApi } from "../api/kube-api.ts";
import { inTurn } from "../api/many.ts";
import { caIsNew } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { replacedCa } from "../facts/repair.ts";
import { trustSince } from "../facts/sa-key.ts";
import { Fail } from "../fail.ts";
import { forGood } from "../for-good.ts";
import { listed } from "../plain.ts";
import { sayNames } from "../progress.ts";
import { mode, say } from "../run.ts";
import { unlessLate, waitFor } from "../wait-for.ts";
import { canaries, hasLeftCanaries } from "./canaries.ts";
import { type Choice, type Chosen, choose, reportedOf, restartsOf } from "./choice.ts";
import { logsOf } from "./log-says.ts";
import { label, type PodOwner } from "./pod-owners.ts";
import { costsOf } from "./reads-anew.ts";
import { restart } from "./rollout.ts";
import { type Group, staleGroups } from "./stale-pods.ts";
import { DeafWebhook, refuseDeafWebhook } from "./webhooks.ts";

/** Owners restarted at the same time; one that takes longer (milliseconds) gives its place to the next, and is waited for beside it. */
const WIDTH = 20;
const PLACE_MS = 60_000;

interface Way {
  /** Names of the nodes that are there. */
  nodes: readonly string[];
  caPem: string;
}

/** A workload that still holds the old trust, and why: with the operator's command. */
export interface Left {
  owner: PodOwner;
  why: Fail;
}

/** Prints what it finds. Errors: Fail where the choice means nothing here. */
export async function findStale(cp: ControlPlaneNode, api: KubeApi, { caPem, choice }: { caPem: string; choice: Choice }): Promise<Chosen> {
  const since = trustSince(cp);
  const groups = await staleGroups(api, caPem, since);
  if (groups.every(({ owners }) => owners.length === 0))
    say(caIsNew(cp) ? "none" : "none: the cluster knew its CA before, no pod has to restart");
  const chosen = await choose(api, groups, { choice, since });
  for (const group of chosen.groups) sayNames(group.name, restartsOf(group).map(label));
  sayNames("skipped before, and restarted now", chosen.again.map(label));
  sayNames("later", chosen.later.map(label));
  sayNames("skipped by you", chosen.skipped.map(label));
  await sayCosts(api, groups, replacedCa(cp, caPem) !== undefined);
  for (const owner of reportedOf(groups)) say(`not restarted: ${label(owner)}: ${owner.reason}`);
  return chosen;
}

/** What it costs not to restart them: for the operator's choice, it decides nothing. */
async function sayCosts(api: KubeApi, groups: readonly Group[], caIsNew: boolean) {
  const costs = costsOf(
    groups.flatMap(({ owners }) => owners),
    { caIsNew },
  );
  for (const { words, of } of costs) say(`unless it restarts: ${words}: ${listed(of.map(label))}`);
  for (const line of await logsOf(
    api,
    costs.flatMap(({ unknown, of }) => (unknown ? of : [])),
  ))
    say(line);
}

/**
 * A group is through when its new pods are available; after those that new sandboxes need, a test pod on every node proves it. What a deaf
 * webhook refuses is tried again when others have restarted: the webhook's own pods may be among them. Test pods of a run that was cut off
 * are removed, and prove it anew. Returns what is left.
 */
export async function restartInOrder(api: KubeApi, groups: readonly Group[], { nodes, caPem }: Way): Promise<Left[]> {
  const left: Left[] = [];
  let todo = groups.filter((group) => restartsOf(group).length > 0);
  if (todo.length === 0) say("nothing to restart");
  else forGood("restarts");
  if (!mode.dryRun && (await hasLeftCanaries(api))) await canaries(api, nodes);
  while (todo.length > 0) {
    const pass = await inOrder(api, todo, { nodes, caPem });
    const deaf = pass.left.filter(({ why }) => why instanceof DeafWebhook || why instanceof Later);
    left.push(...pass.left.filter((one) => !deaf.includes(one)));
    if (deaf.length === 0 || pass.restarted === 0 || mode.dryRun || !(await oneListens(api, deaf))) return [...left, ...deaf];
    const again = deaf.map(({ owner }) => owner);
    todo = todo.map(({ name, owners }) => ({ name, owners: owners.filter((owner) => again.includes(owner)) }));
  }
  return left;
}

/** Not begun, because what has to come before is left. */
class Later extends Fail {}

async function inOrder(api: KubeApi, groups: readonly Group[], { nodes, caPem }: Way) {
  const left: Left[] = [];
  let [restarted, proxy]: [number, Left | undefined] = [0, undefined];
  for (const group of groups) {
    const restarts = restartsOf(group);
    if (restarts.length === 0) continue;
    if (proxy && group.name !== "webhooks") {
      const why = laterThan(proxy);
      left.push(...restarts.map((owner) => ({ owner, why })));
      continue;
    }
    const leftHere = await restartGroup(api, restarts, caPem);
    left.push(...leftHere);
    if (group.name === "kube-proxy") proxy = leftHere[0];
    restarted += restarts.length - leftHere.length;
    if (restarts.length > leftHere.length && ["kube-proxy", "network plugins"].includes(group.name) && !mode.dryRun)
      await canaries(api, nodes);
  }
  return { left, restarted };
}

function laterThan({ owner, why }: Left): Later {
  return new Later(`not begun: a new pod gets no traffic from Services until ${label(owner)} has restarted`, { hint: why.hint });
}

async function restartGroup(api: KubeApi, owners: readonly PodOwner[], caPem: string): Promise<Left[]> {
  const left: Left[] = [];
  await inTurn(owners, { width: WIDTH, milliseconds: PLACE_MS }, async (owner) => {
    try {
      await restart(api, owner, caPem);
    } catch (err) {
      if (!(err instanceof Fail) || err.exitCode !== 1) throw err;
      left.push({ owner, why: err });
      say(`${label(owner)}: left: ${err.message}`);
    }
  });
  const would = owners.filter((owner) => !left.some((one) => one.owner === owner));
  if (mode.dryRun && would.length > 0) say(`would restart: ${listed(would.map(label))}`);
  return left;
}

/** A webhook is heard a moment after its new pod is Ready, or never. */
async function oneListens(api: KubeApi, left: readonly Left[]): Promise<boolean> {
  const deaf = left.filter(({ why }) => why instanceof DeafWebhook).map(({ owner }) => owner.pods[0]!);
  const listens = async () => {
    const answers = await Promise.allSettled(deaf.map((pod) => refuseDeafWebhook(api, pod)));
    return answers.some(({ status }) => status === "fulfilled");
  };
  const options = { seconds: 30, easing: true, hint: "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations" };
  return (await unlessLate(waitFor("the restarted webhooks to answer", listens, options))) ?? false;
}
