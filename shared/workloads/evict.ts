/**
 * Evicts pods, as `kubectl drain` does: never more than a PodDisruptionBudget allows, and only as their
 * controller makes new ones.
 */

import { unlessRefused } from "../api/api-error.ts";
import { asDeafWebhook, type DeafWebhook } from "../api/called-by-api.ts";
import type { ApiReader, KubeApi } from "../api/kube-api.ts";
import { type KubeObject, type LabelSelector, selects } from "../api/kube-object.ts";
import { inParallel } from "../api/many.ts";
import { controllerOf, groupOfApi, type RunningPod } from "../facts/pod-trust.ts";
import { Fail } from "../fail.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { waitFor } from "../wait-for.ts";
import { type AwayNodes, isThere } from "./on-away.ts";
import { label, type PodOwner } from "./pod-owners.ts";
import { AGAIN, podsOf } from "./rollout-status.ts";

/** How long a PodDisruptionBudget, the end of a pod and a new pod may take, each. */
const SECONDS = 300;

/**
 * Evicts the pods of one owner, a tenth at a time and at least one; the next when there are as many Ready
 * pods as before. The highest number comes first, as in a StatefulSet's own rolling update. A new pod on a
 * node that is away counts as Ready. Errors: Fail.
 */
export async function evictInTurn(api: KubeApi, owner: PodOwner, away: AwayNodes) {
  const pods = owner.pods.toSorted((a, b) =>
    b.metadata.name.localeCompare(a.metadata.name, "en", { numeric: true }),
  );
  const atOnce = Math.max(1, Math.floor(pods.length / 10));
  for (let i = 0; i < pods.length; i += atOnce) {
    const before = (await siblingsThere(api, owner, away)).length;
    const some = pods.slice(i, i + atOnce);
    await inParallel(some, atOnce, (pod) => evict(api, owner, pod));
    const names = some.map(({ metadata }) => metadata.name).join(" ");
    await waitFor(
      `${label(owner)} to have a new pod for ${names}`,
      async () => (await siblingsThere(api, owner, away)).length >= before,
      {
        seconds: SECONDS,
        easing: true,
        hint: `${shell`kubectl -n ${owner.namespace} get pods -o wide`}; does its controller run? ${AGAIN}`,
      },
    );
  }
  say(`${podsOf(owner)}: evicted, and new ones are Ready`);
}

/** The pods of the same controller that count as there. */
async function siblingsThere(
  api: KubeApi,
  { namespace, pods }: PodOwner,
  away: AwayNodes,
): Promise<RunningPod[]> {
  const uid = pods[0] && controllerOf(pods[0])?.uid;
  const all = await api.list<RunningPod>(`/api/v1/namespaces/${namespace}/pods`);
  return all.filter((pod) => controllerOf(pod)?.uid === uid && isThere(pod, away));
}

/**
 * The eviction API answers 429 as long as an eviction would break a PodDisruptionBudget. Errors: Fail;
 * DeafWebhook.
 */
export async function evict(api: KubeApi, owner: PodOwner, pod: RunningPod) {
  const { namespace } = owner;
  const { name, uid } = pod.metadata;
  const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
  const isGone = async () => (await api.find(path))?.metadata.uid !== uid;
  const isEvicted = async () => (await isGone()) || (await ask(api, path, { owner, pod }));
  const end = await waitFor(`${namespace}/${name} to be evicted`, isEvicted, {
    seconds: SECONDS,
    easing: true,
    hint: `${shell`kubectl -n ${namespace} get pdb`}; ${AGAIN}`,
  });
  if (end instanceof Fail) throw end;
  await waitFor(`${namespace}/${name} to be gone`, isGone, {
    ...{ seconds: SECONDS, easing: true },
    hint: shell`is its node Ready? kubectl -n ${namespace} describe pod ${name}`,
  });
}

/**
 * True: it is on its way. Undefined: not yet. A Fail: never, by what is known now. Errors: as KubeApi, "not
 * yet" with a reason.
 */
async function ask(
  api: KubeApi,
  path: string,
  { owner, pod }: { owner: PodOwner; pod: RunningPod },
): Promise<true | Fail | undefined> {
  const { name, namespace } = pod.metadata;
  const eviction = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace } };
  try {
    const accepted = await unlessRefused([429], () => api.create(`${path}/eviction`, eviction));
    return accepted ? true : await neverAllowed(api, owner, pod);
  } catch (err) {
    const deaf: DeafWebhook | undefined = await asDeafWebhook(api, err);
    if (deaf) return deaf;
    throw err;
  }
}

interface Budget extends KubeObject {
  spec: { selector?: LabelSelector };
  status?: { expectedPods?: number; desiredHealthy?: number };
}

/**
 * A budget that allows no eviction even if all its pods are well. With an operator's own controller that is
 * no "never": some (Strimzi's Drain Cleaner) see the request, and roll the pod themselves.
 */
export async function neverAllowed(
  api: ApiReader,
  owner: PodOwner,
  pod: RunningPod,
): Promise<Fail | undefined> {
  if (!["apps", ""].includes(groupOfApi(controllerOf(pod)?.apiVersion ?? ""))) return undefined;
  const budgets = await api.list<Budget>(
    `/apis/policy/v1/namespaces/${owner.namespace}/poddisruptionbudgets`,
  );
  const tight = budgets.find(({ spec: { selector }, status }) => {
    const { expectedPods = 0, desiredHealthy = 0 } = status ?? {};
    return selects(selector, pod) && expectedPods > 0 && desiredHealthy >= expectedPods;
  });
  const name = tight?.metadata.name;
  return (
    tight &&
    new Fail(`the PodDisruptionBudget "${name}" allows no eviction, even if all its pods are Ready`, {
      hint: `${shell`kubectl -n ${owner.namespace} delete pod ${owner.pods.map(({ metadata }) => metadata.name)}`} (one after the other), or: ${shell`kubectl -n ${owner.namespace} edit pdb ${name!}`}, ${AGAIN}`,
    })
  );
}
