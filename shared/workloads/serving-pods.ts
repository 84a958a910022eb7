/**
 * Pods that other pods need before they can start: those of the network plugin, of webhooks and of aggregated APIs;
 * and whether a webhook would refuse a new pod.
 */

import { apiExtensions, DeafWebhook, pastWebhooks } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { type KubeObject, selects } from "../api/kube-object.ts";
import { controllerOf, groupOfApi, type RunningPod } from "../facts/pod-trust.ts";
import { failOf } from "../fail.ts";
import { isDnsName } from "../pki/addresses.ts";

/**
 * `asked`: what agents ask, on the host's network, so it needs none of them to start. `beside`: its new pods
 * need an agent themselves.
 */
export type UnitPart = "agent" | "asked" | "beside";

/** Namespace → each owner of agents, with its name and the environment of its containers. */
export type Agents = Map<string, Map<string, { name: string; env: Variable[] }>>;

interface Variable {
  value?: string;
  valueFrom?: { configMapKeyRef?: { name?: string; key: string } };
}

/** Namespaces that hold much else. */
const SHARED = ["kube-system", "default"];

/** A pod that gives the other pods of its node their network. */
function isAgent({ spec: { hostNetwork, volumes = [] } }: RunningPod): boolean {
  return (
    hostNetwork === true && volumes.some(({ hostPath }) => /^\/(etc|opt)\/cni\//.test(`${hostPath?.path}/`))
  );
}

export function noteAgent(agents: Agents, pod: RunningPod) {
  if (!isAgent(pod) || pod.metadata.annotations?.["kubernetes.io/config.mirror"]) return;
  const { namespace = "", uid = "" } = pod.metadata;
  const owner = controllerOf(pod);
  const env = (pod.spec.containers ?? []).flatMap((container) => container.env ?? []);
  const ofNamespace: ReturnType<Agents["get"]> = agents.get(namespace) ?? new Map();
  const name = owner?.kind === "DaemonSet" ? owner.name : "";
  agents.set(namespace, ofNamespace.set(owner?.uid ?? uid, { name, env }));
}

/**
 * Tells which part of the unit each pod is; undefined: none. Errors: as KubeApi.
 *
 * The network plugin with all that it asks is one unit: a new pod has no network before its node's agent is
 * well, and many agents learn of a new pod, or get its address, from a control part (Calico's Typha,
 * kube-ovn-controller, OVN's control plane). No list of names tells what belongs to it: agents use the host's
 * network and mount the folders of CNI; the others are in the agents' own namespace, or are those of
 * kube-system that a plugin's control part always is like: on the host's network, critical for the cluster,
 * and no DaemonSet; or an agent names their Service; or they may change the custom resource that owns the
 * agents: their operator, which asks and answers nothing while pods start.
 */
export async function networkUnit(
  api: KubeApi,
  agents: Agents,
): Promise<(pod: RunningPod) => UnitPart | undefined> {
  const selectors = new Map<string, Record<string, string>[]>();
  for (const [namespace, of] of agents) {
    const env = [...of.values()].flatMap((agent) => agent.env);
    selectors.set(namespace, await askedServices(api, namespace, env));
  }
  const operators = await operatorsOf(api, agents);
  return (pod) => {
    const { namespace = "" } = pod.metadata;
    if (isAgent(pod)) return "agent";
    if (operators.has(`${namespace}/${pod.spec.serviceAccountName}`)) return "beside";
    if (!agents.has(namespace)) return undefined;
    const isAsked = selectors.get(namespace)!.some((matchLabels) => selects({ matchLabels }, pod));
    if (isAsked || !SHARED.includes(namespace)) return pod.spec.hostNetwork ? "asked" : "beside";
    return isControlPart(pod) ? "asked" : undefined;
  };
}

/**
 * A DaemonSet's pods are on the nodes as agents are: nobody asks them from elsewhere (storage drivers, a
 * cache of DNS names).
 */
function isControlPart(pod: RunningPod): boolean {
  const { hostNetwork, priorityClassName = "" } = pod.spec;
  return (
    hostNetwork === true &&
    /^system-(node|cluster)-critical$/.test(priorityClassName) &&
    controllerOf(pod)?.kind !== "DaemonSet"
  );
}

type Service = KubeObject & { spec: { selector?: Record<string, string> } };

/**
 * The selectors of the Services that agents name (FELIX_TYPHAK8SSERVICENAME), in a value or through a
 * ConfigMap.
 */
async function askedServices(
  api: KubeApi,
  namespace: string,
  env: readonly Variable[],
): Promise<Record<string, string>[]> {
  const names = new Set(env.flatMap(({ value }) => value ?? []));
  const references = Map.groupBy(
    env.flatMap(({ valueFrom }) => valueFrom?.configMapKeyRef ?? []),
    ({ name = "" }) => name,
  );
  for (const [name, keys] of references) {
    const map = await api.configMap(namespace, name);
    for (const { key } of keys) names.add(map?.[key] ?? "");
  }
  const services = names.size > 0 ? await api.list<Service>(`/api/v1/namespaces/${namespace}/services`) : [];
  return services.flatMap(({ metadata, spec: { selector } }) =>
    names.has(metadata.name) && selector && Object.keys(selector).length > 0 ? [selector] : [],
  );
}

interface Role extends KubeObject {
  rules?: { apiGroups?: string[]; verbs: string[] }[] | null;
}

interface Binding extends KubeObject {
  roleRef: { name: string };
  subjects?: { kind: string; namespace?: string; name: string }[];
}

/**
 * `namespace/name` of the ServiceAccounts that may change what owns the agents' DaemonSets (tigera-operator's
 * Installation).
 */
async function operatorsOf(api: KubeApi, agents: Agents): Promise<Set<string>> {
  const groups = new Set<string>();
  for (const [namespace, of] of agents)
    for (const { name } of of.values()) {
      const set = isDnsName(name)
        ? await api.find(`/apis/apps/v1/namespaces/${namespace}/daemonsets/${name}`)
        : undefined;
      const owner = set && controllerOf(set);
      if (owner) groups.add(groupOfApi(owner.apiVersion));
    }
  if (groups.size === 0) return new Set();
  const isChange = (verb: string) => verb === "update" || verb === "*";
  const may = ({ rules }: Role) =>
    rules?.some(({ apiGroups, verbs }) => apiGroups?.some((one) => groups.has(one)) && verbs.some(isChange));
  const roles = new Set(
    (await api.list<Role>(`${RBAC}/clusterroles`)).filter(may).map(({ metadata }) => metadata.name),
  );
  const bindings = (await api.list<Binding>(`${RBAC}/clusterrolebindings`)).filter(({ roleRef }) =>
    roles.has(roleRef.name),
  );
  const subjects = bindings.flatMap(({ subjects = [] }) =>
    subjects.filter(({ kind }) => kind === "ServiceAccount"),
  );
  return new Set(subjects.map(({ namespace, name }) => `${namespace}/${name}`));
}

const RBAC = "/apis/rbac.authorization.k8s.io/v1";

/** UIDs, by the selectors of the Services. */
export async function servingPods(
  api: KubeApi,
  pods: readonly RunningPod[],
): Promise<{ webhooks: Set<string>; apis: Set<string> }> {
  const serving = { webhooks: new Set<string>(), apis: new Set<string>() };
  for (const { name: called, clients } of await apiExtensions(api)) {
    const uids = called.startsWith("APIService ") ? serving.apis : serving.webhooks;
    for (const { namespace, name } of clients.flatMap(({ service }) => service ?? [])) {
      const service = await api.find<Service>(
        `/api/v1/namespaces/${encodeURIComponent(namespace)}/services/${encodeURIComponent(name)}`,
      );
      const selector = service?.spec.selector ?? {};
      if (Object.keys(selector).length === 0) continue;
      for (const pod of pods)
        if (pod.metadata.namespace === namespace && selects({ matchLabels: selector }, pod))
          uids.add(pod.metadata.uid ?? "");
    }
  }
  return serving;
}

/**
 * Asks the API, without making it, for a pod like this one. Errors: DeafWebhook. Another refusal of so bare a
 * pod proves nothing.
 */
export async function refuseDeafWebhook(api: KubeApi, { metadata: { namespace, labels } }: RunningPod) {
  const metadata = { generateName: "kube-pki-repair-", namespace, labels };
  const spec = { containers: [{ name: "none", image: "none" }] };
  const pod = { apiVersion: "v1", kind: "Pod", metadata, spec };
  const ask = () => api.create(`/api/v1/namespaces/${namespace}/pods?dryRun=All`, pod);
  const refused = await failOf(() => pastWebhooks(api, ask));
  if (refused instanceof DeafWebhook) throw refused;
}
