/** A plan as Markdown: for a terminal, a printer, a wiki. */
import { listed, shortLine } from "../plain.ts";
import { VERSION } from "../run.ts";
import { inText, type Line } from "./by-hand.ts";
import { KIT_PLACE } from "./kit-place.ts";
import { ROOT } from "./login.ts";
import type { Plan, PlanPart, SeenStep } from "./make-plan.ts";
import type { Note } from "./note.ts";
import { inSentences, isSeenDone } from "./observations.ts";
import type { PlanStep } from "./step-order.ts";

export function planAsMarkdown(plan: Plan): string {
  return [...head(plan), ...plan.parts.flatMap((one) => part(one, plan))].join("\n");
}

/** Our sentences may hold names and words of others: no character of theirs makes a link, code or a table. */
export function escaped(text: string): string {
  return shortLine(text).replaceAll(/[\\`*_[\]<>|#~]/g, "\\$&");
}

function head(plan: Plan): string[] {
  const { cluster, kubernetes, made, aim, nodes, lost, away, anew } = plan;
  const of = cluster ? ` for the cluster ${escaped(cluster)}` : "";
  const release = kubernetes ? `; Kubernetes ${escaped(kubernetes)}` : "";
  const lines = [
    ...[`# The plan${of}`, ""],
    `kube-pki-repair ${VERSION} made it on ${escaped(plan.node)}, ${made.toISOString().slice(0, 19)}Z${release}. ${escaped(plan.looked.join(". "))}.`,
    ...["", `**${escaped(aim ?? plan.verdict)}**`, ""],
  ];
  if (plan.ownVerdict) lines.push(`00-assess: ${escaped(plan.ownVerdict)}`, "");
  if (plan.parts.length > 0) lines.push(...howTo(plan), "");
  lines.push(...listOfNodes(nodes));
  if (lost.length > 0) lines.push(`- ${LOST}: ${escaped(listed(lost))}`);
  if (away.length > 0) lines.push(`- ${AWAY}: ${escaped(listed(away))}`);
  const unknown = nodes.filter(({ why }) => why);
  if (unknown.length > 0) lines.push("");
  for (const { address, why } of unknown)
    lines.push(`- ${address}: write its address in yourself. ${escaped(why!)}`);
  if (anew.length > 0) lines.push("", `${ANEW_AT_ANY_TIME}:`, "", fence(anew));
  return [...lines, ...plan.first.flatMap(note), ""];
}

export const ANEW_AT_ANY_TIME = "Make this plan again at any time, as a page; it says what is left then";

const PROOF = 5;

export function estimateOf({ seconds, parts }: Plan): string | undefined {
  return parts.some(({ number }) => number === PROOF) ? span(seconds) : undefined;
}

/** One way first; by hand stands below it. */
export function howTo(plan: Plan): string[] {
  const { user } = plan;
  const [first] = plan.nodes;
  const lasts = `All commands up to the proof take about **${estimateOf(plan)}**: an estimate, from rehearsals on two cores.`;
  const sudo = `Lines for your machine log in as \`${user}\`, who may use sudo there without a password (if not: RUNBOOK-MORE.md, "Where sudo asks for a password").`;
  return [
    ...(first
      ? [
          `**One command follows this plan, and asks you what has to be decided. On your machine: \`npm run repair -- ${user}@${first.address}\`.**`,
        ]
      : []),
    ...(estimateOf(plan) ? [lasts] : []),
    `By hand: type each line in a root shell of the node that stands above it, in \`${KIT_PLACE}\`.`,
    "Your machine is one that reaches the nodes by ssh. ssh may ask about a host key. Answer yes only if the address that it shows is that node's.",
    ...(user === ROOT ? [] : [sudo]),
    "Each line up to the proof may be repeated. Continue with the next step when one has finished as it says, with exit code 0 unless it names another: `echo $?` shows it.",
    "Letters may be missing (0a, 0c): this plan does not need those steps. Scripts print step numbers of their own, such as 1.4.",
  ];
}

function listOfNodes(nodes: Plan["nodes"]): string[] {
  const roles = [...new Set(nodes.map(({ role }) => role))];
  return roles.map((role) => {
    const those = nodes.filter((one) => one.role === role).map(({ name, address }) => `${name} (${address})`);
    return `- ${role}${those.length > 1 ? "s" : ""}: ${listed(those)}`;
  });
}

export const LOST = "lost for good: nothing is typed there";
export const AWAY = "away for now: nothing is typed there, nobody waits for it, and its pods are evicted";

function note(one: Note): string[] {
  return ["", `> ${escaped(one.text)}`, ...(one.commands.length > 0 ? ["", fence(one.commands)] : [])];
}

function part({ number, title, notes, steps, why, undo, hasTable }: PlanPart, { anew }: Plan): string[] {
  if (why) return [`## ${number} ${title}`, "", `Not needed: ${why}.`, ""];
  const end = [
    ...(undo ? [`**Undo.** ${undo}`] : []),
    ...(hasTable ? [ifItStops(number)] : []),
    ...(anew.length > 0 ? [ANEW] : []),
  ].join(" ");
  return [`## ${number} ${title}`, ...notes.flatMap(note), "", ...steps.flatMap(stepLines), end, ""];
}

export function ifItStops(part: number): string {
  return `**A step stops?** Its hint says what to do; RUNBOOK.md ${part} lists causes.`;
}

export const ANEW = "**It went otherwise?** Make the plan again, by the lines at the top.";

function stepLines(step: SeenStep): string[] {
  return [
    `### [${isSeenDone(step) ? "x" : " "}] ${step.number}: ${step.does}, ${where(step)}`,
    fence(step.lines),
    `${about(step).join(". ")}.`,
    "",
  ];
}

export function where({ way, on, sideBySide }: PlanStep): string {
  return `${way} ${listed(on)}${sideBySide ? " (side by side)" : ""}`;
}

/** "irreversible: …" begins a sentence. */
export function asSentence(text: string): string {
  return `${text[0]!.toUpperCase()}${text.slice(1)}`;
}

function about(step: SeenStep): string[] {
  const { observations, note, costs, ends, exit, makesVoid } = step;
  const lines = [...inSentences(observations).map(escaped), ...(note ? [note] : []), `Costs: ${costs}`];
  lines.push(...(step.irreversible ?? []).map(asSentence));
  if (makesVoid.length > 0) lines.push(repeatsOf(step));
  if (durationOf(step)) lines.push(`Takes ${durationOf(step)}`);
  if (ends) lines.push(`Ends in \`${ends}\``);
  if (exit.some((code) => code > 0)) lines.push(`Exit code ${exit.join(" or ")}`);
  return lines;
}

export function repeatsOf({ makesVoid }: Pick<PlanStep, "makesVoid">): string {
  return `If you repeat this step, repeat ${makesVoid.join(" and ")}, too`;
}

/** "about 2 to 20 s a node (it copies etcd's data once)"; "" where it takes no time. */
export function durationOf({ seconds, longer, on }: PlanStep): string {
  if (seconds[1] <= 1) return "";
  return `about ${span(seconds)}${on.length > 1 ? " a node" : ""}${longer ? ` (${longer})` : ""}`;
}

/** "2 to 20 s", "1 to 4 minutes". */
function span([least, most]: readonly [number, number]): string {
  if (most <= 90) return `${least} to ${most} s`;
  const minutes = (seconds: number) => Math.max(1, Math.round(seconds / 60));
  return minutes(least) === minutes(most)
    ? `${minutes(most)} minutes`
    : `${minutes(least)} to ${minutes(most)} minutes`;
}

function fence(lines: readonly Line[]): string {
  return ["```sh", ...inText(lines), "```"].join("\n");
}
