/**
 * The pods that hold old trust, and their restart in the order that lets each find what it needs. No workload
 * stops the others.
 */
import { DeafWebhook } from "../api/called-by-api.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { inParallelWithTimeSlots } from "../api/many.ts";
import { caIsNew } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { podTrust } from "../facts/sa-key.ts";
import { Fail } from "../fail.ts";
import { forGood } from "../for-good.ts";
import { listed } from "../plain.ts";
import { fewLines, type LineOfMany, LinesOfMany, sayNames } from "../progress.ts";
import { mode, say } from "../run.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";
import { canaries, removeLeftCanaries } from "./canaries.ts";
import { type Choice, type Chosen, choose, reportedOf, restartsOf } from "./choice.ts";
import { PodLists } from "./evict.ts";
import { withoutAway } from "./on-away.ts";
import { label, lineOf, type PodOwner } from "./pod-owners.ts";
import { type Around, FewNodesLeft, restart } from "./rollout.ts";
import { type Group, staleGroups, UNIT } from "./stale-pods.ts";
import { refuseDeafWebhook } from "./webhooks.ts";

/**
 * Owners restarted at the same time; one that takes longer (milliseconds) gives its place to the next, and is
 * waited for beside it.
 */
const WIDTH = 20;
const PLACE_MS = 60_000;

interface Way extends Around {
  /** The name of this node. */
  from: string;
}

/** A workload that still holds the old trust, and why: with the operator's command. */
export interface Left {
  owner: PodOwner;
  why: Fail;
}

/** Prints what it finds. Errors: Fail where the choice means nothing here. */
export async function findStale(
  cp: ControlPlaneNode,
  api: KubeApi,
  { caPem, choice }: { caPem: string; choice: Choice },
): Promise<Chosen> {
  const trust = podTrust(cp);
  const groups = await staleGroups(api, caPem, trust);
  if (groups.every(({ owners }) => owners.length === 0))
    say(caIsNew(cp) ? "none" : "none: the cluster knew its CA before, no pod has to restart");
  const chosen = await choose(api, groups, { choice, since: trust.since });
  for (const group of chosen.groups) sayNames(group.name, restartsOf(group).map(label));
  sayNames("skipped before, and restarted now", chosen.again.map(label));
  sayNames("later", chosen.later.map(label));
  sayNames("skipped by you", chosen.skipped.map(label));
  const kept = reportedOf(groups).map((owner) => lineOf(owner, `${label(owner)}: ${owner.reason}`));
  for (const line of fewLines(kept)) say(`not restarted: ${line}`);
  return chosen;
}

/** What has not restarted, and what people should know besides, for 4.7. */
export interface End {
  left: Left[];
  notes: string[];
}

/**
 * A group is through when its new pods are available. After the unit of what a new pod needs, a test pod on
 * every node shows that it gets its network. What an unreachable webhook refuses is tried again when others
 * have restarted: the webhook's own pods may be among them.
 */
export async function restartInOrder(api: KubeApi, groups: readonly Group[], around: Way): Promise<End> {
  const way = { ...around, lists: new PodLists(api) };
  const end: End = { left: [], notes: [] };
  let todo = groups.filter((group) => restartsOf(group).length > 0);
  if (todo.length === 0) say("nothing to restart");
  else forGood("restarts");
  if (!mode.dryRun) await removeLeftCanaries(api);
  while (todo.length > 0) {
    const pass = await inOrder(api, todo, way);
    const deaf = pass.left.filter(({ why }) => why instanceof DeafWebhook || why instanceof Later);
    end.left.push(...pass.left.filter((one) => !deaf.includes(one)));
    end.notes.push(...pass.notes);
    if (deaf.length === 0 || pass.restarted === 0 || mode.dryRun || !(await oneListens(api, deaf)))
      return { ...end, left: [...end.left, ...deaf] };
    const again = deaf.map(({ owner }) => owner);
    todo = todo.map(({ name, owners }) => ({
      name,
      owners: owners.filter((owner) => again.includes(owner)),
    }));
  }
  return end;
}

/** Not begun, because what has to come before is left. */
class Later extends Fail {}

