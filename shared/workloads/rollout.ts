/**
 * Restarts the owners of pods, as `kubectl rollout restart` does, or evicts their pods; waits until the new
 * pods are available.
 */
import { DeafWebhook, pastWebhooks } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { isReady, podsOn, podsPath, selectorOf, withQuery } from "../api/kube-object.ts";
import { NOT_YET, type RunningPod } from "../facts/pod-trust.ts";
import { Fail } from "../fail.ts";
import { inParallel } from "../in-parallel.ts";
import { listed } from "../plain.ts";
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { scaledTimeout, waitFor } from "../wait-for.ts";
import { evict, evictInTurn, neverAllowed, type PodLists } from "./evict.ts";
import { type AwayNodes, awayNames, below, isOn, label, type PodOwner } from "./pod-owners.ts";
import {
  howToLookAt,
  podsOf,
  RUN_AGAIN_HINT,
  refuseHeld,
  rolloutState,
  type Workload,
  waitingPods,
  whyNot,
} from "./rollout-status.ts";
import { type NamespacesWithoutCa, publishRootCa } from "./root-ca.ts";
import { refuseDeafWebhook } from "./serving-pods.ts";

const RESTARTED = "kubectl.kubernetes.io/restartedAt";

/**
 * How long a rollout may stand still; and how long it may take for each pod: a DaemonSet replaces them one
 * after the other.
 */
const SECONDS = 300;
const SECONDS_PER_POD = 15;

/**
 * If nothing moves for so long while a rollout waits only for nodes that are away, its controller has done all that it
 * can.
 */
const SETTLED_SECONDS = 15;

/** At the same time. */
const REPLACED_AT_ONCE = 50;

export interface Around {
  caPem: string;
  /** No new pod starts there, and none is waited for. */
  away: AwayNodes;
  kept: NamespacesWithoutCa;
  /** Shared by all that restart at the same time; unset: by none. */
  lists?: PodLists;
}

/** In a dry run it only looks whether it could. Errors: Fail if it cannot, or if no new pods become available. */
export async function restart(api: KubeApi, owner: PodOwner, { away, lists, ...trust }: Around) {
  await refuse(api, owner, trust);
  if (mode.dryRun) return;
  if (owner.restart === "replace") return await replace(api, owner);
  if (owner.restart === "evict") return await evictInTurn(api, owner, { away, lists });
  await pastWebhooks(api, () => rollOut(api, owner, { away, lists }));
}

/** Whatever would refuse the new pods is asked before an old one is taken away. */
async function refuse(api: KubeApi, owner: PodOwner, { caPem, kept }: Pick<Around, "caPem" | "kept">) {
  if (owner.since >= NOT_YET) {
    const why = kept.get(owner.namespace);
    if (why) throw why;
    await publishRootCa(api, owner.namespace, { caPem });
    owner.since = new Date();
  }
  for (const pod of owner.pods.slice(0, 1)) await refuseDeafWebhook(api, pod);
  if (owner.path) refuseHeld(await api.get<Workload>(owner.path), owner);
  // a dry run foretells by what the cluster holds: an eviction itself is only asked for in earnest
  const isForetold = mode.dryRun && owner.restart === "evict";
  const never = isForetold ? await neverAllowed(api, owner, owner.pods[0]!) : undefined;
  if (never) throw never;
}

