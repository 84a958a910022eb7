/**
 * A plan as data: `plan.ts --json`. `repair` follows it, the lab does, and other programs may. Dates are ISO 8601,
 * durations are seconds, nodes are names.
 */

import type { Task } from "../facts/course.ts";
import { okAnswer } from "../json-answer.ts";
import type { Way } from "./decision-ways.ts";
import type { Plan, SeenStep } from "./make-plan.ts";
import type { Note } from "./note.ts";
import { isSeenDone } from "./observations.ts";
import type { DecisionData, PlanData, StepData } from "./plan-answer.ts";
import type { PlanFacts } from "./plan-facts.ts";
import { STOPS } from "./step-order.ts";

export function planAsData(plan: Plan, { noDisk }: Pick<PlanFacts, "noDisk">, damaged: boolean): PlanData {
  const steps = plan.parts.flatMap(({ steps }) => steps);
  const { cluster, kubernetes, node, verdict, aim, looked, lost, away, seconds, elsewhere } = plan;
  return okAnswer({
    ...{ node, cluster, kubernetes },
    ...{ made: plan.made.toISOString(), damaged, verdict, aim, looked, seconds },
    nodes: plan.nodes.map(({ name, role, address, why, said }) => ({ name, role, address, why, said })),
    ...{ lost: [...lost], away: [...away] },
    elsewhere: elsewhere && { aim: elsewhere.aim, to: elsewhere.to, open: [...elsewhere.open] },
    decisions: decisionsIn(plan.first, elsewhere ? [] : steps, noDisk),
    apiAway: awayOf(steps),
    notes: plan.first.filter(({ ways, isForHands }) => !ways && !isForHands).map(({ text }) => text),
    parts: plan.parts.map(({ number, title, why, undo, notes, steps: own }) => ({
      ...{ number, title, why, undo },
      notes: notes.map(({ text }) => text),
      steps: own.map(stepAsData),
    })),
  });
}

/** Each with all of its ways, in the order of the notes. */
function decisionsIn(
  notes: readonly Note[],
  steps: readonly SeenStep[],
  noDisk: string | undefined,
): DecisionData[] {
  const open = notes.filter(({ ways }) => ways);
  const groups = Map.groupBy(open, ({ decides }) => decides!);
  const all = [...groups].map(
    ([id, own]): DecisionData => ({
      id,
      question: own.map(({ text, question }) => question ?? text),
      ways: own.flatMap(({ ways = [] }) => ways),
    }),
  );
  const makes = steps.find((step) => MAKES_KEYS.includes(step.task!) && !isSeenDone(step));
  return makes ? [...all, newKeys(makes, noDisk)] : all;
}

const MAKES_KEYS: readonly Task[] = ["new-cas", "new-internal-cas"];

function newKeys({ task, irreversible = [] }: SeenStep, noDisk: string | undefined): DecisionData {
  const isInternal = task === "new-internal-cas";
  const disk: Way[] =
    noDisk === undefined ? [{ does: "Search the disk first: this takes minutes to hours", deep: true }] : [];
  return {
    id: "new-keys",
    question: [
      isInternal
        ? "Keys of internal CAs were found nowhere. New ones cost little: no worker joins, and no pod restarts for them"
        : "Lost keys were found nowhere. With a backup of the old keys, no worker joins, and no pod restarts",
    ],
    ways: [
      ...disk,
      { does: "I have a backup of the keys (a bundle of hand-over.ts): type its path", bundle: true },
      { does: "Make new keys", newKeys: true, ...(irreversible[0] && { irreversible: irreversible[0] }) },
    ],
  };
}

function stepAsData(step: SeenStep): StepData {
  const { number, task, does, on, acts, exit, ends, costs, seconds, longer, note, irreversible = [] } = step;
  return {
    ...{ number, task, does, on, acts, exit, ends, costs, seconds, longer, note },
    irreversible: [...irreversible],
    makesVoid: step.makesVoid,
    isDone: isSeenDone(step),
  };
}

/** From the first step that stops a control plane to the one that brings it back. */
function awayOf(steps: readonly SeenStep[]): PlanData["apiAway"] {
  const first = steps.findIndex(({ task }) => task && STOPS.includes(task));
  const last = steps.findIndex(({ task }) => task === "control-plane");
  if (first < 0 || last < first) return undefined;
  const between = steps.slice(first, last + 1);
  const sum = (end: 0 | 1) =>
    between.reduce(
      (all, { seconds, sideBySide, on }) => all + seconds[end] * (sideBySide ? 1 : on.length),
      0,
    );
  return { from: steps[first]!.number, until: steps[last]!.number, seconds: [sum(0), sum(1)] };
}
