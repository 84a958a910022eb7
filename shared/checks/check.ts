/**
 * A check: a row of KINDS (kinds.ts) and its result; what becomes of it, in a word and as JSON.
 */
import type { Difference } from "../pki/judge.ts";
import { listed, plainLine } from "../plain.ts";
import { type CheckId, KINDS, KINDS_AWAY, type Kind, SEVERITIES, type Severity } from "./kinds.ts";

export interface CheckRow {
  id: CheckId;
  /** The node or file for the "…" of the kind. */
  of?: string;
  look: () => Promise<Answer> | Answer;
}

export function check(id: CheckId, look: CheckRow["look"], of?: string): CheckRow {
  return { id, look, ...(of !== undefined && { of }) };
}

/**
 * A string, or `well`: all is well, with details. `severity` and `mend` replace those of the kind. `notAfter`: when the
 * certificate of the check expires, or the first of several.
 */
export type Answer =
  | string
  | ((Difference | { warning: string; mend?: string } | Failed | { well: string }) & { notAfter?: Date });

/** The same answer, with the date for programs. */
export function dated(answer: Answer, notAfter: Date | undefined): Answer {
  if (!notAfter) return answer;
  return { ...(typeof answer === "string" ? { well: answer } : answer), notAfter };
}

interface Failed {
  /** "" if the state says all. */
  failed: string;
  /** Ids of checks: it fails only because of what these have found, if one of them has failed. */
  needed?: CheckId[];
  /** One word: "missing", "wrong CA". */
  state?: string;
  severity?: Severity;
  mend?: string;
}

export function isWell(answer: Answer): boolean {
  return typeof answer === "string" || "differs" in answer || "well" in answer;
}

/**
 * A check and its result. `id` and `what` together identify one check. Only `found` makes it: each text is one line,
 * whoever has written it.
 */
export interface Check {
  id: CheckId;
  area: string;
  what: string;
  /** `unknown`: nobody could look, because of `cause`. */
  result: "ok" | "warning" | "failed" | "unknown";
  /** The id of the check from which this one follows: causes.ts. */
  cause?: CheckId;
  state?: string;
  detail: string;
  /** Healthy but different: the `before` of its Difference; "" if nothing is to be done. */
  differs?: string;
  /** Unset if all is well: the severity, what still works, and until when. */
  severity?: Severity;
  works?: string;
  /** A command, or the place in RUNBOOK.md that says how. */
  mend?: string;
  /** The check itself ended in an error: it was not made. */
  thrown?: true;
  needed?: CheckId[];
  /** Set by 00-assess: servers have the file in memory, but none of the control plane runs on this node. */
  serversStopped?: true;
  /** Set by 00-assess if the CA is lost: the day on which the first certificate in use expires. */
  until?: string;
  /** ISO 8601: when the certificate of this check expires, or the first of several. */
  notAfter?: string;
}

export function hasFailed({ result }: Pick<Check, "result">): boolean {
  return result === "failed";
}

export class Checks {
  readonly all: Check[] = [];
  readonly #looks: ((made: number, at: string) => void) | undefined;

  /** `looks`: called before each check. */
  constructor(looks?: (made: number, at: string) => void) {
    this.#looks = looks;
  }

  async add(rows: Iterable<CheckRow> | AsyncIterable<CheckRow>) {
    for await (const row of rows) {
      this.#looks?.(this.all.length, KINDS[row.id].what.replace("…", row.of ?? ""));
      this.all.push(await checkedOf(row));
    }
  }
}

/** An error is an answer: it does not work now. */
async function checkedOf(row: CheckRow): Promise<Check> {
  try {
    return found(row, await row.look());
  } catch (err) {
    const failed = err instanceof Error ? err.message : String(err);
    const severity = KINDS[row.id].severity === "soon" ? { severity: "outage" as const } : {};
    return { ...found(row, { failed, ...severity }), ...KINDS_AWAY[row.id], thrown: true };
  }
}

export function found(row: Omit<CheckRow, "look">, answer: Answer): Check {
  const notAfter = typeof answer === "string" ? undefined : answer.notAfter;
  return inLinesOfItsOwn({
    ...resultOf(row, answer),
    ...(notAfter && { notAfter: notAfter.toISOString() }),
  });
}

/** A line break, or another character that a terminal obeys, is shown and not obeyed. */
function inLinesOfItsOwn(check: Check): Check {
  const fields = Object.entries(check).map(([name, value]) => [
    name,
    typeof value === "string" ? plainLine(value) : value,
  ]);
  return Object.fromEntries(fields) as Check;
}

/** It is bad only by its dates: with a wrong clock nobody knows whether it is so. */
export function isOfDates(state: string | undefined): boolean {
  return state === "expired" || state === "not yet valid";
}

