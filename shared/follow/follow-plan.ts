/**
 * From the first look to the proof: looks, asks what has to be decided, shows one screen, and then types one step after
 * the other. It finds out where it is by looking, so the same command continues after a stop, from any machine.
 */
import { exists } from "../files/files.ts";
import { listed, plainLine, quoteUntrusted } from "../plain.ts";
import type { DecisionData, NoPlanData, PlanData, StepData } from "../plan/plan-answer.ts";
import { answerLines, show, tell } from "../run.ts";
import { decideAll, optionsThatDecide } from "./decide.ts";
import { doAct } from "./do-act.ts";
import { isForLater, openSteps, showFirstPage, showSteps } from "./first-page.ts";
import { endIfStopping, Interrupted } from "./interrupted.ts";
import { repairLine } from "./kit-file.ts";
import { printLeftCommands } from "./left-by-hand.ts";
import { firstLook, lookAround, meetAll } from "./look-around.ts";
import { commandsLeftHere, stepsFromHere } from "./on-this-node.ts";
import type { Session } from "./session.ts";
import { chooseAtStop, nodesWords } from "./stop.ts";
import type { Stopped } from "./stopped.ts";

/** Exit codes of `repair`. */
export const ENDS = { repaired: 0, stopped: 1, bad: 2, waits: 3, interrupted: 130 } as const;
type RepairEnd = (typeof ENDS)[keyof typeof ENDS];

type Next = RepairEnd | "look again";

export async function repairAll(session: Session): Promise<RepairEnd> {
  try {
    for (;;) {
      const next = await lookAndFollow(session);
      if (next !== "look again") return next;
    }
  } catch (err) {
    if (!(err instanceof Interrupted)) throw err;
    answerLines(["", `Ended by Ctrl-C: nothing more is done. The same command continues: ${session.again}`]);
    return ENDS.interrupted;
  }
}

async function lookAndFollow(session: Session): Promise<Next> {
  const own = await firstLook(session);
  endIfStopping(session);
  if (own.ended !== "ok") return await withoutPlan(session, own);
  const held = await holdFirst(session, own);
  if (held !== undefined) return held;
  const plan = await lookAround(session, own);
  endIfStopping(session);
  if (plan.ended !== "ok") return await withoutPlan(session, plan);
  showFirstPage(plan, session.silent);
  const decided = await decided1(session, plan.decisions);
  if (decided !== undefined) return decided;
  if (plan.elsewhere) return await asked(session, "No step can be planned before that.");
  const steps = openSteps(plan).filter((step) => session.cleansUp || !isForLater(step));
  if (steps.length === 0 && plan.damaged && plan.parts.length === 0)
    return await asked(session, "No step can be planned before that.");
  if (steps.length === 0) {
    answerLines(["", "Nothing has to be done."]);
    return ENDS.repaired;
  }
  return (await begins(session, plan)) ?? (await followSteps(session, steps, plan.apiAway));
}

/** A plan that cannot be made may wait for a word; else the words of the node that makes it are the end. */
async function withoutPlan(
  session: Session,
  { message, hint, decisions = [], ended }: NoPlanData,
): Promise<Next> {
  if (decisions.length > 0) return (await decided1(session, decisions)) ?? "look again";
  const { name, isHere } = session.first;
  if (isHere) show(plainLine(message), `${plainLine(hint)}${ofOwnMachine()}`);
  else
    answerLines([
      "",
      `${name} makes no plan: ${quoteUntrusted(message)}`,
      nodesWords(name, quoteUntrusted(hint)),
    ]);
  return ended === "refused" ? ENDS.waits : ENDS.stopped;
}

/** The operator's own machine has no kubelet: there the line needs a node. */
function ofOwnMachine(): string {
  if (exists("/var/lib/kubelet")) return "";
  return `. If this is your own machine, name a control plane node: ${repairLine("root@NODE")}`;
}

