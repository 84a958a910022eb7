/**
 * Workers beyond a handful: the operator's window keeps their list, and one line reaches all of them. It is a variable, not
 * a file: nobody else can change it, or lay a link in its place.
 */
import { FEW } from "../plain.ts";
import { programWord } from "../shell-line.ts";
import type { Line, PlanNode } from "./plan-node.ts";
import { hostKeyName, type Reached } from "./ssh-to.ts";

export const ALL = "the workers";

/** Workers whose address is unknown are in neither, where the others get one line together. */
export function fewAndMany(nodes: readonly PlanNode[]): { few: PlanNode[]; many: PlanNode[] } {
  const workers = nodes.filter(({ role }) => role === "worker");
  if (workers.length <= FEW) return { few: [...nodes], many: [] };
  return { few: nodes.filter(({ role }) => role !== "worker"), many: workers.filter(({ why }) => !why) };
}

const LIST = "workers";

/** Stands in a line until the steps have their numbers. */
export const LISTER = "STEP-THAT-LISTS";

/** Addresses and names, a line each. Undefined: each worker gets a line of its own. */
export function workersList(nodes: readonly PlanNode[]): Line[] | undefined {
  const lines = fewAndMany(nodes).many.map(({ address, name }) => `${address} ${hostKeyName(name)}`);
  return lines.length > 0 ? [{ text: `${LIST}=${programWord(lines.join("\n"))}` }] : undefined;
}

export function isWorkersList({ text }: Line): boolean {
  return text.startsWith(`${LIST}='`);
}

/** Stands behind a line that reads the list. It stops a window that does not have the list, and says so. */
export const FROM_LIST = `<<< "\${${LIST}:?this window has no list of the workers: paste ${LIST}=… of step ${LISTER} here}"`;

/** Stands for a node in a program of `forMany`. */
const IN_TURN: Reached = { name: "$2", address: "$1", role: "worker" };

/** Twenty at the same time. `word`: the program's $0, one word of this shell. At 255, ssh's own, xargs would begin no more. */
export function forMany(program: (node: Reached) => string, word = "_"): string {
  return `xargs -P 20 -n 2 bash -c ${programWord(`${program(IN_TURN)} || exit 1`)} ${word} ${FROM_LIST}`;
}

/** `many`: for all workers together. */
export function onEach(nodes: readonly PlanNode[], line: (node: PlanNode) => string, many: string): Line[] {
  const own: Line[] = fewAndMany(nodes).few.map((node) => ({ at: node.name, text: line(node) }));
  return fewAndMany(nodes).many.length > 0 ? [...own, { at: ALL, text: many }] : own;
}
