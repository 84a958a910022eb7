/**
 * Test pods: does a new pod get a network, on every node? They are a probe, no gate: what one of them does
 * not reach is named, and the others continue. Only where no kubelet at all can give a new pod a network is
 * nothing begun that needs one.
 */

import { DeafWebhook, pastWebhooks, refusalOfOne } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { isReady, type KubeObject } from "../api/kube-object.ts";
import type { RunningPod } from "../facts/pod-trust.ts";
import { attemptLater, Fail } from "../fail.ts";
import { inParallel } from "../in-parallel.ts";
import { isHeard } from "../pki/served.ts";
import { FEW, listed } from "../plain.ts";
import { formatNumber, Progress, sayNames } from "../progress.ts";
import { mode, say } from "../run.ts";
import { shell } from "../shell-line.ts";
import { scaledTimeout, undefinedOnTimeout, waitFor } from "../wait-for.ts";
import { lastEvent, whyNotReady } from "./rollout-status.ts";
import { TEST_PODS } from "./test-pods.ts";

/**
 * Test pods at the same time, and the seconds that all of them may take, one to start, and one to be reached.
 */
const CANARIES = 50;
const SECONDS = 300;
const START_SECONDS = 90;
const REACH_SECONDS = 30;

/** Nobody listens at this port of a test pod: its network says so at once, if it has one. */
const CLOSED_PORT = 1;
const KNOCK_MS = 2000;

interface Shown {
  /** In words for the operator. */
  left: string[];
  /** The kubelets' own words, if not one node can give a new pod a network. */
  noNetwork?: Fail;
}

/** `why`: the reason in the cluster's words. `sandbox`: its network could not be made. */
interface Missed {
  node: string;
  why: string;
  sandbox?: boolean;
}

/** `from`: this node's name. What keeps it from a test is shown, too. */
export async function canaries(api: KubeApi, from: string): Promise<Shown> {
  const found = await attemptLater(() => testAll(api, from));
  return found instanceof Fail ? { left: [`test pods: ${found.message}`] } : found;
}

async function testAll(api: KubeApi, from: string): Promise<Shown> {
  const pattern = await patternOf(api);
  const { nodes, not } = await nodesToTest(api, pattern.proxies);
  if (mode.dryRun) {
    if (nodes.length > 0) say(`would start a test pod on ${listed(nodes)}, and reach it from here`);
    return { left: [] };
  }
  const missed: Missed[] = [];
  const progress = new Progress("test pods", nodes.length);
  const end = Date.now() + scaledTimeout(SECONDS * 1000);
  let done = 0;
  await inParallel(nodes, CANARIES, async (node) => {
    const miss =
      Date.now() > end
        ? { node, why: `not tried: the others took ${SECONDS} s` }
        : await canary(api, node, { pattern, from });
    if (miss) missed.push(miss);
    progress.show(++done);
  }).finally(() => progress.clear());
  if (nodes.length > 0) say(`test pods: reached on ${nodes.length - missed.length} of ${nodes.length} nodes`);
  sayNames("no test pod there", not);
  missed.sort((a, b) => a.node.localeCompare(b.node, "en", { numeric: true }));
  return shown(missed, nodes.length);
}

function shown(missed: readonly Missed[], tried: number): Shown {
  const few = missed.slice(0, FEW).map(({ node, why }) => `test pod on ${node}: ${why}`);
  const left =
    missed.length > FEW ? [...few, `test pods on ${formatNumber(missed.length - FEW)} more nodes`] : few;
  const [first] = missed;
  if (!first || missed.length < tried || !missed.every(({ sandbox }) => sandbox)) return { left };
  const noNetwork = new Fail(`no node gives a new pod a network: ${first.node}: ${first.why}`, {
    hint: "kubectl get events -A --field-selector reason=FailedCreatePodSandBox. See whether the network plugin's pods run. Then run the same line again: it continues with these test pods",
  });
  return { left, noNetwork };
}

