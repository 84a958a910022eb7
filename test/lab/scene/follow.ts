/** Follows RUNBOOK.md in a scene: types its commands where it says, and carries files from node to node. */
import { basename } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import type { Place } from "../../../shared/plan/place.ts";
import { type Block, readRunbook } from "../../../shared/plan/runbook.ts";
import type { Machine } from "../machine/machine.ts";
import { runbookPages } from "./runbook-block.ts";
import { KIT, type Scene, type } from "./scene.ts";
import { withSaid } from "./typed-line-options.ts";

/** How the runbook is followed; by default as it is written, from the first part to the last. */
interface Following {
  markdown?: string;
  /** Only these parts; -1 means blocks outside any part. */
  parts?: number[];
  /** Seconds: each writing script is first killed after this time, and then run again. */
  killAfter?: number;
  /**
   * Names of nodes that never come back: nothing is typed there, the scripts that need it get `--lost`, and
   * their own blocks are typed.
   */
  without?: string[];
  /**
   * Names of nodes that are away and will come back: nothing is typed there, and the scripts get `--without`.
   */
  away?: string[];
  /** Names of the only workers on which something is typed. */
  workers?: string[];
  /** Where a line is refused, the operator types the one that its hint has for the same script. */
  asHinted?: true;
  /** Called before each command. */
  before?: (command: string, at: { scene: Scene; node: Machine }) => Promise<void>;
}

/**
 * Types each block where the runbook says, in the order of the page. Stops at the first failure, as an
 * operator does.
 */
export async function followRunbook(scene: Scene, tags: string[], options: Following = {}) {
  const { blocks } = readRunbook(options.markdown ?? runbookPages());
  const follow: Follow = { ...options, scene, printed: "" };
  const known = options.without ? [...tags, "lost-nodes"] : tags;
  const meant = (block: Block) =>
    (block.if?.some((tag) => known.includes(tag)) ?? true) &&
    (options.parts?.includes(block.part ?? -1) ?? true);
  for (const block of blocks.filter(meant)) {
    if (block.carry) await carry(follow, block.carry);
    const nodes = block.on ? nodesAt(follow, block.on) : [];
    if (block.sideBySide) {
      const done = await Promise.all(nodes.map((node) => followBlock(follow, block, node)));
      if (done.includes(false)) return;
    } else for (const node of nodes) if (!(await followBlock(follow, block, node))) return;
  }
}

interface Follow extends Following {
  scene: Scene;
  /** Everything that was printed on stdout so far. */
  printed: string;
}

/** Types a block's commands on one node; false when a command did not end as the runbook says. */
async function followBlock(follow: Follow, block: Block, node: Machine): Promise<boolean> {
  const { scene, killAfter } = follow;
  for (const example of block.commands) {
    const command = withoutLost(
      follow,
      block.printed ? whatWasPrinted(block, example, follow.printed) : example,
    );
    await follow.before?.(command, { scene, node });
    if (killAfter && WRITES.test(command))
      await killInTheMiddle(scene, node, command, { ...block, seconds: killAfter });
    const step = await typed(follow, node, command, block);
    follow.printed += step.raw;
    if (!step.ok) return false;
  }
  return true;
}

async function typed({ scene, asHinted }: Follow, node: Machine, command: string, block: Block) {
  const hinted: string[] = [];
  for (let line = command; ; ) {
    const mayBeRefused = asHinted && hinted.length < MOST_HINTS;
    const exit = [...(block.exit ?? [0]), ...(mayBeRefused ? [3] : [])];
    const step = await type(scene, node, line, { ...block, exit });
    const better = step.exitCode === 3 && mayBeRefused ? hintedLine(line, step.stderr) : undefined;
    if (better === undefined || hinted.includes(better))
      return { ...step, ok: step.ok && step.exitCode !== 3 };
    hinted.push(better);
    line = better;
  }
}

/** A line that is still refused then fails. */
const MOST_HINTS = 3;

