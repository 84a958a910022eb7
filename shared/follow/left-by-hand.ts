/** The rest of a plan at a stop, as lines that a person types. */
import { plainLine } from "../plain.ts";
import { type Act, actsOn } from "../plan/act.ts";
import { linesOfAct } from "../plan/by-hand.ts";
import type { StepData } from "../plan/plan-answer.ts";
import { answerLines } from "../run.ts";
import { doneMark, type Session } from "./session.ts";

/** "cp1, cp2# ./bunw scripts/01-etcd.ts"; none: nothing is left of the act on these nodes. */
export function linesByHand(
  { hosts, printed }: Session,
  act: Act,
  on: readonly string[] = actsOn(act),
): string[] {
  const hands = { reach: (name: string) => hosts.get(name), printed: (step: string) => printed.get(step) };
  return linesOfAct(act, hands, on).map(({ at, text }) => `${at}# ${text}`);
}

/** Prints what is left, without what is done. Returns the end that it got. */
export function printLeftCommands<E>(session: Session, steps: readonly StepData[], end: E): E {
  const lines = steps.flatMap((step) => leftOf(session, step));
  const kit = session.first.kit;
  answerLines([
    "",
    `Left to do. The same command continues: ${session.again}`,
    `By hand, as root, in ${kit} of the named node:`,
    ...lines,
  ]);
  return end;
}

function leftOf(session: Session, step: StepData): string[] {
  const lines = step.acts.flatMap((act) => {
    const names = actsOn(act).filter((name) => !session.done.has(doneMark(step, name, lineOf(session, act))));
    return linesByHand(session, act, names);
  });
  const makesVoid =
    step.makesVoid.length > 0 ? ` (repeated, it needs ${step.makesVoid.join(" and ")} again)` : "";
  return lines.length === 0
    ? []
    : [`  ${step.number} ${plainLine(step.does)}${makesVoid}`, ...lines.map((line) => `      ${line}`)];
}

function lineOf({ printed }: Session, act: Act): string {
  return act.do === "type" ? act.command : act.do === "type-printed" ? (printed.get(act.keptBy) ?? "") : "";
}
