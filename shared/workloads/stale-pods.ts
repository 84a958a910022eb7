/**
 * Pods that still use the old CA: they started before the new CA reached them, and have a token or a CA from the API mounted. client-go
 * reads the CA only once (before its 1.36 libraries), so these pods must restart. The order matters: new sandboxes need kube-proxy and the
 * CNI plugin.
 */
import type { KubeApi, KubeObject } from "../api/kube-api.ts";
import { controllerOf, type RunningPod, reasonToLeave, staleBefore, type TrustTimes } from "../facts/pod-trust.ts";
import { nameOf, ROOT_CA_MAPS, TOKEN_SECRETS } from "./token-secrets.ts";

/** Groups in the order in which they are restarted. */
const GROUPS = ["kube-proxy", "network plugins", "DNS, webhooks and the rest of kube-system", "all others"] as const;

const KUBE_PROXY = 0;

/** How a pod is restarted, or why it is not. */
export interface PodOwner {
  kind: "Deployment" | "DaemonSet" | "StatefulSet" | "replace" | "evict" | "report";
  namespace: string;
  name: string;
  /** For the operator: why nothing is restarted. */
  reason?: string | undefined;
  /** Since when the trust that its pods mount is today's. */
  since: Date;
  pods: RunningPod[];
}

export interface Group {
  name: (typeof GROUPS)[number];
  owners: PodOwner[];
}

/** The stale pods by group and owner: those from before `since`, or from before this CA reached what they mount. */
export async function staleGroups(api: KubeApi, caPem: string, since: Date): Promise<Group[]> {
  const times = await trustTimes(api, caPem, since);
  const nodes = new Set((await api.list("/api/v1/nodes")).map(({ metadata }) => metadata.name));
  // each with the moment since when the trust that it mounts is today's
  const stale = new Map<RunningPod, Date>();
  for await (const pod of api.items<RunningPod>("/api/v1/pods")) {
    // Pods of a deleted Node are removed by the cluster itself.
    if (!nodes.has(pod.spec.nodeName ?? "")) continue;
    const trusted = staleBefore(pod, times);
    if (trusted) stale.set(remember(pod), trusted);
  }
  const hooks = await webhookPods(api, [...stale.keys()]);
  const groups = GROUPS.map((name): Group => ({ name, owners: [] }));
  const [find, known] = [once(api), new Map<string, PodOwner>()];
  for (const [pod, trustedSince] of stale) {
    const group = groupOf(pod, hooks);
    const owner = await podOwner(find, pod, trustedSince);
    // Its rules stay in the kernel while it restarts: all nodes at once. From node to node, thousands of them would take hours.
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

type Find = KubeApi["find"];

/** Asks the API only once for each owner, for all of its pods. */
function once(api: KubeApi): Find {
  const answers = new Map<string, Promise<unknown>>();
  return <T>(path: string) => {
    const answer = answers.get(path) ?? api.find<T>(path);
    answers.set(path, answer);
    return answer as Promise<T | undefined>;
  };
}

/** The Deployment, DaemonSet or StatefulSet behind a pod, or the pod alone. Errors: as KubeApi. */
async function podOwner(find: Find, pod: RunningPod, since: Date): Promise<PodOwner> {
  const namespace = pod.metadata.namespace!;
  const reference = controllerOf(pod);
  const owner = (kind: PodOwner["kind"], name: string): PodOwner => ({ kind, namespace, name, since, pods: [pod] });
  const reason = reasonToLeave(pod);
  if (!reference || reason) return { ...owner("report", pod.metadata.name), reason };
  if (reference.kind === "ReplicaSet") {
    const set = await find(`/apis/apps/v1/namespaces/${namespace}/replicasets/${reference.name}`);
    const deployment = set?.metadata.ownerReferences?.find((parent) => parent.controller && parent.kind === "Deployment");
    return deployment ? owner("Deployment", deployment.name) : owner("evict", pod.metadata.name);
  }
  if (reference.kind === "DaemonSet" || reference.kind === "StatefulSet") {
    const path = `/apis/apps/v1/namespaces/${namespace}/${reference.kind.toLowerCase()}s/${reference.name}`;
    const set = await find<KubeObject & { spec: { updateStrategy?: { type?: string } } }>(path);
    return set?.spec.updateStrategy?.type === "OnDelete" ? owner("evict", pod.metadata.name) : owner(reference.kind, reference.name);
  }
  return owner("evict", pod.metadata.name);
}

/** Keeps of a pod only what is read here: there may be hundreds of thousands. */
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

/** UIDs of pods behind admission webhooks and aggregated APIs: while they are stale, the API may refuse to create other pods. */
async function webhookPods(api: KubeApi, pods: RunningPod[]): Promise<Set<string>> {
  const uids = new Set<string>();
  for (const { namespace, name } of (await calledByApi(api)).flatMap(({ clients }) => clients.flatMap(({ service }) => service ?? []))) {
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

/** How the API server reaches a webhook or an aggregated API, and the CA that it trusts there. */
interface Client {
  service?: { namespace: string; name: string };
  caBundle?: string;
}

const CALLED = {
  ValidatingWebhookConfiguration: "admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
  MutatingWebhookConfiguration: "admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
  APIService: "apiregistration.k8s.io/v1/apiservices",
};

/** All that the API server itself calls, `kind name`: admission webhooks and aggregated APIs. */
export async function calledByApi(api: KubeApi): Promise<{ name: string; clients: Client[] }[]> {
  type Called = KubeObject & { webhooks?: { clientConfig?: Client }[]; spec?: Client };
  const found = Object.entries(CALLED).map(async ([kind, path]) =>
    (await api.list<Called>(`/apis/${path}`)).map(({ metadata, webhooks, spec }) => ({
      name: `${kind} ${metadata.name}`,
      clients: [spec, ...(webhooks ?? []).map(({ clientConfig }) => clientConfig)].filter((client) => client !== undefined),
    })),
  );
  return (await Promise.all(found)).flat();
}

/** Later than every pod: for what is not today's yet. */
const NOT_YET = new Date(8.64e15);

interface Holder extends KubeObject {
  metadata: KubeObject["metadata"] & { managedFields?: { time?: string; fieldsV1?: { "f:data"?: unknown } }[] };
  data?: Record<string, string>;
}

/** Since when kube-root-ca.crt of each namespace, and each token Secret, is today's; never before `made`. Errors: as KubeApi. */
async function trustTimes(api: KubeApi, caPem: string, made: Date): Promise<TrustTimes> {
  const [maps, secrets] = [new Map<string, Date>(), new Map<string, Date>()];
  for await (const map of api.items<Holder>(ROOT_CA_MAPS))
    if (map.data?.["ca.crt"]?.trim() === caPem.trim()) maps.set(map.metadata.namespace ?? "", lastWritten(map, made));
  for await (const secret of api.items<Holder>(TOKEN_SECRETS)) secrets.set(nameOf(secret), lastWritten(secret, made));
  return { rootCa: (namespace) => maps.get(namespace) ?? NOT_YET, tokenSecret: (name) => secrets.get(name) };
}

/** When its data was last changed (managedFields), never before `made`. If never since its creation: it was the same for every pod. */
function lastWritten({ metadata }: Holder, made: Date): Date {
  const times = (metadata.managedFields ?? []).flatMap(({ time, fieldsV1 }) => (time && fieldsV1?.["f:data"] ? [Date.parse(time)] : []));
  const since = Date.parse(metadata.creationTimestamp ?? "");
  return new Date(Math.max(made.getTime(), ...times.filter((time) => !(time <= since))));
}