async function rollOut(
  api: KubeApi,
  owner: PodOwner,
  { away, lists }: { away: AwayNodes; lists: PodLists | undefined },
) {
  const path = owner.path!;
  const before = await api.get<Workload>(path);
  const restarted = before.spec.template.metadata?.annotations?.[RESTARTED];
  // If an interrupted run has started this rollout, this run only waits for it.
  const annotations = { [RESTARTED]: new Date().toISOString() };
  if (!restarted || new Date(restarted) < owner.since)
    await api.patch(path, { spec: { template: { metadata: { annotations } } } });
  const { minReadySeconds: ready = 0 } = before.spec;
  const { waiting, wanted } = await rolledOut(api, owner, { away, ready });
  const some = waiting.length > 0 && `${waiting.length} of ${wanted} on ${awayNames(waiting)}`;
  const old = (await stillThere(api, owner, selectorOf(before))).filter((pod) => !isOn(pod, away));
  if (old.length === 0) return say(`replaced ${podsOf(owner)} by a rolling update${some ? `, ${some}` : ""}`);
  const left = { ...owner, pods: owner.newPodsWaitFor === "lower numbers" ? below(old, waiting) : old };
  const why = some ? `its rolling update goes no further: ${some}` : "something took the restart back";
  if (left.pods.length > 0) {
    say(`will evict ${podsOf(left)}, which ${left.pods.length > 1 ? "are" : "is"} still there: ${why}`);
    await evictInTurn(api, left, { away, lists });
  }
  const rest = old.filter((pod) => !left.pods.includes(pod));
  if (rest.length === 0) return;
  const named = (pods: RunningPod[]) => listed(pods.map(({ metadata }) => metadata.name));
  throw new Fail(
    `a StatefulSet creates no new pod after ${named(waiting)} on ${awayNames(waiting)}. Unchanged: ${named(rest)}`,
    { hint: `wait until that node is back, ${RUN_AGAIN_HINT}` },
  );
}

/** An operator may write back the template that it knows, and then a rollout is done with the old pods. */
async function stillThere(
  api: KubeApi,
  { namespace, pods }: PodOwner,
  selector: string,
): Promise<RunningPod[]> {
  const living = new Set<string | undefined>();
  for await (const { metadata } of api.items<RunningPod>(podsPath(namespace, selector)))
    if (!metadata.deletionTimestamp) living.add(metadata.uid);
  return pods.filter(({ metadata }) => living.has(metadata.uid));
}

/**
 * Waits for the rollout. `ready`: seconds for which each new pod has to be Ready. Returns the pods that wait for nodes that are away, if it is done but for them, or goes no
 * further because of them. Errors: Fail, with the cluster's own reason, if it stands still, or Kubernetes has given it
 * up.
 */
async function rolledOut(api: KubeApi, owner: PodOwner, { away, ready }: { away: AwayNodes; ready: number }) {
  const still = SECONDS + ready;
  const seconds = still + owner.pods.length * (SECONDS_PER_POD + ready);
  const end = Date.now() + scaledTimeout(seconds * 1000);
  let [far, moved] = [-1, Date.now()];
  const look = async () => {
    const workload = await api.get<Workload>(owner.path!);
    const waiting = await waitingPods(api, owner, workload, away);
    const state = rolloutState(workload, owner.controller, waiting.length);
    const { wanted } = state;
    if (state.done) return { waiting, wanted };
    if (state.far > far) [far, moved] = [state.far, Date.now()];
    if (state.onlyWaits && (state.late || Date.now() > moved + scaledTimeout(SETTLED_SECONDS * 1000)))
      return { waiting, wanted };
    if (state.late || Date.now() > Math.min(end, moved + scaledTimeout(still * 1000)))
      return await stuck(api, owner, { workload, words: state.words });
    throw new Error(state.words);
  };
  const over = await waitFor(`${label(owner)} to roll out`, look, {
    // by then `look` has said why, if the API answers
    seconds: seconds + SECONDS,
    easing: true,
    hint: `${howToLookAt(owner)}; ${RUN_AGAIN_HINT}`,
  });
  if (over instanceof Fail) throw over;
  return over!;
}

async function stuck(
  api: KubeApi,
  owner: PodOwner,
  { workload, words }: { workload: Workload; words: string },
): Promise<Fail> {
  const why = await whyNot(api, owner, workload);
  return new Fail(`its rollout does not continue: ${words}${why ? `: ${why}` : ""}`, {
    hint: `${howToLookAt(owner)}; ${RUN_AGAIN_HINT}`,
  });
}

/**
 * Evicts pods of a DaemonSet, so many at the same time; each place is free again when its node has a new pod
 * that is Ready. A node without one stops no other, unless the new pods hardly ever come: then no more old
 * ones are taken away. Errors: Fail with these nodes; DeafWebhook.
 */
