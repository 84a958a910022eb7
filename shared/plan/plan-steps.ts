/** The steps of a plan: a block of RUNBOOK.md, or a part of one, with the nodes that it is typed on. */
import { basename, dirname, resolve } from "node:path";
import { command, withOptions } from "../again.ts";
import type { Task } from "../facts/course.ts";
import { listed } from "../plain.ts";
import { shell } from "../shell-line.ts";
import { type Act, isSecret } from "./act.ts";
import { folderTo, reachedAs, YOUR_MACHINE } from "./by-hand.ts";
import {
  carrying,
  DECIDES,
  DRY_RUN,
  EFFORTS,
  type Effort,
  fetching,
  GATHER,
  KEPT,
  KIT,
  THERE,
} from "./effort.ts";
import { type CostsHere, effortHere } from "./effort-here.ts";
import { KIT_PLACE } from "./kit-place.ts";
import { isSearched, wasSearched } from "./node-answers.ts";
import { linesOn } from "./note.ts";
import type { PlanFacts, PlanOptions } from "./plan-facts.ts";
import { isNotFirst, nodesAt, type PlanNode } from "./plan-node.ts";
import type { Block } from "./runbook.ts";
import { KEEPER, onNodes, type Placed } from "./step-order.ts";

interface Facts extends CostsHere, Pick<PlanFacts, "lost" | "options" | "answers"> {
  /** The only workers that have to; unset: each of them. */
  joins: readonly string[] | undefined;
  tells?: Task | undefined;
  /** Parts 1 and 2 have nothing to do there. */
  well?: readonly string[];
  /** In a plan after the repair: where the kit is, or a backup is known. */
  done?: Partial<Record<Task | "kit", readonly string[]>>;
}

export function stepsOf(blocks: readonly Block[], nodes: readonly PlanNode[], facts: Facts): Placed[] {
  const steps = joinCarried(blocks).flatMap((block, index, all) => {
    // a later step needs what it prints: the next one that is typed on nodes is that line
    const isKept = all.slice(index + 1).find((one) => one.on)?.printed === true;
    const meant = nodes.filter((node) => isWanted(node, block, facts));
    return block.on ? typedSteps(block, meant, facts, isKept) : fileSteps(block, meant);
  });
  return steps.filter(({ on }) => on.length > 0);
}

type Joined = Block & { files: string[] };

