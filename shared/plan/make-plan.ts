/**
 * The runbook for this cluster and this damage: RUNBOOK.md's own blocks, those that the assessment's course
 * names, with this cluster's names and addresses. One object, printed as Markdown or as a page.
 */
import { command } from "../again.ts";
import type { Assessment } from "../assess/assessment.ts";
import { type Course, courseFrom } from "../facts/course.ts";
import { meanings } from "../node/word-kinds.ts";
import { wordsHere } from "../node/words.ts";
import { registryPrefix } from "../objects/stored.ts";
import { FEW } from "../plain.ts";
import { aimOf, joinsOf, lookedAt } from "./aim.ts";
import { askLines } from "./ask-nodes.ts";
import { notesBeforePart3 } from "./decisions.ts";
import { type Elsewhere, elsewhere } from "./elsewhere.ts";
import { withHelp } from "./help.ts";
import { givenUpNotes } from "./lost-file-notes.ts";
import { bundleNote } from "./lying-here.ts";
import { withMoves } from "./move-steps.ts";
import { type Note, planAgain } from "./note.ts";
import { firstNotes, notesBeforeEnd, notesBeforePart1, renewalNote } from "./notes.ts";
import { withOutage } from "./outage.ts";
import { kitLines, type Line, sshLines, workersFile } from "./paste.ts";
import { toOperator } from "./paste-files.ts";
import type { PlanFacts } from "./plan-facts.ts";
import { isName, type PlanNode, planNodes } from "./plan-nodes.ts";
import { type Placed, type PlanStep, planThere, stepsOf } from "./plan-steps.ts";
import { type Block, type IfNot, type Part, readRunbook } from "./runbook.ts";
import { saidBy, sightsOf, withSights } from "./seen-done.ts";
import { isSearched, type Sight } from "./seen-nodes.ts";
import { numbered } from "./step-order.ts";

export interface Plan {
  node: string;
  /** Undefined where it cannot be read. */
  cluster: string | undefined;
  kubernetes: string | undefined;
  made: Date;
  verdict: string;
  /** With what each has said of itself. */
  nodes: (PlanNode & { said?: string })[];
  /** Who the operator is on the nodes. */
  user: string;
  /** Names of nodes that will not come back. */
  lost: readonly string[];
  /** Names of nodes that are away for now. */
  away: readonly string[];
  aim: string | undefined;
  /** Which nodes were looked at, and how. Sentences. */
  looked: string[];
  /** It has to be made on another node, or waits for a look: it only says so. */
  elsewhere: Elsewhere | undefined;
  /** What comes before the first step. */
  first: Note[];
  parts: PlanPart[];
  /** Makes this plan anew, and brings it to the operator's machine. */
  anew: Line[];
  /** The least and the most of all its steps up to the proof. */
  seconds: readonly [number, number];
}

export interface PlanPart extends Pick<Part, "title" | "undo"> {
  number: number;
  /** What comes before its steps. */
  notes: Note[];
  steps: HelpedStep[];
  /** Why it has none. */
  why?: string | undefined;
}

/** With what its script may say, and what to do then; and with what was seen of it already. */
export type HelpedStep = PlanStep & { help: IfNot[]; seen: readonly Sight[] };

/**
 * Without the cluster's facts no course is known. Errors: Fail where RUNBOOK.md has a form that this does not
 * know.
 */
