/** Restarts the owners of pods, as `kubectl rollout restart` does, or evicts single pods; waits until the new pods are available. */
import { type KubeApi, type KubeObject, unlessRefused } from "../api/kube-api.ts";
import { inParallel } from "../api/many.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { Fail } from "../fail.ts";
import { Progress } from "../progress.ts";
import { say, waitFor } from "../run.ts";
import type { PodOwner } from "./stale-pods.ts";

const RESTARTED = "kubectl.kubernetes.io/restartedAt";

/** How long a rollout may take, and how much longer for each pod: a DaemonSet replaces them one after the other. */
const SECONDS = 300;
const SECONDS_PER_POD = 15;

/** Pods of a DaemonSet that are replaced at the same time. */
const REPLACED_AT_ONCE = 50;

/** Test pods at the same time. */
const CANARIES = 50;

interface Workload extends KubeObject {
  metadata: KubeObject["metadata"] & { generation: number };
  spec: {
    replicas?: number;
    selector?: { matchLabels?: Record<string, string> };
    template: { metadata?: { annotations?: Record<string, string> } };
  };
  status: Partial<Record<Counter, number>> & { updateRevision?: string; currentRevision?: string };
}

type Counter =
  | "observedGeneration"
  | "replicas"
  | "updatedReplicas"
  | "availableReplicas"
  | "desiredNumberScheduled"
  | "updatedNumberScheduled"
  | "numberAvailable";

/** Restarts one owner and waits for it. Errors: Fail if its new pods do not become available. */
export async function restart(api: KubeApi, owner: PodOwner) {
  if (owner.kind === "replace") return replace(api, owner);
  if (owner.kind === "evict") {
    await evict(api, owner);
    return say(`${owner.namespace}/${owner.name}: evicted`);
  }
  const path = workloadPath(owner, owner.kind);
  const before = await api.get<Workload>(path);
  const restarted = before.spec.template.metadata?.annotations?.[RESTARTED];
  // If an interrupted run has started this rollout, this run only waits for it.
  if (!restarted || new Date(restarted) < owner.since) {
    await api.patch(path, { spec: { template: { metadata: { annotations: { [RESTARTED]: new Date().toISOString() } } } } });
  }
  await waitFor(`${label(owner)} to roll out`, async () => isRolledOut(await api.get<Workload>(path), owner.kind), {
    seconds: SECONDS + owner.pods.length * SECONDS_PER_POD,
    hint: `kubectl -n ${owner.namespace} rollout status ${owner.kind.toLowerCase()}/${owner.name}; kubectl -n ${owner.namespace} get events. Then run this script again`,
  });
  say(`${label(owner)}: restarted, ${counted(owner, "pod")}`);
}

function workloadPath({ namespace, name }: PodOwner, kind: string): string {
  return `/apis/apps/v1/namespaces/${namespace}/${kind.toLowerCase()}s/${name}`;
}

/** Evicts all pods of a DaemonSet at once; done when every node has a new one that is Ready. */
async function replace(api: KubeApi, owner: PodOwner) {
  const old = new Set(owner.pods.map(({ metadata }) => metadata.uid));
  await inParallel(owner.pods, REPLACED_AT_ONCE, (pod) => evict(api, { ...owner, name: pod.metadata.name, pods: [pod] }));
  const path = workloadPath(owner, "DaemonSet");
  const { spec } = await api.get<Workload>(path);
  const labels = Object.entries(spec.selector?.matchLabels ?? {}).map(([key, value]) => `${key}=${value}`);
  const pods = `/api/v1/namespaces/${owner.namespace}/pods?labelSelector=${encodeURIComponent(labels.join(","))}`;
  const renewed = async () => {
    const [{ status }, all] = await Promise.all([api.get<Workload>(path), api.list<RunningPod>(pods)]);
    return (
      all.length === status.desiredNumberScheduled &&
      all.every((pod) => isReady(pod) && !pod.metadata.deletionTimestamp && !old.has(pod.metadata.uid))
    );
  };
  await waitFor(`${label(owner)} to be back on every node`, renewed, {
    seconds: SECONDS,
    hint: `kubectl -n ${owner.namespace} get pods -l ${labels.join(",")} -o wide; then run this script again`,
  });
  say(`${label(owner)}: replaced on ${counted(owner, "node")} at once`);
}

function counted({ pods }: PodOwner, what: string): string {
  return `${pods.length} ${what}${pods.length === 1 ? "" : "s"}`;
}

