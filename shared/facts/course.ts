/** The course of a repair through RUNBOOK.md: the same decisions as in next.ts, in the words of the page. Pure. */
import { newCasOption, type OldSaKey } from "./next.ts";

/** Which of RUNBOOK.md's blocks are meant, by the words of its fences' `if=`, and which of its parts have something to do. */
export interface Course {
  tags: readonly string[];
  parts: readonly number[];
}

/** What is known of the damage before anything is done. */
export interface Beginning {
  /** Lost keys that nothing on this node brings back. */
  lost?: readonly string[];
  /** 00-salvage brings other lost keys back. */
  found?: boolean;
  oldKey?: OldSaKey;
  /** What is damaged has expired: all of it, or some. */
  expired?: "all" | "some" | "none";
  others: readonly string[];
}

/** The course from the damage to the proof. Part 4 finds nothing to do where no key is new, part 0 nothing where all is here and expired. */
export function courseFrom({ lost = [], found = false, oldKey = "lost", expired = "none", others }: Beginning): Course {
  const option = newCasOption(lost);
  const alone = others.length === 0;
  const isNew = option === "--new-cas";
  const onlyExpired = expired === "all" && lost.length === 0 && !found;
  return {
    tags: [
      ...(found ? ["salvage"] : []),
      ...(isNew && !alone ? ["look-around"] : []),
      option ? option.slice(2) : "old-cas",
      ...(lost.includes("ca") || expired !== "none" ? ["join"] : []),
      ...(isNew && lost.includes("sa") && oldKey !== "lost" ? ["old-tokens"] : []),
      ...(alone ? [] : [onlyExpired ? "same-keys" : "several-control-planes"]),
    ],
    parts: [...(onlyExpired ? [] : [0]), 1, 2, 3, ...(isNew ? [4] : []), 5],
  };
}

/** From control plane nodes that are well to a cluster without one that is lost for good. */
export const COURSE_TO_LEAVE_OUT: Course = { tags: ["old-cas"], parts: [2, 3, 5] };

/** From a repaired control plane node with a new CA to the end. */
export const COURSE_FOR_CLUSTER: Course = { tags: ["new-cas", "join"], parts: [3, 4, 5] };
