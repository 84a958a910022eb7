/**
 * The runbook for this cluster and this damage: RUNBOOK.md's own blocks, those that the assessment's course
 * names, with this cluster's names and addresses. One object, printed as Markdown or as a page.
 */

import type { Assessment } from "../assess/assessment.ts";
import { type Course, courseFrom } from "../facts/course.ts";
import type { KnownNode } from "../facts/known-node.ts";
import { kindOf, meanings, savedOptionsHere } from "../node/words.ts";
import { registryPrefix } from "../objects/stored.ts";
import { isInternal } from "../pki/certs.ts";
import { FEW } from "../plain.ts";
import { addressToType, identitiesOf } from "../workers/identities.ts";
import { aimOf, type Elsewhere, joinsOf, lookSummary, othersOf, whereToPlan } from "./aim.ts";
import { type ByHand, type Line, linesOfAct, reachIn } from "./by-hand.ts";
import { givenUpNotes, notesBeforePart3 } from "./decisions.ts";
import type { CostsHere } from "./effort-here.ts";
import {
  hasAnswered,
  hasNoServers,
  hasOnlyExpired,
  nothingDamaged,
  type Observation,
  wasSearched,
  withoutOlder,
} from "./node-answers.ts";
import { askLines, linesOn, type Note, planAgain, type Surroundings } from "./note.ts";
import { bundleNotes, firstNotes, notesBeforeEnd, notesBeforePart1 } from "./notes.ts";
import { isSeenDone, lostKeys, observationsOf, saidBy, withSights } from "./observations.ts";
import type { PlanFacts } from "./plan-facts.ts";
import { isName, type PlanNode } from "./plan-node.ts";
import { stepsOf, stepThere } from "./plan-steps.ts";
import { type Block, type Part, readRunbook } from "./runbook.ts";
import { numbered, type Placed, type PlanStep, withMoves, withOutage } from "./step-order.ts";
import { undoHere } from "./undo-here.ts";
import { workersPodsNotes } from "./workers-pods.ts";

export interface Plan {
  node: string;
  /** Undefined where it cannot be read. */
  cluster: string | undefined;
  kubernetes: string | undefined;
  made: Date;
  verdict: string;
  /** The same beside the aim; unset: all other control plane nodes were looked at. */
  ownVerdict: string | undefined;
  nodes: (PlanNode & { said?: string })[];
  user: string;
  lost: readonly string[];
  away: readonly string[];
  aim: string | undefined;
  /** Which nodes were looked at, and how. Sentences. */
  looked: string[];
  /** The notes about answers that are not used. */
  leftOut: string[];
  /** It has to be made on another node, or waits for a look: it only says so. */
  elsewhere: Elsewhere | undefined;
  first: Note[];
  parts: PlanPart[];
  /** Prints this plan anew, and brings it to the operator's machine. */
  anew: Line[];
  seconds: readonly [number, number];
}

export interface PlanPart extends Pick<Part, "title" | "undo"> {
  number: number;
  notes: Note[];
  steps: SeenStep[];
  /** Why it has none. */
  why?: string | undefined;
  /** RUNBOOK.md has a table of what its scripts say where they stop. */
  hasTable?: boolean;
}

/** With what was seen of it already. */
export type SeenStep = PlanStep & { observations: readonly Observation[] };

/**
 * Without the cluster's facts no course is known. Errors: Fail where RUNBOOK.md has a form that this does not
 * know.
 */
