/** A repair by what the scripts themselves print, from 00-assess on: as by an operator who has nothing else to read. */
import type { Assessment } from "../../../shared/assess/report.ts";
import { Fail } from "../../../shared/fail.ts";
import { kubectl, type Machine } from "../machine/machine.ts";
import { NAMESPACES } from "../machine/workloads.ts";
import type { Step } from "../report/rehearsal.ts";
import { carryFile } from "./follow.ts";
import { type Scene, type } from "./scene.ts";

/** What 00-assess says on a node. */
export async function assessed(scene: Scene, node: Machine): Promise<Assessment> {
  const step = await type(scene, node, "./bunw scripts/00-assess.ts --json", { exit: [0, 2] });
  if (step.ok) return JSON.parse(step.raw) as Assessment;
  throw new Fail(`00-assess cannot look at ${node.name}: ${reasonIn(step)}`, { hint: "run it there by hand, with --keep" });
}

export interface Followed {
  /** Without what is the same in all of them: "01-etcd --new-internal-cas". */
  typed: string[];
  /** Why it ended before 05-verify was green, with the hint. */
  refused?: string;
}

/** No repair needs so many commands: they would go round in circles. */
const MANY = 25;

/** Types the first of these commands, then what it prints, and so on, up to 05-verify. What belongs to workers is typed there. */
export async function followPrinted(scene: Scene, printed: readonly string[]): Promise<Followed> {
  const typed: string[] = [];
  let todo = [...printed.flatMap(commandIn), VERIFY];
  let withoutKey: string[] = [];
  for (let command = todo.shift(); command; command = todo.shift()) {
    if (typed.length === MANY) return { typed, refused: `goes round in circles: ${typed.join(", ")}` };
    typed.push(shortened(command));
    const step = await typeWhereMeant(scene, command);
    if (command === VERIFY) return step.exitCode === 0 ? { typed } : { typed, refused: failuresIn(step) };
    const next = command.startsWith(OPEN_SECRET) && step.exitCode === 1 ? withoutKey : nextIn(step);
    if (command.includes("--deep")) withoutKey = (JSON.parse(step.raw) as Assessment).next.flatMap(ifNobodyHasTheKey);
    if (next.length > 0) todo = next;
    else if (!step.ok) return { typed, refused: reasonIn(step) };
    else if (todo.length === 0) todo = [VERIFY];
  }
  return { typed };
}

/** A whole repair of the first control plane node by what is printed there, and whether it came to its end, as a check. */
export async function repairByPrinted(scene: Scene) {
  const { next } = await assessed(scene, scene.lab.controlPlanes[0]!);
  const { typed, refused } = await followPrinted(scene, next);
  scene.checks.push({ name: "what the scripts print repairs it", ok: !refused, detail: refused ?? typed.join(", ") });
}

const VERIFY = "./bunw scripts/05-verify.ts";
const COMMAND =
  /systemctl stop kubelet|\.\/bunw scripts\/[\w-]+\.ts(?: (?:open|close|retire|memory|secret|--new-cas|--new-internal-cas|--move-aside|--deep|--without [\w.-]+(?:,[\w.-]+)*)\b)*/;

const OPEN_SECRET = "./bunw scripts/00-salvage.ts secret";
const WITHOUT_KEY = "if nobody has that key: ";

/** Here nobody has the certificate key of the Secret kubeadm-certs any more. */
function ifNobodyHasTheKey(line: string): string[] {
  return line.startsWith(WITHOUT_KEY) ? line.slice(WITHOUT_KEY.length).split(", then ") : [];
}

/** The command in a printed line; in the lab nothing reads a disk, which is the machine's own. */
function commandIn(line: string): string[] {
  const command = COMMAND.exec(line)?.[0];
  if (!command || line.startsWith(WITHOUT_KEY)) return [];
  return [command.replace("--deep", "--deep --no-disk --json").replace(/(00-salvage\.ts)(?! memory| secret)/, "$1 memory")];
}

const JOIN = "./bunw scripts/03-workers.ts join";

async function typeWhereMeant(scene: Scene, command: string): Promise<Step & { raw: string }> {
  const { controlPlanes, workers } = scene.lab;
  const cp = controlPlanes[0]!;
  // 2 is an answer of 00-assess, 00-salvage and 05-verify, 1 where nobody has the certificate key; whoever follows looks at what it was.
  const options = {
    exit: command.startsWith(OPEN_SECRET) ? [0, 1, 2] : [0, 2],
    part: command.includes("04-sa-tokens") ? 4 : undefined,
  };
  if (!command.startsWith(JOIN)) {
    const step = await type(scene, cp, command, options);
    // What 4.7 leaves for people: pods that nothing makes anew.
    if (command.endsWith("04-sa-tokens.ts") && step.stderr.includes("not restarted: ")) await restartBarePods(scene);
    return step;
  }
  for (const worker of workers) await carryFile(cp, worker, "token");
  const steps = [];
  for (const worker of workers) steps.push(await type(scene, worker, command, options));
  return steps.find(({ ok }) => !ok) ?? steps.at(-1)!;
}

/** The commands that a script gives for what comes after it. */
function nextIn({ command, exitCode, stdout, stderr, raw }: Step & { raw: string }): string[] {
  if (command.includes("00-assess")) return exitCode === 2 ? (JSON.parse(raw) as Assessment).next.flatMap(commandIn) : [];
  const join = stdout.split("\n").find((line) => line.trim().startsWith(JOIN));
  if (join) return [join.trim()];
  const line = /^done\. {2}next: (.*)$/m.exec(stderr)?.[1] ?? (exitCode === 2 && /^if they are nowhere: (.*)$/m.exec(stderr)?.[1]);
  return line ? commandIn(line) : [];
}

function reasonIn({ exitCode, stderr }: Step): string {
  const [, error, hint] = /^error: (.*)\nhint: (.*)$/m.exec(stderr) ?? [];
  return error ? `${error} (hint: ${hint})` : `exit ${exitCode}, without a reason`;
}

function failuresIn({ stdout, stderr }: Step): string {
  const failed = stdout.split("\n").filter((line) => line.startsWith("  failed "));
  return `05-verify: ${failed.map((line) => line.trim()).join("; ") || stderr.trim().split("\n").at(-1)}`;
}

function shortened(command: string): string {
  return command
    .replace("./bunw scripts/", "")
    .replace(/\.ts\b/, "")
    .replace(/ --no-disk --json$/, "")
    .replace(/(03-workers join) .*/, "$1");
}

export async function restartBarePods({ lab }: Scene) {
  for (const namespace of NAMESPACES) {
    const { stdout } = await kubectl(lab, ["get", "pod", "bare", "-n", namespace, "-o", "json"]);
    await kubectl(lab, ["replace", "--force", "-f", "-"], stdout);
  }
}
