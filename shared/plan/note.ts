/** What a plan says beside its steps, with lines to type. */
import { command } from "../again.ts";
import { shell } from "../shell-line.ts";
import { sshLines } from "./paste.ts";
import type { PlanFacts, Said } from "./plan-facts.ts";
import type { PlanNode } from "./plan-nodes.ts";

export interface Note {
  text: string;
  /** Typed on the first control plane node, in the kit's folder. */
  commands: string[];
}

export interface Decisions {
  /** A sentence for the operator. */
  aim: string;
  notes: Note[];
}

export interface Surroundings {
  facts: PlanFacts;
  nodes: readonly PlanNode[];
}

/** Of the same answers. `page`: the file that it is printed into. */
export function planAgain(
  { folder, unkept }: Pick<PlanFacts, "folder" | "unkept">,
  more: Partial<Said> = {},
  page?: string,
): string {
  const said = { seen: folder, ...unkept, ...more };
  return page === undefined ? command("plan", said) : command(shell`plan ${page}`, said);
}

/** The line on the first control plane node that prints the plan of the same answers, with more words. */
export function planLine({ facts, nodes }: Surroundings, more: Partial<Said>): string[] {
  return linesOn(nodes[0]!, facts, planAgain(facts, more));
}

export function linesOn(node: PlanNode, { user }: Pick<PlanFacts, "user">, line: string): string[] {
  return sshLines(user, [node], line).map(({ text }) => text);
}
