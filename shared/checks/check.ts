/**
 * A check is a row of KINDS (kinds.ts) with how it is looked at. Here a row becomes what was found: how bad,
 * what still works, what mends it.
 */

import type { Difference } from "../pki/judge.ts";
import { type Kind, SEVERITIES, type Severity } from "./kind.ts";
import { type CheckId, KINDS } from "./kinds.ts";

export interface CheckRow {
  id: CheckId;
  /** What exactly, where the kind says "…": a node, a file. */
  of?: string;
  look: () => Promise<Answer> | Answer;
}

export function check(id: CheckId, look: CheckRow["look"], of?: string): CheckRow {
  return { id, look, ...(of !== undefined && { of }) };
}

/** A string: all is well, and how. `severity` and `mend` where they are not those of the kind. */
export type Answer = string | Difference | { warning: string } | Failed;

interface Failed {
  /** "" where the state says all. */
  failed: string;
  /** In a word: "missing", "wrong CA". */
  state?: string;
  severity?: Severity;
  mend?: string;
}

/** Whether nothing is to be mended. */
export function isWell(answer: Answer): boolean {
  return typeof answer === "string" || "differs" in answer;
}

/** What was looked at. `id` and `what` together are of one check only. */
export interface Check {
  id: CheckId;
  area: string;
  what: string;
  result: "ok" | "warning" | "failed";
  /** Of what has failed, in a word where there is one. */
  state?: string;
  detail: string;
  /** It is well, and differs: `before` of its Difference, "" where nothing is to be done. */
  differs?: string;
  /** These three: unless all is well. What still works, and until when. */
  severity?: Severity;
  works?: string;
  /** A command, or where RUNBOOK.md says how. */
  mend?: string;
  /** Of 00-assess: servers have the file in memory, and none of the control plane's runs on this node. */
  serversStopped?: true;
  /** The same, where the CA is lost: the day on which the first certificate ends that is still in use. */
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

/** An error is an answer: what cannot be asked does not work now. */
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
  return { ...row, result: "warning", detail: answer.warning, severity: ofWarning, works, mend: way };
}

/**
 * How bad a state of a file or a certificate is: what it does not have yet in memory goes wrong at once where
 * dates do not fit.
 */
function severityOf(id: CheckId, state: string | undefined): Severity {
  const { severity } = KINDS[id];
  return severity === "soon" && (state === "expired" || state === "not yet valid") ? "outage" : severity;
}

const RANKS = Object.keys(SEVERITIES);
const ORDER = Object.keys(KINDS);

/** The worst first, those of one kind together; what is well stands last, in its order. */
export function worstFirst(checks: readonly Check[]): Check[] {
  const rank = ({ severity }: Check) => (severity ? RANKS.indexOf(severity) : RANKS.length);
  const failedFirst = ({ result }: Check) => ["failed", "warning", "ok"].indexOf(result);
  const place = (check: Check) => (check.severity ? ORDER.indexOf(check.id) : 0);
  return [...checks].sort(
    (a, b) => failedFirst(a) - failedFirst(b) || rank(a) - rank(b) || place(a) - place(b),
  );
}

/** The figures of a summary. */
interface Summary {
  checks: number;
  ok: number;
  warnings: number;
  failed: number;
  /** Of the warnings and failures together. */
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
