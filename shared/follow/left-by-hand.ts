/** The steps that are left, as a person types them in a shell of each node: without what is done. */
import { plainLine } from "../plain.ts";
import { type Act, actsOn, typedByHand } from "../plan/act.ts";
import type { StepData } from "../plan/plan-data.ts";
import { answer } from "../run.ts";
import { REMOTE_KIT } from "./look-around.ts";
import { doneMark, type Session } from "./session.ts";

/** Prints them. Returns the exit code that it got. */
export function byHand<E>(session: Session, steps: readonly StepData[], end: E): E {
  const lines = steps.flatMap((step) => linesOf(session, step));
  answer(
    [
      `\nLeft to do. The same command continues: ${session.again}`,
      `By hand, as root, in ${REMOTE_KIT} of the named node:`,
      ...lines,
    ].join("\n"),
  );
  return end;
}

function linesOf(session: Session, step: StepData): string[] {
  const lines = step.acts.flatMap((act) => {
    const on = actsOn(act).filter((name) => !session.done.has(doneMark(step, name, lineOf(session, act))));
    return typedByHand(act, { on, printed: (number) => session.printed.get(number) }) ?? [];
  });
  return lines.length === 0
    ? []
    : [`  ${step.number} ${step.does}`, ...lines.map((line) => `      ${plainLine(line)}`)];
}

function lineOf({ printed }: Session, act: Act): string {
  return act.do === "type" ? act.command : act.do === "type-printed" ? (printed.get(act.keptBy) ?? "") : "";
}