export function makePlan(given: Assessment, all: PlanFacts, runbook: string): Plan {
  const facts = given.damaged ? all : { ...all, answers: withoutOlder(all.answers, all.repairedAt) };
  const { clusterData, lost, user } = facts;
  const nodes = clusterData
    ? planNodes(clusterData, { here: given.node, without: [...lost.names, ...lost.away] })
    : [];
  const assessed = { ...given, course: courseHere(given, { nodes, facts }) };
  const around: Around = { nodes, facts, assessed, ...readRunbook(runbook) };
  const away = whereToPlan(assessed, around);
  const made = new Date();
  const unseen = away ? stepsThere(away, around) : stepsHere(around);
  const steps = withSights(unseen, observationsOf(assessed, facts, made));
  const pods = clusterData ? clusterData.data.keys(`${registryPrefix(clusterData.data)}/pods/`).length : 0;
  const parts = partsOf(around, { steps, away });
  const aim = away?.aim ?? aimOf(assessed, { facts, nodes, pods });
  const others = othersOf(nodes);
  const areSeen = others.every((name) => hasAnswered(name, facts.answers));
  // who reads a plan has no table of rows
  const verdict = assessed.verdict.replace(/ \(RUNBOOK 0\.1, row \d\)/, "");
  const leftOut = facts.answers.leftOut.map((why) => `Does not count: ${why}`);
  const strange = (clusterData?.cluster.nodes ?? []).flatMap(({ name }) => (isName(name) ? [] : [name]));
  return {
    ...{
      node: assessed.node,
      kubernetes: assessed.kubernetes,
      cluster: clusterData?.cluster.name,
      made,
      user,
    },
    verdict,
    ownVerdict: aim === undefined || areSeen || away ? undefined : verdict,
    nodes: nodes.map((node) => ({ ...node, ...saidBy(node.name, facts.answers, assessed) })),
    ...{ lost: lost.names, away: lost.away },
    aim,
    looked: [
      ...lookSummary(assessed.node, facts, nodes),
      ...leftOut,
      ...meanings(savedOptionsHere().filter((word) => !kindOf(word).isJudged)).map(
        (word) => `As said: ${word}`,
      ),
      ...facts.onAgain.map((name) => `${name} is on again: this plan counts it`),
    ],
    ...{ leftOut, elsewhere: away },
    first: withoutNames(strange, notesOnTop(around, { steps, away })),
    anew: steps.length > 0 && nodes[0] && !away ? anewLines(user, nodes[0], facts) : [],
    parts: parts.map((part) => ({ ...part, notes: withoutNames(strange, part.notes) })),
    seconds: [secondsOf(steps, 0), secondsOf(steps, 1)],
  };
}

interface Around extends Surroundings {
  assessed: Assessment;
  parts: readonly Part[];
  blocks: readonly Block[];
}

type Unseen = PlanStep & Placed;
type Steps = (SeenStep & Placed)[];

/** A line with one of these is left out: the name is none. */
function withoutNames(names: readonly string[], notes: readonly Note[]): Note[] {
  return notes.map(({ commands, ...note }) => ({
    ...note,
    commands: commands.filter(({ text }) => !names.some((name) => text.includes(name))),
  }));
}

interface Made {
  steps: Steps;
  away: Elsewhere | undefined;
}

function notesOnTop(around: Around, { steps, away }: Made): Note[] {
  const { assessed, facts, nodes } = around;
  const { course = [], node } = assessed;
  const makesKeys = course.includes("new-cas") || course.includes("new-internal-cas");
  const hold = steps.find((step) => step.task === "hold" && !isSeenDone(step))?.number;
  return [
    ...(makesKeys ? bundleNotes({ ...facts, nodes }) : []),
    ...firstNotes(assessed, { ...facts, nodes, away, hold, ask: askOf(around) }),
    ...givenUpNotes(node, around),
    ...workersPodsNotes(around),
  ];
}

const AFTER_PROOF = 6;

const NOT_NEEDED: Record<number, string> = {
  0: "no key is lost, and nothing has to be stopped",
  1: "etcd runs, and nothing of it is damaged",
  4: "the keys that sign tokens are the old ones, so every token stays valid, and no running pod restarts",
};
const KEY_GIVEN_UP =
  "the keys that sign tokens are the old ones. But tokens of the key that is given up are refused. After part 3, ./bunw scripts/04-sa-tokens.ts makes new tokens for Secrets, and copies of the old ones outside of the cluster stop working";

function partsOf({ assessed, facts, nodes, parts }: Around, { steps, away }: Made): PlanPart[] {
  const notes: Record<number, () => Note[]> = {
    1: () => notesBeforePart1(assessed, { ...facts, nodes }),
    3: () => notesBeforePart3(assessed),
    [AFTER_PROOF]: () => notesBeforeEnd(steps, { ...facts, nodes }),
  };
  const isKeyGivenUp = facts.options["start-without"].includes("service-account-key-file");
  if (steps.length === 0) return [];
  return parts.flatMap(({ number, title, undo, text }): PlanPart[] => {
    const own = steps.filter(({ part }) => part === number);
    if (own.length > 0) {
      const tasks = own.map(({ task }) => task);
      const [way, hasTable] = [
        undoHere({ number, undo }, { ...facts, tasks }),
        text.includes("\n| it says |"),
      ];
      return [{ number, title, undo: way, notes: notes[number]?.() ?? [], steps: own, hasTable }];
    }
    if (away) return [];
    const left =
      facts.hasNewKeys && number > 2 ? "nothing is left that this node knows: step 5a proves it" : undefined;
    const why = number === 4 && isKeyGivenUp ? KEY_GIVEN_UP : (left ?? NOT_NEEDED[number]);
    return [{ number, title, undo: "", notes: [], steps: [], why: why ?? "nothing to do for this damage" }];
  });
}

