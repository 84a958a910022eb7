/**
 * Where a plan has to be made, if not here: on the node that has the lost keys, or may have them. No new keys
 * are planned before that.
 */
import type { Assessment } from "../assess/assessment.ts";
import { CERTS } from "../pki/certs.ts";
import { listed } from "../plain.ts";
import { decisionsOf } from "./decisions.ts";
import type { Note } from "./note.ts";
import type { PlanFacts } from "./plan-facts.ts";
import type { PlanNode } from "./plan-nodes.ts";
import { isSearched } from "./seen-nodes.ts";

export interface Elsewhere {
  /** A sentence for the operator. */
  aim: string;
  /**
   * The node to make the plan on; unset: these nodes are looked at first, and the plan is made again here.
   */
  to?: string;
  /** Control plane nodes of which the operator may say that keys are lost there, too. */
  open: readonly string[];
  /** The operator's decisions: each with its line. */
  notes?: Note[];
}

/** The shared keys, and how much it costs to make each anew. */
const COSTS: Record<string, number> = { ca: 8, sa: 4, "etcd/ca": 2, "front-proxy-ca": 1 };
const sum = (keys: readonly string[]) => keys.reduce((all, name) => all + (COSTS[name] ?? 0), 0);

/**
 * Those that workers and pods trust, where one of them is lost: beside it the others cost nothing, and nothing says
 * whether those of another node are the cluster's, or of a half attempt.
 */
function counted(lost: readonly string[]): readonly string[] {
  const trusted = lost.filter((name) => name === "ca" || name === "sa");
  return trusted.length > 0 ? trusted : lost;
}

/** Undefined: it is made here, and has steps. */
export function elsewhere(
  assessed: Assessment,
  around: { facts: PlanFacts; nodes: readonly PlanNode[] },
): Elsewhere | undefined {
  const where = whereKeysAre(assessed, around.facts);
  const decisions = where?.to === undefined ? decisionsOf(assessed, around) : undefined;
  if (!decisions) return where;
  const { open, aim } = where ?? { open: [] };
  return { open, aim: [...(aim ? [aim] : []), decisions.aim].join("; "), notes: decisions.notes };
}

function whereKeysAre(
  { course, deep }: Pick<Assessment, "course" | "deep">,
  facts: PlanFacts,
): Elsewhere | undefined {
  const lost = (deep?.keys ?? []).flatMap(({ name, places }) =>
    places.some(({ found }) => found) ? [] : [name],
  );
  if (!course || lost.length === 0) return undefined;
  const has = hasMore(lost, facts);
  if (has) return where(has);
  // where etcd ends on all of them, none has a key that is made here
  const besideOthers = course.includes("new-internal-cas") && !course.includes("end-etcd");
  if (!course.includes("new-cas") && !besideOthers) return undefined;
  const open = (names: readonly string[]) => names.filter((name) => !isDone(name, facts));
  const [leader] = lost.includes("ca") ? open(facts.leader?.nodes ?? []) : [];
  if (leader !== undefined)
    return { to: leader, open: open(facts.leader!.nodes), aim: `Make this plan on ${leader}: ${LED}` };
  const running = open(facts.running);
  if (running.length === 0) return undefined;
  const aim = `Look at ${listed(running)} first: etcd runs there, or seems to, so ${keyFiles(lost)} may still be there`;
  return { open: running, aim };
}

function where({ name, keys, lostData }: More): Elsewhere {
  const has = `has ${keyFiles(keys)}`;
  if (!lostData) return { to: name, open: [], aim: `Make this plan on ${name}: it ${has}` };
  const aim = `Bring the keys from ${name} by a hand-over (RUNBOOK.md, part 1), and print the plan again: ${name} ${has}, and no data of etcd, so no part begins there`;
  return { open: [name], aim };
}

const LED = "the controller-manager there led last, and only its process may hold ca.key in memory";

/** Looked at, down to its memory, or given up by the operator. */
export function isDone(
  name: string,
  { seen, lost, said }: Pick<PlanFacts, "seen" | "lost" | "said">,
): boolean {
  const given = [...lost.names, ...(said["lost-on"] ?? [])];
  return given.includes(name) || seen.nodes.some((node) => node.name === name && isSearched(node));
}

interface More {
  name: string;
  keys: string[];
  lostData: boolean;
}

/** The control plane node that says that it has what is worth more than what is here. */
function hasMore(lost: readonly string[], { seen, known, said }: PlanFacts): More | undefined {
  const isOther = (name: string) =>
    known?.cluster.nodes.some((node) => node.controlPlane && node.name === name);
  const others = seen.nodes.flatMap((node) =>
    node.lacks && isOther(node.name) && !(node.lostData && said["lost-on"]?.includes(node.name))
      ? [{ ...node, lacks: node.lacks }]
      : [],
  );
  const lacksOf = ({ lacks }: { lacks: readonly string[] }) =>
    sum(counted(lost).filter((key) => lacks.includes(key)));
  const [best] = others.toSorted((a, b) => lacksOf(a) - lacksOf(b) || sum(a.lacks) - sum(b.lacks));
  if (!best || lacksOf(best) >= sum(counted(lost))) return undefined;
  const keys = lost.filter((key) => !best.lacks.includes(key));
  return { name: best.name, keys, lostData: best.lostData };
}

/** "ca.key, sa.key". */
export function keyFiles(names: readonly string[]): string {
  return names.map((name) => `${CERTS.find((row) => row.name === name)?.file ?? name}.key`).join(", ");
}
