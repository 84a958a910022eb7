/**
 * Pods that hold on to the old CA: started before the new one was made, with a token or a CA from the API mounted. client-go reads the CA
 * once (before its 1.36 libraries), so they have to be restarted; the order matters, as new sandboxes need kube-proxy and the CNI plugin.
 */
import type { KubeApi, KubeObject } from "../api/kube-api.ts";

export interface Pod extends KubeObject {
  spec: {
    nodeName?: string;
    hostNetwork?: boolean;
    volumes?: Volume[];
  };
  status?: {
    phase?: string;
    containerStatuses?: { state?: { running?: { startedAt: string } } }[];
  };
}

interface Volume {
  name: string;
  projected?: { sources?: { serviceAccountToken?: unknown; configMap?: { name?: string } }[] };
  configMap?: { name?: string };
  secret?: { secretName?: string };
  hostPath?: { path: string };
}

/** What restarts a pod, or why nothing here does. */
export interface Owner {
  kind: "Deployment" | "DaemonSet" | "StatefulSet" | "evict" | "report";
  namespace: string;
  name: string;
  /** For a person, where nothing is restarted. */
  reason?: string;
  pods: Pod[];
}

/** Groups in the order in which they are restarted. */
export const GROUPS = ["kube-proxy", "network plugins", "DNS", "webhooks and the rest of kube-system", "all others"] as const;

export interface Group {
  name: (typeof GROUPS)[number];
  owners: Owner[];
}

/** The pods with stale trust by group and owner. `since` is when the CA was made. */
export async function staleGroups(api: KubeApi, since: Date): Promise<Group[]> {
  const tokenSecrets = new Set<string>();
  for await (const { metadata } of api.items("/api/v1/secrets?fieldSelector=type%3Dkubernetes.io/service-account-token")) {
    tokenSecrets.add(`${metadata.namespace}/${metadata.name}`);
  }
  const stale: Pod[] = [];
  for await (const pod of api.items<Pod>("/api/v1/pods")) if (isStale(pod, since, tokenSecrets)) stale.push(remember(pod));
  const hooks = await webhookPods(api, stale);
  const groups = GROUPS.map((name): Group => ({ name, owners: [] }));
  const [answers, known] = [new Map<string, Promise<unknown>>(), new Map<string, Owner>()];
  for (const pod of stale) {
    const owner = await ownerOf(once(api, answers), pod);
    const group = groupOf(pod, hooks);
    const key = `${group} ${owner.kind} ${owner.namespace}/${owner.name}`;
    const same = known.get(key);
    if (same) same.pods.push(pod);
    else groups[group]!.owners.push(owner);
    known.set(key, same ?? owner);
  }
  return groups;
}

/** Of a pod only what is read here: there may be hundreds of thousands, with whole specifications. */
function remember({ metadata, spec }: Pod): Pod {
  const { name, namespace, uid, labels, ownerReferences } = metadata;
  const { nodeName, hostNetwork, volumes } = spec;
  const paths = volumes?.filter(({ hostPath }) => hostPath);
  return { metadata: { name, namespace, uid, labels, ownerReferences }, spec: { nodeName, hostNetwork, volumes: paths } } as Pod;
}

type Find = <T = KubeObject>(path: string) => Promise<T | undefined>;

/** Asks for each owner once, however many pods it has. */
function once(api: KubeApi, answers: Map<string, Promise<unknown>>): Find {
  return <T>(path: string) => {
    const answer = answers.get(path) ?? api.find<T>(path);
    answers.set(path, answer);
    return answer as Promise<T | undefined>;
  };
}

function isStale(pod: Pod, since: Date, tokenSecrets: Set<string>): boolean {
  if (pod.status?.phase !== "Running" || pod.metadata.annotations?.["kubernetes.io/config.mirror"]) return false;
  const mounts = (pod.spec.volumes ?? []).some(
    (volume) =>
      volume.projected?.sources?.some((source) => source.serviceAccountToken || source.configMap?.name === "kube-root-ca.crt") ||
      volume.configMap?.name === "kube-root-ca.crt" ||
      tokenSecrets.has(`${pod.metadata.namespace}/${volume.secret?.secretName}`),
  );
  return mounts && (pod.status.containerStatuses ?? []).some(({ state }) => state?.running && new Date(state.running.startedAt) < since);
}

function groupOf(pod: Pod, hooks: Set<string>): number {
  const { namespace, labels } = pod.metadata;
  if (namespace === "kube-system" && labels?.["k8s-app"] === "kube-proxy") return 0;
  if (pod.spec.hostNetwork && pod.spec.volumes?.some(({ hostPath }) => /^\/(etc|opt)\/cni\//.test(`${hostPath?.path}/`))) return 1;
  if (namespace === "kube-system" && labels?.["k8s-app"] === "kube-dns") return 2;
  return namespace === "kube-system" || hooks.has(pod.metadata.uid ?? "") ? 3 : 4;
}

/** UIDs of pods behind admission webhooks and aggregated APIs: while they are stale, others may not be created. */
async function webhookPods(api: KubeApi, pods: Pod[]): Promise<Set<string>> {
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

async function ownerOf(find: Find, pod: Pod): Promise<Owner> {
  const namespace = pod.metadata.namespace!;
  const reference = pod.metadata.ownerReferences?.find((owner) => owner.controller);
  const owner = (kind: Owner["kind"], name: string, reason?: string): Owner => ({
    kind,
    namespace,
    name,
    pods: [pod],
    ...(reason ? { reason } : {}),
  });
  if (!reference) return owner("report", pod.metadata.name, "a bare pod: nothing would bring it back");
  if (reference.kind === "Job") return owner("report", pod.metadata.name, `of the Job ${reference.name}: it runs to its end`);
  if (reference.kind === "ReplicaSet") {
    const set = await find(`/apis/apps/v1/namespaces/${namespace}/replicasets/${reference.name}`);
    const deployment = set?.metadata.ownerReferences?.find((parent) => parent.controller && parent.kind === "Deployment");
    return deployment ? owner("Deployment", deployment.name) : owner("evict", pod.metadata.name);
  }
  if (reference.kind === "DaemonSet" || reference.kind === "StatefulSet") {
    const path = reference.kind === "DaemonSet" ? "daemonsets" : "statefulsets";
    const set = await find<KubeObject & { spec: { updateStrategy?: { type?: string } } }>(
      `/apis/apps/v1/namespaces/${namespace}/${path}/${reference.name}`,
    );
    return set?.spec.updateStrategy?.type === "OnDelete" ? owner("evict", pod.metadata.name) : owner(reference.kind, reference.name);
  }
  return owner("evict", pod.metadata.name);
}
