/**
 * A step has stopped: the node's error and hint, which are marked as its own, and the ways to continue, as numbers. A line
 * of its hint is a way only if a plan may have that line, and only on that node.
 */
import { plainLine } from "../plain.ts";
import type { StepData } from "../plan/plan-answer.ts";
import { answer } from "../run.ts";
import { inKit } from "./host.ts";
import { Lanes } from "./lanes.ts";
import { patience, timeLimitOf } from "./late.ts";
import type { Session } from "./session.ts";
import { type Stopped, stoppedAt } from "./stopped.ts";
import { isKnownLine } from "./trusted-plan.ts";

export async function chooseAtStop(session: Session, step: StepData, stopped: Stopped): Promise<Next> {
  const { node, command, reason, hint, nodesHint, exitCode } = stopped;
  const text = [
    `Step ${step.number} has stopped on ${node}, with exit code ${exitCode}: ${reason}`,
    ...(hint ? [`hint: ${hint}`] : []),
    ...(nodesHint ? [nodesWords(node, nodesHint)] : []),
    `It was: ${node}# ${command}`,
  ];
  const line = lineInHint(nodesHint, command, session.runbookLines);
  const typesIt = async (): Promise<Next> => {
    await typeHint(session, { step, node, line: line! });
    return "look again";
  };
  const own =
    line === undefined
      ? []
      : [{ does: `Type on ${node} this kit's line in ${node}'s hint: ${line}`, next: typesIt }];
  const void1 = step.makesVoid.length > 0 ? `, then ${step.makesVoid.join(" and ")} follow` : "";
  const ways: Way[] = [
    // what it has done, only a new look knows
    ...own,
    { does: `The same line again${void1}`, next: async () => "same" },
    { does: "Look again, and make a new plan", next: async () => "look again" },
    ...withoutNode(session, node),
    { does: "End here: print what is left", next: async () => "end" },
  ];
  const way = await session.person.choose({ text, ways: ways.map(({ does }) => does) });
  return way === undefined ? "end" : await ways[way]!.next();
}

/** A hint that a node has printed, which nobody takes for one of this machine. */
export function nodesWords(node: string, hint: string): string {
  return `${plainLine(node)}'s own hint: ${hint}`;
}

type Next = "same" | "look again" | "end";

interface Way {
  does: string;
  next(): Promise<Next>;
}

/** One node holds up no other; the plan says what its absence means. The node that makes the plans is needed. */
function withoutNode({ words, first, hosts }: Session, node: string): Way[] {
  if (node === first.name || !hosts.has(node)) return [];
  const next = async (): Promise<Next> => {
    words.without = [...new Set([...(words.without ?? []), node])];
    return "look again";
  };
  return [{ does: `Continue without ${node}: it is away for now (--without ${node})`, next }];
}

/** The last line of the same script in the hint, with more options, if it is one of this kit's. */
function lineInHint(
  hint: string | undefined,
  command: string,
  runbookLines: ReadonlySet<string>,
): string | undefined {
  const script = /^\.\/bunw scripts\/[\w-]+\.ts(?: [a-z]+\b)?/.exec(command)?.[0];
  if (!script || !hint) return undefined;
  const lines = hint.split(script).slice(1);
  return lines
    .map((rest) => `${script}${/^(?: --[a-z-]+(?:[ =][\w.:,/@]+)?)*/.exec(rest)![0]}`)
    .findLast((line) => isKnownLine(line, runbookLines));
}

async function typeHint(
  session: Session,
  { step, node, line }: { step: StepData; node: string; line: string },
) {
  const host = session.hosts.get(node)!;
  answer(`      ${node}# ${plainLine(line)}`);
  using lanes = new Lanes([node]);
  const began = Date.now();
  const output = await session.transport.run(host, inKit(host, line), {
    ...{ onLine: (text) => lanes.show(node, text), ...patience(session, timeLimitOf(step.task)) },
  });
  const seconds = (Date.now() - began) / 1000;
  session.log.add({ step: step.number, node, command: line, seconds, exitCode: output.exitCode }, output);
  lanes.ended(
    node,
    output.exitCode === 0,
    output.exitCode === 0 ? undefined : stoppedAt(node, line, output).reason,
  );
}