/**
 * Removes what a run that was cut off has left: nobody knows how long it has been there, so it proves
 * nothing.
 */
export async function removeLeftCanaries(api: KubeApi) {
  const names = (await api.list(TEST_PODS)).map(({ metadata }) => metadata.name);
  if (names.length === 0) return;
  await inParallel(names, CANARIES, (name) => undefinedOnTimeout(removePod(api, name)));
  sayNames("removed test pods of a run that was cut off", names);
}

/** Returns undefined if a new pod on that node is reached from this node. */
async function canary(
  api: KubeApi,
  node: string,
  { pattern, from }: { pattern: Pattern; from: string },
): Promise<Missed | undefined> {
  const name = `kube-pki-repair-canary-${node}`;
  try {
    await removePod(api, name);
    await pastWebhooks(api, () => api.create(PODS, podFor({ name, node, seconds: SECONDS }, pattern)));
    return await lookAt(api, { name, node, from });
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    const isRefused = refusalOfOne(err) || err instanceof DeafWebhook;
    return { node, why: isRefused ? `refused: ${err.message}` : err.message };
  } finally {
    await undefinedOnTimeout(removePod(api, name));
  }
}

async function lookAt(
  api: KubeApi,
  { name, node, from }: { name: string; node: string; from: string },
): Promise<Missed | undefined> {
  const path = `${PODS}/${name}`;
  const hasNetwork = async () => {
    const pod = await api.get<RunningPod>(path);
    return pod.status?.podIP || pod.status?.phase === "Failed" ? pod : undefined;
  };
  const hint = shell`kubectl -n kube-system describe pod ${name}`;
  const starts = { seconds: START_SECONDS, easing: true, hint };
  const pod = await undefinedOnTimeout(
    waitFor(`a test pod on ${node} to have a network`, hasNetwork, starts),
  );
  const ip = pod?.status?.podIP;
  if (!ip) return await whyNotStarted(api, { name, node });
  // An answer, or the refusal of one, comes from the pod's own network.
  const isReached = async () => (await isHeard(ip, CLOSED_PORT, KNOCK_MS)) !== undefined;
  const answers = {
    ...starts,
    seconds: REACH_SECONDS,
    hint: `${hint}; see whether a NetworkPolicy forbids it`,
  };
  const reached = await undefinedOnTimeout(
    waitFor(`a test pod on ${node} to be reached at ${ip}`, isReached, answers),
  );
  return reached
    ? undefined
    : { node, why: `a new pod there is not reached from ${from} (${ip}), unless a NetworkPolicy forbids it` };
}

/** The pod's own word, else its kubelet's last one. */
async function whyNotStarted(api: KubeApi, { name, node }: { name: string; node: string }): Promise<Missed> {
  const pod = await api.find<RunningPod>(`${PODS}/${name}`);
  const own = pod && whyNotReady(pod);
  if (own) return { node, why: own };
  const about = { namespace: "kube-system", name };
  const noSandbox = await lastEvent(api, about, ({ reason }) => reason === "FailedCreatePodSandBox");
  if (noSandbox) return { node, why: noSandbox, sandbox: true };
  const warning = await lastEvent(api, about, ({ type }) => type === "Warning");
  return { node, why: warning || `not started within ${START_SECONDS} s, and nothing says why` };
}

async function removePod(api: KubeApi, name: string) {
  const path = `${PODS}/${name}`;
  if (!(await api.find(path))) return;
  await api.delete(path, { gracePeriodSeconds: 0 });
  const limit = { seconds: 60, hint: "kubectl -n kube-system get pods" };
  await waitFor("the test pod to be gone", async () => !(await api.find(path)), limit);
}

const PODS = "/api/v1/namespaces/kube-system/pods";

interface Proxy extends KubeObject {
  spec: { template: { spec: { containers: { image: string }[]; imagePullSecrets?: object[] } } };
}