/** Whether its condition Ready is true; it may be about to end. */
export function isReady({ status }: RunningPod): boolean {
  return status?.conditions?.some(({ type, status: value }) => type === "Ready" && value === "True") ?? false;
}

export function label({ namespace, name, kind }: PodOwner): string {
  const isOnePod = kind === "evict" || kind === "report";
  return `${namespace}/${name}${isOnePod ? "" : ` (${kind === "replace" ? "DaemonSet" : kind})`}`;
}

function isRolledOut({ metadata, spec, status }: Workload, kind: PodOwner["kind"]): boolean {
  if ((status.observedGeneration ?? 0) < metadata.generation) return false;
  if (kind === "DaemonSet") {
    const wanted = status.desiredNumberScheduled ?? 0;
    return (status.updatedNumberScheduled ?? 0) === wanted && (status.numberAvailable ?? 0) === wanted;
  }
  const wanted = spec.replicas ?? 1;
  const updated = kind === "StatefulSet" ? status.updateRevision === status.currentRevision : status.updatedReplicas === wanted;
  return updated && (status.replicas ?? 0) === wanted && (status.availableReplicas ?? 0) === wanted;
}

/** The eviction API obeys PodDisruptionBudgets: it answers 429 as long as an eviction would break one. */
async function evict(api: KubeApi, { namespace, name, pods }: PodOwner) {
  const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
  const eviction = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace } };
  const isGone = async () => (await api.find(path))?.metadata.uid !== pods[0]?.metadata.uid;
  const isEvicted = async () => (await isGone()) || (await unlessRefused([429], () => api.create(`${path}/eviction`, eviction)));
  await waitFor(`${namespace}/${name} to be evicted`, isEvicted, {
    seconds: SECONDS,
    hint: `kubectl -n ${namespace} get pdb; then run this script again`,
  });
  await waitFor(`${namespace}/${name} to be gone`, isGone, { seconds: SECONDS, hint: `kubectl -n ${namespace} describe pod ${name}` });
}

/**
 * Starts a test pod on every node and removes it again: this proves that new sandboxes, the network plugin and new token volumes work
 * there. The pod runs `--version` of kube-proxy's image, which is on every node.
 */
export async function canaries(api: KubeApi, nodes: readonly string[]) {
  const proxy = await api.find<KubeObject & { spec: { template: { spec: { containers: { image: string }[] } } } }>(
    "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy",
  );
  const image = proxy?.spec.template.spec.containers[0]?.image;
  if (!image) return say("there is no kube-proxy, so no image that every node surely has: no test pods");
  const progress = new Progress("test pods", nodes.length);
  let done = 0;
  await inParallel(nodes, CANARIES, async (node) => {
    await canary(api, node, image);
    progress.show(++done);
  });
  progress.clear();
  say(`test pods: started and ended on ${nodes.length} of ${nodes.length} nodes`);
}

async function canary(api: KubeApi, node: string, image: string) {
  const name = `kube-pki-repair-canary-${node}`;
  const pods = "/api/v1/namespaces/kube-system/pods";
  await removePod(api, `${pods}/${name}`);
  const container = { name: "canary", image, imagePullPolicy: "IfNotPresent", command: ["kube-proxy", "--version"] };
  const spec = { nodeName: node, restartPolicy: "Never", tolerations: [{ operator: "Exists" }], containers: [container] };
  await api.create(pods, { apiVersion: "v1", kind: "Pod", metadata: { name, namespace: "kube-system" }, spec });
  const ended = async () => {
    const { status } = await api.get<KubeObject & { status: { phase: string } }>(`${pods}/${name}`);
    return status.phase === "Succeeded" || status.phase === "Failed" ? status.phase : undefined;
  };
  const hint = `sandboxes or the network plugin do not work on ${node}: kubectl -n kube-system describe pod ${name}`;
  const phase = await waitFor(`a test pod on ${node}`, ended, { seconds: 120, hint });
  if (phase === "Failed") throw new Fail(`The test pod on ${node} failed`, { hint: `kubectl -n kube-system logs ${name}` });
  await removePod(api, `${pods}/${name}`);
}

async function removePod(api: KubeApi, path: string) {
  if (!(await api.find(path))) return;
  await api.delete(path, { gracePeriodSeconds: 0 });
  await waitFor("the test pod to be gone", async () => !(await api.find(path)), { seconds: 60, hint: "kubectl -n kube-system get pods" });
}
