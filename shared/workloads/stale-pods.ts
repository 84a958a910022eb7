/**
 * Pods that still use the old CA: they started before the new CA reached them, and have a token or a CA from
 * the API mounted. client-go reads the CA only once (before 0.36: see pod-trust.ts), so these pods must
 * restart. The order matters: a new pod needs kube-proxy and the whole network plugin.
 *
 * The operator chooses which of their workloads restart in this run; a later run finds the rest in the cluster. Nothing in
 * the cluster shows that a workload was left on purpose: a word keeps that (node/words.ts).
 */
import { again } from "../again.ts";
import { NO_ANSWER_HINT } from "../api/api-error.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { readAll } from "../api/many.ts";
import { part4 } from "../facts/course.ts";
import {
  type CutOff,
  lastWritten,
  mountedBefore,
  NOT_YET,
  type PodTrust,
  type RunningPod,
  wasInUse,
} from "../facts/pod-trust.ts";
import { Fail, Refused } from "../fail.ts";
import { inParallel } from "../in-parallel.ts";
import { endSavedOptions, savedOptionsOf, saveForThisNode } from "../node/words.ts";
import { trustsCa } from "../pki/certificate.ts";
import { listed } from "../plain.ts";
import { formatNumber } from "../progress.ts";
import { sayWhile } from "../wait-for.ts";
import { howToRestart, label, once, ownerName, type PodOwner, podOwner } from "./pod-owners.ts";
import { trustReached } from "./root-ca.ts";
import { type Agents, networkUnit, noteAgent, servingPods, type UnitPart } from "./serving-pods.ts";

const GROUPS = [
  "kube-proxy",
  "pods that network plugins ask",
  "network plugins",
  "other pods of network plugins",
  "webhooks",
  "DNS, aggregated APIs and the rest of kube-system",
  "all others",
] as const;

type GroupName = (typeof GROUPS)[number];

const OF_UNIT: Record<UnitPart, GroupName> = {
  asked: "pods that network plugins ask",
  agent: "network plugins",
  beside: "other pods of network plugins",
};

/** Groups that a new pod needs to be reached. */
export const NETWORK: readonly GroupName[] = [
  "kube-proxy",
  "pods that network plugins ask",
  "network plugins",
];

/** Groups that restart before anything that needs a new pod, and before every test pod. */
export const UNIT: readonly GroupName[] = [...NETWORK, "other pods of network plugins"];

export interface Group {
  name: GroupName;
  owners: PodOwner[];
}

/**
 * The stale pods by group and owner: those from before `since`, or from before this CA reached what they
 * mount. If its key was in use before, none is stale, whatever was written into kube-root-ca.crt since.
 */
export async function staleGroups(api: KubeApi, caPem: string, trust: PodTrust): Promise<Group[]> {
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
  const serving = { ...(await servingPods(api, [...stale.keys()])), partOf: await networkUnit(api, agents) };
  const groups = GROUPS.map((name): Group => ({ name, owners: [] }));
  const [owners, ownersKnown] = [await ownersOf(stale, api), new Map<string, PodOwner>()];
  for (const pod of stale.keys()) {
    const group = groupOf(pod, serving);
    const owner = owners.get(pod)!;
    // One node after the other, thousands would take hours. Kubernetes' rules, and those that a plugin set up,
    // stay in the kernel meanwhile.
    if (UNIT.includes(group) && owner.controller === "DaemonSet" && owner.path) owner.restart = "replace";
    if (group === "kube-proxy") owner.atOnce = "all";
    if (serving.webhooks.has(pod.metadata.uid ?? "")) owner.webhook = true;
    owner.system = owner.namespace === "kube-system" || UNIT.includes(group);
    const key = `${group} ${owner.restart} ${label(owner)}`;
    const same = ownersKnown.get(key);
    if (same) {
      same.pods.push(pod);
      if (owner.since > same.since) same.since = owner.since;
    } else groups.find(({ name }) => name === group)!.owners.push(owner);
    ownersKnown.set(key, same ?? owner);
  }
  return groups;
}

/** A ReplicaSet and a Deployment for each of thousands of workloads. */
const AT_ONCE = 50;

