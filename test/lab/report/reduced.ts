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

/** A join that finds its worker's certificate of the new CA: it stops no kubelet, and nothing was away. */
const HAD_JOINED = "has a certificate of this CA already, nothing to do";

const NEW_REPAIR = /scripts\/01-etcd\.ts/;
const JOINS = /scripts\/03-join\.ts/;

/**
 * Joins that came after a controller-manager of the same repair ran in full, but those that had nothing to do, and those
 * of nodes that were away by its command, or by a word that its node has saved.
 */
export function joinedTooLate(
  steps: readonly Pick<Step, "node" | "command" | "stderr" | "start">[],
): string[] {
  const ordered = steps.toSorted((a, b) => a.start - b.start);
  return ordered.flatMap((join, i) => {
    if (!JOINS.test(join.command) || join.stderr.includes(HAD_JOINED)) return [];
    const begun = ordered.slice(0, i).findLastIndex(({ command }) => NEW_REPAIR.test(command));
    const full = ordered.slice(begun + 1, i).find(({ stderr }) => stderr.includes(IN_FULL));
    if (!full || [...named(full.command), ...savedAsAway(full.stderr)].includes(join.node)) return [];
    return `${join.node} joined after "${full.command}" on ${full.node} let the controller-manager run in full`;
  });
}

function named(command: string): string[] {
  return [...command.matchAll(/--(?:without|lost) (\S+)/g)].flatMap(([, names]) => names!.split(","));
}

/** Each run prints what its node has saved: "as said at 09:34 (plan, on cp1): w3 is away". */
function savedAsAway(stderr: string): string[] {
  const lines = [
    ...stderr.matchAll(/^ *(as said at .*: (\S+) is (?:away|lost for good))(: not any more)?/gm),
  ];
  const over = new Set(lines.flatMap(([, line, , end]) => (end ? [line] : [])));
  return lines.flatMap(([, line, name]) => (over.has(line) ? [] : [name!]));
}
