/**
 * The runbook for this cluster and this damage: RUNBOOK.md's own blocks, those that the assessment's course names, with this cluster's names
 * and addresses. One object, printed as Markdown or as a page.
 */
import type { Assessment } from "../assess/assessment.ts";
import type { Course } from "../facts/course.ts";
import type { LostNodes } from "../facts/lost-for-good.ts";
import { registryPrefix } from "../objects/stored.ts";
import { FEW } from "../plain.ts";
import { aimOf, firstNotes, lastNotes, type Note, notesBeforePart1 } from "./notes.ts";
import type { PlanFacts } from "./plan-facts.ts";
import { isName, type PlanNode, planNodes } from "./plan-nodes.ts";
import { isLook, isSalvage, LOST_NODES, type PlanStep, stepsOf } from "./plan-steps.ts";
import { type Block, type Part, readRunbook } from "./runbook.ts";

export interface Plan {
  node: string;
  /** Undefined where it cannot be read. */
  cluster: string | undefined;
  kubernetes: string | undefined;
  made: Date;
  verdict: string;
  nodes: PlanNode[];
  /** Who the operator is on the nodes. */
  user: string;
  /** Names of nodes that will not come back. */
  lost: readonly string[];
  /** Names of nodes that are away for now. */
  away: readonly string[];
  aim: string | undefined;
  /** What comes before the first step. */
  first: Note[];
  parts: PlanPart[];
  /** What comes after the last step. */
  last: Note[];
  /** The least and the most of all its steps. */
  seconds: readonly [number, number];
}

export interface PlanPart extends Pick<Part, "title" | "ifNot" | "undo"> {
  number: number;
  /** What comes before its steps. */
  notes: Note[];
  steps: PlanStep[];
}

/** Without the cluster's facts no course is known. Errors: Fail where RUNBOOK.md has a form that this does not know. */
export function makePlan(assessed: Assessment, facts: PlanFacts, runbook: string): Plan {
  const { known, lost, user } = facts;
  const nodes = known ? planNodes(known, { here: assessed.node, without: [...lost.names, ...lost.away] }) : [];
  const { parts, blocks } = readRunbook(runbook);
  const course = assessed.course && withLost(assessed.course, lost);
  const steps = course ? stepsOf(meant(blocks, course, assessed), nodes, facts) : [];
  const numbers = [...new Set(steps.map(({ part }) => part))];
  const strange = known?.cluster.nodes.flatMap(({ name }) => (isName(name) ? [] : [name])) ?? [];
  /** A line with a name that is none is left out. */
  const pasteable = ({ text, commands }: Note) => ({
    text,
    commands: commands.filter((line) => !strange.some((name) => line.includes(name))),
  });
  return {
    node: assessed.node,
    cluster: known?.cluster.name,
    kubernetes: assessed.kubernetes,
    made: new Date(),
    verdict: assessed.verdict,
    nodes,
    user,
    lost: lost.names,
    away: lost.away,
    aim: aimOf(assessed, { pods: known ? known.data.keys(`${registryPrefix(known.data)}/pods/`).length : 0, lost }),
    first: firstNotes(assessed, facts).map(pasteable),
    parts: numbers.map((number) => {
      const { title, ifNot, undo } = parts.find((part) => part.number === number)!;
      const notes = number === FIRST_REPAIR ? notesBeforePart1(assessed, { ...facts, nodes }).map(pasteable) : [];
      return { number, title, ifNot, undo, notes, steps: steps.filter(({ part }) => part === number) };
    }),
    last: lastNotes(steps, facts).map(pasteable),
    seconds: [0, 1].map((end) => steps.reduce((sum, step) => sum + step.seconds[end]! * turns(step), 0)) as [number, number],
  };
}

const FIRST_REPAIR = 1;

/** The lost nodes' own blocks are meant as well. */
function withLost(course: Course, { names }: LostNodes): Course {
  return names.length > 0 ? { ...course, tags: [...course.tags, LOST_NODES] } : course;
}

/** Many nodes get a file of addresses, and twenty of them their turn at the same time. */
function turns({ on, sideBySide }: PlanStep): number {
  if (sideBySide) return 1;
  return on.length > 2 * FEW ? Math.ceil(on.length / FEW) : on.length;
}

function meant(blocks: readonly Block[], { tags, parts }: Course, { deep }: Pick<Assessment, "deep">): Block[] {
  const isMeant = (block: Block) => (block.if?.some((tag) => tags.includes(tag)) ?? true) && parts.includes(block.part ?? -1);
  const chosen = blocks
    .filter((block) => isMeant(block) && (block.on || block.carry))
    .map((block) => (isSalvage(block) ? salvage(block, { tags, moveToRescue: deep?.moveToRescue }) : block));
  const looks = tags.includes("salvage") && !tags.includes("look-around") ? [] : chosen.filter(isLook);
  const needed = chosen.filter((block) => !isLook(block) || block === looks.at(-1));
  // what stops the loss needs no kit, and comes before it
  const urgent = needed.findIndex((block) => !isStop(block));
  const kit = blocks.filter((block) => block.sshTo).map((block) => ({ ...block, part: needed[urgent]?.part }));
  return [...needed.slice(0, urgent), ...kit, ...needed.slice(urgent)];
}

/** The plan knows whether a key will still be lost after the salvage. If it ends otherwise, the plan is another one. */
function salvage(block: Block, { tags, moveToRescue }: Pick<Course, "tags"> & { moveToRescue: boolean | undefined }): Block {
  const commands = block.commands.map((command) => (moveToRescue ? `${command} --move-aside` : command));
  const { ends: _, ...more } = block;
  return tags.includes("new-cas") ? { ...more, commands, exit: [2] } : { ...block, commands, exit: [0] };
}

function isStop({ part, commands }: Block): boolean {
  return part === 0 && !commands.some((command) => command.includes("bunw"));
}
