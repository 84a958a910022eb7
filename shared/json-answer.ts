/**
 * The answer for programs, of one shape for all scripts with `--json`: scripts/answers.schema.json describes it. Also a
 * refusal and a failure are such an answer, so that whoever reads it never has an empty file. Dates are ISO 8601.
 */
import packageJson from "../package.json" with { type: "json" };
import { Fail, Refused } from "./fail.ts";

/**
 * Increased if a field disappears or changes its meaning; a new field does not count. 1: severities had other words than
 * on the screen.
 */
export const ANSWER_SCHEMA = 2;

/** `failed`: the script could not look, or stopped. `refused`: the same line is refused again. */
export interface StoppedAnswer {
  schemaVersion: typeof ANSWER_SCHEMA;
  ended: "refused" | "failed";
  /** The kit's version. */
  kit: string;
  exitCode: number;
  message: string;
  hint: string;
}

/** Has the line `--json`, and has this run printed its answer? */
export const json = { isAsked: false, isGiven: false };

/** The script's own fields, with those that each answer has. */
export function okAnswer<T extends object>(data: T) {
  return { schemaVersion: ANSWER_SCHEMA, ended: "ok", kit: packageJson.version, ...data } as const;
}

/** `shown`: the message and the hint as they stand on the screen. */
export function stoppedAnswer(why: unknown, shown: { message: string; hint: string }): StoppedAnswer {
  return {
    ...{ schemaVersion: ANSWER_SCHEMA, ended: why instanceof Refused ? "refused" : "failed" },
    ...{ kit: packageJson.version, exitCode: why instanceof Fail ? why.exitCode : 1 },
    ...shown,
    ...(why instanceof Fail && why.more),
  };
}
