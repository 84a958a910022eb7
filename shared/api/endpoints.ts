/**
 * Whether Services keep their endpoints when the controllers look again. A kubelet that has just started reports a
 * pod as unready until its readiness probe has run (before 1.35; pkg/kubelet/prober/worker.go, initialValue). A
 * controller-manager that runs meanwhile takes the pod out of its Services.
 */
import { attemptLater } from "../fail.ts";
import { inParallel } from "../in-parallel.ts";
import { isDnsName } from "../pki/addresses.ts";
import { listed } from "../plain.ts";
import { mode, say } from "../run.ts";
import { undefinedOnTimeout, waitFor } from "../wait-for.ts";
import type { KubeApi } from "./kube-api.ts";
import { isReady, type KubeObject } from "./kube-object.ts";
import { retry } from "./many.ts";

interface EndpointSlice extends KubeObject {
  endpoints?:
    | {
        addresses?: string[];
        conditions?: { ready?: boolean };
        nodeName?: string;
        targetRef?: { kind?: string; name?: string };
      }[]
    | null;
}

interface Backend {
  namespace: string;
  pod: string;
  node: string;
  addresses: readonly string[];
}

interface ProbedPod extends KubeObject {
  spec: { containers: { name: string; readinessProbe?: unknown }[] };
  status?: {
    podIP?: string;
    podIPs?: { ip: string }[];
    conditions?: { type: string; status: string; lastTransitionTime?: string }[];
    containerStatuses?: { state?: { running?: { startedAt?: string } } }[];
  };
}

/** Maximum number of concurrent requests. */
const AT_ONCE = 50;

/** Pods get so long. */
const SECONDS = 60;

/**
 * The wait until each Service that has endpoints has a pod whose readiness is known anew; the Services are read
 * now. `restarted`: only these nodes' kubelets have started anew; unset: any may have. A Service whose pods do
 * not become ready within a minute is named, and does not hold anything up. Nor does one that leads to nobody any
 * more: where a machine has started anew its pods have other addresses, which only that controller-manager tells, or
 * have not served since, and may need what is repaired later.
 */
export async function endpointsToWaitFor(
  api: KubeApi,
  restarted?: readonly string[],
): Promise<() => Promise<void>> {
  if (mode.dryRun) {
    say("would wait until every Service with endpoints has a pod that is ready");
    return async () => undefined;
  }
  const open = await retry("the EndpointSlices to be read", () => atRisk(api, restarted));
  return () => waitForThem(api, open);
}

async function waitForThem(api: KubeApi, open: Map<string, Backend[]>) {
  if (open.size === 0) return;
  const none = async () => {
    const probes = new Probes(api);
    await inParallel([...open], AT_ONCE, async ([service, pods]) => {
      if (await nothingToLose(pods, api, probes)) open.delete(service);
    });
    return open.size === 0;
  };
  const what = () => `pods of ${listed([...open.keys()])} to be ready again`;
  const hint = "kubectl get pods -A -o wide; the controller-manager starts afterwards in any case";
  await undefinedOnTimeout(waitFor(what, none, { seconds: SECONDS, hint }));
  if (open.size > 0) say(`warning: no pod is ready again of ${listed([...open.keys()])}`);
  else say("every Service with endpoints has a pod that is ready again, or leads to none");
}

/**
 * The Services, `namespace/name`, whose ready endpoints are all pods on such nodes. Tenants may write
 * EndpointSlices, and the API checks no targetRef: what is no name of a pod is no part of a path that we ask
 * for.
 */