/** Returns undefined if all questions are decided, and the plan is still valid. */
async function decided1(session: Session, decisions: readonly DecisionData[]): Promise<Next | undefined> {
  if (decisions.length === 0) return undefined;
  const decided = await decideAll(session, decisions);
  endIfStopping(session);
  if (decided === "changed") return "look again";
  if (decided === "end") return ENDS.stopped;
  if (decided === "continue") return undefined;
  const options = optionsThatDecide(decisions).map((line) => `  ${plainLine(line)}`);
  answerLines(["", "Nobody has decided. These options decide, with --yes:", ...options]);
  return ENDS.waits;
}

/** Stopped kubelets keep keys in memory alive: this comes before any look at the others. */
async function holdFirst(session: Session, plan: PlanData): Promise<Next | undefined> {
  const hold = openSteps(plan).find(({ task }) => task === "hold");
  if (!hold || session.isHeld) return undefined;
  session.isHeld = true;
  const text = [
    `Keys are lost on ${plan.node}. May repair do this before all else, on ${listed(hold.on)}: ${hold.does}?`,
    `It keeps keys in memory alive. ${hold.costs}. Way back: systemctl start kubelet.`,
  ];
  const way = session.mayBegin
    ? 0
    : await session.person.choose({ text, ways: ["Yes: stop the loss", "No: only look"] });
  if (way !== 0) return undefined;
  await meetAll(
    session,
    hold.on.flatMap((name) => session.hosts.get(name) ?? []),
  );
  const met = hold.on.filter((name) => session.met.has(name));
  const acts = hold.acts.map((act) => ("on" in act ? { ...act, on: met, sideBySide: true } : act));
  tell("", `${hold.number} ${hold.does}`);
  for (const act of acts) {
    const stopped = await doAct(session, hold, act);
    if (stopped) tell(`${stopped.node}: ${stopped.reason}`);
  }
  return undefined;
}

/** Returns undefined if the operator agreed to what the screen names. Does not ask again about what an earlier screen named. */
async function begins(session: Session, plan: PlanData): Promise<Next | undefined> {
  const irreversible = showSteps(plan);
  const isNamed = irreversible.every((text) => session.named.has(text));
  if (session.mayBegin && (isNamed || !session.person.isThere)) {
    for (const text of irreversible) session.named.add(text);
    return undefined;
  }
  const ways = ["Begin", "Look again", "End here: nothing is done"];
  const way = await session.person.choose({ text: ["Begin?"], ways });
  if (way === undefined) {
    answerLines(["", "Nobody has said that it may begin: --yes says so."]);
    return ENDS.waits;
  }
  if (way === 1) return "look again";
  if (way === 2) return ENDS.stopped;
  session.mayBegin = true;
  for (const text of irreversible) session.named.add(text);
  return undefined;
}

async function asked(session: Session, text: string): Promise<Next> {
  const way = await session.person.choose({
    text: [text],
    ways: ["Look again: I have changed something", "End here"],
  });
  if (way === undefined) return ENDS.waits;
  return way === 0 ? "look again" : ENDS.stopped;
}

async function followSteps(
  session: Session,
  steps: readonly StepData[],
  apiAway: PlanData["apiAway"],
): Promise<Next> {
  const left = stepsFromHere(session, steps);
  const watch = new Stopwatch(apiAway);
  try {
    const end = await followEach(session, left, watch);
    if (end === "look again" || end === ENDS.stopped) return end;
    sayEnd(session, end, watch, commandsLeftHere(session, steps));
    return end;
  } catch (err) {
    if (!(err instanceof Interrupted)) throw err;
    return printLeftCommands(session, left, ENDS.interrupted);
  }
}

