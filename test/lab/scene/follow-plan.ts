/**
 * Follows the plan that is printed on the first control plane node: an operator who has nothing but that page. Each line is read as bash
 * would read it, and typed on the node whose address it names.
 */
import { withSaid } from "../../../shared/again.ts";
import { Fail } from "../../../shared/fail.ts";
import type { Machine } from "../machine/machine.ts";
import { carryFile, followRunbook } from "./follow.ts";
import { restartBarePods } from "./printed.ts";
import { note, type Scene, type, unpackKit } from "./scene.ts";
import type { Terminal } from "./terminal.ts";

export interface PageStep {
  part: number;
  number: number;
  lines: string[];
  exit: number[];
  sideBySide: boolean;
  /** How its output ends, with … for what varies. */
  ends?: string;
}

/** The steps of the page, in its order. Errors: Fail where it has none. */
export function readPlan(markdown: string): PageStep[] {
  const steps = [...markdown.matchAll(STEP)].map(([, number, title, fence, about]) => {
    const before = markdown.slice(0, markdown.indexOf(`### [ ] Step ${number}:`));
    const [, codes] = /Exit code ([\d or]+)\./.exec(about!) ?? [];
    const [, ends] = /Ends in `(.+?)`/.exec(about!) ?? [];
    return {
      part: Number([...before.matchAll(/^## (\d) /gm)].at(-1)?.[1]),
      number: Number(number),
      lines: linesIn(fence!),
      exit: codes?.split(" or ").map(Number) ?? [0],
      sideBySide: title!.includes("(side by side"),
      ...(ends ? { ends } : {}),
    };
  });
  if (steps.length === 0) throw new Fail("The plan has no step", { hint: "what does scripts/plan.ts say there? Look with --keep" });
  return steps;
}

const STEP = /^### \[ \] Step (\d+): (.+)\n\n```sh\n([\s\S]*?)\n```\n\n(.+)$/gm;

/** A quoted word may go over several lines. */
function linesIn(fence: string): string[] {
  return fence.match(/^(?:\\.|[^'\\\n]|'[^']*')+$/gm) ?? [];
}

interface Asked {
  /** Where the lines are pasted; unset: each is typed on the node whose address it names. */
  bash?: Terminal;
  /** The control plane node where the plan is printed; unset: the first. */
  on?: Machine;
  /** Who logs in, and then uses sudo; unset: root. */
  user?: string | undefined;
  /** The disk is searched as well. */
  deep?: boolean;
  /** Names of nodes that never come back. */
  without?: string[];
}

/** Repairs by RUNBOOK.md with these tags, or by the plan. */
export async function followGuide(scene: Scene, tags: string[], options: Asked = {}) {
  await (scene.guide === "plan" ? followPlan(scene, options) : followRunbook(scene, tags, options));
}

/** What comes after the proof, a backup with a passphrase on a terminal, and the removal: phone-call does it. The lab still reads what is kept. */
const END = 6;

interface Window {
  scene: Scene;
  /** bash's variables, where there is no bash. */
  variables: Map<string, string>;
  bash?: Terminal | undefined;
}

/** Prints the plan and types it, up to the first failure. */
export async function followPlan(scene: Scene, { deep = false, without = [], bash, user, on = scene.lab.controlPlanes[0]! }: Asked = {}) {
  const command = withSaid(`./bunw scripts/plan.ts${deep ? " --deep" : ""}${user ? ` --user ${user}` : ""}`, { lost: without });
  const printed = await type(scene, on, command, { part: 0, exit: [0, 2] });
  if (!printed.ok) return;
  const window: Window = { scene, variables: new Map(), bash };
  const steps = readPlan(printed.raw).filter(({ part }) => part < END);
  note(scene, "the plan is printed", `${steps.length} steps`);
  for (const step of steps) {
    if (step.lines.some((line) => line.includes("04-sa-tokens.ts retire"))) await restartBarePods(scene);
    if (!(await follow(window, step))) return;
  }
}

/** One line after the other, or all nodes at the same time, each with its own lines in their order. */
async function follow(window: Window, step: PageStep): Promise<boolean> {
  const lanes =
    step.sideBySide && !window.bash ? [...Map.groupBy(step.lines, (line) => /@([^\s:]+)/.exec(line)?.[1]).values()] : [step.lines];
  const done = await Promise.all(lanes.map((lines) => typeLines(window, step, lines)));
  return !done.includes(false);
}

async function typeLines(window: Window, step: PageStep, lines: readonly string[]): Promise<boolean> {
  for (const line of lines) {
    if (window.bash) {
      if (!(await paste(window.bash, window.scene, { line, step }))) return false;
      continue;
    }
    const form = FORMS.find(([pattern]) => pattern.test(line));
    if (!form)
      throw new Fail(`Step ${step.number} of the plan has a line of another form: ${line}`, {
        hint: "see FORMS of test/lab/scene/follow-plan.ts",
      });
    if (!(await form[1](window, form[0].exec(line)!.groups!, step))) return false;
  }
  return true;
}

type Typed = (window: Window, groups: Record<string, string>, step: PageStep) => Promise<boolean>;

/** Everything that a plan may have. */
const FORMS: [pattern: RegExp, typed: Typed][] = [
  [/^export (?<name>\w+)='(?<value>[^']*)'$/, async ({ variables }, { name, value }) => variables.set(name!, value!).size > 0],
  [/^ssh root@(?<address>\S+) "\$(?<name>\w+)" < kit\.tar\.gz$/, bringKit],
  [/^scp -3 -p root@(?<from>[^:]+):(?<path>\S+) root@(?<to>[^:]+):(?<folder>\S+)\/$/, carry],
  [/^ssh -n root@(?<address>\S+) '(?<command>[^']+)'$/, typeThere],
  [/^(?<keep>line)=\$\(ssh -n root@(?<address>\S+) '(?<command>[^']+)'\)$/, typeThere],
  [/^ssh -n root@(?<address>\S+) "cd \S+ && \$\{(?<variable>line):\?[^}]+\}"$/, typeThere],
];

async function bringKit({ scene, variables }: Window, { address, name }: Record<string, string>): Promise<boolean> {
  await unpackKit(machineAt(scene, address!), scene.kit, variables.get(name!));
  return true;
}

async function carry({ scene }: Window, { from, path, to, folder }: Record<string, string>): Promise<boolean> {
  scene.say(`the operator carries ${path} from ${from} to ${to}`);
  await carryFile(machineAt(scene, from!), machineAt(scene, to!), path!, `${folder}/${path!.split("/").at(-1)}`);
  return true;
}

async function typeThere({ scene, variables }: Window, groups: Record<string, string>, step: PageStep): Promise<boolean> {
  const { address, keep, variable } = groups;
  const command = variable ? variables.get(variable) : groups.command!.replace(/^cd \S+ && /, "");
  if (!command) throw new Fail(`Step ${step.number} of the plan types a line that nothing printed`, { hint: "look at the step before it" });
  const typed = await type(scene, machineAt(scene, address!), command, { part: step.part, exit: step.exit });
  if (keep) variables.set(keep, typed.raw.trim());
  if (typed.ok && step.ends) checkEnd(step, typed.stderr);
  return typed.ok;
}

/** By ssh, as it stands on the page; the record has what the node was told. */
async function paste(bash: Terminal, scene: Scene, { line, step }: { line: string; step: PageStep }) {
  const address = /^(?:line=\$\()?ssh -n \w+@(\S+)/.exec(line)?.[1];
  const node = { ...(address ? machineAt(scene, address) : scene.lab.operator!), run: () => bash.paste(line) };
  const told = line.includes("${line:?") ? (await bash.paste('echo "$line"')).stderr.trim() : /&& (\.\/bunw [^']+)'/.exec(line)?.[1];
  const typed = await type(scene, node, told ?? line, { part: step.part, exit: step.exit });
  if (typed.ok && told && step.ends) checkEnd(step, typed.stderr);
  return typed.ok;
}

function checkEnd({ number, ends }: PageStep, stderr: string) {
  const pattern = ends!
    .split("…")
    .map((words) => RegExp.escape(words))
    .join(".*");
  const last = stderr.trimEnd().split("\n").at(-1) ?? "";
  if (!new RegExp(`^${pattern}$`).test(last))
    throw new Fail(`Step ${number} of the plan ends in "${ends}", and it ended in "${last}"`, {
      hint: "correct the text fence of RUNBOOK.md",
    });
}

function machineAt({ lab }: Scene, address: string): Machine {
  const machine = lab.nodes.find(({ ip }) => ip === address);
  if (!machine)
    throw new Fail(`The plan has the address "${address}", which no node of the lab has`, {
      hint: "look at the list of nodes on the page",
    });
  return machine;
}