async function atRisk(
  api: KubeApi,
  restarted: readonly string[] | undefined,
): Promise<Map<string, Backend[]>> {
  const services = new Map<string, Backend[]>();
  const safe = new Set<string>();
  const slices = api.items<EndpointSlice>("/apis/discovery.k8s.io/v1/endpointslices");
  for await (const { metadata, endpoints } of slices) {
    const { namespace = "", labels } = metadata;
    const service = `${namespace}/${labels?.["kubernetes.io/service-name"]}`;
    for (const { addresses = [], conditions, nodeName: node = "", targetRef } of endpoints ?? []) {
      if (conditions?.ready === false) continue;
      const pod = targetRef?.kind === "Pod" ? (targetRef.name ?? "") : "";
      const isPod = isDnsName(pod) && isDnsName(node);
      if (!isPod || (restarted && !restarted.includes(node))) safe.add(service);
      else services.set(service, [...(services.get(service) ?? []), { namespace, pod, node, addresses }]);
    }
  }
  for (const service of safe) services.delete(service);
  return services;
}

async function nothingToLose(pods: readonly Backend[], api: KubeApi, probes: Probes): Promise<boolean> {
  let away = 0;
  for (const { namespace, pod, node, addresses } of pods) {
    const found = await api.find<ProbedPod>(`/api/v1/namespaces/${namespace}/pods/${pod}`);
    if (!found || isElsewhere(found, addresses) || startedUnready(found)) away += 1;
    if (!found || !isReady(found)) continue;
    const probed = found.spec.containers
      .filter(({ readinessProbe }) => readinessProbe)
      .map(({ name }) => name);
    if (probed.length === 0 || (await probes.succeeded(node, found.metadata.uid!, probed))) return true;
  }
  return away === pods.length;
}

/** Judges by what the pod's kubelet has reported: a pod without an address does not count as one with another address. */
function isElsewhere({ status }: ProbedPod, addresses: readonly string[]): boolean {
  const { podIP, podIPs = [] } = status ?? {};
  const now = [...podIPs.map(({ ip }) => ip), ...(podIP ? [podIP] : [])];
  return now.length > 0 && addresses.length > 0 && !now.some((ip) => addresses.includes(ip));
}

/**
 * Whether its containers have started since it is not ready, or do not run: it serves nobody. Where only the kubelet
 * has started anew they are older than that.
 */
function startedUnready({ status }: ProbedPod): boolean {
  const { conditions = [], containerStatuses = [] } = status ?? {};
  const unready = conditions.find((one) => one.type === "Ready" && one.status === "False");
  const since = Date.parse(unready?.lastTransitionTime ?? "");
  const isNew = ({ state }: (typeof containerStatuses)[number]) =>
    !state?.running || Date.parse(state.running.startedAt ?? "") >= since;
  return containerStatuses.length > 0 && !Number.isNaN(since) && containerStatuses.every(isNew);
}

/** Probes that each kubelet has made since its start, by its metrics: read once a node. */
class Probes {
  readonly #api: KubeApi;
  readonly #lines = new Map<string, Promise<string[] | undefined>>();

  constructor(api: KubeApi) {
    this.#api = api;
  }

  /**
   * Whether the readiness probe of each of these containers has succeeded. A kubelet that cannot be asked is
   * taken at its word.
   */
  async succeeded(node: string, uid: string, containers: readonly string[]): Promise<boolean> {
    const lines = (await this.#read(node))?.filter((line) => line.includes(`pod_uid="${uid}"`));
    if (!lines) return true;
    return containers.every((name) => lines.some((line) => line.includes(`container="${name}"`)));
  }

  #read(node: string): Promise<string[] | undefined> {
    const lines = this.#lines.get(node) ?? this.#ask(node);
    this.#lines.set(node, lines);
    return lines;
  }

  /** Undefined also where nothing answers: one such node voids no other Service's check. */
  async #ask(node: string): Promise<string[] | undefined> {
    const ask = () => this.#api.ofKubelet(`/api/v1/nodes/${node}/proxy/metrics/probes`);
    const text = await attemptLater(ask, undefined);
    // prober_probe_total (pkg/kubelet/prober/prober_manager.go)
    const labels = ['probe_type="Readiness"', 'result="successful"'];
    const isWanted = (line: string) => labels.every((label) => line.includes(label));
    return text?.split("\n").filter((line) => line.startsWith("prober_probe_total{") && isWanted(line));
  }
}
