/**
 * Updates old addresses that the cluster keeps, and that nothing else rewrites. In objects: kubeadm-config,
 * without which the next `kubeadm upgrade` or `join` brings the old ones back; cluster-info; kube-proxy's
 * kubeconfig. A Node's addresses, the Service kubernetes and its EndpointSlice follow by themselves.
 *
 * In memory: kube-proxy (its kubeconfig; its node's own address, which it asks for once), and DaemonSets in
 * the network of a machine that has moved, the network plugin first. The podIP of such a pod is the node's.
 * The kubelet takes it from the Node when it first sees the pod, and never changes it ("immutable once set",
 * pkg/kubelet/kubelet_pods.go): Services would lead to the old one. A pod that was started on a new address
 * may still have read the old Node: a restart of the kubelet, once the Node has the new one, mends that
 * without touching a pod.
 */
import { isIP } from "node:net";
import { changeClusterInfo } from "../api/cluster-trust.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { nameOf, podsOn } from "../api/kube-object.ts";
import { allRenewals, isFresh } from "../api/leases.ts";
import { controllerOf, type RunningPod } from "../facts/pod-trust.ts";
import { Fail } from "../fail.ts";
import { systemctlKubelet } from "../node/systemctl-kubelet.ts";
import { asMoved, canonicalHost, endpointPutIn, type Moved } from "../pki/addresses.ts";
import { act, mode, say } from "../run.ts";
import { linesThatFind } from "../shell-line.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";
import { evictInTurn } from "../workloads/evict.ts";
import { label, type PodOwner } from "../workloads/pod-owners.ts";

export async function tellCluster(api: KubeApi, moved: Moved) {
  for (const name of ["kubeadm-config", "kube-proxy"]) {
    const now = await api.configMap("kube-system", name);
    const changed = Object.entries(now ?? {}).flatMap(([key, text]) => {
      const next = withEndpoint(key, asMoved(text, moved), moved);
      return next === text ? [] : [[key, next] as const];
    });
    if (!now) say(`${name}: not there`);
    else if (changed.length === 0) say(`unchanged ${name}: no old address in it`);
    else
      await act("update", `addresses in ${name}: ${changed.map(([key]) => key).join(", ")}`, () =>
        api.patch(`/api/v1/namespaces/kube-system/configmaps/${name}`, { data: Object.fromEntries(changed) }),
      );
  }
  await changeClusterInfo(api, (before) => asMoved(before, moved));
}

/** kubeadm's own text has it once, at the beginning of a line, or not at all. */
function withEndpoint(key: string, text: string, moved: Moved): string {
  const putIn = endpointPutIn(moved);
  if (!putIn || key !== "ClusterConfiguration") return text;
  const line = `controlPlaneEndpoint: ${putIn}\n`;
  if (text.trimStart().startsWith("{"))
    throw new Fail(`Cannot add "${line.trim()}" to ClusterConfiguration: it is not as kubeadm writes it`, {
      hint: "kubectl -n kube-system edit configmap kubeadm-config; then run the same line again",
    });
  return /^controlPlaneEndpoint:/m.test(text)
    ? text.replace(/^controlPlaneEndpoint:.*\n?/m, line)
    : `${text.replace(/\n?$/, "\n")}${line}`;
}

interface Node {
  metadata: { name: string };
  status?: { addresses?: { address: string }[] };
}

/**
 * `made`: when the operator named the move; pods that started later have the new addresses. Returns the nodes
 * whose kubelets do not renew their Lease but have such a pod: nobody there would start a new one.
 */
export async function restartOldPods(api: KubeApi, moved: Moved, made: Date) {
  const nodes = await api.list<Node>("/api/v1/nodes");
  const renewals = await allRenewals(api);
  const silent = nodes.map(({ metadata }) => metadata.name).filter((name) => !isFresh(renewals.get(name)));
  const scene = { onMoved: movedNodes(nodes, moved), everyProxy: await proxiesLedThere(api, moved) };
  const old: RunningPod[] = [];
  for await (const pod of api.items<RunningPod>("/api/v1/pods"))
    if (keepsOld(pod, scene) && startedBefore(pod, made)) old.push(pod);
  if (old.length === 0) say("no pod runs that was started before the move");
  for (const owner of ownersOf(old, made)) {
    const pods = owner.pods.filter(({ spec }) => !silent.includes(spec.nodeName ?? ""));
    const later = owner.pods.length - pods.length;
    if (pods.length > 0) await evictInTurn(api, { ...owner, pods }, { away: new Set(silent) });
    if (later > 0) say(`${label(owner)}: ${later} of its pods wait for their nodes`);
  }
  return { silent: silent.filter((name) => old.some(({ spec }) => spec.nodeName === name)) };
}