/** Takes each step that is done, or left out, from `left`. */
async function followEach(session: Session, left: StepData[], watch: Stopwatch) {
  let end: typeof ENDS.repaired | typeof ENDS.bad = ENDS.repaired;
  for (let step = left[0]; step; step = left[0]) {
    endIfStopping(session);
    if (!(await isWanted(session, step))) {
      if (step.task) session.leftOut.add(step.task);
      while (left[0]?.task === step.task) left.shift();
      continue;
    }
    const stopped = await watch.during(step, () => doStep(session, step));
    if (stopped === undefined) {
      left.shift();
      continue;
    }
    endIfStopping(session);
    if (step.task === "verify") {
      end = ENDS.bad;
      tell(`A check of part 5 fails on ${stopped.node}: its report names each, and what mends it.`);
      left.shift();
    } else if (foundOtherwise(step, stopped)) return "look again";
    else {
      const next = await chooseAtStop(session, step, stopped);
      if (next === "look again") return next;
      if (next === "end") return printLeftCommands(session, left, ENDS.stopped);
    }
  }
  return end;
}

/** A salvage that found more or less than the plan expects makes another plan. */
function foundOtherwise({ task }: StepData, { exitCode }: Stopped): boolean {
  return task === "salvage" && (exitCode === 0 || exitCode === 2);
}

async function doStep(session: Session, step: StepData): Promise<Stopped | undefined> {
  tell("", `${step.number} ${step.does}`);
  for (const act of step.acts) {
    const stopped = await doAct(session, step, act);
    if (stopped) return stopped;
  }
  return undefined;
}

/** Steps that a person may leave out, or has to prepare. Whether a step is done now. */
async function isWanted(session: Session, { task, acts, note, does }: StepData): Promise<boolean> {
  if (task === "backup" && acts.some((act) => act.do === "type")) {
    const text = [
      "Make a backup of the keys now?",
      "It shows a passphrase once: write it down, away from the file.",
    ];
    const way = await session.person.choose({ text, ways: ["Yes", "No"] });
    return way === 0;
  }
  if (task?.startsWith("backup")) return !session.leftOut.has("backup");
  if (task !== "retire") return true;
  const text = [`${does}?`, note ?? ""];
  const way = await session.person.choose({
    text,
    ways: ["Yes: they are restarted", "Not now: the same command asks again"],
  });
  return way === 0;
}

function sayEnd(
  { cleansUp, again, leftOut }: Session,
  end: RepairEnd,
  watch: Stopwatch,
  byHand: readonly string[],
) {
  const words =
    end === ENDS.repaired ? "Repaired, and verified" : "Repaired, but a check fails: see part 5 above";
  const retire = leftOut.has("retire") ? [`${RETIRE_IS_LEFT}: ${again}`] : [];
  const later = cleansUp ? [] : [`When nothing is missing any more, days from now: ${again} --clean-up`];
  answerLines(["", `${words}, ${watch.words()}.`, ...retire, ...later, ...byHand]);
}

const RETIRE_IS_LEFT = "The old key of tokens is still accepted. When those pods are restarted";

/** How long it took, and how long of it the API may have been away: from the first step that stops it to its return. */
class Stopwatch {
  readonly #began = performance.now();
  readonly #apiAway: PlanData["apiAway"];
  #away: number | undefined;
  #back: number | undefined;

  constructor(apiAway: PlanData["apiAway"]) {
    this.#apiAway = apiAway;
  }

  async during<T>({ number }: StepData, action: () => Promise<T>): Promise<T> {
    if (number === this.#apiAway?.from) this.#away ??= performance.now();
    const result = await action();
    if (number === this.#apiAway?.until) this.#back = performance.now();
    return result;
  }

  words(): string {
    const seconds = (milliseconds: number) => `${Math.round(milliseconds / 1000)} s`;
    const whole = `in ${seconds(performance.now() - this.#began)}`;
    if (this.#away === undefined || this.#back === undefined) return whole;
    return `${whole}; the API was unavailable for ${seconds(this.#back - this.#away)} of it at most`;
  }
}
