/**
 * The steps of a plan: a block of RUNBOOK.md, or a part of one, with the nodes that it is typed on and the
 * lines to paste.
 */
import { command, withOptions } from "../again.ts";
import type { LostNodes, Task } from "../facts/course.ts";
import { inForGoodWords } from "../for-good.ts";
import { listed } from "../plain.ts";
import { shell } from "../shell-line.ts";
import {
  ADDRESSES,
  carrying,
  DECIDES,
  DRY_RUN,
  EFFORTS,
  type Effort,
  fetching,
  GATHER,
  KEPT,
  KIT,
  NEW_ONE,
} from "./effort.ts";
import {
  keptLine,
  kitLines,
  type Line,
  printedLines,
  sideBySide,
  sshLines,
  terminalLines,
  workersFile,
} from "./paste.ts";
import { carryLines, gatherLines, toOperator } from "./paste-files.ts";
import type { PlanFacts, Said } from "./plan-facts.ts";
import { nodesAt, type PlanNode } from "./plan-nodes.ts";
import type { Block } from "./runbook.ts";
import { isSearched } from "./seen-nodes.ts";
import { type Joined, KEEPER, together } from "./step-order.ts";

export interface PlanStep extends Effort {
  /** The part's number in RUNBOOK.md, and a letter: 1.4 is a step of a script. */
  number: string;
  /** Of RUNBOOK.md's fence; unset: it prepares one. */
  task?: Task | undefined;
  /** "on" the nodes it is typed on; "to" those that get a file. */
  way: "on" | "to";
  /** Names. */
  on: string[];
  /** On all of them at the same time. */
  sideBySide: boolean;
  lines: Line[];
  exit: number[];
  /** How its output ends; unset: the runbook does not say. */
  ends?: string | undefined;
}

const FOUND_MORE =
  "A key stays lost, as this plan expects, so it ends with exit code 2. If it ends with 0, it found more: print the plan again";
const FOUND_LESS =
  "It ends with exit code 0. If it ends with 2, it found less than this plan expects: print the plan again";

const NONE_HAS_IT = "All of them were looked at: etcd/ca.key is on none of them";

const isLooked =
  (seen: PlanFacts["seen"]) =>
  ({ name }: PlanNode) =>
    seen.nodes.some((node) => node.name === name && isSearched(node));

const movedAside = (names: readonly string[]) =>
  `Other keys are in the way on ${listed(names)}: there they go to the rescue folder`;

/** It has no number yet. */
export type Placed = Omit<PlanStep, "number"> & { part: number };

interface Facts extends Pick<PlanFacts, "lost" | "user" | "said" | "seen"> {
  /** The only workers that have to join; unset: each of them. */
  joins: readonly string[] | undefined;
  /** No bundle brings the operator's words to the other control plane nodes: their first lines do. */
  unheard?: boolean;
  /** Names of control plane nodes that were looked at, and are well: parts 1 and 2 have nothing to do there. */
  well?: readonly string[];
}

export function stepsOf(blocks: readonly Block[], nodes: readonly PlanNode[], facts: Facts): Placed[] {
  const file = workersFile(nodes);
  const common = { part: blocks[0]?.part ?? 0, ...onNodes([], "on"), on: ["your machine"], exit: [0] };
  return [
    ...(file ? [{ ...common, ...ADDRESSES, lines: file }] : []),
    ...together(blocks).flatMap((block, index, all) =>
      stepsIn(block, { ...facts, nodes, isKept: isPrinted(all.slice(index + 1)) }),
    ),
  ].filter(({ on }) => on.length > 0);
}

const NONE_JOINS = "no worker has to join";

/** Whether the next command that is typed on nodes is a line that was printed. */
function isPrinted(after: readonly Block[]): boolean {
  return after.find((block) => block.on)?.printed === true;
}

interface Around extends Facts {
  nodes: readonly PlanNode[];
  /** A later step needs what it prints. */
  isKept: boolean;
}

function stepsIn(block: Joined, { nodes: given, isKept, user, joins, ...facts }: Around): Placed[] {
  const { lost, well = [] } = facts;
  const isRepair = block.part === 1 || block.part === 2;
  const all = isRepair ? given.filter(({ name }) => !well.includes(name)) : given;
  const nodes =
    block.task === "join" && joins
      ? all.filter(({ name, role }) => role !== "worker" || joins.includes(name))
      : all;
  const { part = 0, exit, task } = block;
  if (block.sshTo) {
    const at = nodesAt(nodes, block.sshTo).filter(isNotFirst);
    return [
      {
        part,
        exit,
        ...KIT,
        ...onNodes(at, "to", true),
        lines: kitLines(user, at, block.commands.join("\n  ")),
      },
    ];
  }
  if (block.gather) {
    const [[first], others] = [nodes.filter((node) => !isNotFirst(node)), nodes.filter(isNotFirst)] as const;
    return [
      {
        part,
        exit,
        task,
        ...GATHER,
        ...onNodes(others, "on"),
        lines: gatherLines(user, first!, others, block.gather),
      },
    ];
  }
  if (block.carry?.to === "operator") {
    const [from] = nodesAt(nodes, block.carry.from);
    const { file } = block.carry;
    return [
      {
        part,
        exit,
        task,
        ...fetching(file),
        way: "to",
        on: ["your machine"],
        sideBySide: false,
        lines: [toOperator(user, from!, file)],
      },
    ];
  }
  if (block.carry) {
    const [[from], to] = [nodesAt(nodes, block.carry.from), nodesAt(nodes, block.carry.to)] as const;
    const effort = task === "backup-there" ? EFFORTS[task] : carrying(block.files);
    return [
      { part, exit, task, ...effort, ...onNodes(to, "to"), lines: carryLines(user, from!, to, block.files) },
    ];
  }
  const at = nodesAt(nodes, block.on!).filter(isMeant(block));
  const aside =
    task === "unpack" ? facts.seen.nodes.flatMap(({ name, otherKeys }) => (otherKeys ? [name] : [])) : [];
  const flags = facts.said["start-without"] ?? [];
  // the folder keeps these words
  const open = [...lost.away.map((name) => `${name} is away`), ...flags.map((flag) => `no --${flag}`)];
  return inSteps(block.commands).map((commands, index, all) => ({
    ...{
      part,
      exit,
      task,
      ...effortOf(commands.at(-1)!, block, lost),
      ...onNodes(at, "on", block.sideBySide),
    },
    ...(isKept && index === all.length - 1 ? { note: keptNote(block, joins) } : {}),
    ...(block.task === "salvage" ? { note: exit.includes(2) ? FOUND_MORE : FOUND_LESS } : {}),
    ...(aside.length > 0 ? { note: movedAside(aside) } : {}),
    ...(task === "remove" && open.length > 0 ? { note: `Not while this holds: ${open.join("; ")}` } : {}),
    ...(task === "end-etcd" && at.every(isLooked(facts.seen)) ? { note: NONE_HAS_IT } : {}),
    ...(block.ends && index === all.length - 1 ? { ends: inGeneral(block.ends) } : {}),
    lines: linesOf(
      commands.map((command) => commandSaid(command, block, facts)),
      at,
      { ...block, user, isKept, aside },
    ),
  }));
}