/** The last line of a hint for the script that was refused, with its options. */
export function hintedLine(command: string, stderr: string): string | undefined {
  const script = /^\.\/bunw scripts\/[\w-]+\.ts/.exec(command)?.[0] ?? "";
  const hint = stderr.slice(stderr.lastIndexOf("\nhint: "));
  const option = String.raw`(?: --(?:lost-on|start-without|endpoint|without) \S+| --[\w-]+)`;
  const lines = hint.match(new RegExp(`${script.replaceAll(".", "\\.")}${option}*`, "g")) ?? [];
  return lines.at(-1);
}

function withoutLost({ without = [], away = [] }: Follow, command: string) {
  // A line that a script printed has them already.
  const isSaid = / --(without|lost) /.test(command);
  const line = isSaid ? command : withSaid(command, { without: away, lost: without });
  return without.length > 0 ? line.replace(/\bNODE\b/, without.join(" ")) : line;
}

const WRITES = /^\.\/bunw scripts\/0[1-4]/;

async function killInTheMiddle(
  scene: Scene,
  node: Machine,
  command: string,
  { part, seconds }: { part: number | undefined; seconds: number },
) {
  await type(scene, node, `timeout --signal=KILL ${seconds} ${command}`, { part, exit: [0, 137] });
}

/**
 * What the operator types in a `printed` block: the last printed line that begins like the example, up to its
 * first option.
 */
export function printedLine(example: string, stdout: string): string | undefined {
  const start = example.split(/ (?=--|<|…)/)[0]!;
  return stdout
    .split("\n")
    .map((line) => line.trim())
    .findLast((line) => line.startsWith(start));
}

function whatWasPrinted(block: Block, example: string, printed: string) {
  const line = printedLine(example, printed);
  if (!line)
    throw new Fail(`RUNBOOK.md line ${block.line}: no command printed a line like "${example}"`, {
      hint: "look at what the command before it printed",
    });
  return line;
}

function nodesAt({ scene: { lab }, without = [], away = [], workers }: Follow, place: Place): Machine[] {
  const nodes = {
    "first-control-plane": lab.controlPlanes.slice(0, 1),
    "other-control-planes": lab.controlPlanes.slice(1),
    "each-control-plane": lab.controlPlanes,
    "each-worker": lab.workers.filter(({ nodeName }) => workers?.includes(nodeName) ?? true),
    "each-node": lab.nodes,
    operator: lab.operator ? [lab.operator] : [],
  };
  if (place === "operator" && !lab.operator)
    throw new Fail("This scenario has no operator's machine", { hint: "see scenarios/fleet.ts" });
  return nodes[place].filter(({ nodeName }) => ![...without, ...away].includes(nodeName));
}

/** `open` writes them on the first control plane node: to each worker its own. */
export const TOKENS = "token.d/NODE/token";

/**
 * Replaces the operator's scp; NODE is the name of the node that gets it. It reads inside the node: the kit's
 * folder is in memory and has no path on this machine.
 */
export async function carryFile(
  from: Machine,
  to: Machine,
  file: string,
  place = file.startsWith("/") ? file : basename(file),
) {
  const [path, there] = [file.replace("NODE", to.nodeName), place].map((one) =>
    one.startsWith("/") ? one : `${KIT}/${one}`,
  ) as [string, string];
  const { stdout, exitCode, stderr } = await from.run(["base64", "-w0", path]);
  if (exitCode !== 0)
    throw new Fail(`Cannot carry ${file} from ${from.name}: ${stderr.trim()}`, {
      hint: "look at what the command before it wrote",
    });
  await to.run(["bash", "-c", `umask 077; base64 -d > ${there}`], { input: stdout });
}

async function carry(follow: Follow, { file, from, to }: NonNullable<Block["carry"]>) {
  const source = nodesAt(follow, from)[0]!;
  for (const node of nodesAt(follow, to)) {
    follow.scene.say(`the operator carries ${file} from ${source.name} to ${node.name}`);
    await carryFile(source, node, file);
  }
}
