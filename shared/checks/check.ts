/**
 * A check: a row of KINDS (kinds.ts) and its result; and how checks are printed: on the terminal, as lines, or as JSON.
 */
import { command } from "../again.ts";
import type { Difference } from "../pki/judge.ts";
import { listed, plainLine } from "../plain.ts";
import { answer, answerLines, type Sign, tell } from "../run.ts";
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

export function isWell(answer: Answer): boolean {
  return typeof answer === "string" || "differs" in answer;
}

/**
 * A check and its result. `id` and `what` together identify one check. Only `found` makes it: each text is one line,
 * whoever has written it.
 */
export interface Check {
  id: CheckId;
  area: string;
  what: string;
  result: "ok" | "warning" | "failed";
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

export function found(row: Omit<CheckRow, "look">, answer: Answer): Check {
  return inLinesOfItsOwn(resultOf(row, answer));
}

/** A line break, or another character that a terminal obeys, is shown and not obeyed. */
function inLinesOfItsOwn(check: Check): Check {
  const fields = Object.entries(check).map(([name, value]) => [
    name,
    typeof value === "string" ? plainLine(value) : value,
  ]);
  return Object.fromEntries(fields) as Check;
}

function resultOf({ id, of = "" }: Omit<CheckRow, "look">, answer: Answer): Check {
  const { area, what, severity, warning, works, mend }: Kind = KINDS[id];
  const row = { id, area, what: what.replace("…", of) };
  if (typeof answer === "string") return { ...row, result: "ok", detail: answer };
  if ("differs" in answer)
    return { ...row, result: "ok", detail: answer.differs, differs: answer.before ?? "" };
  const way = mend.replace("…", of);
  if ("failed" in answer) {
    const { failed, state, mend = way } = answer;
    // what no process has in memory yet fails at once if its dates do not fit
    const isNow = severity === "soon" && (state === "expired" || state === "not yet valid");
    const bad = answer.severity ?? (isNow ? "outage" : severity);
    return { ...row, result: "failed", ...(state && { state }), detail: failed, severity: bad, works, mend };
  }
  const ofWarning = warning ?? (severity === "weakens" ? severity : "note");
  const { warning: detail, mend: own = way } = answer;
  return { ...row, result: "warning", detail, severity: ofWarning, works, mend: own };
}

/* Several: their order, and their sum. */

const RANKS = Object.keys(SEVERITIES);
const ORDER = Object.keys(KINDS);

/** Who reads on may have started that kubelet. */
const FIRST: CheckId = "kubelet-start";

/** The worst first, grouped by kind; healthy checks stand last, in their order. */
export function worstFirst(checks: readonly Check[]): Check[] {
  const rank = ({ severity }: Check) => (severity ? RANKS.indexOf(severity) : RANKS.length);
  const failedFirst = ({ id, result }: Check) =>
    id === FIRST ? -1 : ["failed", "warning", "ok"].indexOf(result);
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

/* Printed, as lines. */

export type TableRow = Pick<Check, "what" | "result" | "state" | "detail">;

/** "!MISSING!" catches the eye and can be searched for; healthy states are in small letters. */
export function stateWord({ result, state }: Pick<TableRow, "result" | "state">): string {
  if (result === "failed") return `!${(state ?? result).toUpperCase()}!`;
  return result === "warning" ? "note" : (state ?? "ok");
}

export function printLines(lines: readonly TableRow[], head: readonly string[][] = []) {
  const signs = [...head.map(() => undefined), ...lines.map(({ result }) => SIGNS[result])];
  printTable([...head, ...lines.map((line) => [line.what, stateWord(line), line.detail])], signs);
}

export function printTable(rows: readonly string[][], signs: readonly (Sign | undefined)[] = []) {
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const [index, row] of rows.entries())
    answer(
      `  ${row[0]!.padEnd(widths[0]! + 3)}${row[1]!.padEnd(widths[1]! + 3)}${row[2]}`.trimEnd(),
      signs[index],
    );
}

const SIGNS: Record<Check["result"], Sign> = { ok: "√", warning: "‼", failed: "×" };

interface Shown {
  all?: boolean | undefined;
  /**
   * The place for advice: what still works and what mends it; "behind" has only the latter, on the same line.
   */
  advice?: "below" | "behind" | "none";
}

/** The worst first. Unless `all` is set, healthy checks are only counted. */
export function printChecks(checks: readonly Check[], { all, advice = "below" }: Shown = {}) {
  const shown = worstFirst(checks).filter(({ result }) => all || result !== "ok");
  for (const [index, check] of shown.entries()) {
    answer(lineOf(check, advice), SIGNS[check.result]);
    const next = shown[index + 1];
    // advice that all of a kind share is printed once
    if (advice !== "below" || !check.severity || (next && sameAdvice(check, next))) continue;
    const many = shown.filter((other) => sameAdvice(check, other)).length > 1;
    answer(`${INDENT}${SEVERITIES[check.severity]}. Still works: ${check.works}`);
    answer(`${INDENT}repair: ${many ? KINDS[check.id].mend.replace("…", "NODE") : check.mend}`);
  }
  if (advice === "below") printDifferences(checks);
}

/** They work, but differ from kubeadm-config; and what to type before the next upgrade. */
export function printDifferences(checks: readonly Check[]) {
  const found = checks.filter(({ differs }) => differs !== undefined);
  if (found.length === 0) return;
  const width = Math.max(...found.map(({ what }) => what.length)) + 5;
  answerLines(["", DIFFERS]);
  for (const { what, detail, differs } of found) {
    answer(`  ${what.padEnd(width - 2)}${detail}`);
    if (differs) answer(`${" ".repeat(width)}before the next kubeadm upgrade: ${differs}`);
  }
}

const DIFFERS = "differs from what kubeadm-config says, and works (nothing to do)";

function lineOf(check: Check, advice: Shown["advice"]): string {
  const { result, area, what, state, detail, mend } = check;
  const parts = [area, what, state && stateWord(check), detail, advice === "behind" && mend];
  return `  ${result.padEnd(8)} ${parts.filter(Boolean).join(": ")}`;
}

function sameAdvice(a: Check, b: Check): boolean {
  return a.id === b.id && a.severity === b.severity && a.result === b.result;
}

const INDENT = " ".repeat(11);

/** "61 checks, 2 failed (1 outage now, 1 minor), 3 warnings". */
export function tellSummary(checks: readonly Check[]) {
  tell("", `${checks.length} checks, ${verdictOf(checks)}`);
}

/* In a word, and as JSON. */

/** The operator's words, which wait for a fact: "cp3 is away". */
const SAID: readonly string[] = ["node-away", "given-up"];

export function saidIn(checks: readonly Partial<Pick<Check, "id" | "what">>[]): string[] {
  return checks.flatMap(({ id, what = "" }) => (SAID.includes(id ?? "") ? [what] : []));
}

/** "all good, 3 warnings": what does not fail is good. */
export function verdictOf(
  checks: readonly (Pick<Check, "result" | "severity"> & Partial<Pick<Check, "id" | "what">>)[],
): string {
  const failed = checks.filter(hasFailed);
  const warnings = checks.filter(({ result }) => result === "warning").length;
  const howMany = (kind: string) => failed.filter(({ severity }) => severity === kind).length;
  const howBad = Object.entries(SEVERITIES)
    .filter(([kind]) => howMany(kind) > 0)
    .map(([kind, words]) => `${howMany(kind)} ${words}`)
    .join(", ");
  const given = saidIn(checks);
  const exception = given.length > 0 ? ` but what you said: ${listed(given)}` : "";
  const verdict = failed.length > 0 ? `${failed.length} failed (${howBad})` : `all good${exception}`;
  return `${verdict}${warnings > 0 ? `, ${warnings} warning${warnings > 1 ? "s" : ""}` : ""}`;
}

/** The parts that 00-assess sends to. */
const PART = /^\.\/bunw scripts\/0[0-4]-/;

/** The next step: a part of the repair that mends a failed check, else what each names. Undefined if none has failed. */
export function hintOf(checks: readonly Check[]): string | undefined {
  const failed = checks.filter(hasFailed);
  if (failed.length === 0) return undefined;
  return failed.some(({ mend }) => PART.test(mend ?? ""))
    ? `${command("00-assess")} on that node says which part repairs it`
    : "type what repairs each, then run the same line again";
}

/** Increased when a field of the JSON disappears or changes its meaning; a new field does not count. */
const SCHEMA_VERSION = 1;

/** Common fields of every `--output json` of a list of checks. */
export function checksAsJson(checks: readonly Check[]) {
  const shown = checks.map((check) => ({
    ...check,
    detail: [check.state, check.detail].filter(Boolean).join(": "),
  }));
  return { schemaVersion: SCHEMA_VERSION, summary: summaryOf(checks), checks: shown };
}
