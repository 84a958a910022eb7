/**
 * The row of a check: what it looks at, its severity if it fails, what still works, and what mends it.
 */

/**
 * The meaning of a failed check, the worst first. `outage`: something does not work. `soon`: it works until a
 * date or a restart. `weakens` ("minor" on the screen): a spare, a protection or a tool is missing. `note`:
 * good to know.
 */
export const SEVERITIES = {
  outage: "outage now",
  soon: "expires soon",
  weakens: "minor",
  note: "note",
} as const;

export type Severity = keyof typeof SEVERITIES;

export interface Kind {
  /** The heading of 05-verify that shows it. */
  area: string;
  /** "…" stands for a node or a file. */
  what: string;
  severity: Severity;
  /** The severity of its warning; unset: `note`, or `weakens`. */
  warning?: Severity;
  /** The things that still work if it fails, and until when. */
  works: string;
  /** The command that mends it, or the place in RUNBOOK.md that says how. "…" as in `what`. */
  mend: string;
}
