/**
 * A plan's first sentences: what it is for, what it costs the workers, and which nodes it has looked at. No
 * promise about what nobody has seen.
 */
import type { Assessment } from "../assess/assessment.ts";
import { listed } from "../plain.ts";
import { isDone } from "./elsewhere.ts";
import type { PlanFacts } from "./plan-facts.ts";
import type { PlanNode } from "./plan-nodes.ts";
import { isSearched } from "./seen-nodes.ts";

type Facts = Pick<PlanFacts, "seen" | "lost" | "said" | "moved">;

interface Around {
  facts: Facts;
  nodes: readonly PlanNode[];
  /** How many the cluster has. */
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
  if (!damaged && course.includes("old-cas")) return AIMS.others;
  if (!damaged) return joinsOf(facts, nodes).length > 0 ? `${AIMS.workers}${workers}` : AIMS.rest;
  if (course.includes("new-cas")) {
    const isLost = deep?.keys.some(({ name, places }) => name === "ca" && !places.some(({ found }) => found));
    const restart = `every pod with a token restarts once, ${pods} pods at most.`;
    const new_ = isLost
      ? `It makes new ones: every worker joins again, and ${restart}`
      : `It makes new ones: ${restart}${workers}`;
    return `This plan is for keys that ${whoLacks(node, facts, nodes)}. ${new_}`;
  }
  if (course.includes("salvage")) return `${AIMS.salvage}${workers}`;
  if (course.includes("tokens")) return AIMS.ended;
  return course.includes("join") ? AIMS.expired : `${AIMS.reissue}${workers}`;
}

const AIMS = {
  salvage: "This plan brings the old keys back: no pod restarts.",
  ended:
    "This plan renews the CA that has expired with its own key: workers join again by the same hash, no token changes, and pods that have the old certificate in memory restart once.",
  expired:
    "This plan renews what has expired: workers whose certificates have expired join again, and no pod restarts.",
  reissue: "This plan makes again what is missing: no pod restarts.",
  others: "This plan is for damage on another control plane node: it gets its keys from here.",
  workers: "This plan is for workers: nothing is damaged on this node.",
  rest: "This plan is for what is left of the repair.",
};

function whoLacks(here: string, facts: Facts, nodes: readonly PlanNode[]): string {
  const open = nodes.flatMap(({ name, role }) =>
    role === "control plane node" && !isDone(name, facts) ? [name] : [],
  );
  if (open.length === 0) return "nobody has any more";
  const isSeen = (name: string) => facts.seen.nodes.some((node) => node.name === name);
  const [seen, unseen] = [true, false].map((is) => open.filter((name) => isSeen(name) === is));
  const which = [
    ...(unseen!.length > 0 ? [`Not looked at: ${listed(unseen!)}`] : []),
    ...(seen!.length > 0 ? [`Looked at, but not their memory: ${listed(seen!)}`] : []),
  ];
  return `${here} does not have. ${which.join(". ")}. If one of them has them, the plan is made there`;
}

/** Of those that keep the old CA. */
function workersOf({ seen }: Facts, nodes: readonly PlanNode[]): string {
  const workers = nodes.filter(({ role }) => role === "worker").map(({ name }) => name);
  if (workers.length === 0) return "";
  const joining = joinsOf({ seen }, nodes);
  const unseen = workers.filter((name) => !seen.nodes.some((node) => node.name === name));
  const others =
    joining.length < workers.length - unseen.length ? ", no other worker that was looked at" : "";
  const join =
    joining.length > 0 ? ` ${listed(joining)} ${joining.length > 1 ? "join" : "joins"} again${others}.` : "";
  if (unseen.length === 0) return join || " No worker has to join: all were looked at.";
  return `${join} Not looked at: ${listed(unseen)}. A worker that has lost its own files has to join again.`;
}

/** Workers that say that they have lost what only a join brings back. */
export function joinsOf({ seen }: Pick<PlanFacts, "seen">, nodes: readonly PlanNode[]): string[] {
  return nodes.flatMap(({ name, role }) =>
    role === "worker" && seen.nodes.some((node) => node.name === name && node.joins) ? [name] : [],
  );
}

/** "m1 (here), m2 (03:12 UTC). Asked, and no answer: w2. Not looked at: w1". */
export function lookedAt(
  here: string,
  { seen }: Pick<PlanFacts, "seen">,
  nodes: readonly PlanNode[],
): string[] {
  const at = (made: Date) => `${made.toISOString().slice(11, 16)} UTC`;
  const looked = seen.nodes.filter(({ name }) => name !== here);
  const silent = seen.silent.filter((name) => name !== here && nodes.some((node) => node.name === name));
  const known = [here, ...silent, ...looked.map(({ name }) => name)];
  const others = nodes.flatMap(({ name }) => (known.includes(name) ? [] : [name]));
  return [
    `Looked at: ${listed([`${here} (here)`, ...looked.map((node) => `${node.name} (${at(node.made)}${isSearched(node) ? "" : ", not its memory"})`)])}`,
    ...(silent.length > 0
      ? [`Asked, and no answer: ${listed(silent)}. Off, or ssh fails: --without NODE leaves one out`]
      : []),
    ...(others.length > 0 ? [`Not looked at: ${listed(others)}`] : []),
    ...seen.leftOut.map((why) => `Does not count: ${why}`),
  ];
}
