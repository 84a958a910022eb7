/**
 * The reduced controller-manager runs in full again on this node: when every node that etcd knew renews its
 * Lease, or is named as away. With the old CA that may be the end of part 2, else it is the end of part 3.
 * Only one controller-manager leads, so one in full must not run beside others that are still reduced for a
 * reason.
 */

import { endpointsToWaitFor } from "../api/endpoints.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { hostOfHolder } from "../api/kube-object.ts";
import { dropOwnLease, leaderOf, nextLeader } from "../api/leader-leases.ts";
import { oldestStart, pidsNamed } from "../etcd-location/static-pod-here.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { containerEnd } from "../facts/ended-container.ts";
import { otherControlPlanes } from "../facts/known-nodes.ts";
import { leaderLease, leadersSeen } from "../facts/leaders.ts";
import type { Repair } from "../facts/repair.ts";
import { Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { forGood } from "../for-good.ts";
import { manifestPath } from "../manifests/on-disk.ts";
import { full, isReduced, managerIsReduced } from "../manifests/repair-changes.ts";
import { controlPlaneContainers } from "../node/containers.ts";
import { rescuedEtcd } from "../node/rescue-folder.ts";
import type { Manifest } from "../objects/objects.ts";
import { quoteUntrusted } from "../plain.ts";
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";
import { exchangeManifest, manifestBeforeOrAfter } from "./exchange.ts";

const NAME = "kube-controller-manager";

/**
 * Turns on again what was reduced. Each control plane node sees in its own manifest what was reduced.
 * `restarted`: only these nodes' kubelets have started anew; unset: any may have.
 */
export async function fullControllerManager(
  cp: ControlPlaneNode,
  api: KubeApi,
  restarted?: readonly string[],
) {
  const name = NAME;
  const path = manifestPath(cp, name);
  const now = manifestBeforeOrAfter(path);
  if (!now)
    throw new Fail(`There is no "${path}"`, { hint: "run part 2 first: ./bunw scripts/02-control-plane.ts" });
  const manifest = full(now);
  if (manifest === now && exists(path)) return say(`unchanged ${path}: nothing in it is reduced`);
  const endpoints = await endpointsToWaitFor(api, restarted);
  forGood("fullManager");
  await exchangeManifest(cp, name, {
    manifest,
    // it takes pods that are not ready out of their Services
    when: endpoints,
    note: "node-lifecycle, taint eviction and pod collection are on again",
  });
  if (mode.dryRun) return;
  const lease = leaderLease(cp.node, name);
  const last = lease === undefined ? undefined : await leaderOf(api, lease);
  if (lease) await dropOwnLease(api, lease, last, { ...cp.node, started: oldestStart(name) });
  const hint = shell`crictl ps -a --name ${name}; crictl logs ID`;
  const ended = containerEnd(cp, name, () => api.ready());
  await waitFor("the kubelet to start it again", runsAgain(cp, name), { seconds: 60, hint, ended });
  if (lease) say(`${await nextLeader(api, lease, last, { seconds: 90, hint, ended })}: leads`);
}

/** Milliseconds between two questions to the runtime while no process has the name: in a machine of its own none has. */
const ASK_EVERY = 1000;

/**
 * Whether its container runs, as the runtime says. That is asked once there is a process of this name: to ask again and
 * again takes the processor from the container that is to start.
 */
function runsAgain({ node }: ControlPlaneNode, name: string): () => Promise<boolean> {
  let asked = 0;
  return async () => {
    if (Date.now() - asked < ASK_EVERY && pidsNamed(name).length === 0) return false;
    asked = Date.now();
    return (await controlPlaneContainers(node.runtimeEndpoint)).some((container) => container.name === name);
  };
}

/** As much of a mirror pod as says how its manifest is. */
type ManagerPod = Pick<Manifest, "metadata">;

function managerOn(api: KubeApi, node: string): Promise<ManagerPod | undefined> {
  return api.find<ManagerPod>(`/api/v1/namespaces/kube-system/pods/${NAME}-${node}`);
}

/**
 * Names of the control plane nodes whose controller-manager is reduced, this one by its manifest, the others
 * by their mirror pods. `without`: those that are left out: nobody keeps their mirror pods true, and `close`
 * is not for them.
 */
export async function reducedManagers(
  cp: ControlPlaneNode,
  api: KubeApi,
  without: readonly string[],
): Promise<string[]> {
  const others = otherControlPlanes(cp.cluster, { node: cp.node, without }).map(({ name }) => name);
  const pods = await Promise.all(others.map((name) => managerOn(api, name)));
  const reduced = others.filter((_, i) => pods[i] && isReduced(pods[i]));
  return [...(managerIsReduced(cp) ? [cp.node.name] : []), ...reduced];
}

/**
 * The control plane nodes on which `close` still has something to do where nobody has to join; says what.
 * `asking`: nodes whose kubelets have no serving certificate. `without`: those that are left out.
 */
export async function whereToClose(
  cp: ControlPlaneNode,
  api: KubeApi,
  { asking, without }: Record<"asking" | "without", readonly string[]>,
) {
  const but = without.length > 0 ? ` but those of ${without.join(", ")}` : "";
  say(`the CA is unchanged, and every kubelet${but} renews its Lease: no worker has to join`);
  const reduced = await reducedManagers(cp, api, without);
  if (asking.length > 0)
    say(`no serving certificate of the CA on ${asking.join(", ")}: close approves what they ask for`);
  if (reduced.length > 0)
    say(`the controller-manager is reduced on ${reduced.join(", ")}: close lets it run in full`);
  if (asking.length + reduced.length === 0) say("part 3 has nothing to do");
  return [...new Set([...reduced, ...(asking.length > 0 ? [cp.node.name] : [])])];
}

/**
 * Whose controller-manager leads in full on another control plane node, as seen by its renewals: it does to
 * silent nodes what it always does. The operator is told, and it decides nothing: the next thing that is typed
 * there may end it, and its successor begins reduced. Undefined where none leads, or a reduced one may.
 */
export async function leadsInFull(cp: ControlPlaneNode, api: KubeApi): Promise<string | undefined> {
  const lease = leaderLease(cp.node, NAME);
  const last = lease === undefined ? undefined : await leaderOf(api, lease);
  const shownSince = (holder: string) => (holder === leaderBefore(cp, lease!) ? new Date(0) : began(cp));
  if (!lease || !last || !(await anyInFull(cp, api, shownSince(last.holder)))) return undefined;
  const holder = await undefinedOnTimeout(
    nextLeader(api, lease, last, { seconds: 5, hint: shell`crictl ps --name ${NAME}` }),
  );
  const host = holder && hostOfHolder(holder);
  if (!host || host === cp.node.hostName) return undefined;
  return await inFullOn(host, cp, { api, shownSince: shownSince(holder) });
}

/** Where none of the others can lead in full, nobody waits for a renewal to see who leads. */
async function anyInFull(cp: ControlPlaneNode, api: KubeApi, shownSince: Date): Promise<boolean> {
  const others = otherControlPlanes(cp.cluster, cp);
  const pods = await Promise.all(others.map(({ name }) => managerOn(api, name)));
  return pods.some((pod) => isInFull(pod, shownSince));
}

function isInFull(pod: ManagerPod | undefined, shownSince: Date): boolean {
  return pod !== undefined && !isReduced(pod) && new Date(pod.metadata.creationTimestamp ?? 0) >= shownSince;
}

/** Milliseconds. */
const DAY = 86_400_000;

/** Under the old CA one counts as over once the API has written anything, while kubelets are still late. */
function repairOfToday(cp: ControlPlaneNode): Repair {
  const { earlier = cp } = cp;
  return Date.now() - earlier.rescue.made.getTime() < DAY ? earlier : cp;
}

/** Where a copy of etcd's data says since when this node is repaired. */
function began(cp: ControlPlaneNode): Date {
  const { dataFrom, rescue } = repairOfToday(cp);
  return dataFrom === rescuedEtcd(rescue) ? rescue.made : new Date(0);
}

function leaderBefore(cp: ControlPlaneNode, lease: string): string | undefined {
  return leadersSeen({ ...repairOfToday(cp), node: cp.node }).leaders.get(lease)?.holder;
}

/**
 * A kubelet's Node has the host's name in small letters, unless --hostname-override says another one
 * (k8s.io/component-helpers node/util, GetHostname). Nothing tells the name of another host then; so one in
 * full leads where none of the others is reduced. `shownSince`: a kubelet may be late to show the API a
 * manifest that was exchanged, so the mirror pod of before this says nothing of a leader that has started
 * since.
 */
async function inFullOn(
  host: string,
  cp: ControlPlaneNode,
  { api, shownSince }: { api: KubeApi; shownSince: Date },
): Promise<string | undefined> {
  const others = otherControlPlanes(cp.cluster, cp).map(({ name }) => name);
  const named = others.find((name) => name === host.toLowerCase());
  const pods = await Promise.all((named ? [named] : others).map((name) => managerOn(api, name)));
  const allFull = pods.length > 0 && pods.every((pod) => isInFull(pod, shownSince));
  return allFull ? (named ?? quoteUntrusted(host)) : undefined;
}
