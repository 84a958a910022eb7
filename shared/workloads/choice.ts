/**
 * The operator's choice of workloads that restart in this run. A later run finds the rest in the cluster. Nothing in
 * the cluster shows that a workload was left on purpose: a word keeps that (node/words.ts).
 */
import { again } from "../again.ts";
import type { KubeApi } from "../api/kube-api.ts";
import { part4 } from "../facts/next.ts";
import { Fail, Refused } from "../fail.ts";
import { endWords, keepOwn, wordsOf } from "../node/words.ts";
import { listed } from "../plain.ts";
import { howToRestart, label, ownerName, type PodOwner } from "./pod-owners.ts";
import { type Group, NETWORK } from "./stale-pods.ts";

/** The operator's choice, as typed. Without the first two, all restart. */
export interface Choice {
  /** kube-system, and the network plugin wherever it runs. */
  onlySystem: boolean;
  namespaces: readonly string[];
  /** `namespace/name` of what the operator restarts. */
  skip: readonly string[];
}

export interface Chosen {
  /** With what restarts now, and with what is only named. */
  groups: Group[];
  later: PodOwner[];
  skipped: PodOwner[];
  /** Skipped in an earlier run, and restarted in this one. */
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

/** Without this, mistyped workloads restart. */
function refuseUnknownSkip(owners: readonly PodOwner[], skip: readonly string[]) {
  const names = owners.map(ownerName);
  const unknown = skip.filter((name) => !names.includes(name));
  if (unknown.length === 0) return;
  throw new Fail(`--skip ${unknown.join(",")}: no workload of this name has to restart`, {
    hint: `take it out of --skip, or correct it. These restart: ${listed(names)}`,
  });
}

/** A mistyped namespace would seem to be through. */
async function refuseUnknownNamespace(api: KubeApi, namespace: string, owners: readonly PodOwner[]) {
  if (await api.find(`/api/v1/namespaces/${encodeURIComponent(namespace)}`)) return;
  throw new Fail(`There is no namespace "${namespace}"`, {
    hint: `choose one where a restart is pending: ${listed(namespacesOf(owners)) || "none"}`,
  });
}

function refuseDisorder(groups: readonly Group[], later: readonly PodOwner[], choice: Choice) {
  const network = groups.filter(({ name }) => NETWORK.includes(name)).flatMap(({ owners }) => owners);
  const first = later.find((owner) => network.includes(owner));
  if (!first) return;
  throw new Fail(
    `${label(first)} has to restart first: until then, new pods may get no traffic from Services`,
    {
      hint: `type first, or with it: ${again({ "only-system": true, namespace: choice.namespaces }, { of: "04-sa-tokens" })}`,
    },
  );
}

/** Skipped in this repair, as `namespace/name`. They may have restarted since. */
function skippedBefore(since: Date): string[] {
  return wordsOf("skip").flatMap(({ value, at }) => (new Date(at) >= since ? [value] : []));
}

/** Part 4 decides it each time. */
export function rememberSkipped(skipped: readonly PodOwner[], on: string) {
  const names = skipped.map(ownerName);
  endSkips((name) => !names.includes(name));
  keepOwn("skip", names, { on });
}

function endSkips(isOver: (name: string) => boolean) {
  endWords(({ option, value }) => option === "skip" && isOver(value), "nothing of it has to restart");
}

/** Part 5 asks what restarts when part 4 runs again, and what the operator has kept out of it. */
export function leftOver(groups: readonly Group[], since: Date): Waiting {
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

/** How to go on: all of them, or some first. */
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

/** Pods that are only named: nothing makes new ones. */
export function reportedOf(groups: readonly Group[]): PodOwner[] {
  return groups.flatMap(({ owners }) => owners.filter(({ restart }) => restart === "report"));
}

export function restartsOf({ owners }: Group): PodOwner[] {
  return owners.filter(({ restart }) => restart !== "report");
}

/** "shop/db (StatefulSet): kubectl -n shop rollout restart statefulset/db" */
export function byHand(owners: readonly PodOwner[]): string {
  return owners.map((owner) => `${label(owner)}: ${howToRestart(owner)}`).join("; ");
}
