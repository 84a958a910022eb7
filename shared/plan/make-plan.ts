/**
 * The runbook for this cluster and this damage: RUNBOOK.md's own blocks, those that the assessment's course names, with this cluster's names
 * and addresses. One object, printed as Markdown or as a page.
 */
import type { Assessment } from "../assess/report.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import type { Cluster } from "../facts/cluster.ts";
import type { Course } from "../facts/course.ts";
import { registryPrefix } from "../k8s/stored.ts";
import { FEW } from "../plain.ts";
import { ADDRESSES, carrying, type Effort, effortOf, KEPT, KIT } from "./effort.ts";
import { aimOf, firstNotes, type Note, notesBeforePart1 } from "./notes.ts";
import { keptLine, kitLines, type Line, printedLines, scpLines, sshLines, workersFile } from "./paste.ts";
import { isName, nodesAt, type PlanNode, planNodes } from "./plan-nodes.ts";
import { type Block, type Part, readRunbook } from "./runbook.ts";

export interface Plan {
  node: string;
  /** Undefined where it cannot be read. */
  cluster: string | undefined;
  kubernetes: string | undefined;
  made: Date;
  verdict: string;
  nodes: PlanNode[];
  aim: string | undefined;
  /** What comes before the first step. */
  first: Note[];
  parts: PlanPart[];
  /** The least and the most of all its steps. */
  seconds: readonly [number, number];
}

export interface PlanPart extends Pick<Part, "title" | "ifNot" | "undo"> {
  number: number;
  /** What comes before its steps. */
  notes: Note[];
  steps: PlanStep[];
}

export interface PlanStep extends Effort {
  number: number;
  /** "on" the nodes it is typed on; "to" those that get a file. */
  way: "on" | "to";
  /** Names. */
  on: string[];
  /** On all of them at the same time, if the operator likes. */
  sideBySide: boolean;
  lines: Line[];
  exit: number[];
  /** How its output ends; unset: the runbook does not say. */
  ends?: string | undefined;
}

/** Without the cluster's facts no course is known. Errors: Fail where RUNBOOK.md has a form that this does not know. */
export function makePlan(assessed: Assessment, facts: { cluster: Cluster; data: EtcdData } | undefined, runbook: string): Plan {
  const nodes = facts ? planNodes(facts, assessed.node) : [];
  const { parts, blocks } = readRunbook(runbook);
  const steps = assessed.course ? stepsOf(meant(blocks, assessed.course, assessed), nodes) : [];
  const numbers = [...new Set(steps.map(({ part }) => part))];
  const strange = facts?.cluster.nodes.flatMap(({ name }) => (isName(name) ? [] : [name])) ?? [];
  /** A line with a name that is none is left out. */
  const pasteable = ({ text, commands }: Note) => ({
    text,
    commands: commands.filter((line) => !strange.some((name) => line.includes(name))),
  });
  return {
    node: assessed.node,
    cluster: facts?.cluster.name,
    kubernetes: assessed.kubernetes,
    made: new Date(),
    verdict: assessed.verdict,
    nodes,
    aim: aimOf(assessed, facts ? facts.data.keys(`${registryPrefix(facts.data)}/pods/`).length : 0),
    first: firstNotes(assessed).map(pasteable),
    parts: numbers.map((number) => {
      const { title, ifNot, undo } = parts.find((part) => part.number === number)!;
      const notes = number === FIRST_REPAIR ? notesBeforePart1(assessed).map(pasteable) : [];
      return { number, title, ifNot, undo, notes, steps: steps.filter(({ part }) => part === number) };
    }),
    seconds: [0, 1].map((end) => steps.reduce((sum, step) => sum + step.seconds[end]! * turns(step), 0)) as [number, number],
  };
}

const FIRST_REPAIR = 1;

/** Many nodes get a file of addresses, and twenty of them their turn at the same time. */
function turns({ on, sideBySide }: PlanStep): number {
  if (sideBySide) return 1;
  return on.length > 2 * FEW ? Math.ceil(on.length / FEW) : on.length;
}

function meant(blocks: readonly Block[], { tags, parts }: Course, { deep }: Pick<Assessment, "deep">): Block[] {
  const isMeant = (block: Block) => (block.if?.some((tag) => tags.includes(tag)) ?? true) && parts.includes(block.part ?? -1);
  const chosen = blocks
    .filter((block) => isMeant(block) && (block.on || block.carry))
    .map((block) => (isSalvage(block) ? salvage(block, { tags, moveAside: deep?.moveAside }) : block));
  const looks = tags.includes("salvage") && !tags.includes("look-around") ? [] : chosen.filter(isLook);
  const needed = chosen.filter((block) => !isLook(block) || block === looks.at(-1));
  // what stops the loss needs no kit, and comes before it
  const urgent = needed.findIndex((block) => !isStop(block));
  const kit = blocks.filter((block) => block.sshTo).map((block) => ({ ...block, part: needed[urgent]?.part }));
  return [...needed.slice(0, urgent), ...kit, ...needed.slice(urgent)];
}