const PAGE = "plan.html";

/** Made of the same answers: those that are too old by then are named. */
function anewLines(user: string, first: PlanNode, facts: PlanFacts): Line[] {
  const hands = { reach: reachIn([first], user) };
  return [
    ...linesOn(first, planAgain(facts, {}, PAGE)),
    ...linesOfAct({ do: "fetch", from: first.name, file: PAGE }, hands),
  ];
}

/**
 * Where this node is well, the others decide: nothing is stopped for them, and those that were looked at and
 * are well, too, need none of parts 0 to 2.
 */
function courseHere({ course, damaged }: Assessment, { nodes, facts }: Surroundings): Course | undefined {
  const { answers, lost, isKept } = facts;
  if (damaged || (course && course[0] !== "hold")) return course;
  const others = othersOf(nodes);
  const areWell = facts.isProved || others.every((name) => nothingDamaged(name, answers));
  if (lost.names.length > 0 || !areWell) {
    const needsKeys =
      facts.hasNewKeys ||
      !others.every((name) => nothingDamaged(name, answers) || hasOnlyExpired(name, answers));
    return course?.filter((task) => task !== "hold" && (needsKeys || !CARRIES_KEYS.includes(task)));
  }
  const left = facts.made.oldKey ? "tokens" : "verify";
  const first = joinsOf(facts, nodes).length > 0 ? "open" : isKept ? left : undefined;
  return first && courseFrom({ others, ...(facts.made.oldKey && { lost: ["sa"], oldKey: "here" }) }, first);
}

const CARRIES_KEYS: Course = ["hand-over", "unpack"];

function stepsHere({ assessed, nodes, facts, blocks }: Around): Unseen[] {
  const { course, damaged, deep } = assessed;
  // without the cluster's nodes no line has a place
  if (!course || nodes.length === 0) return [];
  const others = othersOf(nodes);
  const several = others.length > 0;
  const isNewJoin = course.includes("join");
  const joins = isNewJoin ? undefined : joinsOf(facts, nodes);
  const tasks = course.flatMap((task): Course => {
    const isLook = task === "look" || task === "look-around";
    if (isLook && others.every((name) => wasSearched(name, facts.answers))) return [];
    // with the old CA single workers join
    return task === "close" && joins?.length ? ["join", "close"] : [task];
  });
  // nothing is damaged any more: what is left of a repair, up to its clean-up
  const isAfter = course[0] === "tokens" || course[0] === "verify";
  const all = blocksOf(blocks, tasks, deep);
  const own = stepsOf(isAfter ? all.filter((block) => isOpen(block, facts)) : all, nodes, {
    ...hereOf(assessed, facts),
    ...{ ...facts, joins, tells: several ? course.find((task) => TELLS.includes(task)) : undefined },
    done: isAfter ? doneAfter(facts) : {},
    well: damaged ? [] : others.filter((name) => nothingDamaged(name, facts.answers)),
  });
  const moved = withMoves(own, { nodes, facts, joins: isNewJoin });
  const steps = numbered(moved, { several, ...byHandOf({ nodes, facts, blocks }) });
  // members of an etcd that is a unit go on without their API server
  const othersServe = facts.othersServe && !others.every((name) => hasNoServers(name, facts.answers));
  return withOutage(steps, { several, othersServe });
}

/** Facts that costs and irreversible acts depend on. */
function hereOf(
  { node, deep, workloads }: Assessment,
  { answers }: PlanFacts,
): Pick<CostsHere, "newKeys" | "workloads"> {
  const counts = [{ name: node, workloads }, ...answers.nodes].flatMap(({ name, workloads }) =>
    workloads === undefined ? [] : [[name, workloads] as const],
  );
  return { newKeys: lostKeys(deep).filter((name) => !isInternal(name)), workloads: new Map(counts) };
}

/** Brings the operator's words to the other control plane nodes. */
const TELLS: Course = ["unpack", "etcd-there", "control-plane"];

