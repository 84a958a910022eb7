/** Restarts the owners of pods, as `kubectl rollout restart` does, or evicts their pods; waits until the new pods are available. */
import type { ApiReader, KubeApi } from "../api/kube-api.ts";
import { inParallel } from "../api/many.ts";
import { isReady } from "../api/pod-ready.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { Fail, failOf } from "../fail.ts";
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { patient, waitFor } from "../wait-for.ts";
import { evict, evictInTurn, neverAllowed } from "./evict.ts";
import { label, type PodOwner } from "./pod-owners.ts";
import { AGAIN, howToLookAt, podsOf, refuseHeld, rolloutState, type Workload } from "./rollout-status.ts";
import { publishRootCa } from "./root-ca.ts";
import { podsPath, selectorOf } from "./selector.ts";
import { NOT_YET } from "./stale-pods.ts";
import { pastWebhooks, refuseDeafWebhook } from "./webhooks.ts";
import { whyNot } from "./why-not.ts";

const RESTARTED = "kubectl.kubernetes.io/restartedAt";

/** How long a rollout may stand still; and how long it may take for each pod: a DaemonSet replaces them one after the other. */
const SECONDS = 300;
const SECONDS_PER_POD = 15;

/** Pods of a DaemonSet that are replaced at the same time. */
const REPLACED_AT_ONCE = 50;

/** Restarts one owner and waits for it; in a dry run, looks whether it could. Errors: Fail if it cannot, or if no new pods become available. */
export async function restart(api: KubeApi, owner: PodOwner, caPem: string) {
  await refuse(api, owner, caPem);
  if (mode.dryRun) return;
  if (owner.restart === "replace") return await replace(api, owner);
  if (owner.restart === "evict") return await evictInTurn(api, owner);
  await pastWebhooks(api, () => rollOut(api, owner));
}

/** Whatever would refuse the new pods is asked before an old one is taken away. */
async function refuse(api: KubeApi, owner: PodOwner, caPem: string) {
  if (owner.since >= NOT_YET) {
    await publishRootCa(api, owner.namespace, { caPem });
    owner.since = new Date();
  }
  for (const pod of owner.pods.slice(0, 1)) await refuseDeafWebhook(api, pod);
  if (mode.dryRun) await refuseHopeless(api, owner);
  else if (owner.path) refuseHeld(await api.get<Workload>(owner.path), owner);
}

/** What can be foretold by what the cluster holds of it; an eviction itself is only asked for in earnest. Errors: Fail where it would wait for people. */
export async function refuseHopeless(api: ApiReader, owner: PodOwner) {
  if (owner.path) refuseHeld(await api.get<Workload>(owner.path), owner);
  const never = owner.restart === "evict" ? await neverAllowed(api, owner, owner.pods[0]!) : undefined;
  if (never) throw never;
}

async function rollOut(api: KubeApi, owner: PodOwner) {
  const path = owner.path!;
  const before = await api.get<Workload>(path);
  const restarted = before.spec.template.metadata?.annotations?.[RESTARTED];
  // If an interrupted run has started this rollout, this run only waits for it.
  if (!restarted || new Date(restarted) < owner.since) {
    await api.patch(path, { spec: { template: { metadata: { annotations: { [RESTARTED]: new Date().toISOString() } } } } });
  }
  await rolledOut(api, owner, path);
  const left = { ...owner, pods: await stillThere(api, owner, selectorOf(before)) };
  if (left.pods.length === 0) return say(`${podsOf(owner)}: replaced by a rolling update`);
  say(`${podsOf(left)}: still there, something took the restart back; evicted instead`);
  await evictInTurn(api, left);
}

/** Old pods that nothing ends. An operator may write back the template that it knows, and then a rollout is done with the old pods. */
async function stillThere(api: KubeApi, { namespace, pods }: PodOwner, selector: string): Promise<RunningPod[]> {
  const living = new Set<string | undefined>();
  for await (const { metadata } of api.items<RunningPod>(podsPath(namespace, selector)))
    if (!metadata.deletionTimestamp) living.add(metadata.uid);
  return pods.filter(({ metadata }) => living.has(metadata.uid));
}

/** Errors: Fail, with the cluster's own reason, if it stands still, or Kubernetes has given it up. */
async function rolledOut(api: KubeApi, owner: PodOwner, path: string) {
  const end = Date.now() + patient((SECONDS + owner.pods.length * SECONDS_PER_POD) * 1000);
  let [far, moved] = [-1, Date.now()];
  const look = async () => {
    const workload = await api.get<Workload>(path);
    const state = rolloutState(workload, owner.controller);
    if (state.done) return true;
    if (state.far > far) [far, moved] = [state.far, Date.now()];
    if (state.late || Date.now() > Math.min(end, moved + patient(SECONDS * 1000)))
      return await stuck(api, owner, { workload, words: state.words });
    throw new Error(state.words);
  };
  const over = await waitFor(`${label(owner)} to roll out`, look, {
    // by then `look` has said why, if the API answers
    seconds: 2 * SECONDS + owner.pods.length * SECONDS_PER_POD,
    easing: true,
    hint: `${howToLookAt(owner)}; ${AGAIN}`,
  });
  if (over instanceof Fail) throw over;
}

async function stuck(api: KubeApi, owner: PodOwner, { workload, words }: { workload: Workload; words: string }): Promise<Fail> {
  const why = await whyNot(api, owner, workload);
  return new Fail(`its rollout does not go on: ${words}${why ? `: ${why}` : ""}`, { hint: `${howToLookAt(owner)}; ${AGAIN}` });
}

/** Evicts all pods of a DaemonSet at once; done when every node has a new one that is Ready. */
async function replace(api: KubeApi, owner: PodOwner) {
  const old = new Set(owner.pods.map(({ metadata }) => metadata.uid));
  await inParallel(owner.pods, REPLACED_AT_ONCE, (pod) => evict(api, owner, pod));
  const path = owner.path!;
  const selector = selectorOf(await api.get<Workload>(path));
  const pods = podsPath(owner.namespace, selector);
  const renewed = async () => {
    const [{ status }, all] = await Promise.all([api.get<Workload>(path), api.list<RunningPod>(pods)]);
    return (
      all.length === status.desiredNumberScheduled &&
      all.every((pod) => isReady(pod) && !pod.metadata.deletionTimestamp && !old.has(pod.metadata.uid))
    );
  };
  const hint = `${shell`kubectl -n ${owner.namespace} get pods -l ${selector} -o wide`}; ${AGAIN}`;
  const late = await failOf(() => waitFor(`${label(owner)} to be back on every node`, renewed, { seconds: SECONDS, hint }));
  if (late) throw new Fail([late.message, await whyNot(api, owner, await api.get<Workload>(path))].filter(Boolean).join(": "), { hint });
  say(`${podsOf(owner)}: replaced on all nodes at once`);
}
