/** A sentence beside a plan's steps, with lines to type: those that ask all nodes, and print it again. */

import { command } from "../again.ts";
import { shell } from "../shell-line.ts";
import { type Line, onYourMachine, printedInto, reachedAs } from "./by-hand.ts";
import type { DecisionId, List, Way } from "./decision-ways.ts";
import { lookLine, SEEN } from "./look-line.ts";
import type { PlanFacts, PlanOptions } from "./plan-facts.ts";
import { isName, type PlanNode } from "./plan-node.ts";

export interface Note {
  text: string;
  /** Typed where each says. */
  commands: Line[];
  /** It is about lines by hand alone: who follows the plan as data has done it. */
  isForHands?: true;
  /** Ways to decide, for who is asked with numbers. */
  ways?: Way[];
  /** The text beside numbers, where `text` is about lines that a person types. */
  question?: string;
  /** The question that they answer; set with `ways`. */
  decides?: DecisionId;
}

export interface Surroundings {
  facts: PlanFacts;
  nodes: readonly PlanNode[];
}

/** `page`: the file that it is printed into. */
export function planAgain(
  { folder, unkept }: Pick<PlanFacts, "folder" | "unkept">,
  more: Partial<PlanOptions> = {},
  page?: string,
): string {
  const options = { seen: folder, ...unkept, ...more };
  return page === undefined ? command("plan", options) : command(shell`plan ${page}`, options);
}

export function planWith(
  asked: Pick<PlanFacts, "folder" | "unkept">,
  option: List,
  names: readonly string[],
): string {
  return planAgain(asked, { [option]: [...(asked.unkept[option] ?? []), ...names] });
}

export function linesOn({ name }: Pick<PlanNode, "name">, ...lines: readonly string[]): Line[] {
  return lines.map((text) => ({ at: name, text }));
}

/** On the first control plane node. Where the cluster's nodes are not known, as it is typed there. */
export function linesHere(
  { nodes: [first] }: { nodes: readonly PlanNode[] },
  ...lines: readonly string[]
): Line[] {
  return first ? linesOn(first, ...lines) : lines.map((text) => ({ text }));
}

interface Asked {
  user: string;
  options: Partial<PlanOptions>;
  unkept: Partial<PlanOptions>;
  nodes: readonly PlanNode[];
}

/**
 * The answer of 00-assess on each node, and the plan of that. A node that does not answer leaves an empty file. One without a
 * known address is not asked, nor one without a name of its own: its words would be another one's.
 */
export function askLines({ user, options, unkept, nodes }: Asked): Line[] {
  const [first, ...others] = nodes;
  if (!first) return [];
  const to = reachedAs(first, user);
  const asked = others.filter(({ name, why }) => !why && isName(name));
  const lines = onYourMachine(
    asked.map(({ name }) => name),
    (name) => {
      const node = asked.find((one) => one.name === name)!;
      const [from, look] = [reachedAs(node, user), lookLine(options["etcd-data"], node.role)];
      return printedInto(`${SEEN}/${name}.json`, from, to, `cd ${from.kit} && ${look}`);
    },
  );
  return [...lines, ...linesOn(first, command("plan", { seen: SEEN, ...unkept }))];
}
