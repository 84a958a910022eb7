/**
 * Part 4 from its beginning to the last restart: what has to be true before it renews anything, the pods that hold old
 * trust, and their restart in the order that lets each find what it needs. No workload stops the others.
 */
import { again, command, type LeftOut, leftNames } from "../again.ts";
import { adminApi } from "../api/admin-api.ts";
import { DeafWebhook } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { nodeLeases } from "../api/leases.ts";
import { inParallelWithTimeSlots } from "../api/many.ts";
import { caIsNew, trustedSince } from "../facts/ca-copies.ts";
import { containerEnd } from "../facts/ended-container.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { MOUNT_LAG_MS, NOT_YET } from "../facts/pod-trust.ts";
import { podTrust, tokenKeys } from "../facts/sa-key.ts";
import { nodesToSkip, saveOptions, withSavedOptions } from "../facts/typed-options.ts";
import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { isReduced } from "../manifests/repair-changes.ts";
import { caText } from "../pki/examine.ts";
import { saPubText } from "../pki/sa-keys.ts";
import { listed } from "../plain.ts";
import { fewLines, type LineOfMany, LinesOfMany, sayNames } from "../progress.ts";
import { mode, say, sayNoUndo } from "../run.ts";
import { shell } from "../shell-line.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";
import { confirmLeftOut } from "../workers/away.ts";
import { canaries, removeLeftCanaries } from "./canaries.ts";
import { PodLists } from "./evict.ts";
import { type Left, label, lineOf, type PodOwner, withoutAway } from "./pod-owners.ts";
import { type Around, FewNodesLeft, restart } from "./rollout.ts";
import { refuseDeafWebhook } from "./serving-pods.ts";
import {
  type Choice,
  type Chosen,
  choose,
  type Group,
  reportedOwners,
  restartsOf,
  staleGroups,
  UNIT,
} from "./stale-pods.ts";
import type { SigningTrust } from "./token-secrets.ts";

/**
 * Conditions before part 4 renews anything: the shared keys are here, part 3 is closed, and every node renews
 * its Lease. Returns the names of the nodes that are there, and those that are left `out`. Errors: Fail with the first
 * thing that is not true, and what to do about it.
 */
export async function readyForPart4(cp: ControlPlaneNode, typed: LeftOut) {
  const named = withSavedOptions(typed, cp, { mayBeDeleted: true });
  const trust = trustHere(cp);
  refuseReduced(cp);
  const api = await adminApi(cp, containerEnd(cp, "kube-apiserver"));
  const out = await confirmLeftOut(cp, api, await nodesToSkip(cp, named));
  const nodeNames = new Set((await api.list("/api/v1/nodes")).map(({ metadata }) => metadata.name));
  const names = cp.cluster.nodes.map(({ name }) => name).filter((name) => nodeNames.has(name));
  const nodes = names.filter((name) => !leftNames(out).includes(name));
  await refuseSilent(api, nodes, trustedSince(cp));
  refuseDeadNodes(out.lost.filter((name) => nodeNames.has(name)));
  const away = names.filter((name) => out.without.includes(name));
  if (away.length > 0) say(`away: ${listed(away)}. Their pods stay, and no rollout waits for them`);
  say(`${nodes.length} of ${names.length} nodes renew their Lease; the controller-manager runs in full`);
  saveOptions(cp);
  return { api, trust, nodes, out };
}

export type PartFourInput = Awaited<ReturnType<typeof readyForPart4>>;

function trustHere(cp: ControlPlaneNode): SigningTrust {
  const { certificatesDir: pki, externalSigner, withoutSaPub } = cp.facts;
  const [caPem, saKey] = [caText("ca", pki), readText(`${pki}/sa.key`)];
  const saPub = withoutSaPub ? saPubText(pki) : readText(`${pki}/sa.pub`);
  if (caPem && externalSigner) {
    say("an external signer signs tokens: in Secrets only the CA is renewed, the tokens stay");
    return { caPem };
  }
  if (caPem && saPub && saKey) return { caPem, saPub: tokenKeys(cp) ?? saPub, saKey };
  throw new Fail("The shared keys are not there", {
    hint: "run parts 1 and 2 first: ./bunw scripts/00-assess.ts",
  });
}

function refuseReduced(cp: ControlPlaneNode) {
  const controllerManager = readManifest(manifestPath(cp, "kube-controller-manager"));
  if (controllerManager && !isReduced(controllerManager)) return;
  throw new Fail(`The controller-manager is ${controllerManager ? "still reduced" : "not there"}`, {
    hint: `close part 3 first: ${command("03-workers close")}`,
  });
}

async function refuseSilent(api: KubeApi, nodes: readonly string[], since: Date) {
  const { notRenewed, deaf } = await nodeLeases(api, nodes, { since });
  if (notRenewed.length === 0) return;
  const what = `${notRenewed.length} of ${nodes.length} nodes do not renew their Lease: ${listed(notRenewed)}`;
  if (deaf) throw new Fail(`${what}: ${deaf.message}`, { hint: deaf.hint });
  throw new Fail(what, {
    hint: `run part 3 on these nodes first. If they are away for now: ${again({ without: notRenewed }, { of: "04-sa-tokens" })}. If they are lost for good: --lost`,
  });
}