async function ownersOf(stale: ReadonlyMap<RunningPod, Date>, api: KubeApi) {
  const [find, owners] = [once(api), new Map<RunningPod, PodOwner>()];
  const what = () =>
    `the owners of pods, ${formatNumber(owners.size)} of ${formatNumber(stale.size)} are known`;
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
  const identity = { name, namespace, uid, labels, ownerReferences, resourceVersion };
  return { metadata: identity, spec: fields } as RunningPod;
}

type ServingPods = Awaited<ReturnType<typeof servingPods>> & {
  partOf: (pod: RunningPod) => UnitPart | undefined;
};

/**
 * Webhooks come before what they may refuse: while their pods are stale, the API may refuse to create other
 * pods.
 */
function groupOf(pod: RunningPod, { webhooks, apis, partOf }: ServingPods): GroupName {
  const { namespace, labels, uid = "" } = pod.metadata;
  if (namespace === "kube-system" && labels?.["k8s-app"] === "kube-proxy") return "kube-proxy";
  const part = partOf(pod);
  if (part) return OF_UNIT[part];
  if (webhooks.has(uid)) return "webhooks";
  return namespace === "kube-system" || apis.has(uid)
    ? "DNS, aggregated APIs and the rest of kube-system"
    : "all others";
}

/** Not before the new CA or key was made. */
function cutOffNow(api: KubeApi, caPem: string, { since: made, caInUse }: PodTrust): Promise<CutOff> {
  return trustReached(api, {
    map: (map, ca) => {
      if (!trustsCa(ca, caPem)) return NOT_YET;
      const written = lastWritten(map, made);
      return wasInUse({ caInUse }, written) ? made : written;
    },
    secret: (secret) => lastWritten(secret, made),
  });
}

/** The operator's choice, as typed. Without the first two, all restart. */
export interface Choice {
  /** And the network plugin wherever it runs. */
  onlySystem: boolean;
  namespaces: readonly string[];
  /** `namespace/name`. */
  skip: readonly string[];
}

export interface Chosen {
  /** With what restarts now, and with what is only named. */
  groups: Group[];
  later: PodOwner[];
  skipped: PodOwner[];
  again: PodOwner[];
}

/**
 * `since`: a skip from before this time is of an earlier repair. Errors: Fail if a name means nothing, or the order
 * would be wrong.
 */
export async function choose(
  api: KubeApi,
  groups: readonly Group[],
  { choice, since }: { choice: Choice; since: Date },
): Promise<Chosen> {
  const owners = groups.flatMap(restartsOf);
  refuseUnknownSkip(owners, choice.skip);
  for (const namespace of choice.namespaces) await refuseUnknownNamespace(api, namespace, owners);
  const before = skippedBefore(since);
  const wasSkipped = (owner: PodOwner) => before.includes(ownerName(owner));
  const isSkipped = (owner: PodOwner) =>
    choice.skip.includes(ownerName(owner)) || (!isChosen(owner, choice) && wasSkipped(owner));
  const isNow = (owner: PodOwner) => isChosen(owner, choice) && !isSkipped(owner);
  const later = owners.filter((owner) => !isNow(owner) && !isSkipped(owner));
  refuseDisorder(groups, later, choice);
  return {
    groups: groups.map(({ name, owners }) => ({
      name,
      owners: owners.filter((owner) => owner.restart === "report" || isNow(owner)),
    })),
    later,
    skipped: owners.filter(isSkipped),
    again: owners.filter((owner) => isNow(owner) && wasSkipped(owner)),
  };
}

function isChosen(owner: PodOwner, { onlySystem, namespaces }: Choice): boolean {
  if (!onlySystem && namespaces.length === 0) return true;
  return namespaces.includes(owner.namespace) || (onlySystem && owner.system === true);
}

/** Before anything is done: a word that is no NAMESPACE/NAME can mean no workload. */
export function refuseBareNames(skip: readonly string[]) {
  const bare = skip.filter((name) => !/^[^/]+\/[^/]+$/.test(name));
  if (bare.length === 0) return;
  throw new Refused(`--skip ${bare.join(",")}: no NAMESPACE/NAME`, {
    unchanged: true,
    hint: `${again({ "dry-run": true }, { of: "04-sa-tokens", less: bare })} lists the workloads by such names`,
  });
}

