/**
 * An operator who reads nothing but the screens: what they name is typed, on the node that they name. The
 * newest screen of a node counts; of older ones he remembers what is still to be done elsewhere. A command
 * that fails is a stop, and its hint comes next.
 */
import { Fail } from "../../../shared/fail.ts";
import type { Machine } from "../machine/machine.ts";
import type { Step } from "../report/rehearsal.ts";
import { carryFile, TOKENS } from "./follow.ts";
import { heldOr, restartBarePods } from "./printed.ts";
import { reasonIn, type Scene, type } from "./scene.ts";

interface Todo {
  node: Machine;
  command: string;
}

export interface Operator {
  scene: Scene;
  /** The node whose screens lead. */
  first: Machine;
  /** Names of control plane nodes that a screen called lost. */
  lost: Set<string>;
  typed: string[];
  /** Commands that failed, with their reasons. */
  stops: string[];
  plan: Todo[];
  /** kubectl's line that part 2 prints for the time before part 4. */
  beforePart4: string | undefined;
}

const BUNW = "./bunw scripts/";
const VERIFY = `${BUNW}05-verify.ts`;
/** No repair of five nodes needs so many. */
const MANY = 70;
const PASSPHRASE = "four words of the phone call";

export function operatorAt(scene: Scene): Operator {
  const first = scene.lab.controlPlanes[0]!;
  return { scene, first, lost: new Set(), typed: [], stops: [], plan: [], beforePart4: undefined };
}

/**
 * Types this, then what is printed, until 05-verify is green on the first node. Errors: Fail where the
 * screens lead in a circle, or nowhere.
 */
export async function followScreens(operator: Operator, command: string) {
  const { first } = operator;
  operator.plan = [{ node: first, command }];
  for (let todo = operator.plan.shift(); todo; todo = operator.plan.shift()) {
    if (operator.typed.length > MANY) throw astray(operator, "the screens lead in a circle");
    if (todo.command.includes("04-sa-tokens.ts") && operator.beforePart4) {
      await typeAt(operator, { node: first, command: operator.beforePart4 });
      operator.beforePart4 = undefined;
    }
    todo = { ...todo, command: withLost(operator, todo.command) };
    const step = await typeAt(operator, todo);
    if (todo.command.startsWith(VERIFY) && todo.node === first && step?.exitCode === 0) return;
    if (step) takeUp(operator, todo, step);
  }
  throw astray(operator, "the screens name nothing more");
}

/** A lost node's screen has said how part 2 goes on without it. After that the scripts remember it. */
function withLost({ lost, typed }: Operator, command: string): string {
  const isSaid = lost.size === 0 || typed.some((line) => line.includes("02-control-plane.ts --lost"));
  return isSaid || command !== `${BUNW}02-control-plane.ts`
    ? command
    : `${command} --lost ${[...lost].join(",")}`;
}

function astray({ typed }: Operator, why: string) {
  return new Fail(`${why}, after: ${typed.slice(-8).join("; ")}`, {
    hint: "look at what they printed, in the record",
  });
}

/**
 * One command, as typed; a passphrase is typed on a terminal. What has to be carried by scp then is carried.
 */
async function typeAt(operator: Operator, { node, command }: Todo): Promise<Step | undefined> {
  const { scene, typed } = operator;
  const [, , file, name] = SCP.exec(command) ?? [];
  if (file)
    return await carry(
      operator,
      node,
      file,
      scene.lab.nodes.filter((other) => other.name === name),
    );
  typed.push(`${node.name}: ${command.replace(BUNW, "")}`);
  const step = await type(scene, node, withPassphrase(command), {
    exit: [0, 1, 2, 3],
    part: command.includes("04-sa-tokens") ? 4 : undefined,
  });
  const screen = screenOf(step);
  if (isStop(step.exitCode)) operator.stops.push(`${typed.at(-1)}: ${reasonIn({ ...step, stderr: screen })}`);
  if (command.includes("04-sa-tokens") && screen.includes("not restarted: ")) await restartBarePods(scene);
  const bundle = bundleIn(screen);
  if (command.includes("hand-over.ts pack") && bundle)
    await carry(operator, node, bundle, scene.lab.controlPlanes);
  if (command.includes("03-workers.ts open") && screen.includes("03-join.ts"))
    await carry(operator, node, TOKENS, scene.lab.workers);
  return step;
}