/** After the repair: a backup is carried and removed while it lies here. */
function isOpen({ task, on }: Block, { made }: PlanFacts): boolean {
  if (!made.backup || (task !== "backup" && task !== "backup-away")) return true;
  const isPack = task === "backup" && on;
  return made.backupHere && !isPack;
}

function doneAfter({ answers, made }: PlanFacts) {
  const backup = answers.nodes.filter(({ hasBackup }) => made.backup && hasBackup);
  return {
    kit: answers.nodes.map(({ name }) => name),
    "backup-there": backup.map(({ name }) => name),
  };
}

/** First what keeps the keys alive, where one is lost. */
function stepsThere({ to }: Elsewhere, { assessed, nodes, facts, blocks }: Around): Unseen[] {
  const { course } = assessed;
  const controlPlanes = nodes.filter(({ role }) => role !== "worker");
  const there = controlPlanes.filter(({ name }) => name === to);
  if (there.length === 0 && course && !course.includes("hold")) return [];
  const counted = hereOf(assessed, facts);
  // whoever is asked needs the kit
  const on = there.length > 0 ? controlPlanes : nodes;
  const steps = stepsOf(blocksOf(blocks, ["hold"], undefined), on, {
    ...facts,
    ...counted,
    joins: [],
  });
  if (there.length > 0) steps.push({ ...stepThere(facts, nodes[0]!, there), part: 0 });
  return numbered(steps, byHandOf({ nodes, facts, blocks }));
}

/** RUNBOOK.md's own line brings the kit. */
function byHandOf({ nodes, facts, blocks }: Pick<Around, "nodes" | "facts" | "blocks">): ByHand {
  const kitLine = blocks.find(({ sshTo }) => sshTo)?.commands.join("\n  ");
  return { reach: reachIn(nodes, facts.user), kitLine };
}

function askOf({ assessed: { course, damaged }, nodes, facts }: Around): Line[] {
  const hasOthers = nodes.slice(1).some(({ why }) => !why);
  return (damaged || course) && hasOthers ? askLines({ ...facts, nodes }) : [];
}

/** All steps up to the proof. `end`: 0 the least, 1 the most. */
function secondsOf(steps: Steps, end: 0 | 1): number {
  const before = steps.filter(({ part }) => part < AFTER_PROOF);
  return before.reduce((sum, step) => sum + step.seconds[end] * turnsOf(step), 0);
}

/** Twenty of many nodes have their turn at the same time. */
function turnsOf({ on, sideBySide }: PlanStep): number {
  if (sideBySide) return 1;
  return on.length > 2 * FEW ? Math.ceil(on.length / FEW) : on.length;
}

/** In the order of the page. What stops the loss needs no kit, and comes before it. */
function blocksOf(all: readonly Block[], course: Course, deep: Assessment["deep"]): Block[] {
  const blocks = all.flatMap((block) =>
    block.task && course.includes(block.task) ? asPlanned(block, course, deep) : [],
  );
  const isUrgent = ({ task }: Block) => task === "hold";
  const kit = all.filter(({ sshTo }) => sshTo).map((block) => ({ ...block, part: 0 }));
  return [...blocks.filter(isUrgent), ...kit, ...blocks.filter((block) => !isUrgent(block))];
}

/** Assumes that the salvage finds the keys that can be found; if it ends otherwise, a new plan is needed. */
function asPlanned(block: Block, course: Course, deep: Assessment["deep"]): Block {
  if (block.task !== "salvage") return block;
  const commands = block.commands.map((command) =>
    deep?.moveToRescue ? `${command} --move-aside` : command,
  );
  const { ends: _, ...more } = block;
  return course.includes("new-cas") ? { ...more, commands, exit: [2] } : { ...block, commands, exit: [0] };
}

/** All nodes but those of `without`: this one (`here`) first, then the other control plane nodes, then the workers. */
function planNodes(
  from: Parameters<typeof identitiesOf>[0],
  { here, without }: { here: string; without: readonly string[] },
): PlanNode[] {
  const nodesByName = identitiesOf(from);
  const rank = (node: KnownNode) => (node.name === here ? 0 : node.controlPlane ? 1 : 2);
  return from.cluster.nodes
    .filter(({ name }) => !without.includes(name))
    .toSorted((a, b) => rank(a) - rank(b))
    .map((node, index) => {
      const name = isName(node.name) ? node.name : `node ${index + 1}`;
      const role = (["first control plane node", "control plane node", "worker"] as const)[rank(node)]!;
      return { name, role, ...addressToType(node, nodesByName, name) };
    });
}