/** Refuses a bare name: otherwise a mistyped name would restart other workloads. */
function refuseUnknownSkip(owners: readonly PodOwner[], skip: readonly string[]) {
  const names = owners.map(ownerName);
  const unknown = skip.filter((name) => !names.includes(name));
  if (unknown.length === 0) return;
  throw new Fail(`--skip ${unknown.join(",")}: no workload of this name has to restart`, {
    hint: `take the name out of --skip, or correct it. These workloads restart: ${listed(names)}`,
  });
}

/** A mistyped namespace would seem to be through. */
async function refuseUnknownNamespace(api: KubeApi, namespace: string, owners: readonly PodOwner[]) {
  if (await api.find(`/api/v1/namespaces/${encodeURIComponent(namespace)}`)) return;
  throw new Fail(`There is no namespace "${namespace}"`, {
    hint: `choose a namespace where a restart is pending: ${listed(namespacesOf(owners)) || "none"}`,
  });
}

function refuseDisorder(groups: readonly Group[], later: readonly PodOwner[], choice: Choice) {
  const network = groups.filter(({ name }) => NETWORK.includes(name)).flatMap(({ owners }) => owners);
  const first = later.find((owner) => network.includes(owner));
  if (!first) return;
  throw new Fail(
    `${label(first)} has to restart first: until then, new pods may get no traffic from Services`,
    {
      hint: `type first, or at the same time: ${again({ "only-system": true, namespace: choice.namespaces }, { of: "04-sa-tokens" })}`,
    },
  );
}

/** `namespace/name`; they may have restarted since. */
function skippedBefore(since: Date): string[] {
  return savedOptionsOf("skip").flatMap(({ value, at }) => (new Date(at) >= since ? [value] : []));
}

/** Part 4 decides it each time. */
export function rememberSkipped(skipped: readonly PodOwner[], on: string) {
  const names = skipped.map(ownerName);
  endSkips((name) => !names.includes(name));
  saveForThisNode("skip", names, { on });
}

function endSkips(isOver: (name: string) => boolean) {
  endSavedOptions(({ option, value }) => option === "skip" && isOver(value), "nothing of it has to restart");
}

/** Part 5 asks what restarts when part 4 runs again, and what the operator has kept out of it. */
export function podsStillWaiting(groups: readonly Group[], since: Date): Waiting {
  const owners = groups.flatMap(restartsOf);
  endSkips((name) => !owners.some((owner) => ownerName(owner) === name));
  const before = skippedBefore(since);
  const isSkipped = (owner: PodOwner) => before.includes(ownerName(owner));
  return { later: owners.filter((owner) => !isSkipped(owner)), skipped: owners.filter(isSkipped) };
}

interface Waiting {
  later: readonly PodOwner[];
  skipped: readonly PodOwner[];
}

export function resumeCommands({ later, skipped }: Waiting): string {
  const all = part4(skipped.map(ownerName));
  if (later.some(({ system }) => system)) return `${all} restarts them, or kube-system first: --only-system`;
  const namespaces = namespacesOf(later);
  const single = `, one namespace at a time: --namespace NAME (${listed(namespaces)})`;
  return `${all} restarts them${namespaces.length > 1 ? single : ""}`;
}

function namespacesOf(owners: readonly PodOwner[]): string[] {
  return [...new Set(owners.map(({ namespace }) => namespace))];
}

export function reportedOwners(groups: readonly Group[]): PodOwner[] {
  return groups.flatMap(({ owners }) => owners.filter(({ restart }) => restart === "report"));
}

export function restartsOf({ owners }: Group): PodOwner[] {
  return owners.filter(({ restart }) => restart !== "report");
}

/** "shop/db (StatefulSet): kubectl -n shop rollout restart statefulset/db" */
export function byHand(owners: readonly PodOwner[]): string {
  return owners.map((owner) => `${label(owner)}: ${howToRestart(owner)}`).join("; ");
}
