/**
 * Follows the plan that is printed on the first control plane node: an operator who has nothing but that
 * page. Each line is read as bash would read it, and typed on the node whose address it names.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { Fail } from "../../../shared/fail.ts";
import { INTRUDER_HOME } from "../attacker/intruder.ts";
import type { Machine, Output } from "../machine/machine.ts";
import { carryFile, followRunbook } from "./follow.ts";
import { followRepair } from "./follow-repair.ts";
import { restartBarePods } from "./printed.ts";
import { withSaid } from "./said.ts";
import { note, type Scene, type, unpackKit } from "./scene.ts";
import type { Terminal } from "./terminal.ts";

export interface PageStep {
  part: number;
  /** "1a". */
  number: string;
  lines: string[];
  exit: number[];
  /** How its output ends, with … for what varies. */
  ends?: string;
}

/** The steps of the page, in its order. Errors: Fail where it has none. */
export function readPlan(markdown: string): PageStep[] {
  const steps = [...markdown.matchAll(STEP)].map(([, number, fence, about]): PageStep => {
    const [, codes] = /Exit code ([\d or]+)\./.exec(about!) ?? [];
    const [, ends] = /Ends in `(.+?)`/.exec(about!) ?? [];
    return {
      ...{ part: Number.parseInt(number!, 10), number: number!, lines: linesIn(fence!) },
      exit: codes?.split(" or ").map(Number) ?? [0],
      ...(ends ? { ends } : {}),
    };
  });
  if (steps.length === 0)
    throw new Fail("The plan has no step", { hint: "what does scripts/plan.ts say there? Look with --keep" });
  return steps;
}

/** What has to be typed before the plan is made anew; undefined where the page has its steps. */
export function firstIn(markdown: string): string[] | undefined {
  return /^> .*[Tt]his comes first.*\n\n```sh\n([\s\S]*?)\n```$/m.exec(markdown)?.[1]?.split("\n");
}

const STEP = /^### \[ \] (\d[a-z]): .+\n```sh\n([\s\S]*?)\n```\n(.+)$/gm;

