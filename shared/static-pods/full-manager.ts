/**
 * The reduced controller-manager runs in full again on this node: when every node that etcd knew renews its
 * Lease, or is named as away. With the old CA that may be the end of part 2, else it is the end of part 3.
 * Only one controller-manager leads, so one in full must not run beside others that are still reduced for a
 * reason.
 */
import { endpointsToWaitFor } from "../api/endpoints.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { hostOfHolder } from "../api/kube-object.ts";
import { dropOwnLease, leaderOf, nextLeader } from "../api/leases.ts";
import { oldestStart, pidsNamed } from "../etcd-location/static-pod-here.ts";
import { containerEnd } from "../facts/ended-container.ts";
import { leaderLease, leadersSeen } from "../facts/leaders.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { otherControlPlanes } from "../facts/other-control-planes.ts";
import { Fail } from "../fail.ts";
import { exists } from "../files/files.ts";
import { manifestPath, readManifest } from "../manifests/on-disk.ts";
import { isReduced, managerIsReduced, withAllControllers } from "../manifests/repair-changes.ts";
import { waitingPath } from "../manifests/waiting-path.ts";
import { controlPlaneContainers } from "../node/containers.ts";
import { rescuedEtcd } from "../node/rescue-folder.ts";
import type { Manifest } from "../objects/objects.ts";
import { quoteUntrusted } from "../plain.ts";
import { mode, say, sayNoUndo } from "../run.ts";
import { shell } from "../shell-line.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";
import { exchangeManifest } from "./take-up.ts";

const NAME = "kube-controller-manager";

/**
 * Turns on again what was reduced. Each control plane node sees in its own manifest what was reduced. `away`: names of
 * nodes that do not renew their Lease. `restarted`: only these nodes' kubelets have started again; unset: any may have.
 */
export async function fullControllerManager(
  cp: ControlPlaneNode,
  api: KubeApi,
  { away, restarted }: { away: readonly string[]; restarted?: readonly string[] },
) {
  const path = manifestPath(cp, NAME);
  // an exchange that was cut off has left it waiting beside its place
  const now = readManifest(path) ?? readManifest(waitingPath(path));
  if (!now)
    throw new Fail(`There is no "${path}"`, { hint: "run part 2 first: ./bunw scripts/02-control-plane.ts" });
  const manifest = withAllControllers(now);
  if (manifest === now && exists(path)) return say(`unchanged ${path}: nothing in it is reduced`);
  // one in full takes pods that are not ready out of their Services
  const when = await endpointsToWaitFor(api, restarted);
  if (away.length > 0) sayNoUndo("fullManager");
  const note = "node-lifecycle, taint eviction and pod collection are on again";
  await exchangeManifest(cp, NAME, { manifest, when, note });
  if (mode.dryRun) return;
  const lease = leaderLease(cp.node, NAME);
  const last = lease === undefined ? undefined : await leaderOf(api, lease);
  if (lease) await dropOwnLease(api, lease, last, { ...cp.node, started: oldestStart(NAME) });
  const hint = shell`crictl ps -a --name ${NAME}; crictl logs ID`;
  const ended = containerEnd(cp, NAME, () => api.ready());
  await waitFor("the kubelet to start it again", runsAgain(cp), { seconds: 60, hint, ended });
  if (lease) say(`${await nextLeader(api, lease, last, { seconds: 90, hint, ended })}: leads`);
}

/** Milliseconds, while no process has the name: in a machine of its own none has. */
const ASK_EVERY = 1000;

/**
 * Whether its container runs, as the runtime says. That is asked once there is a process of this name: to ask again and
 * again takes the processor from the container that is to start.
 */
function runsAgain({ node }: ControlPlaneNode): () => Promise<boolean> {
  let lastQuestion = 0;
  return async () => {
    if (Date.now() - lastQuestion < ASK_EVERY && pidsNamed(NAME).length === 0) return false;
    lastQuestion = Date.now();
    return (await controlPlaneContainers(node.runtimeEndpoint)).some(({ name }) => name === NAME);
  };
}

