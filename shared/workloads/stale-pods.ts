/**
 * Pods that hold on to the old CA: started before the new one reached them, with a token or a CA from the API mounted. client-go reads the
 * CA once (before its 1.36 libraries), so they have to be restarted; the order matters, as new sandboxes need kube-proxy and the CNI plugin.
 */
import type { KubeApi, KubeObject } from "../api/kube-api.ts";
import { type RunningPod, staleBefore } from "../facts/pod-trust.ts";
import { once, type PodOwner, podOwner } from "./pod-owners.ts";
import { trustTimes } from "./trust-times.ts";

/** Groups in the order in which they are restarted. */
const GROUPS = ["kube-proxy", "network plugins", "DNS, webhooks and the rest of kube-system", "all others"] as const;

const KUBE_PROXY = 0;

export interface Group {
  name: (typeof GROUPS)[number];
  owners: PodOwner[];
}

/** The pods with stale trust by group and owner: of before `since`, or of before this CA reached what they mount. */
export async function staleGroups(api: KubeApi, caPem: string, since: Date): Promise<Group[]> {
  const times = await trustTimes(api, caPem, since);
  const nodes = new Set((await api.list("/api/v1/nodes")).map(({ metadata }) => metadata.name));
  const stale: RunningPod[] = [];
  const trustedSinceOf = new Map<RunningPod, Date>();
  for await (const pod of api.items<RunningPod>("/api/v1/pods")) {
    // What is left of a Node that was deleted goes by itself.
    if (!nodes.has(pod.spec.nodeName ?? "")) continue;
    const trusted = staleBefore(pod, times);
    if (!trusted) continue;
    stale.push(remember(pod));
    trustedSinceOf.set(stale.at(-1)!, trusted);
  }
  const hooks = await webhookPods(api, stale);
  const groups = GROUPS.map((name): Group => ({ name, owners: [] }));
  const [answers, known] = [new Map<string, Promise<unknown>>(), new Map<string, PodOwner>()];
  for (const pod of stale) {
    const group = groupOf(pod, hooks);
    const owner = await podOwner(once(api, answers), pod, trustedSinceOf.get(pod)!);
    // Its rules stay in the kernel while it is away, so there is no need to go from node to node, which takes hours with thousands of them.
    if (group === KUBE_PROXY && owner.kind === "DaemonSet") owner.kind = "replace";
    const key = `${group} ${owner.kind} ${owner.namespace}/${owner.name}`;
    const same = known.get(key);
    if (same) {
      same.pods.push(pod);
      if (owner.since > same.since) same.since = owner.since;
    } else groups[group]!.owners.push(owner);
    known.set(key, same ?? owner);
  }
  return groups;
}

/** Of a pod only what is read here: there may be hundreds of thousands, with whole specifications. */
function remember({ metadata, spec }: RunningPod): RunningPod {
  const { name, namespace, uid, labels, ownerReferences } = metadata;
  const { nodeName, hostNetwork, volumes } = spec;
  const paths = volumes?.filter(({ hostPath }) => hostPath);
  return { metadata: { name, namespace, uid, labels, ownerReferences }, spec: { nodeName, hostNetwork, volumes: paths } } as RunningPod;
}

function groupOf(pod: RunningPod, hooks: Set<string>): number {
  const { namespace, labels } = pod.metadata;
  if (namespace === "kube-system" && labels?.["k8s-app"] === "kube-proxy") return KUBE_PROXY;
  if (pod.spec.hostNetwork && pod.spec.volumes?.some(({ hostPath }) => /^\/(etc|opt)\/cni\//.test(`${hostPath?.path}/`))) return 1;
  return namespace === "kube-system" || hooks.has(pod.metadata.uid ?? "") ? 2 : 3;
}

/** UIDs of pods behind admission webhooks and aggregated APIs: while they are stale, others may not be created. */
async function webhookPods(api: KubeApi, pods: RunningPod[]): Promise<Set<string>> {
  type Hooks = KubeObject & { webhooks?: { clientConfig?: { service?: Service } }[]; spec?: { service?: Service } };
  type Service = { namespace: string; name: string };
  const paths = [
    "admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
    "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "apiregistration.k8s.io/v1/apiservices",
  ];
  const objects = (await Promise.all(paths.map((path) => api.list<Hooks>(`/apis/${path}`)))).flat();
  const services = objects
    .flatMap(({ webhooks, spec }) => [...(webhooks ?? []).map((hook) => hook.clientConfig?.service), spec?.service])
    .filter((service) => service !== undefined);
  const uids = new Set<string>();
  for (const { namespace, name } of services) {
    const service = await api.find<KubeObject & { spec: { selector?: Record<string, string> } }>(
      `/api/v1/namespaces/${namespace}/services/${name}`,
    );
    const selector = Object.entries(service?.spec.selector ?? {});
    if (selector.length === 0) continue;
    for (const pod of pods) {
      if (pod.metadata.namespace === namespace && selector.every(([key, value]) => pod.metadata.labels?.[key] === value))
        uids.add(pod.metadata.uid ?? "");
    }
  }
  return uids;
}