/** The file in the line that `pack` prints for the other nodes: its last word. */
export function bundleIn(screen: string): string | undefined {
  return /hand-over\.ts unpack (?:--[\w-]+ \S+ )*(?:-- )?(\S+)/.exec(screen)?.[1];
}

/** `pack` asks twice, `unpack` once; what is typed too much is not read. */
export function withPassphrase(command: string): string {
  if (!/hand-over\.ts (pack|unpack)/.test(command) || /--(passphrase-file|identity|to)\b/.test(command))
    return command;
  return `yes "${PASSPHRASE}" | head -2 | script -qec "${command}" /dev/null`;
}

async function carry(
  { scene, typed, lost }: Operator,
  from: Machine,
  file: string,
  to: Machine[],
): Promise<undefined> {
  for (const node of to.filter((other) => other !== from && !lost.has(other.name))) {
    scene.say(`the operator carries ${file} from ${from.name} to ${node.name}`);
    typed.push(`laptop: scp ${from.name}:${file} ${node.name}:`);
    await carryFile(from, node, file);
  }
}

function screenOf({ stdout, stderr }: Step): string {
  return Bun.stripANSI(`${stdout}\n${stderr}`).replaceAll("\r", "");
}

/** What this screen names comes first; what was planned already keeps its place, in its newer words. */
function takeUp(operator: Operator, { node, command }: Todo, step: Step) {
  const screen = screenOf(step);
  // while it waits, a script names the way on without each node that it waits for: none of them is lost for
  // that
  const said = screen.replace(/^ *still waiting for .*$/gm, "");
  for (const [, names] of said.matchAll(/--lost ([\w.,-]+)/g))
    for (const name of names!.split(",")) operator.lost.add(name);
  operator.beforePart4 ??= /^ {2}(kubectl .*delete node .*)$/m.exec(screen)?.[1];
  const named = todosOn(operator, node, screen, step.exitCode).filter((todo) => !isDone(operator, todo));
  const isOutdated = (todo: Todo) =>
    command.includes("00-assess") && todo.node === node && !todo.command.includes("00-assess");
  const plan = operator.plan.filter((todo) => !isOutdated(todo));
  let place = 0;
  for (const todo of named) {
    const known = plan.findIndex((other) => isSame(todo, other));
    if (known === -1) plan.splice(place++, 0, todo);
    else {
      plan[known] = todo;
      place = Math.max(place, known + 1);
    }
  }
  operator.plan = plan.filter((todo) => !operator.lost.has(todo.node.name));
}

/** Whether two are the same script and word on one node: the newer counts. */
function isSame(a: Todo, b: Todo): boolean {
  return a.node === b.node && wordsOf(a) === wordsOf(b);
}

function wordsOf({ command }: Todo): string {
  return /^\.\/bunw \S+( (open|close|retire|pack|unpack|memory|secret)\b)?/.exec(command)?.[0] ?? command;
}

function isDone({ typed, stops }: Operator, { node, command }: Todo): boolean {
  const line = `${node.name}: ${command.replace(BUNW, "")}`;
  const isLine = (one: string) => one === line || (/0[12]-/.test(command) && one.startsWith(`${line} --`));
  return (
    !command.startsWith(VERIFY) &&
    typed.some((one) => isLine(one) && !stops.some((stop) => stop.startsWith(`${one}: `)))
  );
}

function todosOn(operator: Operator, node: Machine, screen: string, exitCode: number): Todo[] {
  const pasted = screen
    .split("\n")
    .filter((line) => /^\s*\.\/bunw scripts\/(03-join\.ts|hand-over\.ts unpack) /.test(line));
  return [
    ...pasted.flatMap((line) =>
      on(operator, line.includes("03-join") ? "the other workers" : "the others", line.trim()),
    ),
    ...phrasesOn(screen, exitCode).flatMap((phrase) =>
      phrase === "the scp lines above"
        ? scpLines(screen).map((line) => ({ node, command: line }))
        : inPhrase(operator, node, phrase),
    ),
  ];
}