export function makePlan(given: Assessment, facts: PlanFacts, runbook: string): Plan {
  const { known, lost, user } = facts;
  const nodes = known ? planNodes(known, { here: given.node, without: [...lost.names, ...lost.away] }) : [];
  const assessed = { ...given, course: courseHere(given, { nodes, facts }) };
  const { parts, blocks } = readRunbook(runbook);
  const away = elsewhere(assessed, { facts, nodes });
  const several = nodes.some(({ role }) => role === "control plane node");
  const damage = { course: assessed.course ?? [], several, leavesOut: lost.names.length > 0 };
  const made = new Date();
  const helped = away
    ? stepsThere(away, blocks, { nodes, facts }).map((step) => ({ ...step, help: [] }))
    : withHelp(
        stepsHere(assessed, blocks, { nodes, facts }),
        parts.flatMap(({ ifNot }) => ifNot),
        damage,
      );
  const steps = withSights(helped, sightsOf(assessed, facts, made));
  const hold = steps.find(({ task }) => task === "hold")?.number;
  const strange = known?.cluster.nodes.flatMap(({ name }) => (isName(name) ? [] : [name])) ?? [];
  /** By the part that they stand before. */
  const NOTES: Record<number, () => Note[]> = {
    1: () => notesBeforePart1(assessed, { ...facts, nodes }),
    3: () => notesBeforePart3(assessed),
    [AFTER_PROOF]: () => notesBeforeEnd(steps, facts),
  };
  /** A line with a name that is none is left out. */
  const pasteable = ({ text, commands }: Note) => ({
    text,
    commands: commands.filter((line) => !strange.some((name) => line.includes(name))),
  });
  return {
    node: assessed.node,
    cluster: known?.cluster.name,
    kubernetes: assessed.kubernetes,
    made,
    // who reads a plan has no table of rows
    verdict: assessed.verdict.replace(/ \(RUNBOOK 0\.1, row \d\)/, ""),
    nodes: nodes.map((node) => ({ ...node, ...saidBy(node.name, facts.seen, assessed) })),
    user,
    lost: lost.names,
    away: lost.away,
    aim:
      away?.aim ??
      aimOf(assessed, {
        facts,
        nodes,
        pods: known ? known.data.keys(`${registryPrefix(known.data)}/pods/`).length : 0,
      }),
    looked: [
      ...lookedAt(assessed.node, facts, nodes),
      ...meanings(wordsHere()).map((word) => `As said: ${word}`),
      ...facts.onAgain.map((name) => `${name} is on again: this plan counts it`),
    ],
    elsewhere: away,
    first: [
      ...(makesKeys(assessed) ? bundleNote(facts.bundles, planAgain(facts)) : []),
      ...firstNotes(assessed, {
        ...facts,
        nodes,
        away,
        hold,
        ask: askOf(assessed, blocks, { nodes, facts }),
      }),
      ...givenUpNotes(assessed.node, { nodes, facts }),
      ...renewal(assessed, blocks, { nodes, facts }),
    ].map(pasteable),
    anew: steps.length > 0 && nodes[0] && !away ? anewLines(user, nodes[0], facts) : [],
    parts: (steps.length > 0 ? parts : []).flatMap(({ number, title, undo }): PlanPart[] => {
      const own = steps.filter(({ part }) => part === number);
      if (own.length > 0)
        return [{ number, title, undo, notes: (NOTES[number]?.() ?? []).map(pasteable), steps: own }];
      const why = (number === 4 && keyGivenUp(facts)) || NOT_NEEDED[number];
      return away
        ? []
        : [{ number, title, undo: "", notes: [], steps: [], why: why || "nothing to do for this damage" }];
    }),
    seconds: [0, 1].map((end) =>
      steps
        .filter(({ part }) => part < AFTER_PROOF)
        .reduce((sum, step) => sum + step.seconds[end]! * turns(step), 0),
    ) as [number, number],
  };
}

/** Nothing on this node brings a lost key back. */
function makesKeys({ course = [] }: Assessment): boolean {
  return course.includes("new-cas") || course.includes("new-internal-cas");
}

const AFTER_PROOF = 6;

/** Why a part has no step. */
const NOT_NEEDED: Record<number, string> = {
  0: "no key is lost, and nothing has to be stopped",
  1: "etcd runs, and nothing of it is damaged",
  4: "the keys that sign tokens are the old ones, so every token stays valid, and no pod restarts",
};

function keyGivenUp({ said }: PlanFacts): string {
  const given = said["start-without"].includes("service-account-key-file");
  return given
    ? "the keys that sign tokens are the old ones. But tokens of the key that is given up are refused: ./bunw scripts/04-sa-tokens.ts after part 3 makes new ones for Secrets, and copies of them outside of the cluster stop working"
    : "";
}

/** Of the same answers: those that are too old by then are named. */
function anewLines(user: string, first: PlanNode, facts: PlanFacts): Line[] {
  return [...sshLines(user, [first], planAgain(facts, {}, PAGE)), toOperator(user, first, PAGE)];
}

const PAGE = "plan.html";

interface Around {
  nodes: readonly PlanNode[];
  facts: PlanFacts;
}

/**
 * Where this node is well, the others decide: nothing is stopped for them, and those that were looked at and
 * are well, too, need none of parts 0 to 2.
 */
function courseHere({ course, damaged }: Assessment, { nodes, facts }: Around): Course | undefined {
  const { seen, lost, isKept } = facts;
  if (damaged || (course && course[0] !== "hold")) return course;
  const others = nodes.flatMap(({ name, role }) => (role === "control plane node" ? [name] : []));
  if (lost.names.length > 0 || !others.every((name) => isWell(name, seen)))
    return course?.filter((task) => task !== "hold");
  const first = joinsOf(facts, nodes).length > 0 ? "open" : isKept ? "report" : undefined;
  return first && courseFrom({ others }, first);
}

/** It was looked at, and nothing is damaged there. */
function isWell(name: string, { nodes }: PlanFacts["seen"]): boolean {
  return nodes.some((node) => node.name === name && !node.damaged);
}

type Steps = (Placed & { number: string })[];

