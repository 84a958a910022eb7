/**
 * What a row says of a check: what it looks at, how bad it is where it fails, what still works, and what
 * mends it.
 */

/**
 * What it means where a check is bad, the worst first. `outage`: something does not work. `soon`: it works
 * until a date, or until something restarts. `weakens` ("minor" on the screen): a spare, a protection or a
 * tool is lacking. `note`: good to know.
 */
export const SEVERITIES = {
  outage: "outage now",
  soon: "expires soon",
  weakens: "minor",
  note: "note",
} as const;

export type Severity = keyof typeof SEVERITIES;

export interface Kind {
  /** Where 05-verify shows it. */
  area: string;
  /** "…": what exactly, a node or a file. */
  what: string;
  severity: Severity;
  /** The same of a warning; unset: a note, or what weakens. */
  warning?: Severity;
  /** What still works where it is bad, and until when. */
  works: string;
  /** The command that mends it, or where RUNBOOK.md says how. "…" as in `what`. */
  mend: string;
}