async function replace(api: KubeApi, owner: PodOwner) {
  const path = owner.path!;
  const pods = podsPath(owner.namespace, selectorOf(await api.get<Workload>(path)));
  const width = widthOf(owner);
  const old = new Set(owner.pods.map(({ metadata }) => metadata.uid));
  const without: string[] = [];
  let [renewed, reason] = [0, ""];
  await inParallel(owner.pods, width, async (pod) => {
    if (without.length >= Math.max(2, width) && without.length > renewed) return;
    try {
      await replaceOn(api, owner, { pod, pods, old });
      renewed++;
    } catch (err) {
      if (!(err instanceof Fail) || err instanceof DeafWebhook) throw err;
      without.push(pod.spec.nodeName ?? "");
      reason ||= err.message;
    }
  });
  if (without.length > 0) throw await notBack(api, owner, { without, renewed, reason });
  const how = width >= owner.pods.length ? " on all nodes at once" : `, ${width} at a time`;
  say(`replaced ${podsOf(owner)}${how}`);
}

/**
 * A tenth, as StatefulSets' pods are evicted: where the data plane stops with its agent, it stops on no more
 * nodes at the same time.
 */
function widthOf({ atOnce, pods }: PodOwner): number {
  const tenth = Math.max(1, Math.floor(pods.length / 10));
  return atOnce === "all" ? REPLACED_AT_ONCE : Math.min(REPLACED_AT_ONCE, tenth);
}

/** Milliseconds for each place: of all together the API gets a hundred questions a second, at most. */
const ASK_EVERY = 10;

/** `pods`: where its pods are listed. `old`: the UIDs of all old ones, of which none counts as back. */
async function replaceOn(
  api: KubeApi,
  owner: PodOwner,
  { pod, pods, old }: { pod: RunningPod; pods: string; old: ReadonlySet<string | undefined> },
) {
  await evict(api, owner, pod);
  const { nodeName = "" } = pod.spec;
  const podsOnNode = podsOn(nodeName, inMemory(pods, pod));
  const isBack = async () =>
    (await api.get<{ items: RunningPod[] | null }>(podsOnNode)).items?.some(
      (one) => isReady(one) && !one.metadata.deletionTimestamp && !old.has(one.metadata.uid),
    );
  await waitFor(`${label(owner)} to be back on ${nodeName}`, isBack, {
    ...{ seconds: SECONDS, easing: true, interval: ASK_EVERY * Math.min(widthOf(owner), owner.pods.length) },
    hint: shell`kubectl -n ${owner.namespace} get pods -o wide`,
  });
}

/**
 * The list that an API server answers from its memory, where it is not older than what we know of this pod: so
 * what it shows is this pod, or what came after it. Asked for the newest, releases before 1.33, or with an etcd
 * before 3.5.13, read all pods of the namespace from etcd; asked for pages, too (k8s.io/apiserver
 * pkg/storage/cacher, shouldDelegateList).
 */
function inMemory(pods: string, { metadata: { resourceVersion } }: RunningPod): string {
  const version = resourceVersion ? `${resourceVersion}&resourceVersionMatch=NotOlderThan` : "0";
  return withQuery(pods, `resourceVersion=${version}`);
}

/** All but these few nodes have a new pod. */
export class FewNodesLeft extends Fail {}

async function notBack(
  api: KubeApi,
  owner: PodOwner,
  { without, renewed, reason }: { without: string[]; renewed: number; reason: string },
): Promise<Fail> {
  const workload = await api.get<Workload>(owner.path!);
  const why = (await whyNot(api, owner, workload)) || reason;
  const rest = owner.pods.length - renewed - without.length;
  const more = rest > 0 ? `; its other ${rest} old pods keep running, as hardly any new one comes` : "";
  const hint = `${shell`kubectl -n ${owner.namespace} get pods -o wide --selector ${selectorOf(workload)}`}; ${RUN_AGAIN_HINT}`;
  const words = `no new pod that is Ready on ${listed(without)}: ${why}${more}`;
  return without.length < renewed ? new FewNodesLeft(words, { hint }) : new Fail(words, { hint });
}
