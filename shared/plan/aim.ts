/**
 * A plan's first sentences: what it is for, what it costs the workers, and which nodes it has looked at, without a promise
 * about what nobody has seen; or on which node it has to be made instead: the one that has, or may have, the lost keys.
 */
import type { Assessment } from "../assess/assessment.ts";
import { listed } from "../plain.ts";
import { decisionsOf } from "./decisions.ts";
import { hasAnswered, isSearched, wasSearched } from "./node-answers.ts";
import type { Note, Surroundings } from "./note.ts";
import { inUtc, keyFiles, lostKeys } from "./observations.ts";
import type { PlanFacts } from "./plan-facts.ts";
import type { PlanNode } from "./plan-node.ts";

type Facts = Pick<PlanFacts, "answers" | "lost" | "options" | "moved" | "isProved">;

interface Around {
  facts: Facts;
  nodes: readonly PlanNode[];
  pods: number;
}

/** Unset where there are no steps. */
export function aimOf(assessed: Assessment, around: Around): string | undefined {
  const aim = aimOfRepair(assessed, around);
  const moved = [...around.facts.moved].map((pair) => pair.join(" → "));
  return aim && moved.length > 0 ? `${aim} Addresses have changed: ${listed(moved)}.` : aim;
}

function aimOfRepair(
  { node, course, damaged, deep }: Assessment,
  { facts, nodes, pods }: Around,
): string | undefined {
  if (!course) return undefined;
  if (course[0] === "control-plane" && !course.includes("tokens"))
    return `This plan takes ${listed(facts.lost.controlPlanes)} out of the cluster: nothing is damaged on this node, and etcd runs on the others.`;
  const workers = workersOf(facts, nodes);
  if (!damaged && course.includes("old-cas")) return othersAim(facts, nodes);
  if (!damaged && joinsOf(facts, nodes).length > 0) return `${AIMS.workers}${workers}`;
  if (!damaged) return facts.isProved ? `${AIMS.rest} ${PROVED}` : AIMS.rest;
  if (course.includes("new-cas")) {
    const restart = `every pod with a token restarts once, ${pods} pods at most.`;
    const isLost = lostKeys(deep).includes("ca");
    const cost = isLost ? `every worker joins again, and ${restart}` : `${restart}${workers}`;
    return `This plan is for keys that ${whoLacks(node, deep, facts, nodes)}. It makes new ones: ${cost}`;
  }
  if (course.includes("salvage")) return `${AIMS.salvage}${workers}`;
  if (course.includes("tokens")) return AIMS.ended;
  return course.includes("join") ? AIMS.expired : `${AIMS.reissue}${workers}`;
}

const AIMS = {
  salvage: "This plan brings the old keys back: no running pod restarts.",
  ended:
    "This plan renews the CA that has expired with its own key. Workers join again by the same hash, and no token changes. Pods that have the old certificate in memory restart once.",
  expired:
    "This plan renews what has expired: workers whose certificates have expired join again, and no running pod restarts.",
  reissue: "This plan makes again what is missing: no running pod restarts.",
  others: "This plan is for damage on another control plane node: it gets its keys from here.",
  workers: "This plan is for workers: nothing is damaged on this node.",
  rest: "This plan is for what is left of the repair.",
};

const PROVED =
  "Part 5's checks are all good on this node now: every node that should be there renews its Lease and answers by the API.";

/** After a repair, an operator who types `plan` again should not begin the repair anew. */
function othersAim(facts: Facts, nodes: readonly PlanNode[]): string {
  const unseen = unseenOthers(nodes, facts);
  if (unseen.length === 0) return AIMS.others;
  return `Nothing is damaged on this node. Look at ${listed(unseen)} first, by the lines that ask all nodes. If one of them is damaged, this plan repairs that node with the keys of this one.`;
}

function whoLacks(here: string, deep: Assessment["deep"], facts: Facts, nodes: readonly PlanNode[]): string {
  const open = openOthers(nodes, facts);
  const isSealed = deep?.keys.some(({ places }) =>
    places.some(({ word, found }) => word === "secret" && !found),
  );
  if (open.length === 0)
    return `nobody has any more${isSealed ? ", unless you have the certificate key of the Secret kubeadm-certs" : ""}`;
  const isSeen = (name: string) => hasAnswered(name, facts.answers);
  const which: string[] = [];
  const [answered, unseen] = [open.filter(isSeen), open.filter((name) => !isSeen(name))];
  if (unseen.length > 0) which.push(`Not looked at: ${listed(unseen)}`);
  if (answered.length > 0) which.push(`Looked at, but not their memory: ${listed(answered)}`);
  return `${here} does not have. ${which.join(". ")}. If one of them has them, the plan is made there`;
}