/** Joins files that are copied between the same nodes into one step. */
function joinCarried(blocks: readonly Block[]): Joined[] {
  const all: Joined[] = [];
  for (const block of blocks) {
    const [last, { carry }] = [all.at(-1), block];
    const isSame =
      last?.carry &&
      carry &&
      carry.from === last.carry.from &&
      carry.to === last.carry.to &&
      block.part === last.part;
    if (isSame && [...last.files, carry.file].every((file) => !/NODE|^\//.test(file)))
      last.files.push(carry.file);
    else all.push({ ...block, files: carry ? [carry.file] : [] });
  }
  return all;
}

function isWanted(node: PlanNode, { part, task, sshTo }: Block, { joins, well = [], done }: Facts): boolean {
  const what = sshTo ? "kit" : task;
  if (what && done?.[what]?.includes(node.name)) return false;
  if ((part === 1 || part === 2) && well.includes(node.name)) return false;
  if (task === "look" || task === "look-around") return isNotFirst(node);
  if (task === "salvage") return !isNotFirst(node);
  return task !== "join" || node.role !== "worker" || !joins || joins.includes(node.name);
}

function fileSteps(block: Joined, nodes: readonly PlanNode[]): Placed[] {
  const { part = 0, exit, task, carry, files, sshTo, gather } = block;
  const others = nodes.filter(isNotFirst);
  if (sshTo) {
    const at = nodesAt(others, sshTo);
    const acts: Act[] = [{ do: "kit", to: namesOf(at) }];
    return [{ ...KIT, ...onNodes(at, "to", true), part, exit, acts }];
  }
  if (gather) {
    const first = nodes.find((node) => !isNotFirst(node))!;
    const acts: Act[] = [{ do: "gather", from: namesOf(others), to: first.name, into: gather }];
    return [{ ...GATHER, ...onNodes(others, "on"), part, exit, task, acts }];
  }
  const [from] = nodesAt(nodes, carry!.from);
  if (carry!.to === "operator") {
    const effort = fetching(carry!.file);
    const acts: Act[] = [{ do: "fetch", from: from!.name, file: carry!.file }];
    return [{ ...effort, way: "to", on: [YOUR_MACHINE], sideBySide: false, part, exit, task, acts }];
  }
  const to = nodesAt(nodes, carry!.to);
  const effort = task === "backup-there" ? EFFORTS[task] : carrying(files);
  const acts: Act[] = [{ do: "carry", from: from!.name, to: namesOf(to), files, secret: isSecret(files) }];
  return [{ ...effort, ...onNodes(to, "to"), part, exit, task, acts }];
}

const namesOf = (nodes: readonly PlanNode[]) => nodes.map(({ name }) => name);

/** The line that a later step types is printed by the last command, on the first node. */
function actsOf(commands: readonly string[], at: readonly PlanNode[], typing: Typing & Block): Act[] {
  const { task, printed, terminal, sideBySide, isKept, aside } = typing;
  const names = namesOf(at);
  if (printed) {
    const moveAside = aside.filter((name) => names.includes(name));
    return [
      { do: "type-printed", on: names, keptBy: KEEPER, sideBySide, moveAside, mayBeNone: task === "join" },
    ];
  }
  return commands.map((command, index): Act => {
    const keeps = isKept && index === commands.length - 1;
    return {
      ...{ do: "type", on: keeps ? names.slice(0, 1) : names, command, sideBySide },
      ...(keeps && { keeps }),
      ...(terminal && { terminal }),
    };
  });
}

/** Each script with the lines that prepare it. */
function typedSteps(block: Joined, nodes: readonly PlanNode[], facts: Facts, isKept: boolean): Placed[] {
  const { part = 0, exit, task, ends, sideBySide } = block;
  const at = nodesAt(nodes, block.on!);
  const others = task === "unpack" ? facts.answers.nodes.filter(({ otherKeys }) => otherKeys) : [];
  const aside = others.map(({ name }) => name);
  return inScripts(block.commands).map((commands, index, all) => {
    const isLast = index === all.length - 1;
    const typedLines = commands.map((command) => commandSaid(command, block, facts));
    const typing = { ...block, isKept, aside };
    const step: Placed = {
      ...{ ...effortOf(commands.at(-1)!, block, facts, at), ...onNodes(at, "on", sideBySide) },
      ...{ part, exit, task },
      acts: actsOf(typedLines, at, typing),
    };
    const note = noteOf(block, at, facts, { isKept: isKept && isLast, aside });
    if (note !== undefined) step.note = note;
    // without what belongs to the runbook's example alone
    if (ends && isLast)
      step.ends = ends.replace(/(next:) .*/, "$1 …").replace(/^\d+( checks, all good).*/, "…$1…");
    return step;
  });
}

function inScripts(commands: readonly string[]): string[][] {
  const scripts: string[][] = [[]];
  for (const [index, command] of commands.entries()) {
    scripts.at(-1)!.push(command);
    if (command.startsWith("./bunw ") && index < commands.length - 1) scripts.push([]);
  }
  return scripts;
}

const FOUND_MORE =
  "A key stays lost, as this plan expects, so it ends with exit code 2. If it ends with 0, it found more: print the plan again";
const FOUND_LESS =
  "It ends with exit code 0. If it ends with 2, it found less than this plan expects: print the plan again";
const NONE_HAS_IT = "All of them were looked at: etcd/ca.key is on none of them";

interface Typing {
  isKept: boolean;
  aside: readonly string[];
}

/** Undefined: the value of the effort is used. */
function noteOf(
  { task, exit }: Block,
  at: readonly PlanNode[],
  { joins, lost, options, answers }: Facts,
  { isKept, aside }: Typing,
): string | undefined {
  if (task === "remove" || task === "remove-kit") {
    // the folder keeps these words, and who comes back needs both
    const open = [
      ...lost.away.map((name) => `${name} is away`),
      ...options["start-without"].map((flag) => `no --${flag}`),
    ];
    return open.length > 0 ? `Not while this holds: ${open.join("; ")}` : undefined;
  }
  if (task === "end-etcd")
    return at.every(({ name }) => wasSearched(name, answers)) ? NONE_HAS_IT : undefined;
  if (aside.length > 0)
    return `Other keys are in the way on ${listed(aside)}: there they go to the rescue folder`;
  if (task === "salvage") return exit.includes(2) ? FOUND_MORE : FOUND_LESS;
  if (!isKept) return undefined;
  // with the old CA each worker that has to join is one that has lost something
  return task === "open" && joins ? `${KEPT}. ${DECIDES}` : KEPT;
}

/** NODE stands for all that are lost. */
function commandSaid(typed: string, { task }: Block, facts: Facts): string {
  const { names } = facts.lost;
  const line = /^\.\/bunw scripts\/0[12]-/.test(typed) ? withOptions(typed, saidFor(task, facts)) : typed;
  return line.replace(/\bNODE\b/, (word) => (names.length > 0 ? shell`${names}` : word));
}

/**
 * An irreversible step needs the words on its own line. Part 2 takes members of etcd out, and no worker. Part 1 makes new
 * keys beside control plane nodes that were looked at, or are lost for good.
 */
function saidFor(
  task: Task | undefined,
  { lost: { controlPlanes }, options, answers, tells }: Facts,
): Partial<PlanOptions> {
  const lostOn = options["lost-on"];
  if (task === "control-plane")
    return {
      without: tells === task ? options.without : [],
      ...{ lost: controlPlanes, "lost-on": lostOn.filter((name) => controlPlanes.includes(name)) },
    };
  if (task === "etcd-there" && tells === task) {
    const { without, endpoint, "etcd-data": dir, "start-without": flags } = options;
    return { without, "lost-on": lostOn, "start-without": flags, endpoint, "etcd-data": dir };
  }
  if (task !== "new-cas" && task !== "new-internal-cas") return {};
  const looked = answers.nodes.flatMap((node) => (node.controlPlane && isSearched(node) ? [node.name] : []));
  return { "lost-on": [...new Set([...lostOn, ...controlPlanes, ...looked])] };
}

function effortOf(command: string, { task }: Block, facts: Facts, at: readonly PlanNode[]): Effort {
  return command.endsWith(" --dry-run") ? DRY_RUN : effortHere(task, facts, namesOf(at));
}

/** The others' answers go along: that plan would ask for them once more. */
export function stepThere(
  { user, options, folder }: Pick<PlanFacts, "user" | "options" | "folder">,
  from: PlanNode,
  there: readonly PlanNode[],
): Omit<Placed, "part"> {
  const lines = there.flatMap((node) => {
    const line = (more: { seen?: string }) => linesOn(node, command("plan", { ...more, ...options }));
    if (folder === undefined) return line({});
    const [seen, parent] = [basename(folder), dirname(resolve(KIT_PLACE, folder))];
    const text = folderTo({ parent, seen }, reachedAs(from, user), reachedAs(node, user));
    return [{ at: YOUR_MACHINE, text }, ...line({ seen })];
  });
  // who follows the data makes the plan there because the plan says `elsewhere`
  return { ...THERE, ...onNodes(there, "on"), lines, acts: [], exit: [0, 2, 3] };
}