/**
 * Taken from kube-proxy for a test pod: an image that is on each of its nodes, and the right to pull it.
 * `proxies`: its pods, unset if there is none.
 */
interface Pattern {
  image: string;
  command?: string[];
  imagePullSecrets?: object[];
  proxies?: RunningPod[];
}

/** Any image is good enough without kube-proxy: the kubelet sets up the network before it looks for the image. */
const PAUSE = "registry.k8s.io/pause:3.10";

async function patternOf(api: KubeApi): Promise<Pattern> {
  const proxy = await api.find<Proxy>("/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy");
  const { containers, imagePullSecrets = [] } = proxy?.spec.template.spec ?? {};
  const image = containers?.[0]?.image;
  if (!image) return { image: PAUSE };
  const proxies = await api.list<RunningPod>(`${PODS}?labelSelector=k8s-app%3Dkube-proxy`);
  return { image, command: ["kube-proxy", "--version"], imagePullSecrets, proxies };
}

interface NodeObject extends KubeObject {
  spec?: { taints?: { key: string }[] };
  status?: { conditions?: { type: string; status: string }[] };
}

/**
 * Nodes with Linux whose kube-proxy is Ready, or that are Ready where there is none; and the others, with the reason.
 */
async function nodesToTest(api: KubeApi, proxies: readonly RunningPod[] | undefined) {
  const proxied =
    proxies && new Set(proxies.flatMap((pod) => (isReady(pod) ? (pod.spec.nodeName ?? []) : [])));
  const nodes: string[] = [];
  const not: string[] = [];
  for await (const node of api.items<NodeObject>("/api/v1/nodes")) {
    const { name } = node.metadata;
    const why =
      otherSystem(node) ||
      (!isReady(node) && "not Ready") ||
      (proxied?.has(name) === false && "no Ready kube-proxy");
    if (why) not.push(`${name} (${why})`);
    else nodes.push(name);
  }
  return { nodes, not };
}

/** A virtual kubelet, as Azure's ACI connector, gives its Node such labels and taints. */
function otherSystem({ metadata: { labels = {} }, spec }: NodeObject): string | undefined {
  const os = labels["kubernetes.io/os"];
  if (os && os !== "linux") return os;
  const isVirtual =
    labels.type === "virtual-kubelet" ||
    spec?.taints?.some(({ key }) => key.startsWith("virtual-kubelet.io/"));
  return isVirtual ? "virtual" : undefined;
}

/**
 * It ends by itself after so many seconds, if this script cannot end it. It has no priority: to take a
 * critical pod in, a full node's kubelet ends others (pkg/kubelet/preemption). Its container may end or not:
 * the network of a pod that always restarts stays, and that is what is looked at.
 */
function podFor(
  { name, node, seconds }: { name: string; node: string; seconds: number },
  { image, command, imagePullSecrets = [] }: Pattern,
) {
  const securityContext = {
    ...{ allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] }, readOnlyRootFilesystem: true },
    ...{ runAsNonRoot: true, runAsUser: 65534, seccompProfile: { type: "RuntimeDefault" } },
  };
  const resources = { requests: { cpu: "1m", memory: "8Mi" }, limits: { cpu: "50m", memory: "64Mi" } };
  const own = command ? { image, command } : { image };
  const container = { name: "canary", ...own, imagePullPolicy: "IfNotPresent", resources, securityContext };
  const ends = { restartPolicy: "Always", activeDeadlineSeconds: seconds, terminationGracePeriodSeconds: 0 };
  const tolerations = [{ operator: "Exists" }];
  const spec = { nodeName: node, ...ends, tolerations, imagePullSecrets, containers: [container] };
  const metadata = { name, namespace: "kube-system", labels: { "kube-pki-repair": "canary" } };
  return { apiVersion: "v1", kind: "Pod", metadata, spec };
}
