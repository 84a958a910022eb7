/** A repair by what the scripts print, from 00-assess on: by an operator who reads nothing else. */
import type { AssessmentJson } from "../../../shared/assess/assessment.ts";
import { HOLD } from "../../../shared/facts/course.ts";
import { Fail } from "../../../shared/fail.ts";
import { kubectl, type Machine } from "../machine/machine.ts";
import { NAMESPACES } from "../machine/workloads.ts";
import type { Step } from "../report/rehearsal.ts";
import { carryFile, TOKENS } from "./follow.ts";
import { reasonIn, type Scene, type } from "./scene.ts";

/** What 00-assess says on a node. */
export async function assessed(scene: Scene, node: Machine): Promise<AssessmentJson> {
  const step = await type(scene, node, "./bunw scripts/00-assess.ts --json", { exit: [0, 2] });
  if (step.ok) return JSON.parse(step.raw) as AssessmentJson;
  throw new Fail(`00-assess cannot look at ${node.name}: ${reasonIn(step)}`, {
    hint: "run it there by hand, with --keep",
  });
}

export interface Followed {
  /** Without the part that all commands share: "01-etcd --new-internal-cas". */
  typed: string[];
  /** Why it stopped before 05-verify was green, with the hint. */
  refused?: string;
}

/** No repair needs so many commands: then the hints lead in a circle. */
const MANY = 25;

/**
 * Types the first of these commands, then what it prints, and so on, until 05-verify. Commands for workers
 * are typed there.
 */
export async function followPrinted(scene: Scene, printed: readonly string[]): Promise<Followed> {
  const typed: string[] = [];
  let todo = [...printed.flatMap(commandIn), VERIFY];
  let withoutKey: string[] = [];
  for (let command = todo.shift(); command; command = todo.shift()) {
    if (typed.length === MANY) return { typed, refused: `the hints lead in a circle: ${typed.join(", ")}` };
    typed.push(shortened(command));
    const step = await typeWhereMeant(scene, command);
    if (command === VERIFY) return step.exitCode === 0 ? { typed } : { typed, refused: failuresIn(step) };
    const next = command.startsWith(OPEN_SECRET) && step.exitCode === 1 ? withoutKey : nextIn(step);
    if (command.startsWith(ASSESS))
      withoutKey = (JSON.parse(step.raw) as AssessmentJson).next.flatMap(ifNobodyHasTheKey);
    if (next.length > 0) todo = next;
    else if (!step.ok) return { typed, refused: reasonIn(step) };
    else if (todo.length === 0) todo = [VERIFY];
  }
  return { typed };
}

/**
 * Repairs the first control plane node by what is printed there. Errors: Fail where that does not lead to a
 * green 05-verify.
 */
export async function repairByPrinted(scene: Scene) {
  const { next } = await assessed(scene, scene.lab.controlPlanes[0]!);
  const { typed, refused } = await followPrinted(scene, next);
  if (refused)
    throw new Fail(`What the scripts print does not repair it: ${refused}`, {
      hint: "type it by hand, with --keep",
    });
  scene.checks.push({
    name: "what the scripts print repairs the cluster",
    ok: true,
    detail: typed.join(", "),
  });
}

const VERIFY = "./bunw scripts/05-verify.ts";
const KIT_LINE =
  /\.\/bunw scripts\/[\w-]+\.ts(?: (?:open|close|retire|memory|secret|--new-cas|--new-internal-cas|--move-aside|--deep|--(?:without|lost) [\w.-]+(?:,[\w.-]+)*)\b)*/;
const COMMAND = heldOr(KIT_LINE);

/** Part 0's own lines, or one of the kit's. */
export function heldOr(kitLine: RegExp): RegExp {
  return new RegExp([...HOLD.map(({ command }) => RegExp.escape(command)), kitLine.source].join("|"));
}

const ASSESS = "./bunw scripts/00-assess.ts";
const OPEN_SECRET = "./bunw scripts/00-salvage.ts secret";
const WITHOUT_KEY = "if nobody has that key: ";

/** In the lab nobody has the certificate key of the Secret kubeadm-certs. */
function ifNobodyHasTheKey(line: string): string[] {
  return line.startsWith(WITHOUT_KEY) ? line.slice(WITHOUT_KEY.length).split(", then ") : [];
}

/** The command in a printed line. In the lab no command reads a disk: it is the disk of this machine. */
function commandIn(line: string): string[] {
  const command = COMMAND.exec(line)?.[0];
  if (!command || line.startsWith(WITHOUT_KEY)) return [];
  const asJson = command.startsWith(ASSESS)
    ? `${command.replace("--deep", "--deep --no-disk")} --json`
    : command;
  return [asJson.replace(/(00-salvage\.ts)(?! memory| secret)/, "$1 memory")];
}

const JOIN = "./bunw scripts/03-join.ts";

async function typeWhereMeant(scene: Scene, command: string): Promise<Step & { raw: string }> {
  const { controlPlanes, workers } = scene.lab;
  const cp = controlPlanes[0]!;
  // 00-assess, 00-salvage and 05-verify answer with 2; 00-salvage ends with 1 where nobody has the
  // certificate key. The caller looks at the exit code.
  const options = {
    exit: command.startsWith(OPEN_SECRET) ? [0, 1, 2] : [0, 2],
    part: command.includes("04-sa-tokens") ? 4 : undefined,
  };
  if (!command.startsWith(JOIN)) {
    const step = await type(scene, cp, command, options);
    // 4.7 leaves these pods for you: no controller makes them again.
    if (command.endsWith("04-sa-tokens.ts") && step.stderr.includes("not restarted: "))
      await restartBarePods(scene);
    return step;
  }
  for (const worker of workers) await carryFile(cp, worker, TOKENS);
  const steps = [];
  for (const worker of workers) steps.push(await type(scene, worker, command, options));
  return steps.find(({ ok }) => !ok) ?? steps.at(-1)!;
}

/** The commands that a script prints as the next ones. */
function nextIn({ command, exitCode, stdout, stderr, raw }: Step & { raw: string }): string[] {
  if (command.startsWith(ASSESS))
    return exitCode === 2 ? (JSON.parse(raw) as AssessmentJson).next.flatMap(commandIn) : [];
  const join = stdout.split("\n").find((line) => line.trim().startsWith(JOIN));
  if (join) return [join.trim()];
  const line =
    /^done\. {2}next: (.*)$/m.exec(stderr)?.[1] ??
    (exitCode === 2 && /^if they are nowhere: (.*)$/m.exec(stderr)?.[1]);
  return line ? commandIn(line) : [];
}

function failuresIn({ stdout, stderr }: Step): string {
  const failed = stdout.split("\n").filter((line) => line.startsWith("  failed "));
  return `05-verify: ${failed.map((line) => line.trim()).join("; ") || stderr.trim().split("\n").at(-1)}`;
}

function shortened(command: string): string {
  return command
    .replace("./bunw scripts/", "")
    .replace(/\.ts\b/, "")
    .replace(/(?: --no-disk)? --json$/, "")
    .replace(/(03-join) .*/, "$1");
}

export async function restartBarePods({ lab }: Scene) {
  for (const namespace of NAMESPACES) {
    const { stdout } = await kubectl(lab, ["get", "pod", "bare", "-n", namespace, "-o", "json"]);
    await kubectl(lab, ["replace", "--force", "-f", "-"], stdout);
  }
}
