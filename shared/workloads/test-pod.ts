/** What a test pod is, and which nodes take one. */
import type { KubeApi } from "../api/kube-api.ts";
import { isReady, type KubeObject } from "../api/kube-object.ts";
import type { RunningPod } from "../facts/pod-trust.ts";

export const PODS = "/api/v1/namespaces/kube-system/pods";

/** All of them. */
export const TEST_PODS = `${PODS}?labelSelector=${encodeURIComponent("kube-pki-repair=canary")}`;

/** Whether a run that was cut off has left test pods. */
export async function hasLeftCanaries(api: KubeApi): Promise<boolean> {
  return (await api.list(TEST_PODS)).length > 0;
}

interface Proxy extends KubeObject {
  spec: { template: { spec: { containers: { image: string }[]; imagePullSecrets?: object[] } } };
}

/**
 * What a test pod has from kube-proxy: an image that is on each of its nodes, and the right to pull it.
 * `proxies`: its pods, unset where there is none.
 */
export interface Pattern {
  image: string;
  command?: string[];
  imagePullSecrets?: object[];
  proxies?: RunningPod[];
}

/** Without kube-proxy any image will do: the network is there before an image is looked for. */
const PAUSE = "registry.k8s.io/pause:3.10";

export async function patternOf(api: KubeApi): Promise<Pattern> {
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
 * Nodes with Linux and a kubelet whose kube-proxy is Ready, or that are Ready where there is none; and those
 * that are not tried, with the reason.
 */
export async function nodesToTest(api: KubeApi, proxies: readonly RunningPod[] | undefined) {
  const proxied =
    proxies && new Set(proxies.flatMap((pod) => (isReady(pod) ? (pod.spec.nodeName ?? []) : [])));
  const nodes: string[] = [];
  const not: string[] = [];
  for await (const node of api.items<NodeObject>("/api/v1/nodes")) {
    const { name } = node.metadata;
    const why =
      otherSystem(node) ??
      (isReady(node) ? undefined : "not Ready") ??
      (proxied?.has(name) === false ? "no Ready kube-proxy" : undefined);
    if (why) not.push(`${name} (${why})`);
    else nodes.push(name);
  }
  return { nodes, not };
}

/**
 * Labels and taints that the kubelet, or a virtual one (virtual-kubelet's documentation, Azure's ACI
 * connector), gives its Node.
 */
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
export function podFor(
  { name, node, seconds }: { name: string; node: string; seconds: number },
  { image, command, imagePullSecrets = [] }: Pattern,
) {
  const securityContext = {
    ...{ allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] }, readOnlyRootFilesystem: true },
    ...{ runAsNonRoot: true, runAsUser: 65534, seccompProfile: { type: "RuntimeDefault" } },
  };
  const resources = { requests: { cpu: "1m", memory: "8Mi" }, limits: { cpu: "50m", memory: "64Mi" } };
  const container = {
    name: "canary",
    image,
    imagePullPolicy: "IfNotPresent",
    ...(command ? { command } : {}),
    resources,
    securityContext,
  };
  const ends = { restartPolicy: "Always", activeDeadlineSeconds: seconds, terminationGracePeriodSeconds: 0 };
  const spec = {
    nodeName: node,
    ...ends,
    tolerations: [{ operator: "Exists" }],
    imagePullSecrets,
    containers: [container],
  };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "kube-system", labels: { "kube-pki-repair": "canary" } },
    spec,
  };
}