interface Pass extends End {
  restarted: number;
  /** Why only webhooks may restart now. */
  notYet?: Later | undefined;
}

async function inOrder(api: KubeApi, groups: readonly Group[], way: Way): Promise<Pass> {
  const [unit, others] = [true, false].map((isUnit) =>
    groups.filter(({ name }) => UNIT.includes(name) === isUnit),
  ) as [Group[], Group[]];
  const first = await inGroups(api, unit, way, undefined);
  const tested = first.restarted > 0 && !first.notYet ? await canaries(api, way.from) : { left: [] };
  const notYet =
    first.notYet ??
    (tested.noNetwork && new Later(`not begun: ${tested.noNetwork.message}`, tested.noNetwork));
  const then = await inGroups(api, others, way, notYet);
  return {
    left: [...first.left, ...then.left],
    notes: [...first.notes, ...tested.left.map((line) => `left: ${line}`), ...then.notes],
    restarted: first.restarted + then.restarted,
  };
}

/**
 * While kube-proxy is left, only webhooks restart, within the network's groups, too; unless it is left on a
 * few nodes only.
 */
async function inGroups(
  api: KubeApi,
  groups: readonly Group[],
  way: Way,
  notYet: Later | undefined,
): Promise<Pass> {
  const pass: Pass = { left: [], notes: [], restarted: 0 };
  for (const group of groups) {
    const [now, later] = notYet
      ? split(restartsOf(group), ({ webhook }) => webhook === true)
      : [restartsOf(group), []];
    for (const owner of later) pass.left.push({ owner, why: notYet! });
    const { left, notes } = await restartGroup(api, now, way);
    pass.left.push(...left);
    pass.notes.push(...notes);
    pass.restarted += now.length - left.length;
    const missing = group.name === "kube-proxy" && left.find(({ why }) => !(why instanceof FewNodesLeft));
    if (missing) notYet = laterThan(missing);
  }
  return { ...pass, notYet };
}

function laterThan({ owner, why }: Left): Later {
  return new Later(`not begun: a new pod gets no traffic from Services until ${label(owner)} has restarted`, {
    hint: why.hint,
  });
}

async function restartGroup(api: KubeApi, owners: readonly PodOwner[], way: Way): Promise<End> {
  const left: Left[] = [];
  const onAway: LineOfMany[] = [];
  const lines = new LinesOfMany();
  await inParallelWithTimeSlots(owners, { width: WIDTH, milliseconds: PLACE_MS }, async (owner) => {
    const here = withoutAway(owner, way.away);
    onAway.push(...here.left.map((text) => lineOf(owner, text)));
    if (here.owner.pods.length === 0) return;
    try {
      await restart(api, here.owner, way);
    } catch (err) {
      if (!(err instanceof Fail) || err.exitCode !== 1) throw err;
      left.push({ owner, why: err });
      lines.say(lineOf(owner, `${label(owner)}: left: ${err.message}`));
    }
  });
  lines.sayRest();
  const would = owners.filter((owner) => !left.some((one) => one.owner === owner));
  if (mode.dryRun && would.length > 0) say(`would restart: ${listed(would.map(label))}`);
  return { left, notes: fewLines(onAway) };
}

/** Those of which it is so, and the others. */
function split<T>(items: readonly T[], is: (item: T) => boolean): [T[], T[]] {
  return [items.filter(is), items.filter((item) => !is(item))];
}

/** A webhook is heard a moment after its new pod is Ready, or never. */
async function oneListens(api: KubeApi, left: readonly Left[]): Promise<boolean> {
  const deaf = left.filter(({ why }) => why instanceof DeafWebhook).map(({ owner }) => owner.pods[0]!);
  if (deaf.length === 0) return false;
  const listens = async () => {
    const answers = await Promise.allSettled(deaf.map((pod) => refuseDeafWebhook(api, pod)));
    return answers.some(({ status }) => status === "fulfilled");
  };
  const options = {
    seconds: 30,
    easing: true,
    hint: "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations",
  };
  return (await undefinedOnTimeout(waitFor("the restarted webhooks to answer", listens, options))) ?? false;
}
