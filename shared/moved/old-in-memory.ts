/**
 * Pods that have read an address of before when they started: kube-proxy (its kubeconfig; its node's own
 * address, which it asks for once), and what a DaemonSet runs in the network of a machine that has moved, the
 * network plugin first. The kubelet never changes the podIP of such a pod (pkg/kubelet/kubelet_pods.go,
 * "immutable once set"), so a Service would lead to the old address as well.
 */
import { isIP } from "node:net";
import type { KubeApi } from "../api/kube-api.ts";
import { allRenewals, isFresh } from "../api/leases.ts";
import { controllerOf, type RunningPod } from "../facts/pod-trust.ts";
import { asMoved, canonicalIp, type Moved } from "../pki/addresses.ts";
import { say } from "../run.ts";
import { evictInTurn } from "../workloads/evict.ts";
import { label, type PodOwner } from "../workloads/pod-owners.ts";

/** `silent`: nodes whose kubelets do not renew their Lease, and where such a pod is. */
type Silent = { silent: string[] };

/** `made`: when the move was said; what started later has read the new addresses. */
export async function restartOldPods(api: KubeApi, moved: Moved, made: Date): Promise<Silent> {
  const nodes = await api.list<Node>("/api/v1/nodes");
  const renewals = await allRenewals(api);
  const silent = nodes.flatMap(({ metadata: { name } }) => (isFresh(renewals.get(name)) ? [] : [name]));
  const around = { onMoved: movedNodes(nodes, moved), everyProxy: await proxiesLedThere(api, moved) };
  const old: RunningPod[] = [];
  for await (const pod of api.items<RunningPod>("/api/v1/pods"))
    if (keepsOld(pod, around) && startedBefore(pod, made)) old.push(pod);
  const owners = [...Map.groupBy(old, (pod) => controllerOf(pod)!.uid).values()].map((pods) =>
    asOwner(pods, made),
  );
  if (owners.length === 0) say("nothing runs that was started before");
  for (const owner of owners.sort(proxyFirst)) await restartHeard(api, owner, silent);
  const where = new Set(old.map(({ spec }) => spec.nodeName ?? ""));
  return { silent: silent.filter((name) => where.has(name)) };
}

/** Those whose kubelets are heard; nobody else would start a new one. */
async function restartHeard(api: KubeApi, owner: PodOwner, silent: readonly string[]) {
  const pods = owner.pods.filter(({ spec }) => !silent.includes(spec.nodeName ?? ""));
  if (pods.length > 0) await evictInTurn(api, { ...owner, pods }, { away: new Set(silent) });
  const later = owner.pods.length - pods.length;
  if (later > 0) say(`${label(owner)}: ${later} of its pods wait for their nodes`);
}

function movedNodes(nodes: readonly Node[], moved: Moved): Set<string> {
  const either = new Set([...moved].flat());
  return new Set(
    nodes.flatMap(({ metadata: { name }, status }) =>
      status?.addresses?.some(({ address }) => isIP(address) && either.has(canonicalIp(address)))
        ? [name]
        : [],
    ),
  );
}

/**
 * Whether kube-proxy's kubeconfig leads to an address that is another one now: then all of them have read the
 * old one.
 */
async function proxiesLedThere(api: KubeApi, moved: Moved): Promise<boolean> {
  const config = await api.find<{ metadata: { name: string }; data?: Record<string, string> }>(
    "/api/v1/namespaces/kube-system/configmaps/kube-proxy",
  );
  const text = Object.values(config?.data ?? {}).join("\n");
  return asMoved(text, new Map([...moved].map(([old, today]) => [today, old]))) !== text;
}

interface Node {
  metadata: { name: string };
  status?: { addresses?: { type: string; address: string }[] };
}

interface Kept {
  onMoved: ReadonlySet<string>;
  everyProxy: boolean;
}

function keepsOld(pod: RunningPod, { onMoved, everyProxy }: Kept): boolean {
  const owner = controllerOf(pod);
  if (owner?.kind !== "DaemonSet" || pod.metadata.deletionTimestamp) return false;
  const isProxy = pod.metadata.namespace === "kube-system" && owner.name === "kube-proxy";
  return (isProxy && everyProxy) || (pod.spec.hostNetwork === true && onMoved.has(pod.spec.nodeName ?? ""));
}

function startedBefore({ status, metadata }: RunningPod, made: Date): boolean {
  const times = (status?.containerStatuses ?? []).flatMap(({ state }) => state?.running?.startedAt ?? []);
  return [...times, metadata.creationTimestamp ?? ""].some((time) => Date.parse(time) < made.getTime());
}

function asOwner(pods: RunningPod[], since: Date): PodOwner {
  const { name, kind } = controllerOf(pods[0]!)!;
  return { restart: "evict", namespace: pods[0]!.metadata.namespace!, name, controller: kind, since, pods };
}

const proxyFirst = (a: PodOwner, b: PodOwner) =>
  Number(b.name === "kube-proxy") - Number(a.name === "kube-proxy");
