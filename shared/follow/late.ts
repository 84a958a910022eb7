/**
 * Limits of an act, by its kind: generous ones, as a slow disk is no fault. Behind one a person decides; nothing is ended
 * without a word of his. Where nobody is there, it ends, with the reason.
 */
import type { Task } from "../facts/course.ts";
import { stillLanes } from "./lanes.ts";
import type { Patience } from "./patience.ts";
import type { Session } from "./session.ts";
import { AT_TERMINAL } from "./turns.ts";

const MINUTE = 60;
const HOUR = 60 * MINUTE;

/** Seconds. */
export const MOST = { look: 20 * MINUTE, kit: HOUR, file: 20 * MINUTE, plan: HOUR, disk: 24 * HOUR } as const;

/** Tasks whose lines may take longer than an hour: a search of a disk, an old key, rolling updates of the cluster's owners. */
const LONG: Partial<Record<Task, number>> = { salvage: 24 * HOUR, "token-key": 6 * HOUR, tokens: 6 * HOUR };

export function timeLimitOf(task: Task | undefined): number {
  return (task && LONG[task]) ?? HOUR;
}

/** `most`: seconds. */
export function patience(session: Pick<Session, "person">, most: number): Patience {
  const { person } = session;
  if (!person.isThere) return { most };
  const onLate = async (why: string, signal: AbortSignal) =>
    await AT_TERMINAL.take(async () => {
      if (signal.aborted) return true;
      using _ = stillLanes();
      const text = [`${why}.`, "Nothing is ended without your word."];
      return (await person.choose({ text, ways: [WAIT, LEAVE] }, signal)) !== 1;
    });
  return { most, onLate };
}

const WAIT = "Wait as long again";
const LEAVE = "Leave it: its connection is ended here, and the step stops there";
