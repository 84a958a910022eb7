/**
 * Evicts pods, as `kubectl drain` does: never more than a PodDisruptionBudget allows, and only as their
 * controller makes new ones.
 */

import { asDeafWebhook, type DeafWebhook, unlessRefused } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { type KubeObject, type LabelSelector, selects } from "../api/kube-object.ts";
import { controllerOf, groupOfApi, type RunningPod } from "../facts/pod-trust.ts";
import { Fail } from "../fail.ts";
import { inParallel } from "../in-parallel.ts";
import { say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { waitFor } from "../wait-for.ts";
import { type AwayNodes, isThere, label, type PodOwner } from "./pod-owners.ts";
import { podsOf, RUN_AGAIN_HINT } from "./rollout-status.ts";

/** How long a PodDisruptionBudget, the end of a pod and a new pod may take, each. */
const SECONDS = 300;

/**
 * Milliseconds between the end of a list of a namespace's pods and the next one: one for each pod but these, so
 * that a small namespace has none.
 */
const LONGEST_PAUSE = 2000;
const WITHOUT_PAUSE = 100;

type Siblings = ReadonlyMap<string | undefined, RunningPod[]>;

interface Listed {
  nth: number;
  pods: Promise<Siblings>;
  /** When `until` is known. */
  ended: Promise<unknown>;
  /** Until when it is the newest that there is, as performance.now(). */
  until: number;
}

/**
 * Shared by all who wait for pods of a namespace: never two lists at the same time, and the larger the namespace, the
 * fewer.
 */
export class PodLists {
  readonly #api: KubeApi;
  readonly #begun = new Map<string, number>();
  /** Lists that are running, or are still the newest: no other stays in memory. */
  readonly #last = new Map<string, Listed>();

  constructor(api: KubeApi) {
    this.#api = api;
  }

  begun(namespace: string): number {
    return this.#begun.get(namespace) ?? 0;
  }

  /**
   * The list of a request that began later than the `nth`: 0 is any. Undefined: there is none before the
   * pause is over. Errors: as KubeApi.
   */
  async after(namespace: string, nth: number): Promise<Siblings | undefined> {
    const last = this.#last.get(namespace);
    if (!last || isOld(last)) return await this.#list(namespace);
    if (last.nth > nth) return await last.pods;
    if (last.until < Number.POSITIVE_INFINITY) return undefined;
    // it runs still; all who wait for its end share the next one
    await last.ended;
    return await this.after(namespace, nth);
  }

  async #list(namespace: string): Promise<Siblings> {
    const answer = this.#api.list<RunningPod>(`/api/v1/namespaces/${namespace}/pods`);
    const pods = answer.then((all) => Map.groupBy(all, (pod) => controllerOf(pod)?.uid));
    const nth = this.begun(namespace) + 1;
    const listed = { nth, pods, until: Number.POSITIVE_INFINITY };
    const ended = Promise.allSettled([answer, pods]).then(([end]) => {
      const many = end.status === "fulfilled" ? end.value.length : 0;
      listed.until = performance.now() + Math.min(Math.max(0, many - WITHOUT_PAUSE), LONGEST_PAUSE);
    });
    for (const [name, one] of this.#last) if (isOld(one)) this.#last.delete(name);
    this.#last.set(namespace, Object.assign(listed, { ended }));
    this.#begun.set(namespace, nth);
    await ended;
    return await pods;
  }
}

function isOld({ until }: Listed): boolean {
  return performance.now() >= until;
}

/**
 * A tenth at a time and at least one; the next when there are as many Ready pods as before. The highest number comes
 * first, as in a StatefulSet's own rolling update. A new pod on a node that is away counts as Ready. Only a list that
 * has begun after the evictions proves it. Errors: Fail.
 */
export async function evictInTurn(
  api: KubeApi,
  owner: PodOwner,
  { away, lists = new PodLists(api) }: { away: AwayNodes; lists?: PodLists | undefined },
) {
  const pods = owner.pods.toSorted((a, b) =>
    b.metadata.name.localeCompare(a.metadata.name, "en", { numeric: true }),
  );
  const atOnce = Math.max(1, Math.floor(pods.length / 10));
  const uid = pods[0] && controllerOf(pods[0])?.uid;
  const thereIn = (all: Siblings | undefined) =>
    all?.get(uid)?.filter((pod) => isThere(pod, away)).length ?? 0;
  let before = thereIn(await lists.after(owner.namespace, 0));
  for (let i = 0; i < pods.length; i += atOnce) {
    const some = pods.slice(i, i + atOnce);
    await inParallel(some, atOnce, (pod) => evict(api, owner, pod));
    const begun = lists.begun(owner.namespace);
    let readyPods = 0;
    const areBack = async () => {
      const all = await lists.after(owner.namespace, begun);
      readyPods = thereIn(all);
      return all !== undefined && readyPods >= before;
    };
    const names = some.map(({ metadata }) => metadata.name).join(" ");
    await waitFor(`${label(owner)} to have a new pod for ${names}`, areBack, {
      ...{ seconds: SECONDS, easing: true },
      hint: `${shell`kubectl -n ${owner.namespace} get pods -o wide`}; see whether its controller runs; ${RUN_AGAIN_HINT}`,
    });
    before = readyPods;
  }
  say(`evicted ${podsOf(owner)}: new ones are Ready`);
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
    hint: `${shell`kubectl -n ${namespace} get pdb`}; ${RUN_AGAIN_HINT}`,
  });
  if (end instanceof Fail) throw end;
  await waitFor(`${namespace}/${name} to be gone`, isGone, {
    ...{ seconds: SECONDS, easing: true },
    hint: shell`see whether its node is Ready: kubectl -n ${namespace} describe pod ${name}`,
  });
}

/** True: it is on its way. A Fail: never, by what is known now. Errors: as KubeApi, "not yet" with a reason. */
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
  api: KubeApi,
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
      hint: `${shell`kubectl -n ${owner.namespace} delete pod ${owner.pods.map(({ metadata }) => metadata.name)}`} (one after the other), or: ${shell`kubectl -n ${owner.namespace} edit pdb ${name!}`}, ${RUN_AGAIN_HINT}`,
    })
  );
}