function stepsHere(assessed: Assessment, blocks: readonly Block[], { nodes, facts }: Around): Steps {
  const { course, damaged, deep } = assessed;
  // without the cluster's nodes no line has a place
  if (!course || nodes.length === 0) return [];
  const others = nodes.filter(({ role }) => role === "control plane node");
  const joins = course.includes("join") ? undefined : joinsOf(facts, nodes);
  const isLooked = others.every(({ name }) =>
    facts.seen.nodes.some((node) => node.name === name && isSearched(node)),
  );
  const meant = course.filter((task) => !(isLooked && (task === "look" || task === "look-around")));
  const tasks = joins?.length
    ? meant.flatMap((task): Course => (task === "close" ? ["join", "close"] : [task]))
    : meant;
  const unheard = others.length > 0 && !course.includes("unpack");
  const own = stepsOf(blocksOf(blocks, tasks, deep), nodes, {
    ...{ ...facts, joins, unheard },
    well: damaged ? [] : others.flatMap(({ name }) => (isWell(name, facts.seen) ? [name] : [])),
  });
  const steps = numbered(withMoves(own, { nodes, facts, joins: course.includes("join") }));
  return withOutage(steps, { several: others.length > 0, othersServe: facts.othersServe });
}

/** What keeps the keys alive comes first; then the plan is made where they are. */
function stepsThere({ to }: Elsewhere, blocks: readonly Block[], { nodes, facts }: Around): Steps {
  const controlPlanes = nodes.filter(({ role }) => role !== "worker");
  const there = controlPlanes.filter(({ name }) => name === to);
  const steps = stepsOf(blocksOf(blocks, ["hold"], undefined), controlPlanes, { ...facts, joins: [] });
  if (there.length === 0) return numbered(steps);
  const { user, said } = facts;
  return numbered([...steps, { ...planThere(user, there, said), part: steps[0]?.part ?? 0 }]);
}

/** Where nodes may be damaged, and there are others. */
function askOf(
  { course, damaged }: Assessment,
  blocks: readonly Block[],
  { nodes, facts }: Around,
): string | undefined {
  const kit = blocks.find(({ sshTo }) => sshTo);
  const hasOthers = nodes.slice(1).some(({ why }) => !why);
  return (damaged || course) && kit && hasOthers
    ? askLines({ ...facts, nodes, kit: kit.commands.join("\n  ") })
    : undefined;
}

/**
 * CAs in the second half of their life are renewed where all is well: a node after the other, and last where the
 * controller-manager leads.
 */
function renewal(
  { course, damaged }: Assessment,
  blocks: readonly Block[],
  { nodes, facts }: Around,
): Note[] {
  const kit = blocks.find(({ sshTo }) => sshTo);
  const { due, user, leader } = facts;
  if (damaged || !due || !kit) return [];
  if (course && course[0] !== "report") return [renewalNote(due)];
  const isLast = ({ name, role }: PlanNode) =>
    leader?.nodes.includes(name) ?? role === "first control plane node";
  const rank = (node: PlanNode) => (node.role === "worker" ? 2 : isLast(node) ? 1 : 0);
  const others = nodes.slice(1);
  const lines = [
    ...(workersFile(nodes) ?? []),
    ...(others.length > 0 ? kitLines(user, others, kit.commands.join("\n  ")) : []),
    ...sshLines(
      user,
      nodes.toSorted((a, b) => rank(a) - rank(b)),
      command("renew-ca"),
    ),
  ];
  return [
    renewalNote(
      due,
      lines.map(({ text }) => text),
    ),
  ];
}

/** Many nodes get a file of addresses, and twenty of them their turn at the same time. */
function turns({ on, sideBySide }: PlanStep): number {
  if (sideBySide) return 1;
  return on.length > 2 * FEW ? Math.ceil(on.length / FEW) : on.length;
}

/** The course's own, in the order of the page. What stops the loss needs no kit, and comes before it. */
function blocksOf(all: readonly Block[], course: Course, deep: Assessment["deep"]): Block[] {
  const blocks = all.flatMap((block) =>
    block.task && course.includes(block.task) ? asPlanned(block, course, deep) : [],
  );
  const isUrgent = ({ task }: Block) => task === "hold";
  const kit = all.filter(({ sshTo }) => sshTo).map((block) => ({ ...block, part: blocks[0]?.part }));
  return [...blocks.filter(isUrgent), ...kit, ...blocks.filter((block) => !isUrgent(block))];
}

/**
 * The plan knows whether a key will still be lost after the salvage. If it ends otherwise, the plan is
 * another one.
 */
function asPlanned(block: Block, course: Course, deep: Assessment["deep"]): Block {
  if (block.task !== "salvage") return block;
  const commands = block.commands.map((command) =>
    deep?.moveToRescue ? `${command} --move-aside` : command,
  );
  const { ends: _, ...more } = block;
  return course.includes("new-cas") ? { ...more, commands, exit: [2] } : { ...block, commands, exit: [0] };
}
