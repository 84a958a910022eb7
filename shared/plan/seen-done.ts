/** What of a plan is done already, as far as it was seen when the plan was made. */
import type { Check } from "../checks/check.ts";
import type { Task } from "../facts/course.ts";

export interface Sight {
  /** The node's name. */
  on: string;
  at: Date;
  /** "the kubelet is stopped". */
  what: string;
  /** All that the step does there. */
  isWhole: boolean;
}

/**
 * Part 0's first two lines, by what 00-assess has seen on a node. A controller-manager that was not seen may
 * still run.
 */
export function heldAt(
  damage: readonly Pick<Check, "id" | "what" | "result">[],
  on: string,
  at: Date,
): Sight[] {
  const isStopped = damage.some(({ id, result }) => id === "kubelet" && result !== "ok");
  const paused = damage.find(
    ({ id, what, result }) =>
      id === "stopped-process" && what.startsWith("kube-controller-manager") && result !== "failed",
  );
  if (!isStopped) return [];
  return [
    {
      on,
      at,
      what: `the kubelet is stopped${paused ? `, ${paused.what} is paused` : ""}`,
      isWhole: paused !== undefined,
    },
  ];
}

/** Each step with what was seen of it. */
export function withSights<S extends { task?: Task | undefined }>(
  steps: readonly S[],
  sights: Partial<Record<Task, readonly Sight[]>>,
) {
  return steps.map((step) => ({ ...step, seen: (step.task && sights[step.task]) ?? [] }));
}

/** A box is ticked where all of it was seen. */
export function isSeenDone({ on, seen }: { on: readonly string[]; seen: readonly Sight[] }): boolean {
  return on.length > 0 && on.every((name) => seen.some((sight) => sight.on === name && sight.isWhole));
}

/** "Seen at 01:20 UTC on cp1: the kubelet is stopped". */
export function inSentences(seen: readonly Sight[]): string[] {
  return seen.map(({ on, at, what }) => `Seen at ${at.toISOString().slice(11, 16)} UTC on ${on}: ${what}`);
}