/** A quoted word may go over several lines, and so does what runs side by side. A line for several nodes is typed on each. */
function linesIn(fence: string): string[] {
  const lines = fence.match(/^\(\n[\s\S]*?\n\)$|^(?:\\.|[^'\\\n]|'[^']*')+$/gm) ?? [];
  return lines.flatMap((line) => {
    const [, all, each] = LOOP.exec(line) ?? [];
    const words = all?.match(/"[^"]+"|\S+/g)?.map((word) => word.replaceAll('"', "").split(" "));
    return words?.map(([a, n = ""]) => each!.replace("$n", n).replace("$a", a!)) ?? line;
  });
}

/** Over addresses, or over addresses with the names that ssh knows them by. */
const LOOP =
  /^(?:for a in|printf "%s\\n") (.+?)(?:;| \| while read -r a n;) do (ssh -n (?:-o HostKeyAlias=\$n )?\S+@\$a .+); done$/;

interface Beside {
  /** What stands before each line of its output. */
  name: string;
  line: string;
}

/** What runs at the same time; none: it is a line of its own. */
function besideIn(line: string): Beside[] {
  return [...line.matchAll(/^\{ (.+); \} 2>&1 \| as '?(.+?)'? &$/gm)].map(([, line, name]) => ({
    line: line!,
    name: `${name}: `,
  }));
}

interface Asked {
  /** Where the lines are pasted; unset: each is typed on the node whose address it names. */
  bash?: Terminal;
  /** It is printed already. */
  page?: string;
  /** The user with sudo who logs in; unset: root. */
  user?: string | undefined;
  /** The disk is searched as well. */
  deep?: boolean;
  /** Names of nodes that never come back. */
  without?: string[];
  /** Where the page says that something comes first, that is typed. */
  first?: boolean;
  /** Only steps of these parts; unset: up to the proof, as the lab still reads what is kept. */
  parts?: number[];
}

/** Repairs by `repair`, by the plan that is typed, or by RUNBOOK.md with these tags. Some parts alone: by the plan. */
export async function followGuide(scene: Scene, tags: string[], options: Asked = {}) {
  if (scene.guide === "runbook") return await followRunbook(scene, tags, options);
  if (scene.guide === "repair" && !options.parts) return await followRepair(scene, options);
  await followPlan(scene, options);
}

const TO_THE_PROOF = [0, 1, 2, 3, 4, 5];

interface Window {
  scene: Scene;
  /** bash's variables, where there is no bash. */
  variables: Map<string, string>;
  bash?: Terminal | undefined;
  /** A plan that a step has made: it takes this one's place. */
  page?: string;
}

/** Prints the plan and types it, up to the first failure. */
export async function followPlan(
  scene: Scene,
  { parts = TO_THE_PROOF, ...options }: Asked = {},
): Promise<void> {
  const page = options.page ?? (await printedPlan(scene, scene.lab.controlPlanes[0]!, options));
  if (page === undefined) return;
  const next = (page: string | undefined) =>
    page === undefined ? undefined : followPlan(scene, { ...options, parts, page });
  const first = options.first ? firstIn(page) : undefined;
  if (first) return next(await typeFirst(scene, first));
  const window: Window = { scene, variables: new Map(), bash: options.bash };
  const steps = readPlan(withAddresses(scene, page)).filter(({ part }) => parts.includes(part));
  const [, aim = ""] = /^\*\*(.+)\*\*$/m.exec(page) ?? [];
  note(scene, "the plan is printed", `${steps.length} steps; ${aim}`);
  for (const step of steps) {
    if (step.lines.some((line) => line.includes("04-sa-tokens.ts retire"))) await restartBarePods(scene);
    if (!(await follow(window, step))) return;
    if (window.page !== undefined) return next(window.page);
  }
}

/** A Node of the attacker's has a placeholder, with the reason: the operator writes the address in. */
function withAddresses({ lab, say }: Scene, page: string): string {
  const owned = lab.nodes.filter((node) => existsSync(node.path(INTRUDER_HOME)));
  return owned.reduce((text, { nodeName, ip }) => {
    const placeholder = new RegExp(`ADDRESS-OF-${nodeName}\\b`, "g");
    if (placeholder.test(text)) say(`the operator writes in the address of ${nodeName}: ${ip}`);
    return text.replaceAll(placeholder, ip);
  }, page);
}

/** On the machine that a line names, or on the first control plane node. Returns the plan that the last line prints. */
async function typeFirst(scene: Scene, lines: readonly string[]): Promise<string | undefined> {
  let page: string | undefined;
  for (const line of lines) {
    const [, address, command = line] =
      /^ssh -[nt] (?:-o HostKeyAlias=\S+ )?root@(\S+) '(?:cd \S+ && )?([^']+)'/.exec(line) ?? [];
    const node = address ? machineAt(scene, address) : scene.lab.controlPlanes[0]!;
    const isPlan = PLAN.test(command);
    const exit = isPlan ? [0, 2] : [0];
    const typed = await typeAndAnswer(scene, node, command, { part: 0, exit });
    if (!typed.ok) return undefined;
    if (isPlan) page = typed.raw;
  }
  return page;
}

/** A label says that a worker is a control plane node: the operator knows better. */
const WHICH_IT_IS = /A worker: (\.\/bunw scripts\/plan\.ts(?: [\w./=,-]+)* --worker \S+?)\. /;

/** A plan that asks it is typed again with the answer. */
async function typeAndAnswer(
  scene: Scene,
  node: Machine,
  command: string,
  options: { part: number | undefined; exit: number[] },
) {
  const exit = PLAN.test(command) ? [...options.exit, 3] : options.exit;
  const typed = await type(scene, node, command, { ...options, exit });
  const [, worker] = WHICH_IT_IS.exec(typed.stderr) ?? [];
  if (worker) return await type(scene, node, worker, options);
  return { ...typed, ok: options.exit.includes(typed.exitCode) };
}

const PLAN = /^\.\/bunw scripts\/plan\.ts\b/;

/** What the block of the plan on the first control plane node prints that asks all nodes. */
export async function planOfAllNodes(scene: Scene, bash: Terminal, user?: string): Promise<string> {
  const plan = `./bunw scripts/plan.ts${user ? ` --user ${user}` : ""}`;
  const { raw } = await type(scene, scene.lab.controlPlanes[0]!, plan, { part: 0, exit: [0, 2, 3] });
  const page = await askAllNodes(raw, bash);
  scene.checks.push({
    name: "the plan of what all nodes say has looked at all of them",
    ok: page.includes("Looked at") && !page.includes("Not looked at") && !page.includes("Does not count"),
    detail: /Looked at: .*$/m.exec(page)?.[0] ?? page.trim().split("\n").at(-1)!,
  });
  return page;
}

/** Pastes the block of a plan that asks all nodes; the plan that it prints. Errors: Fail where there is none. */
export async function askAllNodes(page: string, bash: Terminal): Promise<string> {
  const [, look] = /^> .*To look at all nodes at once.*\n\n```sh\n([\s\S]*?)\n```$/m.exec(page) ?? [];
  if (!look)
    throw new Fail("The plan has no line that looks at all nodes", {
      hint: "see what plan.ts says there, with --keep",
    });
  return (await bash.paste(look)).stderr;
}

