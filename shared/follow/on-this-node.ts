/**
 * `repair` on a control plane node itself. Two steps are left to a person there: a backup is on no other machine yet, and
 * the kit is under the repair that runs.
 */
import type { Act } from "../plan/act.ts";
import type { StepData } from "../plan/plan-answer.ts";
import { thereOf } from "./host.ts";
import type { Session } from "./session.ts";

const LEFT: Readonly<Record<string, string>> = {
  "backup-away": "When the backup is on another machine, remove it here",
  "remove-kit": "Last, remove the kit under this repair",
};

/** Leaves out what a person types on this node; on all other nodes the acts are done. */
export function stepsFromHere({ first }: Session, steps: readonly StepData[]): StepData[] {
  if (!first.isHere) return [...steps];
  return steps.flatMap((step) => {
    if (!step.task || !(step.task in LEFT)) return [step];
    const acts = step.acts.flatMap((act): Act[] => {
      if (act.do !== "type") return [act];
      const others = act.on.filter((name) => name !== first.name);
      return others.length > 0 ? [{ ...act, on: others }] : [];
    });
    return acts.length > 0 ? [{ ...step, acts }] : [];
  });
}

/** The lines that are left to a person here. */
export function commandsLeftHere({ first, leftOut }: Session, steps: readonly StepData[]): string[] {
  if (!first.isHere) return [];
  return steps.flatMap(({ task, acts }) => {
    const why = LEFT[task ?? ""];
    if (why === undefined || (task === "backup-away" && leftOut.has("backup"))) return [];
    return acts.flatMap((act) =>
      act.do === "type" && act.on.includes(first.name) ? [`${why}: ${thereOf(first, act.command)}`] : [],
    );
  });
}