/** This node has been looked at. Of two looks at the others the later one sees more; where all was found here, none is needed. */
function isLook({ commands }: Block): boolean {
  return commands.some((command) => command.includes("scripts/00-assess.ts"));
}

/** The plan knows whether a key will still be lost after the salvage. If it ends otherwise, the plan is another one. */
function salvage(block: Block, { tags, moveAside }: Pick<Course, "tags"> & { moveAside: boolean | undefined }): Block {
  const commands = block.commands.map((command) => (moveAside ? `${command} --move-aside` : command));
  const { ends: _, ...more } = block;
  return tags.includes("new-cas") ? { ...more, commands, exit: [2] } : { ...block, commands, exit: [0] };
}

const FOUND_MORE =
  "A key stays lost, as this plan expects, so it ends with exit code 2. If it ends with 0, it found more: print the plan again";
const FOUND_LESS = "It ends with exit code 0. If it ends with 2, it found less than this plan expects: print the plan again";

/** What was found is here. */
function isSalvage({ commands }: Block): boolean {
  return commands.some((command) => command.includes("scripts/00-salvage.ts"));
}

function isStop({ part, commands }: Block): boolean {
  return part === 0 && !commands.some((command) => command.includes("bunw"));
}

type Placed = Omit<PlanStep, "number"> & { part: number };

function stepsOf(blocks: readonly Block[], nodes: readonly PlanNode[]): (Placed & { number: number })[] {
  const file = workersFile(nodes);
  const common = { part: blocks[0]?.part ?? 0, ...onNodes([], "on"), on: ["your machine"], exit: [0] };
  return [
    ...(file ? [{ ...common, ...ADDRESSES, lines: file }] : []),
    ...blocks.flatMap((block, index) => stepsIn(block, nodes, isPrinted(blocks.slice(index + 1)))),
  ]
    .filter(({ on }) => on.length > 0)
    .map((step, index) => ({ ...step, number: index + 1 }));
}

/** Whether the next command that is typed on nodes is a line that was printed. */
function isPrinted(after: readonly Block[]): boolean {
  return after.find((block) => block.on)?.printed === true;
}

function stepsIn(block: Block, nodes: readonly PlanNode[], isKept: boolean): Placed[] {
  const { part = 0, exit } = block;
  if (block.sshTo) {
    const at = nodesAt(nodes, block.sshTo).filter(isNotFirst);
    return [{ part, exit, ...KIT, ...onNodes(at, "to"), lines: kitLines(at, block.commands.join("\n  ")) }];
  }
  if (block.carry) {
    const [[from], to] = [nodesAt(nodes, block.carry.from), nodesAt(nodes, block.carry.to)] as const;
    return [{ part, exit, ...carrying(block.carry.file), ...onNodes(to, "to"), lines: scpLines(from!, to, block.carry.file) }];
  }
  const at = nodesAt(nodes, block.on!).filter((node) => (isLook(block) ? isNotFirst(node) : !isSalvage(block) || !isNotFirst(node)));
  return inSteps(block.commands).map((commands, index, all) => ({
    ...{ part, exit, ...effortOf(commands.at(-1)!), ...onNodes(at, "on", block.sideBySide) },
    ...(isKept && index === all.length - 1 ? { note: KEPT } : {}),
    ...(isSalvage(block) ? { note: exit.includes(2) ? FOUND_MORE : FOUND_LESS } : {}),
    ...(block.ends && index === all.length - 1 ? { ends: inGeneral(block.ends) } : {}),
    lines: linesOf(commands, at, { ...block, isKept }),
  }));
}

function isNotFirst({ role }: PlanNode): boolean {
  return role !== "first control plane node";
}

function linesOf(commands: readonly string[], at: readonly PlanNode[], { printed, isKept }: { printed: boolean; isKept: boolean }): Line[] {
  if (printed) return printedLines(at);
  const last = commands.at(-1);
  return commands.flatMap((command) => (isKept && command === last && at[0] ? [keptLine(at[0], command)] : sshLines(at, command)));
}

function onNodes(nodes: readonly PlanNode[], way: PlanStep["way"], sideBySide = false) {
  return { way, on: nodes.map(({ name }) => name), sideBySide: sideBySide && nodes.length > 1 };
}

/** Each script is a step of its own, with the lines that prepare it. */
function inSteps(commands: readonly string[]): string[][] {
  const steps: string[][] = [[]];
  for (const [index, command] of commands.entries()) {
    steps.at(-1)!.push(command);
    if (command.startsWith("./bunw ") && index < commands.length - 1) steps.push([]);
  }
  return steps;
}

/** Without what belongs to the runbook's example alone. */
function inGeneral(end: string): string {
  return end.replace(/(next:) .*/, "$1 …").replace(/^\d+( checks, all good).*/, "…$1…");
}