/** With the old CA each worker that has to join is one that has lost something. */
function keptNote({ task }: Block, joins: Facts["joins"]): string {
  return task === "open" && joins ? `${KEPT}. ${DECIDES}` : KEPT;
}

/** NODE stands for all that are lost. */
function commandSaid(typed: string, { task }: Block, facts: Omit<Facts, "user" | "joins">): string {
  const { names } = facts.lost;
  const said = /^\.\/bunw scripts\/0[12]-/.test(typed) ? withOptions(typed, saidFor(task, facts)) : typed;
  return said.replace(/\bNODE\b/, (word) => (names.length > 0 ? shell`${names}` : word));
}

/**
 * What cannot be taken back, each line says itself. Part 2 takes members of etcd out: a worker is none. Part 1 makes
 * new keys beside control plane nodes that were looked at, or that are lost for good.
 */
function saidFor(
  task: Task | undefined,
  { lost: { controlPlanes }, said, seen, unheard = false }: Omit<Facts, "user" | "joins">,
): Partial<Said> {
  const lostOn = said["lost-on"];
  if (task === "control-plane")
    return {
      without: unheard ? said.without : [],
      ...{ lost: controlPlanes, "lost-on": lostOn.filter((name) => controlPlanes.includes(name)) },
    };
  if (task === "etcd-there" && unheard) {
    const { endpoint, "etcd-data": dir, "start-without": flags } = said;
    return { "lost-on": lostOn, "start-without": flags, endpoint, "etcd-data": dir };
  }
  if (task !== "new-cas" && task !== "new-internal-cas") return {};
  const looked = seen.nodes.flatMap((node) => (node.controlPlane && isSearched(node) ? [node.name] : []));
  return { "lost-on": [...new Set([...lostOn, ...controlPlanes, ...looked])] };
}

/** The last step of a plan that is made elsewhere. */
export function planThere(user: string, there: readonly PlanNode[], said: Said): Omit<PlanStep, "number"> {
  const effort = { does: "Make the plan there", costs: "nothing: it reads only", seconds: [1, 15] as const };
  return {
    ...effort,
    ...onNodes(there, "on"),
    lines: sshLines(user, there, command("plan", said)),
    exit: [0, 2, 3],
  };
}

/** With what part 2 takes out for good. */
function effortOf(command: string, { task }: Block, { controlPlanes }: LostNodes): Effort {
  const effort = command.endsWith(" --dry-run") ? DRY_RUN : EFFORTS[task as keyof typeof EFFORTS];
  if (task !== "control-plane" || controlPlanes.length === 0) return effort;
  const nodes = controlPlanes.join(", ");
  return {
    ...effort,
    does: `${effort.does}, and take ${nodes} out of etcd's members`,
    costs: `${effort.costs}; ${inForGoodWords("memberOut", { NODE: nodes })}`,
    note: NEW_ONE,
  };
}

/** This node has been looked at. What was found is here. */
function isMeant({ task }: Block): (node: PlanNode) => boolean {
  if (task === "look" || task === "look-around") return isNotFirst;
  return task === "salvage" ? (node) => !isNotFirst(node) : () => true;
}

function isNotFirst({ role }: PlanNode): boolean {
  return role !== "first control plane node";
}

interface Typing extends Pick<Block, "task" | "printed" | "terminal" | "sideBySide"> {
  user: string;
  isKept: boolean;
  /** Names of nodes where other keys are in the way. */
  aside: readonly string[];
}

function linesOf(commands: readonly string[], at: readonly PlanNode[], typing: Typing): Line[] {
  const { task, printed, user, isKept } = typing;
  if (typing.terminal) return commands.flatMap((command) => terminalLines(user, at, command));
  if (typing.sideBySide && at.length > 1)
    return sideBySide(linesOf(commands, at, { ...typing, sideBySide: false }));
  if (printed)
    return printedLines(user, at, {
      ...{ step: KEEPER, none: task === "join" ? NONE_JOINS : undefined },
      aside: typing.aside,
    });
  const last = commands.at(-1);
  return commands.flatMap((command) =>
    isKept && command === last && at[0] ? [keptLine(user, at[0], command)] : sshLines(user, at, command),
  );
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
