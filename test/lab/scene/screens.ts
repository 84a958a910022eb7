/**
 * An operator who reads nothing but the screens: what they name is typed, on the node that they name. Of the older screens he remembers what
 * is still to be done; the newest screen of a node counts. A command that fails is a wrong turn, and its hint comes next.
 */
import { Fail } from "../../../shared/fail.ts";
import type { Machine } from "../machine/machine.ts";
import type { Step } from "../report/rehearsal.ts";
import { carryFile } from "./follow.ts";
import { restartBarePods } from "./printed.ts";
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
  wrongTurns: string[];
  plan: Todo[];
  /** The newest line of part 2 with this beginning: it says when it is typed. */
  later: string[];
}

const BUNW = "./bunw scripts/";
const VERIFY = `${BUNW}05-verify.ts`;
/** No repair of five nodes needs so many. */
const MANY = 70;
const PASSPHRASE = "four words of the phone call";

export function operatorAt(scene: Scene): Operator {
  const first = scene.lab.controlPlanes[0]!;
  return { scene, first, lost: new Set(), typed: [], wrongTurns: [], plan: [], later: [] };
}

/** Types this, then what is printed, until 05-verify is green on the first node. Errors: Fail where the screens lead in a circle, or nowhere. */
export async function followScreens(operator: Operator, command: string) {
  const { first, plan } = operator;
  plan.push({ node: first, command });
  for (let todo = plan.shift(); todo; todo = plan.shift()) {
    if (operator.typed.length > MANY) throw nowhere(operator, "the screens lead in a circle");
    const step = await typeAt(operator, todo);
    if (todo.command.startsWith(VERIFY) && todo.node === first && step.exitCode === 0) return;
    takeUp(operator, todo, step);
    if (plan.length === 0) throw nowhere(operator, "the screens name nothing more");
  }
}

function nowhere({ typed }: Operator, why: string) {
  return new Fail(`${why}, after: ${typed.slice(-8).join("; ")}`, { hint: "look at what they printed, in the record" });
}

/** One command, as typed; passphrases are typed on a terminal. */
export async function typeAt(operator: Operator, { node, command }: Todo): Promise<Step & { raw: string }> {
  const { scene, first, typed } = operator;
  typed.push(`${node.name}: ${command.replace(BUNW, "")}`);
  const asks = /hand-over\.ts (pack|unpack)/.test(command) && !/--(passphrase-file|identity|to|generate)/.test(command);
  const line = asks ? `yes "${PASSPHRASE}" | head -2 | script -qec "${command}" /dev/null` : command;
  const step = await type(scene, node, line, { exit: [0, 1, 2], part: command.includes("04-sa-tokens") ? 4 : undefined });
  if (command.includes("04-sa-tokens") && step.stderr.includes("not restarted: ")) await restartBarePods(scene);
  if (command.includes("hand-over.ts pack")) await carryAll(operator, node, fileIn(step), scene.lab.controlPlanes);
  if (command.includes("03-workers.ts open")) await carryAll(operator, first, "token", scene.lab.workers);
  if (step.exitCode === 1) operator.wrongTurns.push(`${typed.at(-1)}: ${reasonIn({ ...step, stderr: screenOf(step) })}`);
  return step;
}

async function carryAll({ scene, typed, lost }: Operator, from: Machine, file: string, to: Machine[]) {
  for (const node of to.filter((other) => other !== from && !lost.has(other.name))) {
    scene.say(`the operator carries ${file} from ${from.name} to ${node.name}`);
    typed.push(`laptop: scp ${from.name}:${file} ${node.name}:`);
    await carryFile(from, node, file);
  }
}

function fileIn(step: Step): string {
  return /hand-over\.ts unpack (\S+)/.exec(screenOf(step))?.[1] ?? "shared-keys.age";
}

function screenOf({ stdout, stderr }: Step): string {
  return `${stdout}\n${stderr}`.replaceAll("\r", "");
}

/** Puts what this screen names in front of what is still to be done. */
function takeUp(operator: Operator, { node, command }: Todo, step: Step) {
  const screen = screenOf(step);
  for (const name of [...screen.matchAll(/--without ([\w.,-]+)/g)].flatMap(([, names]) => names!.split(","))) operator.lost.add(name);
  operator.later.push(...screen.split("\n").filter((line) => /^ {2}(kubectl|tar|kubeadm|\.\/bunw scripts\/join-again)\b/.test(line)));
  const { plan } = operator;
  const named = todosIn(operator, node, screen, step.exitCode).flatMap((todo) => (isDone(operator, todo) ? [] : [todo]));
  if (command.includes("00-assess"))
    operator.plan = plan.filter((todo) => todo.node !== node || todo.command.startsWith(`${BUNW}00-assess`));
  const rest = operator.plan.filter((todo) => !named.some((other) => same(todo, other)));
  operator.plan.splice(0, operator.plan.length, ...named, ...rest.filter((todo) => !operator.lost.has(todo.node.name)));
}

