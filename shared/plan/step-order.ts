/**
 * The steps of a plan as a list: what is typed between the parts if machines have moved (scripts/move.ts) or etcd's data
 * was restored (scripts/restore.ts); how they are called; and from which to which the API is unavailable.
 */
import { command } from "../again.ts";
import type { Cluster } from "../facts/cluster-before.ts";
import type { Task } from "../facts/course.ts";
import { type Moved, meansWorkers, namedHosts, thatMoved } from "../pki/addresses.ts";
import type { Act } from "./act.ts";
import { type ByHand, type Line, linesOfAct } from "./by-hand.ts";
import { DRY_RUN, type Effort, GATHER, KIT, MOVES, THERE } from "./effort.ts";
import type { PlanFacts } from "./plan-facts.ts";
import { isNotFirst, nodesAt, type PlanNode } from "./plan-node.ts";

export interface PlanStep extends Effort {
  number: string;
  /** Unset: it prepares one. */
  task?: Task | undefined;
  /** "on" the nodes it is typed on; "to" those that get a file. */
  way: "on" | "to";
  on: string[];
  sideBySide: boolean;
  acts: Act[];
  /** The same, by hand. */
  lines: Line[];
  /** Numbers of the steps that have to be repeated after this one is repeated. */
  makesVoid: string[];
  exit: number[];
  ends?: string | undefined;
}

/** `lines`: only of a step without acts. */
export type Placed = Omit<PlanStep, "number" | "lines" | "makesVoid"> & { part: number; lines?: Line[] };

export function onNodes(nodes: readonly PlanNode[], way: PlanStep["way"], sideBySide = false) {
  return { way, on: nodes.map(({ name }) => name), sideBySide: sideBySide && nodes.length > 1 };
}

interface Around {
  nodes: readonly PlanNode[];
  facts: Pick<PlanFacts, "clusterData" | "moved" | "isRestored">;
  /** With a new CA each worker joins, which restarts its kubelet. */
  joins: boolean;
}

/**
 * In their places: other control plane nodes learn it before part 1, workers before part 3, which waits for
 * their kubelets, and the cluster before the proof, as what restarts kube-proxy needs every kubelet.
 */
export function withMoves(steps: readonly Placed[], { nodes, facts, joins }: Around): Placed[] {
  const { clusterData, moved, isRestored } = facts;
  const all = [...steps];
  const put = (before: number, at: readonly PlanNode[], line: string, effort: Effort) => {
    // what only prepares a part, such as the kit, comes first
    const index = all.findIndex(({ part, task }) => task !== undefined && part >= before);
    if (index < 0 || at.length === 0) return;
    const acts: Act[] = [{ do: "type", on: at.map(({ name }) => name), command: line, sideBySide: false }];
    all.splice(index, 0, { ...effort, ...onNodes(at, "on"), part: all[index]!.part, acts, exit: [0] });
  };
  const workers = nodesAt(nodes, "each-worker");
  const hasMoved = moved.size > 0 && clusterData !== undefined;
  const names = hasMoved ? namesToTell(moved, clusterData.cluster) : [];
  const told = nodesAt(nodes, "each-control-plane").filter(({ name }) => names.includes(name));
  const line = command("move", { moved: [...moved].map((pair) => pair.join("=")) });
  put(1, told.filter(isNotFirst), line, MOVES.others);
  if (hasMoved && meansWorkers(moved, clusterData.cluster)) put(3, workers, line, MOVES.workers);
  if (isRestored && !joins) put(3, workers, "systemctl restart kubelet", MOVES.restored);
  put(5, told, command("move"), MOVES.end);
  return all;
}

/** All nodes, where what they lead to is another one. */
function namesToTell(moved: Moved, { nodes }: Cluster): readonly string[] {
  const ofNodes = new Set(nodes.flatMap(namedHosts));
  const onlyMachines = [...moved.values()].every((one) => ofNodes.has(one));
  return (onlyMachines ? thatMoved(nodes, moved) : nodes).map(({ name }) => name);
}

/** Stands in an act until the steps have their numbers: the step that prints its line. */
export const KEEPER = "STEP-THAT-KEEPS";

/**
 * Part → what stands in it, in order: a step has the same letter in every plan of a cluster, for the phone and a page's
 * ticks. What stands in one row takes each other's place.
 */