/** Where it says so, it is made on another node, once. */
async function printedPlan(
  scene: Scene,
  on: Machine,
  options: Asked,
  exit = [0, 2, 3],
): Promise<string | undefined> {
  const { deep = false, without = [], user } = options;
  const command = withSaid(`./bunw scripts/plan.ts${deep ? " --deep" : ""}${user ? ` --user ${user}` : ""}`, {
    lost: without,
  });
  const { ok, raw } = await typeAndAnswer(scene, on, command, { part: 0, exit });
  const [, right] = /^\*\*Make this plan on (\S+): /m.exec(raw) ?? [];
  const there = ok && scene.lab.controlPlanes.find(({ nodeName }) => nodeName === right);
  if (!there) return ok ? raw : undefined;
  note(scene, "the plan is made elsewhere", there.nodeName);
  await unpackKit(there, scene.kit);
  return printedPlan(scene, there, options, [0, 2]);
}

/** One line after the other, or all nodes at the same time. */
async function follow(window: Window, step: PageStep): Promise<boolean> {
  for (const line of step.lines) {
    const beside = besideIn(line);
    const typed =
      beside.length > 0 ? typeBeside(window, step, { line, beside }) : typeLine(window, step, line);
    if (!(await typed)) return false;
  }
  return true;
}

/** In a terminal it is one paste, whose output has each node's name. */
async function typeBeside(
  window: Window,
  step: PageStep,
  { line, beside }: { line: string; beside: Beside[] },
): Promise<boolean> {
  const { bash } = window;
  const told = bash && (await toldBy(bash, line));
  const all = bash?.paste(line);
  const done = await Promise.all(
    beside.map(({ name, line }) =>
      all
        ? paste(window, { line, step, told, output: all.then((output) => ofNode(output, name)) })
        : typeLine(window, step, line),
    ),
  );
  return !done.includes(false);
}

function ofNode(output: Output, name: string): Output {
  const lines = output.stderr
    .split("\n")
    .flatMap((line) => (line.startsWith(name) ? [line.slice(name.length)] : []));
  return { ...output, stderr: lines.join("\n") };
}

async function typeLine(window: Window, step: PageStep, line: string): Promise<boolean> {
  const { bash } = window;
  if (bash) {
    const told = await toldBy(bash, line);
    return paste(window, { line, step, told, output: bash.paste(line) });
  }
  const form = FORMS.find(([pattern]) => pattern.test(line));
  if (!form)
    throw new Fail(`Step ${step.number} of the plan has a line of another form: ${line}`, {
      hint: "see FORMS of test/lab/scene/follow-plan.ts",
    });
  return form[1](window, form[0].exec(line)!.groups!, step);
}

type Typed = (window: Window, groups: Record<string, string>, step: PageStep) => Promise<boolean>;

/** Everything that a plan may have. */
const FORMS: [pattern: RegExp, typed: Typed][] = [
  [
    /^export (?<name>\w+)='(?<value>[^']*)'$/,
    async ({ variables }, { name, value }) => variables.set(name!, value!).size > 0,
  ],
  // the lab's own machine has met each node
  [/^printf .+; do ssh-keygen -F .*; done$/, async () => true],
  [/^ssh (?:-o HostKeyAlias=\S+ )?root@(?<address>\S+) "\$(?<name>\w+)" < kit\.tar\.gz$/, bringKit],
  [/^scp -3 -p root@(?<from>[^:]+):(?<path>\S+) root@(?<to>[^:]+):(?<folder>\S+)\/$/, carry],
  [
    /^\(set -o pipefail; ssh -n root@(?<from>\S+) tar -C (?<folder>\S+) -cf - (?<names>.+) \| ssh -o HostKeyAlias=\S+ root@(?<to>\S+) tar -C (?<into>\S+) -xpf - \k<names>\)$/,
    ({ scene }, { from, folder, names, to, into }) =>
      carryAll(scene, { from: from!, to: to!, folder: folder!, into: into!, names: names!.split(" ") }),
  ],
  [
    /^ssh -n (?:-o HostKeyAlias=\S+ )?root@(?<address>\S+) '(?<command>[^']+)'(?:; echo "exit code \$\?(?:: \$line)?")?$/,
    typeThere,
  ],
  [
    /^(?<keep>line)=\$\(ssh -n (?:-o HostKeyAlias=\S+ )?root@(?<address>\S+) '(?<command>[^']+)'\)(?:; echo "exit code \$\?(?:: \$line)?")?$/,
    typeThere,
  ],
  [
    /^ssh -n (?:-o HostKeyAlias=\S+ )?root@(?<address>\S+) "cd \S+ && \$\{(?<variable>line):\?[^}]+\}"(?:; echo "exit code \$\?(?:: \$line)?")?$/,
    typeThere,
  ],
];