/** kube-proxy first. */
function ownersOf(old: readonly RunningPod[], since: Date): PodOwner[] {
  const owners = [...Map.groupBy(old, (pod) => controllerOf(pod)!.uid).values()].map((pods): PodOwner => {
    const { name, kind: controller } = controllerOf(pods[0]!)!;
    return { restart: "evict", namespace: pods[0]!.metadata.namespace!, name, controller, since, pods };
  });
  const isProxy = ({ name }: PodOwner) => Number(name === "kube-proxy");
  return owners.sort((a, b) => isProxy(b) - isProxy(a));
}

function movedNodes(nodes: readonly Node[], moved: Moved): ReadonlySet<string> {
  const addresses = new Set([...moved].flat());
  const isMoved = ({ address }: { address: string }) =>
    isIP(address) > 0 && addresses.has(canonicalHost(address));
  const found = nodes.filter(({ status }) => status?.addresses?.some(isMoved));
  return new Set(found.map(({ metadata }) => metadata.name));
}

/** Whether kube-proxy's kubeconfig has an old address: then all kube-proxies have read it. */
async function proxiesLedThere(api: KubeApi, moved: Moved): Promise<boolean> {
  const text = Object.values((await api.configMap("kube-system", "kube-proxy")) ?? {}).join("\n");
  return asMoved(text, new Map([...moved].map(([old, today]) => [today, old]))) !== text;
}

function keepsOld(
  pod: RunningPod,
  { onMoved, everyProxy }: { onMoved: ReadonlySet<string>; everyProxy: boolean },
): boolean {
  const owner = controllerOf(pod);
  if (owner?.kind !== "DaemonSet" || pod.metadata.deletionTimestamp) return false;
  const isProxy = pod.metadata.namespace === "kube-system" && owner.name === "kube-proxy";
  return (isProxy && everyProxy) || (pod.spec.hostNetwork === true && onMoved.has(pod.spec.nodeName ?? ""));
}

function startedBefore({ status, metadata }: RunningPod, made: Date): boolean {
  const times = (status?.containerStatuses ?? []).flatMap(({ state }) => state?.running?.startedAt ?? []);
  return [...times, metadata.creationTimestamp ?? ""].some((time) => Date.parse(time) < made.getTime());
}

const LOOK = { seconds: 60, hint: "journalctl -u kubelet -n 50" };

/**
 * Names one kubelet that does not report its new address, and leaves it alone. Names a podIP that does not change,
 * too: not only the kubelet writes a pod's status, a network plugin's account may, and so may whoever has its token.
 * Errors: as KubeApi.
 */
export async function renewHostPodIps(api: KubeApi, node: string, moved: Moved) {
  if (mode.dryRun) return say(`would see that no pod in ${node}'s own network has an old podIP`);
  if ((await namingOld(api, node, moved)).length === 0) return;
  const isRenamed = async () =>
    !namesOld((await api.get<Node>(`/api/v1/nodes/${node}`)).status?.addresses, moved);
  if (!(await undefinedOnTimeout(waitFor(`Node ${node} to name its new address`, isRenamed, LOOK))))
    return say(`Node ${node} still names an old address: ${LOOK.hint}`);
  const old = await namingOld(api, node, moved);
  if (old.length === 0) return;
  await systemctlKubelet("restart", `: it remembers an old podIP of ${old.join(", ")}`);
  const areNew = async () => (await namingOld(api, node, moved)).length === 0;
  if (
    await undefinedOnTimeout(waitFor(`pods in ${node}'s own network to have its new address`, areNew, LOOK))
  )
    return;
  const stale = await namingOld(api, node, moved);
  say(
    `warning: the status of ${stale.join(", ")} still names an old podIP: Services may lead there. ${LOOK.hint}; kubectl get endpointslices -A -o wide`,
  );
}

async function namingOld(api: KubeApi, node: string, moved: Moved): Promise<string[]> {
  const pods = await api.list<RunningPod>(podsOn(node));
  return pods
    .filter(({ spec, status }) => spec.hostNetwork && namesOld([status?.podIP, status?.podIPs], moved))
    .map(nameOf);
}

function namesOld(part: unknown, moved: Moved): boolean {
  const text = JSON.stringify(part) ?? "";
  return asMoved(text, moved) !== text;
}

/** Printed for people: only they know whether an old address in what they have made is meant. */
export function printOldAddressSearches(moved: Moved, { inObjects }: { inObjects: boolean }) {
  const [files, objects] = linesThatFind([...moved.keys()], "w");
  say("see what still names an old address, for whoever made it: is it meant?");
  say(`files here: ${files}`);
  if (inObjects) say(`objects: ${objects}`);
}