function resultOf({ id, of = "" }: Omit<CheckRow, "look">, answer: Answer): Check {
  const { area, what, severity, warning, works: otherwise, expired, mend }: Kind = KINDS[id];
  const row = { id, area, what: what.replace("…", of) };
  if (typeof answer === "string") return { ...row, result: "ok", detail: answer };
  if ("well" in answer) return { ...row, result: "ok", detail: answer.well };
  if ("differs" in answer)
    return { ...row, result: "ok", detail: answer.differs, differs: answer.before ?? "" };
  const way = mend.replace("…", of);
  if ("failed" in answer) {
    const { failed, state, mend = way, needed } = answer;
    const hasEnded = isOfDates(state);
    const works = (hasEnded && expired) || otherwise;
    // what no process has in memory yet fails at once if its dates do not fit
    const isNow = severity === "soon" && hasEnded;
    const bad = answer.severity ?? (isNow ? "outage" : severity);
    const more = { ...(state && { state }), ...(needed && { needed }) };
    return { ...row, result: "failed", ...more, detail: failed, severity: bad, works, mend };
  }
  const ofWarning = warning ?? (severity === "weakens" ? severity : "note");
  const { warning: detail, mend: own = way } = answer;
  return { ...row, result: "warning", detail, severity: ofWarning, works: otherwise, mend: own };
}

/* Several: their order, and their sum. */

const RANKS = Object.keys(SEVERITIES);
const ORDER = Object.keys(KINDS);

/** The row that is shown first: the operator may already have started that kubelet when they read the next rows. */
const FIRST: CheckId = "kubelet-start";

/** The worst first, grouped by kind; healthy checks stand last, in their order. */
export function worstFirst(checks: readonly Check[]): Check[] {
  const rank = ({ severity }: Check) => (severity ? RANKS.indexOf(severity) : RANKS.length);
  const failedFirst = ({ id, result }: Check) =>
    id === FIRST ? -1 : ["failed", "unknown", "warning", "ok"].indexOf(result);
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
  /** Nobody could look at them. */
  unknown: number;
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
    unknown: count(({ result }) => result === "unknown"),
    severities: Object.fromEntries(
      RANKS.map((name) => [name, count(({ severity }) => severity === name)]),
    ) as Record<Severity, number>,
  };
}

/* In a word, and as JSON. */

export type TableRow = Pick<Check, "what" | "result" | "state" | "detail">;

/** "!MISSING!" catches the eye and can be searched for; healthy states are in small letters. */
export function stateWord({ result, state }: Pick<TableRow, "result" | "state">): string {
  if (result === "failed") return `!${(state ?? result).toUpperCase()}!`;
  if (result === "unknown") return "not looked at";
  return result === "warning" ? "note" : (state ?? "ok");
}

/** The operator's words, which wait for a fact: "cp3 is away". */
const SAID: readonly string[] = ["node-away", "given-up"];

export function savedOptionsIn(checks: readonly Partial<Pick<Check, "id" | "what">>[]): string[] {
  return checks.flatMap(({ id, what = "" }) => (SAID.includes(id ?? "") ? [what] : []));
}

/** "all good, 3 warnings": what does not fail is good. */
export function verdictOf(
  checks: readonly (Pick<Check, "result" | "severity"> & Partial<Pick<Check, "id" | "what" | "cause">>)[],
): string {
  const failed = checks.filter((check) => hasFailed(check) && check.cause === undefined);
  const follow = checks.filter(({ cause }) => cause !== undefined).length;
  const warnings = checks.filter(({ result }) => result === "warning").length;
  const howMany = (kind: string) => failed.filter(({ severity }) => severity === kind).length;
  const howBad = Object.entries(SEVERITIES)
    .filter(([kind]) => howMany(kind) > 0)
    .map(([kind, words]) => `${howMany(kind)} ${words}`)
    .join(", ");
  const given = savedOptionsIn(checks);
  const exception = given.length > 0 ? ` but what you said: ${listed(given)}` : "";
  const verdict = failed.length > 0 ? `${failed.length} failed (${howBad})` : `all good${exception}`;
  const following = follow > 0 ? `, ${follow} ${follow === 1 ? "follows" : "follow"} from that` : "";
  return `${verdict}${following}${warnings > 0 ? `, ${warnings} warning${warnings > 1 ? "s" : ""}` : ""}`;
}

/** Common fields of every `--output json` of a list of checks; severities have the words of the screen. */
export function checksAsJson(checks: readonly Check[]) {
  const shown = checks.map(({ severity, ...check }) => ({
    ...check,
    ...(severity && { severity: SEVERITIES[severity] }),
    detail: [check.state, check.detail].filter(Boolean).join(": "),
  }));
  const { severities, ...counts } = summaryOf(checks);
  const inWords = Object.entries(severities).map(([kind, count]) => [SEVERITIES[kind as Severity], count]);
  return { summary: { ...counts, severities: Object.fromEntries(inWords) }, checks: shown };
}