/** The pods of a node that is lost for good count for their controllers until its Node is gone. */
function refuseDeadNodes(names: readonly string[]) {
  if (names.length === 0) return;
  const one = `The Node "${names[0]}" is still there, and it is lost for good`;
  const all = `Nodes that are lost for good are still there: ${listed(names)}`;
  throw new Fail(names.length === 1 ? one : all, {
    hint: shell`kubectl --kubeconfig /etc/kubernetes/admin.conf delete node ${names}; then run the same line again`,
  });
}

/**
 * Number of owners that restart at the same time; one that takes longer (milliseconds) gives its place to the next, and
 * is waited for beside it.
 */
const WIDTH = 20;
const PLACE_MS = 60_000;

interface Way extends Around {
  from: string;
}

/** Prints what it finds. Errors: Fail if the choice means nothing here. */
export async function findStale(
  cp: ControlPlaneNode,
  api: KubeApi,
  { caPem, choice }: { caPem: string; choice: Choice },
): Promise<Chosen> {
  const trust = podTrust(cp);
  const groups = await staleGroups(api, caPem, trust);
  if (groups.every(({ owners }) => owners.length === 0))
    say(caIsNew(cp) ? "none" : "none: the cluster knew its CA before, no pod has to restart");
  const last = Math.max(...groups.flatMap(({ owners }) => owners.map(({ since }) => +since)));
  if (last > 0 && last < +NOT_YET)
    say(
      `old is what started before ${new Date(last + MOUNT_LAG_MS).toISOString()}: for two minutes a kubelet may show its pods the old ${caIsNew(cp) ? "CA and token" : "token"}`,
    );
  const chosen = await choose(api, groups, { choice, since: trust.since });
  for (const group of chosen.groups) sayNames(group.name, restartsOf(group).map(label));
  sayNames("skipped before, and restarted now", chosen.again.map(label));
  sayNames("later", chosen.later.map(label));
  sayNames("skipped by you", chosen.skipped.map(label));
  sayNames("not restarted", reportedOwners(groups).map(label));
  return chosen;
}

/** Workloads that have not restarted, and notes for people: step 4.7 prints both. */
export interface End {
  left: Left[];
  notes: string[];
}

/**
 * A group is through when its new pods are available. After the groups that a new pod needs, a test pod on
 * every node shows that it gets its network. A restart that an unreachable webhook refuses is tried again when others
 * have restarted: the webhook's own pods may be among them.
 */
export async function restartInOrder(api: KubeApi, groups: readonly Group[], around: Way): Promise<End> {
  const way = { ...around, lists: new PodLists(api) };
  const end: End = { left: [], notes: [] };
  let todo = groups.filter((group) => restartsOf(group).length > 0);
  if (todo.length === 0) say("nothing to restart");
  else sayNoUndo("restarts");
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
  const isUnit = ({ name }: Group) => UNIT.includes(name);
  const [unit, others] = [groups.filter(isUnit), groups.filter((group) => !isUnit(group))];
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
    const all = restartsOf(group);
    const now = notYet ? all.filter(({ webhook }) => webhook) : all;
    for (const owner of all) if (!now.includes(owner)) pass.left.push({ owner, why: notYet! });
    const { left, notes } = await restartGroup(api, now, way);
    pass.left.push(...left);
    pass.notes.push(...notes);
    pass.restarted += now.length - left.length;
    const missing = group.name === "kube-proxy" && left.find(({ why }) => !(why instanceof FewNodesLeft));
    if (!missing) continue;
    const until = `not begun: a new pod gets no traffic from Services until ${label(missing.owner)} has restarted`;
    notYet = new Later(until, { hint: missing.why.hint });
  }
  return { ...pass, notYet };
}

async function restartGroup(api: KubeApi, owners: readonly PodOwner[], way: Way): Promise<End> {
  const left: Left[] = [];
  const onAway: LineOfMany[] = [];
  const lines = new LinesOfMany();
  await inParallelWithTimeSlots(owners, { width: WIDTH, milliseconds: PLACE_MS }, async (owner) => {
    const reached = withoutAway(owner, way.away);
    onAway.push(...reached.left.map((text) => lineOf(owner, text)));
    if (reached.owner.pods.length === 0) return;
    try {
      await restart(api, reached.owner, way);
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

/** A webhook is heard a moment after its new pod is Ready, or never. */
async function oneListens(api: KubeApi, left: readonly Left[]): Promise<boolean> {
  const deaf = left.filter(({ why }) => why instanceof DeafWebhook).map(({ owner }) => owner.pods[0]!);
  if (deaf.length === 0) return false;
  const listens = async () => {
    const answers = await Promise.allSettled(deaf.map((pod) => refuseDeafWebhook(api, pod)));
    return answers.some(({ status }) => status === "fulfilled");
  };
  const hint = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations";
  const options = { seconds: 30, easing: true, hint };
  return (await undefinedOnTimeout(waitFor("the restarted webhooks to answer", listens, options))) ?? false;
}