/** Workers that keep the old CA. */
function workersOf({ answers }: Facts, nodes: readonly PlanNode[]): string {
  const workers = nodes.filter(({ role }) => role === "worker").map(({ name }) => name);
  if (workers.length === 0) return "";
  const joining = joinsOf({ answers }, nodes);
  const unseen = workers.filter((name) => !hasAnswered(name, answers));
  const others =
    joining.length < workers.length - unseen.length ? ", no other worker that was looked at" : "";
  const join =
    joining.length > 0 ? ` ${listed(joining)} ${joining.length > 1 ? "join" : "joins"} again${others}.` : "";
  if (unseen.length === 0) return join || " No worker has to join: all were looked at.";
  return `${join} Not looked at: ${listed(unseen)}. A worker that has lost its own files has to join again.`;
}

/** Workers that have lost what only a join brings back. */
export function joinsOf({ answers }: Pick<PlanFacts, "answers">, nodes: readonly PlanNode[]): string[] {
  const joins = answers.nodes.flatMap((node) => (node.joins ? [node.name] : []));
  return nodes.flatMap(({ name, role }) => (role === "worker" && joins.includes(name) ? [name] : []));
}

/** "m1 (here), m2 (03:12 UTC). Asked, and no answer: w2. Not looked at: w1". */
export function lookSummary(
  here: string,
  { answers }: Pick<PlanFacts, "answers">,
  nodes: readonly PlanNode[],
): string[] {
  const looked = answers.nodes.filter(({ name }) => name !== here);
  const silent = answers.silent.filter((name) => name !== here && nodes.some((node) => node.name === name));
  const asked = [here, ...silent, ...looked.map(({ name }) => name)];
  const others = nodes.flatMap(({ name }) => (asked.includes(name) ? [] : [name]));
  const times = looked.map(
    (node) => `${node.name} (${inUtc(node.made)}${isSearched(node) ? "" : ", not its memory"})`,
  );
  const lines = [`Looked at: ${listed([`${here} (here)`, ...times])}`];
  if (silent.length > 0) lines.push(`Asked, and no answer: ${listed(silent)}`);
  if (others.length > 0) lines.push(`Not looked at: ${listed(others)}`);
  return lines;
}

export interface Elsewhere {
  aim: string;
  /** Unset: `open` are looked at first, and the plan is made again here. */
  to?: string;
  /** Control plane nodes where keys may be lost, too. */
  open: readonly string[];
  notes?: Note[];
}

/** Returns undefined if the plan is made on this node, and has steps. */
export function whereToPlan(assessed: Assessment, around: Surroundings): Elsewhere | undefined {
  const where = lookFirst(assessed, around) ?? whereKeysAre(assessed, around.facts);
  const decisions = where?.to === undefined ? decisionsOf(assessed, around) : undefined;
  if (!decisions) return where;
  const aim = [...(where ? [where.aim] : []), decisions.aim].join("; ");
  return { open: where?.open ?? [], aim, notes: decisions.notes };
}

/**
 * After a repair: who was not looked at may be repaired as well, and gets no line that stops anything. Where
 * part 5 proves all of them from here, nobody has to look.
 */
function lookFirst(assessed: Assessment, { facts, nodes }: Surroundings): Elsewhere | undefined {
  const unseen = unseenOthers(nodes, facts);
  if (!needsProof(assessed, facts) || facts.isProved || unseen.length === 0) return undefined;
  const aim = `Look at ${listed(unseen)} first, by the lines that ask all nodes. Nothing is damaged on this node, and what is left on those nodes is not known here`;
  return { open: [], aim };
}

