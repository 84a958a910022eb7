/**
 * A check: a row of KINDS (kinds.ts) and its result, with its severity, what still works, and what mends it.
 */
import type { Difference } from "../pki/judge.ts";
import { type CheckId, KINDS, type Kind, SEVERITIES, type Severity } from "./kinds.ts";

export interface CheckRow {
  id: CheckId;
  /** The node or file for the "…" of the kind. */
  of?: string;
  look: () => Promise<Answer> | Answer;
}

export function check(id: CheckId, look: CheckRow["look"], of?: string): CheckRow {
  return { id, look, ...(of !== undefined && { of }) };
}

/** A string: all is well, with details. `severity` and `mend` replace those of the kind. */
export type Answer = string | Difference | { warning: string; mend?: string } | Failed;

interface Failed {
  /** "" if the state says all. */
  failed: string;
  /** One word: "missing", "wrong CA". */
  state?: string;
  severity?: Severity;
  mend?: string;
}

/** Whether nothing is to be mended. */
export function isWell(answer: Answer): boolean {
  return typeof answer === "string" || "differs" in answer;
}

/** A check and its result. `id` and `what` together identify one check. */
export interface Check {
  id: CheckId;
  area: string;
  what: string;
  result: "ok" | "warning" | "failed";
  /** One word for a failed check, if there is one. */
  state?: string;
  detail: string;
  /** Healthy but different: the `before` of its Difference; "" if nothing is to be done. */
  differs?: string;
  /** Unset if all is well: the severity, what still works, and until when. */
  severity?: Severity;
  works?: string;
  /** A command, or the place in RUNBOOK.md that says how. */
  mend?: string;
  /** Set by 00-assess: servers have the file in memory, but none of the control plane runs on this node. */
  serversStopped?: true;
  /** Set by 00-assess if the CA is lost: the day on which the first certificate in use expires. */
  until?: string;
}

export function hasFailed({ result }: Pick<Check, "result">): boolean {
  return result === "failed";
}

/** Looks at rows, one after the other, and keeps the results. */
export class Checks {
  readonly all: Check[] = [];

  async add(rows: Iterable<CheckRow> | AsyncIterable<CheckRow>) {
    for await (const row of rows) this.all.push(found(row, await answerOf(row)));
  }
}

/** An error is an answer: it does not work now. */
async function answerOf({ id, look }: CheckRow): Promise<Answer> {
  try {
    return await look();
  } catch (err) {
    const failed = err instanceof Error ? err.message : String(err);
    return KINDS[id].severity === "soon" ? { failed, severity: "outage" } : { failed };
  }
}

export function found({ id, of = "" }: Omit<CheckRow, "look">, answer: Answer): Check {
  const { area, what, severity, warning, works, mend }: Kind = KINDS[id];
  const row = { id, area, what: what.replace("…", of) };
  if (typeof answer === "string") return { ...row, result: "ok", detail: answer };
  if ("differs" in answer)
    return { ...row, result: "ok", detail: answer.differs, differs: answer.before ?? "" };
  const way = mend.replace("…", of);
  if ("failed" in answer) {
    const { failed, state, severity = severityOf(id, state), mend = way } = answer;
    return { ...row, result: "failed", ...(state && { state }), detail: failed, severity, works, mend };
  }
  const ofWarning = warning ?? (severity === "weakens" ? severity : "note");
  const { warning: detail, mend: own = way } = answer;
  return { ...row, result: "warning", detail, severity: ofWarning, works, mend: own };
}

/**
 * The severity of a file's or certificate's state: files that no process has in memory yet fail at once if
 * their dates do not fit.
 */
function severityOf(id: CheckId, state: string | undefined): Severity {
  const { severity } = KINDS[id];
  return severity === "soon" && (state === "expired" || state === "not yet valid") ? "outage" : severity;
}

const RANKS = Object.keys(SEVERITIES);
const ORDER = Object.keys(KINDS);

/** The worst first, grouped by kind; healthy checks stand last, in their order. */
export function worstFirst(checks: readonly Check[]): Check[] {
  const rank = ({ severity }: Check) => (severity ? RANKS.indexOf(severity) : RANKS.length);
  const failedFirst = ({ result }: Check) => ["failed", "warning", "ok"].indexOf(result);
  const place = (check: Check) => (check.severity ? ORDER.indexOf(check.id) : 0);
  return [...checks].sort(
    (a, b) => failedFirst(a) - failedFirst(b) || rank(a) - rank(b) || place(a) - place(b),
  );
}

interface Summary {
  checks: number;
  ok: number;
  warnings: number;
  failed: number;
  /** Counts warnings and failures together. */
  severities: Record<Severity, number>;
}

export function summaryOf(checks: readonly Check[]): Summary {
  const count = (is: (check: Check) => boolean) => checks.filter(is).length;
  return {
    checks: checks.length,
    ok: count(({ result }) => result === "ok"),
    warnings: count(({ result }) => result === "warning"),
    failed: count(hasFailed),
    severities: Object.fromEntries(
      RANKS.map((name) => [name, count(({ severity }) => severity === name)]),
    ) as Record<Severity, number>,
  };
}
