/**
 * Pods that still use the old CA: they started before the new CA reached them, and have a token or a CA from
 * the API mounted. client-go reads the CA only once (before 0.36: see pod-trust.ts), so these pods must
 * restart. The order matters: a new pod needs kube-proxy and the whole network plugin.
 */
import { NO_ANSWER_HINT } from "../api/api-error.ts";
import type { ApiReader } from "../api/kube-api.ts";
import { inParallel, readAll } from "../api/many.ts";
import { type CutOff, lastWritten, mountedBefore, NOT_YET, type RunningPod } from "../facts/pod-trust.ts";
import { type PodTrust, wasInUse } from "../facts/sa-key.ts";
import { trustsCa } from "../pki/trusted-keys.ts";
import { count } from "../progress.ts";
import { sayWhile } from "../wait-for.ts";
import { label, once, type PodOwner, podOwner } from "./pod-owners.ts";
import { trustReached } from "./root-ca.ts";
import { type Agents, networkUnit, noteAgent, servingPods, type UnitPart } from "./serving-pods.ts";

/** Groups in the order in which they are restarted. */
const GROUPS = [
  "kube-proxy",
  "what network plugins ask",
  "network plugins",
  "the rest of network plugins",
  "webhooks",
  "DNS, aggregated APIs and the rest of kube-system",
  "all others",
] as const;

type GroupName = (typeof GROUPS)[number];

const OF_UNIT: Record<UnitPart, GroupName> = {
  asked: "what network plugins ask",
  agent: "network plugins",
  beside: "the rest of network plugins",
};

/** Groups that a new pod needs to be reached. */
export const NETWORK: readonly GroupName[] = ["kube-proxy", "what network plugins ask", "network plugins"];

/** Groups that restart before anything that needs a new pod, and before every test pod. */
export const UNIT: readonly GroupName[] = [...NETWORK, "the rest of network plugins"];

export interface Group {
  name: GroupName;
  owners: PodOwner[];
}

/**
 * The stale pods by group and owner: those from before `since`, or from before this CA reached what they
 * mount. If its key was in use before, none is stale, whatever was written into kube-root-ca.crt since.
 */
export async function staleGroups(api: ApiReader, caPem: string, trust: PodTrust): Promise<Group[]> {
  const cutOff = await cutOffNow(api, caPem, trust);
  const nodes = new Set<string>();
  await readAll("nodes", api.items("/api/v1/nodes"), ({ metadata }) => nodes.add(metadata.name));
  // each with the moment when the trust that it mounts became the current one
  const stale = new Map<RunningPod, Date>();
  const agents: Agents = new Map();
  await readAll("pods", api.items<RunningPod>("/api/v1/pods"), (pod) => {
    noteAgent(agents, pod);
    // Pods of a deleted Node are removed by the cluster itself.
    const written = nodes.has(pod.spec.nodeName ?? "") ? mountedBefore(pod, cutOff) : undefined;
    if (written) stale.set(remember(pod), written);
  });
  const seen = { ...(await servingPods(api, [...stale.keys()])), partOf: await networkUnit(api, agents) };
  const groups = GROUPS.map((name): Group => ({ name, owners: [] }));
  const [owners, known] = [await ownersOf(stale, api), new Map<string, PodOwner>()];
  for (const pod of stale.keys()) {
    const group = groupOf(pod, seen);
    const owner = owners.get(pod)!;
    // One node after the other, thousands would take hours. Kubernetes' rules, and those that a plugin set up,
    // stay in the kernel meanwhile.
    if (UNIT.includes(group) && owner.controller === "DaemonSet" && owner.path) owner.restart = "replace";
    if (group === "kube-proxy") owner.atOnce = "all";
    if (seen.webhooks.has(pod.metadata.uid ?? "")) owner.webhook = true;
    owner.system = owner.namespace === "kube-system" || UNIT.includes(group);
    const key = `${group} ${owner.restart} ${label(owner)}`;
    const same = known.get(key);
    if (same) {
      same.pods.push(pod);
      if (owner.since > same.since) same.since = owner.since;
    } else groups.find(({ name }) => name === group)!.owners.push(owner);
    known.set(key, same ?? owner);
  }
  return groups;
}

/** Maximum number of concurrent requests: a ReplicaSet and a Deployment for each of thousands of workloads. */
const AT_ONCE = 50;

async function ownersOf(stale: ReadonlyMap<RunningPod, Date>, api: ApiReader) {
  const [find, owners] = [once(api), new Map<RunningPod, PodOwner>()];
  const what = () => `the owners of pods, ${count(owners.size)} of ${count(stale.size)} are known`;
  const ask = () =>
    inParallel(stale, AT_ONCE, async ([pod, since]) => owners.set(pod, await podOwner(find, pod, since)));
  await sayWhile(what, NO_ANSWER_HINT, ask, { within: true });
  return owners;
}

/** Keeps of a pod only what is read here: there may be hundreds of thousands. */
function remember({ metadata, spec }: RunningPod): RunningPod {
  const { name, namespace, uid, labels, ownerReferences, resourceVersion } = metadata;
  const { nodeName, hostNetwork, restartPolicy, priorityClassName, serviceAccountName, volumes } = spec;
  const onHost = { nodeName, hostNetwork, volumes: volumes?.filter(({ hostPath }) => hostPath) };
  const fields = { ...onHost, restartPolicy, priorityClassName, serviceAccountName };
  const known = { name, namespace, uid, labels, ownerReferences, resourceVersion };
  return { metadata: known, spec: fields } as RunningPod;
}

type Seen = Awaited<ReturnType<typeof servingPods>> & { partOf: (pod: RunningPod) => UnitPart | undefined };

/**
 * Webhooks come before what they may refuse: while their pods are stale, the API may refuse to create other
 * pods.
 */
function groupOf(pod: RunningPod, { webhooks, apis, partOf }: Seen): GroupName {
  const { namespace, labels, uid = "" } = pod.metadata;
  if (namespace === "kube-system" && labels?.["k8s-app"] === "kube-proxy") return "kube-proxy";
  const part = partOf(pod);
  if (part) return OF_UNIT[part];
  if (webhooks.has(uid)) return "webhooks";
  return namespace === "kube-system" || apis.has(uid)
    ? "DNS, aggregated APIs and the rest of kube-system"
    : "all others";
}

/** When pods' trust became the current one: not before the new CA or key was made. */
function cutOffNow(api: ApiReader, caPem: string, { since: made, caInUse }: PodTrust): Promise<CutOff> {
  return trustReached(api, {
    map: (map, ca) => {
      if (!trustsCa(ca, caPem)) return NOT_YET;
      const written = lastWritten(map, made);
      return wasInUse({ caInUse }, written) ? made : written;
    },
    secret: (secret) => lastWritten(secret, made),
  });
}