/** Stopped, or refused: both have a hint. */
function isStop(exitCode: number): boolean {
  return exitCode === 1 || exitCode === 3;
}

const SCP = /^\s*(scp -p (\S+) root@([\w.-]+):(\S+))/;

function scpLines(screen: string): string[] {
  return screen.split("\n").flatMap((line) => SCP.exec(line)?.[1] ?? []);
}

/**
 * What to do next, by the three places where a screen says it: a list, the last line, a hint. Nobody has the
 * certificate key, or a backup.
 */
function phrasesOn(screen: string, exitCode: number): string[] {
  const list = (/\nnext\n((?: {2}.*\n?)+)/.exec(screen)?.[1] ?? "").split("\n");
  const last =
    /^done\. {2}next: (.*)$/m.exec(screen)?.[1] ??
    (exitCode === 2 && /^if they are nowhere: (.*)$/m.exec(screen)?.[1]);
  const hint = (isStop(exitCode) && /^hint: (.*(?:\r?\n {2}.*)*)/m.exec(screen)?.[1]) || "";
  const ways = hint.split(/\r?\n {2}/);
  const instead = /if nobody has (?:it|that key): (.*)$/i;
  return [
    ...list.map((line) => instead.exec(line)?.[1] ?? line.replace(/ +# .*/, "").trim()),
    last || "",
    ways.map((way) => instead.exec(way)?.[1]).find(Boolean) ?? ways.join(". "),
  ].flatMap((line) => line.split(", then "));
}

const CALLED: Record<string, string> = {
  "part 1": `${BUNW}01-etcd.ts`,
  "part 2": `${BUNW}02-control-plane.ts`,
};
const COMMAND = heldOr(/\.\/bunw scripts\/[\w-]+\.ts(?: (?!on\b|on$)[\w./=:-]+(?:,[\w.-]+)*)*/);

function inPhrase(operator: Operator, node: Machine, phrase: string): Todo[] {
  const named = /^(part 1|part 2|the same) on (.+?)(?: where it is not done yet)?$/.exec(phrase);
  if (named)
    return on(
      operator,
      named[2]!,
      CALLED[named[1]!] ?? `${BUNW}${operator.typed.at(-1)!.replace(/^\w+: /, "")}`,
    );
  const there = /^on ([^:]+): (.+)$/.exec(phrase);
  const command = COMMAND.exec(there?.[2] ?? phrase)?.[0].trim();
  // pack prints the line with the name of its file
  if (!command || / (FILE|where|on|here)\b/.test(command)) return [];
  if (there) return on(operator, there[1]!, inLab(command));
  // what asks the whole cluster is typed once; a lost node prints what is to be typed on another one
  const isForFirst =
    /03-workers.ts open|04-sa-tokens.ts(?! retire)|05-verify/.test(command) ||
    command.includes(`--lost ${node.nodeName}`);
  return [{ node: isForFirst ? operator.first : node, command: inLab(command) }];
}

/** In the lab no command reads a disk: it is the disk of this machine. */
function inLab(command: string): string {
  return command
    .replace(/--deep$/, "--deep --no-disk")
    .replace(/(00-salvage\.ts)(?! memory| secret)/, "$1 memory");
}

function on({ scene: { lab }, first, lost }: Operator, words: string, command: string): Todo[] {
  const places: Record<string, Machine[]> = {
    "each control plane node": lab.controlPlanes,
    "the others": lab.controlPlanes.filter((node) => node !== first),
    "the other workers": lab.workers,
    "the first": [first],
  };
  const nodes =
    places[
      words.replace(/^another control plane node.*/, "the first").replace(/ that open has named$/, "")
    ] ?? lab.nodes.filter(({ name }) => words.split(/, | and /).includes(name));
  return nodes.filter(({ name }) => !lost.has(name)).map((node) => ({ node, command }));
}