const PLACES: readonly (readonly string[][])[] = [
  [["hold"], [KIT.does], ["look", "look-around"], ["salvage"], ["token-key"], [THERE.does]],
  [
    [MOVES.others.does],
    ["end-etcd"],
    ["new-cas", "old-cas", "new-internal-cas"],
    ["hand-over"],
    ["hand-over to"],
    ["unpack"],
    ["etcd-there"],
  ],
  [["old-key-there to"], ["control-plane"]],
  [[MOVES.workers.does, MOVES.restored.does], ["open"], ["join to"], ["join"], ["close"], ["delete-nodes"]],
  [[DRY_RUN.does], ["tokens"], ["retire"]],
  [[MOVES.end.does], ["verify"]],
  [
    ["backup"],
    ["backup to"],
    ["backup-there to"],
    ["backup-away"],
    [GATHER.does],
    ["report"],
    ["report to"],
    ["remove"],
    ["verify-again"],
    ["remove-kit"],
  ],
];

/** They take a letter only where they come: in most clusters never. */
const RARE = ["old-key-there to", "end-etcd", ...Object.values(MOVES).map(({ does }) => does)];

type Unnumbered = Pick<Placed, "part" | "task" | "way" | "does" | "acts" | "lines">;

type Numbered = Pick<PlanStep, "number" | "lines" | "makesVoid">;

type Standing = Pick<Placed, "task" | "way" | "does">;

function placeOf({ task, way, does }: Standing): string {
  if (!task || does === DRY_RUN.does || does === GATHER.does) return does;
  return way === "to" ? `${task} to` : task;
}

/** "0a", "0b", "1a", …; a step that types a printed line names the one that prints it. */
export function numbered<S extends Unnumbered>(
  steps: readonly S[],
  { several = false, ...hands }: ByHand & { several?: boolean },
): (S & Numbered)[] {
  const own = new Set(steps.map(placeOf));
  const has = (place: string) => own.has(place) || !RARE.includes(place) || (several && place === "end-etcd");
  const rows = PLACES.map((part) => part.filter((row) => row.some(has)));
  const all = steps.map((step) => {
    const index = rows[step.part]!.findIndex((row) => row.includes(placeOf(step)));
    return { ...step, number: `${step.part}${String.fromCharCode("a".charCodeAt(0) + index)}` };
  });
  let keeps = "";
  return all.map((step) => {
    if (step.acts.some((act) => "keeps" in act)) keeps = step.number;
    const acts = step.acts.map((act) => (act.do === "type-printed" ? { ...act, keptBy: keeps } : act));
    const lines = step.lines ?? acts.flatMap((act) => linesOfAct(act, hands));
    return { ...step, acts, lines, makesVoid: makesVoid(step, all) };
  });
}

/** The place of a step that makes files → the places of the steps that have carried or used what it made before. */
const VOIDS: Readonly<Record<string, readonly string[]>> = {
  "hand-over": ["hand-over to", "unpack"],
  open: ["join to"],
  backup: ["backup to", "backup-there to"],
  report: ["report to"],
};

/** Numbers of the steps that have to be repeated after `step` is repeated. */
function makesVoid(step: Standing, all: readonly (Standing & { number: string })[]): string[] {
  const places = VOIDS[placeOf(step)] ?? [];
  return all.flatMap((one) => (places.includes(placeOf(one)) ? [one.number] : []));
}

/** Each ends the control plane of the nodes that type it. */
export const STOPS: readonly Task[] = ["end-etcd", "new-cas", "old-cas", "new-internal-cas", "etcd-there"];

interface Others {
  several: boolean;
  /** Enough members of etcd go on without this node. */
  othersServe: boolean;
}

/** Whose API is unavailable, and until which step. */
export function withOutage<S extends PlanStep>(steps: readonly S[], { several, othersServe }: Others): S[] {
  const stops = steps.filter(({ task }) => task && STOPS.includes(task));
  const back = steps.find(({ task }) => task === "control-plane");
  if (stops.length === 0 || !back) return [...steps];
  const until = `until step ${back.number} is done`;
  const whole = several && (!othersServe || stops.some(({ task }) => task === "end-etcd"));
  const api = whole ? "the API of the whole cluster" : "the API";
  const costsOf = (step: S): string => {
    if (!stops.includes(step)) return step.costs;
    if (several && !whole)
      return `the control plane of this node stops ${until}; the API of the others keeps running. ${NO_RESTART}`;
    if (step !== stops[0]) return `nothing more: the API is unavailable ${until}`;
    return `${api} is unavailable ${until}, also if it still answers now. ${NO_RESTART}`;
  };
  const noteOf = (step: S) =>
    step === stops[0] && !(several && !whole)
      ? { note: [`Read the steps up to ${back.number} first`, ...(step.note ? [step.note] : [])].join(". ") }
      : {};
  return steps.map((step) => ({ ...step, costs: costsOf(step), ...noteOf(step) }));
}

const NO_RESTART = "No running workload stops";