function whereKeysAre(
  { course, deep }: Pick<Assessment, "course" | "deep">,
  facts: PlanFacts,
): Elsewhere | undefined {
  const lost = lostKeys(deep);
  if (!course || lost.length === 0) return undefined;
  const more = whoHasMore(lost, facts);
  if (more) return more;
  // where etcd ends on all of them, none has a key that is made here
  const besideOthers = course.includes("new-internal-cas") && !course.includes("end-etcd");
  if (!course.includes("new-cas") && !besideOthers) return undefined;
  const open = (names: readonly string[]) => names.filter((name) => !isDone(name, facts));
  const leaders = lost.includes("ca") ? open(facts.leader?.nodes ?? []) : [];
  const [leader] = leaders;
  if (leader !== undefined && hasAnswered(leader, facts.answers))
    return { to: leader, open: leaders, aim: `Make this plan on ${leader}: ${LED}` };
  // all nodes are looked at by one way: who has the keys is known then
  if (leader !== undefined) return { open: leaders, aim: `Look at ${listed(leaders)} first: ${LED}` };
  const running = open(facts.running);
  if (running.length === 0) return undefined;
  const aim = `Look at ${listed(running)} first: etcd runs there, or seems to, so ${keyFiles(lost)} may still be there`;
  return { open: running, aim };
}

/** Nothing is damaged here after a repair: what is left depends on nodes that this plan may not have looked at. */
export function needsProof(
  { damaged }: Pick<Assessment, "damaged">,
  { isKept, lost }: Pick<PlanFacts, "isKept" | "lost">,
): boolean {
  return !damaged && isKept && lost.names.length === 0;
}

const LED = "the controller-manager there led last, and only its process may hold ca.key in memory";

function isDone(
  name: string,
  { answers, lost, options }: Pick<PlanFacts, "answers" | "lost" | "options">,
): boolean {
  const given = [...lost.names, ...(options["lost-on"] ?? [])];
  return given.includes(name) || wasSearched(name, answers);
}

export function othersOf(nodes: readonly PlanNode[]): string[] {
  return nodes.flatMap(({ name, role }) => (role === "control plane node" ? [name] : []));
}

function unseenOthers(nodes: readonly PlanNode[], { answers }: Pick<PlanFacts, "answers">): string[] {
  return othersOf(nodes).filter((name) => !hasAnswered(name, answers));
}

/** Neither looked at to the end, nor given up. */
export function openOthers(nodes: readonly PlanNode[], facts: Parameters<typeof isDone>[1]): string[] {
  return othersOf(nodes).filter((name) => !isDone(name, facts));
}

/** The cost of making each anew. */
const COSTS: Record<string, number> = { ca: 8, sa: 4, "etcd/ca": 2, "front-proxy-ca": 1 };

/** The control plane node that says that it has what is worth more than what is here. */
function whoHasMore(
  lost: readonly string[],
  { answers, clusterData, options }: PlanFacts,
): Elsewhere | undefined {
  const cost = (keys: readonly string[]) => keys.reduce((all, name) => all + (COSTS[name] ?? 0), 0);
  // Where workers and pods trust a lost key, the others cost nothing beside it, and nothing says whether those of
  // another node are the cluster's, or of a half attempt.
  const trusted = lost.filter((name) => name === "ca" || name === "sa");
  const counted = trusted.length > 0 ? trusted : lost;
  const isOther = (name: string) =>
    clusterData?.cluster.nodes.some((node) => node.controlPlane && node.name === name);
  const others = answers.nodes.flatMap((node) => {
    const isGivenUp = node.lostData && options["lost-on"]?.includes(node.name);
    if (!node.lacks || !isOther(node.name) || isGivenUp) return [];
    const { name, lacks, lostData } = node;
    return { name, lacks, lostData, counts: cost(counted.filter((key) => lacks.includes(key))) };
  });
  const [best] = others.toSorted((a, b) => a.counts - b.counts || cost(a.lacks) - cost(b.lacks));
  if (!best || best.counts >= cost(counted)) return undefined;
  const { name, lostData } = best;
  const has = `has ${keyFiles(lost.filter((key) => !best.lacks.includes(key)))}`;
  if (!lostData) return { to: name, open: [], aim: `Make this plan on ${name}: it ${has}` };
  const aim = `Bring the keys from ${name} by a hand-over (RUNBOOK.md, part 1), and print the plan again. ${name} ${has}, and no data of etcd, so no part begins there`;
  return { open: [name], aim };
}