/** The fields of a mirror pod that show what its manifest is. */
async function managersOn(api: KubeApi, nodes: readonly string[]): Promise<Map<string, ManagerPod>> {
  const path = (node: string) => `/api/v1/namespaces/kube-system/pods/${NAME}-${node}`;
  const pods = await Promise.all(nodes.map((node) => api.find<ManagerPod>(path(node))));
  return new Map(nodes.flatMap((node, i) => (pods[i] ? [[node, pods[i]] as const] : [])));
}

type ManagerPod = Pick<Manifest, "metadata">;

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
  const pods = [...(await managersOn(api, others))];
  const reduced = pods.flatMap(([name, pod]) => (isReduced(pod) ? [name] : []));
  return managerIsReduced(cp) ? [cp.node.name, ...reduced] : reduced;
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
    say(`no serving certificate of the CA on ${asking.join(", ")}: close approves their CSRs`);
  if (reduced.length > 0)
    say(`the controller-manager is reduced on ${reduced.join(", ")}: close lets it run in full`);
  if (asking.length + reduced.length === 0) say("part 3 has nothing to do");
  return [...new Set([...reduced, ...(asking.length > 0 ? [cp.node.name] : [])])];
}

/**
 * The other control plane node whose controller-manager leads in full, as its renewals show: it does to silent nodes
 * what it always does. The operator reads it, and it decides nothing: the next command there may end it, and its
 * successor begins reduced. Undefined if none leads, or a reduced one may.
 */
export async function unreducedLeader(cp: ControlPlaneNode, api: KubeApi): Promise<string | undefined> {
  const lease = leaderLease(cp.node, NAME);
  const last = lease === undefined ? undefined : await leaderOf(api, lease);
  if (!lease || !last) return undefined;
  const shownSince = shownSinceOf(cp, lease);
  const others = otherControlPlanes(cp.cluster, cp).map(({ name }) => name);
  // where none of the others can lead in full, nobody waits for a renewal to see who leads
  const pods = await managersOn(api, others);
  if (!pods.values().some((pod) => isInFull(pod, shownSince(last.holder)))) return undefined;
  const hint = shell`crictl ps --name ${NAME}`;
  const holder = await undefinedOnTimeout(nextLeader(api, lease, last, { seconds: 5, hint }));
  const host = holder && hostOfHolder(holder);
  if (!host || host === cp.node.hostName) return undefined;
  // A kubelet's Node has the host's name in small letters, unless --hostname-override says another one
  // (k8s.io/component-helpers node/util, GetHostname): then one in full leads if none of the others is reduced.
  const named = others.find((name) => name === host.toLowerCase());
  const candidates = named ? [named] : others;
  // seconds have passed since the first look: a pod that has come since counts
  const now = await managersOn(api, candidates);
  const areFull = candidates.every((name) => isInFull(now.get(name), shownSince(holder)));
  return areFull ? (named ?? quoteUntrusted(host)) : undefined;
}

function isInFull(pod: ManagerPod | undefined, shownSince: Date): boolean {
  return pod !== undefined && !isReduced(pod) && new Date(pod.metadata.creationTimestamp ?? 0) >= shownSince;
}

const DAY = 86_400_000;

/**
 * Holder → the time since which a mirror pod must be there to describe that leader. A kubelet may be late to show the
 * API a manifest that was exchanged, so an older mirror pod does not describe a leader that has started since this
 * repair began. A copy of etcd's data says when that was.
 */
function shownSinceOf(cp: ControlPlaneNode, lease: string): (holder: string) => Date {
  const { earlier = cp } = cp;
  // under the old CA a repair counts as over once the API has written anything, while kubelets are still late
  const repair = Date.now() - earlier.rescue.made.getTime() < DAY ? earlier : cp;
  const before = leadersSeen({ ...repair, node: cp.node }).leaders.get(lease)?.holder;
  const began = repair.dataFrom === rescuedEtcd(repair.rescue) ? repair.rescue.made : new Date(0);
  return (holder) => (holder === before ? new Date(0) : began);
}
