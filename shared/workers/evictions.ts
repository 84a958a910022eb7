/**
 * What a controller-manager that runs in full does to a node that does not renew its Lease: it taints the
 * Node with node.kubernetes.io/unreachable:NoExecute, and deletes each pod when the pod's own time is over.
 * Sources: pkg/controller/nodelifecycle, pkg/controller/tainteviction (getMinTolerationTime),
 * plugin/pkg/admission/defaulttolerationseconds (300 s).
 */
import type { KubeApi } from "../api/kube-api.ts";
import { type KubeObject, nameOf } from "../api/kube-object.ts";
import { inParallel } from "../api/many.ts";
import type { ControlPlaneNode } from "../facts/control-plane-node.ts";
import { controllerOf } from "../facts/pod-trust.ts";
import type { Toleration } from "../objects/objects.ts";
import { minorOf } from "../pki/certs.ts";
import { FEW, listed } from "../plain.ts";
import { say } from "../run.ts";
import { clock } from "../wait-for.ts";

const TAINT = { key: "node.kubernetes.io/unreachable", effect: "NoExecute" };

/** As much of a pod as decides this. */
interface EvictedPod extends KubeObject {
  spec: { tolerations?: readonly Toleration[] };
  status?: { phase?: string };
}

interface SilentNode extends KubeObject {
  spec?: { taints?: readonly { key: string; effect: string }[] };
}

/** The pods of one node that would be deleted. */
interface Evictions {
  node: string;
  /** One in full has seen that it is silent: it has taken its pods out of their Services, and their time runs. */
  isTainted: boolean;
  /** `namespace/name`; those that nobody makes again come first. */
  pods: readonly string[];
  /** How many of them are bare. */
  bare: number;
  /** Milliseconds from the start of a controller-manager in full until the first one is deleted. */
  after: number;
}

/** Seconds from the taint until this pod is deleted; undefined: never. */
export function secondsTolerated({ spec }: Pick<EvictedPod, "spec">): number | undefined {
  const matching = (spec.tolerations ?? []).filter(tolerates);
  if (matching.length === 0) return 0;
  const limits = matching.flatMap(({ tolerationSeconds }) =>
    tolerationSeconds === undefined ? [] : [Math.max(0, tolerationSeconds)],
  );
  return limits.length > 0 ? Math.min(...limits) : undefined;
}

/** k8s.io/api/core/v1, Toleration.ToleratesTaint; the taint has no value. */
function tolerates({ key, operator, effect, value }: Toleration): boolean {
  if (effect && effect !== TAINT.effect) return false;
  if (key && key !== TAINT.key) return false;
  return operator === "Exists" || !value;
}

/** It has ended, or is deleted already: its kubelet has not said so. */
function isOver({ status, metadata }: EvictedPod): boolean {
  return metadata.deletionTimestamp !== undefined || ["Succeeded", "Failed"].includes(status?.phase ?? "");
}

/**
 * Seconds in which a kubelet may be silent: node-monitor-grace-period, whose default is longer since 1.32.
 */
function graceOf(kubernetesVersion: string): number {
  return minorOf(kubernetesVersion) < 32 ? 40 : 50;
}

/** Of some nodes only: each is a question. */
async function evictionsOf(
  api: KubeApi,
  nodes: readonly string[],
  kubernetesVersion: string,
): Promise<Evictions[]> {
  const found: Evictions[] = [];
  await inParallel(nodes.slice(0, FEW), FEW, async (node) => {
    const seen = await api.find<SilentNode>(`/api/v1/nodes/${node}`);
    const isTainted =
      seen?.spec?.taints?.some(({ key, effect }) => key === TAINT.key && effect === TAINT.effect) ?? false;
    const pods = await api.list<EvictedPod>(
      `/api/v1/pods?fieldSelector=spec.nodeName%3D${encodeURIComponent(node)}`,
    );
    const evicted = pods.flatMap((pod) => {
      const seconds = isOver(pod) ? undefined : secondsTolerated(pod);
      return seconds === undefined ? [] : [{ name: nameOf(pod), seconds, isBare: !controllerOf(pod) }];
    });
    evicted.sort((a, b) => Number(b.isBare) - Number(a.isBare) || a.name.localeCompare(b.name));
    const after =
      (isTainted ? 0 : graceOf(kubernetesVersion)) + Math.min(...evicted.map(({ seconds }) => seconds));
    const bare = evicted.filter(({ isBare }) => isBare).length;
    found.push({ node, isTainted, pods: evicted.map(({ name }) => name), bare, after: after * 1000 });
  });
  return found.sort((a, b) => a.node.localeCompare(b.node));
}

/**
 * Whether one in full has done to these silent nodes all that it does: they have been away since before this
 * repair, and to keep a controller-manager reduced protects nothing there. Of many it is not asked.
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

/**
 * Says what is evicted of these nodes, and from which second on. `isFull`: the controller-manager runs in
 * full from now on; else it would be so if it did.
 */
export async function sayEvictions(
  { cluster }: Pick<ControlPlaneNode, "cluster">,
  api: KubeApi,
  { nodes, isFull }: { nodes: readonly string[]; isFull: boolean },
) {
  for (const { node, pods, bare, after } of await evictionsOf(api, nodes, cluster.kubernetesVersion)) {
    if (pods.length === 0) continue;
    const number = pods.length === 1 ? "1 pod" : `${pods.length} pods`;
    const from = clock(Date.now() + after);
    const again =
      bare > 0
        ? `. Nobody makes ${bare === 1 ? "this one" : `these ${bare}`} again: ${listed(pods.slice(0, bare))}`
        : "";
    if (isFull)
      say(`${node}: ${number} to be deleted from ${from} on, unless it renews its Lease before${again}`);
    else
      say(
        `${node}: nothing is evicted. A controller-manager in full would delete ${number} from ${from} on${again}`,
      );
  }
  if (nodes.length > FEW) say(`and ${nodes.length - FEW} more nodes`);
}
