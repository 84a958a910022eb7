/**
 * The rule of the whole repair, asked of its record: while a worker has to join, no controller-manager of the
 * kit runs in full, as it would evict that worker's pods after five minutes.
 */
import type { Step } from "./rehearsal.ts";

/**
 * What a script says, on stderr as all that is no command, that lets the controller-manager run in full
 * again.
 */
export const IN_FULL = "node-lifecycle, taint eviction and pod collection are on again";

const NEW_REPAIR = /scripts\/01-etcd\.ts/;
const JOINS = /scripts\/03-join\.ts/;

/**
 * Joins that came after a controller-manager of the same repair ran in full, but those of nodes that its
 * command named as away.
 */
export function joinedTooLate(
  steps: readonly Pick<Step, "node" | "command" | "stderr" | "start">[],
): string[] {
  const ordered = steps.toSorted((a, b) => a.start - b.start);
  return ordered.flatMap((join, i) => {
    if (!JOINS.test(join.command)) return [];
    const begun = ordered.slice(0, i).findLastIndex(({ command }) => NEW_REPAIR.test(command));
    const full = ordered.slice(begun + 1, i).find(({ stderr }) => stderr.includes(IN_FULL));
    if (!full || named(full.command).includes(join.node)) return [];
    return `${join.node} joined after "${full.command}" on ${full.node} let the controller-manager run in full`;
  });
}

function named(command: string): string[] {
  return [...command.matchAll(/--(?:without|lost) (\S+)/g)].flatMap(([, names]) => names!.split(","));
}
