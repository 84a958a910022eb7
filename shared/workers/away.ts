/**
 * Nodes that are away: which of those that the operator leaves out really are, and what happens to their pods.
 *
 * A controller-manager that runs in full taints a Node whose Lease is not renewed with
 * node.kubernetes.io/unreachable:NoExecute, and deletes each pod when the pod's own time is over. Sources:
 * pkg/controller/nodelifecycle, pkg/controller/tainteviction (getMinTolerationTime),
 * plugin/pkg/admission/defaulttolerationseconds (300 s).
 */
import { command, type LeftOut, leftNames } from "../again.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { type KubeObject, nameOf, podsOn } from "../api/kube-object.ts";
import { allRenewals, mayBeAlive, nodeLeases } from "../api/leases.ts";
import { trustedSince } from "../facts/ca-copies.ts";
import type { ControlPlaneNode } from "../facts/node-facts.ts";
import { controllerOf } from "../facts/pod-trust.ts";
import { machinesOn, nodesAwayBefore } from "../facts/typed-options.ts";
import { Refused } from "../fail.ts";
import { inParallel } from "../in-parallel.ts";
import { endSavedOptions, isTyped, savedOptionsOf } from "../node/words.ts";
import type { Toleration } from "../objects/objects.ts";
import { minorOf } from "../pki/certs.ts";
import { FEW, listed } from "../plain.ts";
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { clock } from "../wait-for.ts";
import { countBack, listeningOn } from "./node-status.ts";

/**
 * The nodes that are left out and really away. One that renews its Lease is here, and the words of an earlier run
 * about it end. `gone`: their members are out of etcd. Errors: Refused if such a node, or one that this run's line
 * calls lost for good, is here: its Node would be deleted.
 */
export async function confirmLeftOut(
  cp: ControlPlaneNode,
  api: KubeApi,
  { gone = [], ...out }: LeftOut & { gone?: readonly string[] },
): Promise<LeftOut> {
  if (leftNames(out).length === 0) return out;
  const renewals = await allRenewals(api);
  const names = leftNames(out).filter((name) => renewals.has(name));
  if (names.length === 0) return out;
  const since = trustedSince(cp);
  const isFreshNow = (name: string) => mayBeAlive(renewals.get(name), since);
  if (mode.dryRun) return outInDryRun(out, names.filter(isFreshNow));
  const listening = listeningOn(cp.cluster.nodes.filter(({ name }) => names.includes(name)));
  const notAwaited = out.without.filter((name) => !isFreshNow(name));
  const options = { onlyNew: true, since, listening, notAwaited };
  const { notRenewed } = await nodeLeases(api, names, options);
  const back = names.filter((name) => !notRenewed.includes(name));
  const earlier = savedOptionsOf("lost").flatMap((word) => (isTyped(word) ? [] : [word.value]));
  const isSure = (name: string) => gone.includes(name) || !earlier.includes(name);
  const living = back.find((name) => out.lost.includes(name) && isSure(name));
  if (living)
    throw new Refused(`${living} is not lost: it renews its Lease`, {
      unchanged: true,
      hint: shell`leave it out of --lost. If it is to go all the same, type there first: systemctl stop kubelet`,
    });
  countBack(back);
  const isStill = (name: string) => !back.includes(name);
  return { without: out.without.filter(isStill), lost: out.lost.filter(isStill) };
}

/** It waits for no renewal, so it judges none: a node that was lost a moment ago has a Lease of a moment ago. */
function outInDryRun({ without, lost }: LeftOut, fresh: readonly string[]): LeftOut {
  for (const name of fresh)
    say(
      `${name}: renewed its Lease within the last minute. Without --dry-run this waits: a node that renews it is here`,
    );
  return { lost, without: without.filter((name) => !fresh.includes(name)) };
}

/** `open` counts a worker whose machine is on again: it is to join. Its kubelet renews no Lease before that. */
export async function countReturningWorkers(
  { cluster }: Pick<ControlPlaneNode, "cluster">,
  { without, lost }: LeftOut,
): Promise<LeftOut> {
  const workers = cluster.nodes.filter(({ controlPlane }) => !controlPlane);
  const away = nodesAwayBefore(workers, without);
  const running = await machinesOn(away);
  for (const { name } of away.filter(({ name }) => !running.includes(name)))
    say(`${name} does not answer, and gets no token. Is it on? ${command("words", { back: [name] })}`);
  if (!mode.dryRun)
    endSavedOptions(
      ({ option, value }) => option === "without" && running.includes(value),
      "its machine is on again",
    );
  return { lost, without: without.filter((name) => !running.includes(name)) };
}

const TAINT = { key: "node.kubernetes.io/unreachable", effect: "NoExecute" };