/** Of two with the same script and word on one node the newer counts; what asks the whole cluster is typed once. */
function same(a: Todo, b: Todo): boolean {
  const word = ({ command }: Todo) =>
    command
      .split(" ")
      .slice(0, /03-workers|04-sa|hand-over/.test(command) ? 3 : 2)
      .join(" ");
  return word(a) === word(b) && (a.node === b.node || /03-workers.ts open|04-sa-tokens.ts$|05-verify/.test(word(a)));
}

function isDone({ typed }: Operator, { node, command }: Todo): boolean {
  return !/05-verify/.test(command) && typed.includes(`${node.name}: ${command.replace(BUNW, "")}`);
}

function todosIn(operator: Operator, node: Machine, screen: string, exitCode: number): Todo[] {
  const lines = (/\nnext\n((?: {2}.*\n?)+)/.exec(screen)?.[1] ?? "").split("\n");
  const done = /^done\. {2}next: (.*)$/m.exec(screen)?.[1];
  const nowhereElse = exitCode === 2 ? /^if they are nowhere: (.*)$/m.exec(screen)?.[1] : undefined;
  const hint = exitCode === 1 ? /^hint: (.*)$/m.exec(screen)?.[1] : undefined;
  const pasted = screen.split("\n").filter((line) => /^\s*\.\/bunw scripts\/(03-workers\.ts join|hand-over\.ts unpack) /.test(line));
  const phrases = [...lines.flatMap(unconditional), ...(done ?? nowhereElse ?? "").split(", then "), ...(hint ? [hint] : [])];
  return [
    ...pasted.flatMap((line) => (line.includes("join") ? on(operator, "the other workers", line) : on(operator, "others", line))),
    ...phrases.flatMap((phrase) => inPhrase(operator, node, phrase)),
  ].map((todo) => ({ ...todo, command: todo.command.trim() }));
}

/** Nobody has the certificate key of the Secret kubeadm-certs, and there is no backup. */
function unconditional(line: string): string[] {
  const instead = /(?:if nobody has that key|if the keys are lost there as well): (.*)$/.exec(line)?.[1];
  if (instead) return instead.split(", then ").map((one) => one.replace(/^(?!\.\/)(0)/, `${BUNW}$1`));
  if (line.includes("00-salvage.ts secret") || line.includes("hand-over.ts unpack FILE")) return [];
  return line
    .replace(/ +# .*/, "")
    .trim()
    .split(", then ");
}

const CALLED: Record<string, string> = { "part 1": `${BUNW}01-etcd.ts`, "part 2": `${BUNW}02-control-plane.ts` };

function inPhrase(operator: Operator, node: Machine, phrase: string): Todo[] {
  const named = /^(part 1|part 2|the same|unpack it) on (.+?)(?: where it is not done yet)?$/.exec(phrase);
  if (named?.[1] === "unpack it") return []; // pack prints the line
  if (named?.[1] === "the same") return on(operator, named[2]!, operator.typed.at(-1)!.replace(/^\w+: /, BUNW));
  if (named) return on(operator, named[2]!, CALLED[named[1]!]!);
  const there = /^on ([^:]+): (.+)$/.exec(phrase.trim());
  const command = /systemctl stop kubelet|kubectl [^;]+|\.\/bunw scripts\/[^#;,:]*(?:,[\w.-][^#;,:]*)*/.exec(there?.[2] ?? phrase)?.[0];
  if (!command || / FILE|where the keys are|<|…/.test(command)) return [];
  // what a lost node prints is for the others
  const at = command.includes(`--without ${node.name}`) ? operator.first : node;
  return there ? on(operator, there[1]!, command) : [{ node: at, command }];
}

function on({ scene: { lab }, first, lost }: Operator, words: string, command: string): Todo[] {
  const others = lab.controlPlanes.filter((node) => node !== first);
  const places: Record<string, Machine[]> = { "each control plane node": lab.controlPlanes, "the other workers": lab.workers, others };
  const nodes = places[words] ?? lab.nodes.filter(({ name }) => words.split(/, | and /).includes(name));
  return nodes.filter(({ name }) => !lost.has(name)).map((node) => ({ node, command }));
}
