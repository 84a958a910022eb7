/**
 * The one screen before anything is done: what happened on which node, what will be done, how long it takes, how long the
 * API is away, what it costs and what cannot be taken back. All of it comes from the plan, which has looked.
 */
import { listed } from "../plain.ts";
import type { PlanData, StepData } from "../plan/plan-answer.ts";
import { answer } from "../run.ts";

const LATER = ["remove", "verify-again", "remove-kit"];

export function openSteps({ parts }: PlanData): StepData[] {
  return parts.flatMap(({ steps }) => steps.filter(({ isDone }) => !isDone));
}

export function isForLater({ task }: StepData): boolean {
  return task !== undefined && LATER.includes(task);
}

/** Part 6: behind the proof. */
function isOfEnd({ number }: StepData): boolean {
  return number.startsWith("6");
}

/** `silent`: name of a node → why it has let nobody in. */
export function showFirstPage(plan: PlanData, silent: ReadonlyMap<string, string>) {
  const { cluster, kubernetes, nodes, aim, verdict } = plan;
  const roles = (role: RegExp) => nodes.filter((node) => role.test(node.role)).length;
  answer("");
  answerProse([
    `${cluster ?? "this cluster"}${kubernetes ? `, Kubernetes ${kubernetes}` : ""}: ${counted(roles(/control plane/), "control plane node")}, ${counted(roles(/worker/), "worker")}`,
  ]);
  showRows(plan, silent);
  answerProse(["", `${aim ?? verdict}`, ...plan.notes.map((note) => `  note: ${note}`)]);
}

/** Sentences; a narrow terminal breaks them between words. */
function answerProse(lines: readonly string[], hang = 4) {
  for (const line of lines) answer(line, undefined, hang);
}

function counted(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

const MOST_ROWS = 20;

function showRows({ nodes, lost, away }: PlanData, silent: ReadonlyMap<string, string>) {
  const longest = Math.max(...nodes.map(({ name }) => name.length), 0);
  const rows = [
    ...nodes.map(({ name, said, why }) => {
      const reason = silent.has(name) ? `: ${silent.get(name)}` : "";
      return `  ${name.padEnd(longest)}  ${said ?? why ?? "not looked at"}${reason}`;
    }),
    ...lost.map((name) => `  ${name.padEnd(longest)}  lost for good, as was said: nothing is typed there`),
    ...away.map((name) => `  ${name.padEnd(longest)}  away for now, as was said: nothing is typed there`),
  ];
  const more = rows.length - MOST_ROWS;
  answerProse(rows.slice(0, MOST_ROWS), longest + 4);
  if (more > 0) answer(`  and ${more} more nodes`);
}

/** The steps up to the proof, each with its cost. Returns the sentences about what cannot be taken back. */
export function showSteps(plan: PlanData): string[] {
  const steps = openSteps(plan).filter((step) => !isOfEnd(step));
  const { apiAway } = plan;
  const api = apiAway
    ? ` The API is unavailable for ${span(apiAway.seconds)}, from step ${apiAway.from} to step ${apiAway.until}.`
    : "";
  const irreversible = [
    ...new Set(steps.flatMap((step) => step.irreversible.map((text) => `${step.number}: ${text}`))),
  ];
  answer("");
  answerProse([`${steps.length} steps up to the proof, ${span(plan.seconds)}.${api}`], 2);
  // below what the step does
  answerProse(steps.map(stepLine), 8);
  answerProse([
    ...(irreversible.length > 0 ? irreversible.map((text) => `  ! ${text}`) : ["Irreversible: nothing."]),
    "What is replaced stays in /root/kube-pki-repair-TIME of each node, until you remove it.",
  ]);
  return irreversible;
}

function stepLine({ number, does, on, costs, irreversible }: StepData): string {
  const cost = costs.startsWith("nothing") ? "" : `: ${costs}`;
  return `  ${irreversible.length > 0 ? "!" : " "} ${number}  ${does} (${listed(on)})${cost}`;
}

/** "14 to 106 s", "1 to 7 minutes". */
export function span([least, most]: readonly [number, number]): string {
  if (most <= 120) return `${least} to ${most} s`;
  const minutes = (seconds: number) => Math.max(1, Math.round(seconds / 60));
  return minutes(least) === minutes(most)
    ? `about ${minutes(most)} minutes`
    : `${minutes(least)} to ${minutes(most)} minutes`;
}