async function bringKit(
  { scene, variables }: Window,
  { address, name }: Record<string, string>,
): Promise<boolean> {
  await unpackKit(machineAt(scene, address!), scene.kit, variables.get(name!));
  return true;
}

/** `{a,b}`: two files. */
async function carry(
  { scene }: Window,
  { from, path, to, folder }: Record<string, string>,
): Promise<boolean> {
  const [, names = path!.split("/").at(-1)!] = /\{(.+)\}$/.exec(path!) ?? [];
  const way = { from: from!, to: to!, folder: dirname(path!), into: folder! };
  return carryAll(scene, { ...way, names: names.split(",") });
}

async function carryAll(
  scene: Scene,
  {
    from,
    to,
    folder,
    into,
    names,
  }: { from: string; to: string; folder: string; into: string; names: readonly string[] },
): Promise<boolean> {
  for (const name of names) {
    const file = join(folder, name);
    scene.say(`the operator carries ${file} from ${from} to ${to}`);
    await carryFile(machineAt(scene, from), machineAt(scene, to), file, `${into}/${name}`);
  }
  return true;
}

async function typeThere(window: Window, groups: Record<string, string>, step: PageStep): Promise<boolean> {
  const { scene, variables } = window;
  const { address, keep, variable } = groups;
  const command = variable ? variables.get(variable) : groups.command!.replace(/^cd \S+ && /, "");
  if (!command)
    throw new Fail(`Step ${step.number} of the plan types a line that nothing printed`, {
      hint: "look at the step before it",
    });
  const { part, exit = [0] } = step;
  const typed = await typeAndAnswer(scene, machineAt(scene, address!), command, { part, exit });
  if (keep) variables.set(keep, typed.raw.trim());
  if (typed.ok && PLAN.test(command)) window.page = typed.raw;
  if (typed.ok && step.ends) checkEnd(step, typed.stderr);
  return typed.ok;
}

/** What the node is told by this line; undefined: nothing but the line. */
async function toldBy(bash: Terminal, line: string): Promise<string | undefined> {
  return line.includes("${line:?")
    ? (await bash.paste('echo "$line"')).stderr.trim()
    : /&& (\.\/bunw [^']+)'/.exec(line)?.[1];
}

interface Pasted {
  line: string;
  step: PageStep;
  told: string | undefined;
  output: Promise<Output>;
}

/**
 * Pastes it by ssh, as the page has it; the record has the line that the node got, and the exit code that the
 * operator saw.
 */
async function paste(window: Window, { line, step, told, output }: Pasted) {
  const { scene } = window;
  const [, way, address] = /^(?:line=\$\()?ssh (-[nt]) (?:-o HostKeyAlias=\S+ )?\w+@(\S+)/.exec(line) ?? [];
  const node = {
    ...(address ? machineAt(scene, address) : scene.lab.operator!),
    run: () => output.then(withShownCode),
  };
  // on a terminal of its own it shows a passphrase, once
  const typed = await type(scene, node, told ?? line, {
    part: step.part,
    exit: step.exit,
    mayHoldToken: way === "-t",
  });
  if (typed.ok && told && PLAN.test(told)) window.page = typed.raw;
  // ssh brings both streams as they come: what a script says last on one may stand before the other's end
  if (typed.ok && told && step.ends) checkEnd(step, typed.stderr, { last: false });
  return typed.ok;
}

/** Shown at the end: "exit code 2". */
function withShownCode(output: Output): Output {
  const [shown, code] = /^exit code (\d+).*\n?$/m.exec(output.stderr) ?? [];
  return code === undefined
    ? output
    : { ...output, stderr: output.stderr.replace(shown!, ""), exitCode: Number(code) };
}

function checkEnd({ number, ends }: PageStep, stderr: string, { last: isLast = true } = {}) {
  const pattern = ends!
    .split("…")
    .map((words) => RegExp.escape(words))
    .join(".*");
  const last = stderr.trimEnd().split("\n").at(-1) ?? "";
  if (!new RegExp(`^${pattern}$`, isLast ? "" : "m").test(isLast ? last : stderr))
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