interface EvictedPod extends KubeObject {
  spec: { tolerations?: readonly Toleration[] };
  status?: { phase?: string };
}

interface SilentNode extends KubeObject {
  spec?: { taints?: readonly { key: string; effect: string }[] };
}

interface Evictions {
  node: string;
  /** A controller-manager in full has seen that it is silent: its pods are out of their Services, their time runs. */
  isTainted: boolean;
  /** `namespace/name`; those that nobody makes again come first. */
  pods: readonly string[];
  bare: number;
  /** Milliseconds from the start of a controller-manager in full until the first one is deleted. */
  after: number;
}

/**
 * Seconds from the taint, which has no value, until this pod is deleted; undefined: never. k8s.io/api/core/v1,
 * Toleration.ToleratesTaint.
 */
export function secondsTolerated({ spec }: Pick<EvictedPod, "spec">): number | undefined {
  const matching = (spec.tolerations ?? []).filter(
    ({ key, operator, effect, value }) =>
      (!effect || effect === TAINT.effect) &&
      (!key || key === TAINT.key) &&
      (operator === "Exists" || !value),
  );
  if (matching.length === 0) return 0;
  const limits = matching.flatMap(({ tolerationSeconds }) =>
    tolerationSeconds === undefined ? [] : [Math.max(0, tolerationSeconds)],
  );
  return limits.length > 0 ? Math.min(...limits) : undefined;
}

function isOver({ status, metadata }: EvictedPod): boolean {
  return metadata.deletionTimestamp !== undefined || ["Succeeded", "Failed"].includes(status?.phase ?? "");
}

async function evictionsOf(
  api: KubeApi,
  nodes: readonly string[],
  kubernetesVersion: string,
): Promise<Evictions[]> {
  const found: Evictions[] = [];
  // seconds in which a kubelet may be silent: node-monitor-grace-period, whose default is longer since 1.32
  const grace = minorOf(kubernetesVersion) < 32 ? 40 : 50;
  await inParallel(nodes.slice(0, FEW), FEW, async (node) => {
    const silentNode = await api.find<SilentNode>(`/api/v1/nodes/${node}`);
    const isTainted =
      silentNode?.spec?.taints?.some(({ key, effect }) => key === TAINT.key && effect === TAINT.effect) ??
      false;
    const pods = await api.list<EvictedPod>(podsOn(node));
    const evicted = pods.flatMap((pod) => {
      const seconds = isOver(pod) ? undefined : secondsTolerated(pod);
      return seconds === undefined ? [] : [{ name: nameOf(pod), seconds, isBare: !controllerOf(pod) }];
    });
    evicted.sort((a, b) => Number(b.isBare) - Number(a.isBare) || a.name.localeCompare(b.name));
    const after = (isTainted ? 0 : grace) + Math.min(...evicted.map(({ seconds }) => seconds));
    const bare = evicted.filter(({ isBare }) => isBare).length;
    found.push({ node, isTainted, pods: evicted.map(({ name }) => name), bare, after: after * 1000 });
  });
  return found.sort((a, b) => a.node.localeCompare(b.node));
}

/**
 * Whether one in full has done to these silent nodes all that it does: to keep it reduced protects nothing there. Many
 * nodes are not asked about.
 */
export async function areEvicted(
  { cluster }: Pick<ControlPlaneNode, "cluster">,
  api: KubeApi,
  nodes: readonly string[],
): Promise<boolean> {
  if (nodes.length > FEW) return false;
  const found = await evictionsOf(api, nodes, cluster.kubernetesVersion);
  return found.every(({ isTainted, pods }) => isTainted && pods.length === 0);
}

/** `isFull`: the controller-manager runs in full from now on; otherwise the line says what it would do. */
export async function sayEvictions(
  { cluster }: Pick<ControlPlaneNode, "cluster">,
  api: KubeApi,
  { nodes, isFull }: { nodes: readonly string[]; isFull: boolean },
) {
  for (const { node, pods, bare, after } of await evictionsOf(api, nodes, cluster.kubernetesVersion)) {
    if (pods.length === 0) continue;
    const number = pods.length === 1 ? "1 pod" : `${pods.length} pods`;
    const from = clock(Date.now() + after);
    const those = bare === 1 ? "this one" : `these ${bare}`;
    const again = bare > 0 ? `. Nobody makes ${those} again: ${listed(pods.slice(0, bare))}` : "";
    say(
      isFull
        ? `${node}: ${number} to be deleted from ${from} on, unless it renews its Lease before${again}`
        : `${node}: nothing is evicted now. When the controller-manager runs in full again, it deletes ${number} from ${from} on${again}`,
    );
  }
  if (nodes.length > FEW) say(`and ${nodes.length - FEW} more nodes`);
}
