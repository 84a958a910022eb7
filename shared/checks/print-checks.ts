/**
 * Checks on the screen: one row for each cause, what still works, and the command that can run now. What follows from a
 * cause is counted below it. Tables know the width of the terminal.
 */
import { answer, answerLines, answerToPaste, type Sign, tell } from "../run.ts";
import { columns, isNarrow } from "../screen-width.ts";
import { type Cause, causesOf } from "./causes.ts";
import { type Check, hasFailed, stateWord, type TableRow, verdictOf, worstFirst } from "./check.ts";
import { KINDS, SEVERITIES } from "./kinds.ts";
import { wayOf } from "./way.ts";

const SIGNS: Record<Check["result"], Sign> = { ok: "√", warning: "‼", failed: "×", unknown: "‼" };

/* Tables. */

export function printLines(lines: readonly TableRow[], head: readonly string[][] = []) {
  const signs = [...head.map(() => undefined), ...lines.map(({ result }) => SIGNS[result])];
  printTable([...head, ...lines.map((line) => [line.what, stateWord(line), line.detail])], signs);
}

/** A third column that is narrower than this goes below the first. */
const LEAST = 40;

/** Rows of three cells. */
export function printTable(rows: readonly string[][], signs: readonly (Sign | undefined)[] = []) {
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  const third = widths[0]! + widths[1]! + 8;
  const isStacked = isNarrow() || columns() - third < LEAST;
  for (const [index, [name, state, detail]] of rows.entries()) {
    const sign = signs[index];
    if (isStacked && signs[index] === undefined && index === 0 && name === "what") continue;
    if (!isStacked)
      answer(
        `  ${name!.padEnd(widths[0]! + 3)}${state!.padEnd(widths[1]! + 3)}${detail}`.trimEnd(),
        sign,
        third,
      );
    else {
      answer(`  ${name}   ${state}`.trimEnd(), sign, 6);
      if (detail) answer(`      ${detail}`, undefined, 6);
    }
  }
}

/* Checks. */

interface Shown {
  all?: boolean | undefined;
  /**
   * The place for advice: what still works and what mends it; "behind" has only the latter, on the same line.
   */
  advice?: "below" | "behind" | "none";
}

const INDENT = " ".repeat(11);

/** The worst first. Unless `all` is set, healthy checks are only counted. */
export function printChecks(checks: readonly Check[], { all, advice = "below" }: Shown = {}) {
  const sorted = worstFirst(checks);
  for (const cause of causesOf(sorted)) {
    const [first] = cause.shown as [Check];
    const way = first.mend === undefined ? undefined : wayOf(cause.shown, sorted);
    for (const line of linesOf(cause))
      answer(advice === "behind" && way ? `${line}: ${way}` : line, SIGNS[first.result], INDENT.length);
    if (advice === "below" && first.severity) {
      for (const words of worksOf(cause)) answer(`${INDENT}${words}`, undefined, INDENT.length + 2);
      answer(`${INDENT}repair: ${way}`, undefined, INDENT.length + 2);
    }
    if (cause.follows.length > 0) answer(`${INDENT}${followsOf(cause)}`, undefined, INDENT.length + 2);
  }
  for (const check of all ? sorted.filter(({ result, cause }) => result === "ok" || cause !== undefined) : [])
    answer(lineOf(check), SIGNS[check.result], INDENT.length);
  if (advice === "below") printDifferences(checks);
}

/** One line for what has one date or one deletion, else one for each. */
function linesOf({ shown }: Cause): string[] {
  const [first] = shown as [Check];
  const ids = new Set(shown.map(({ id }) => id));
  if (ids.size < 2) return shown.map(lineOf);
  const names = shown.map(shortName).join(", ");
  return [`  ${first.result.padEnd(8)} ${shown.length} files: ${stateWord(first)}: ${names}`];
}

function lineOf(check: Check): string {
  const { result, area, what, state, detail } = check;
  const parts = [area, what, state && stateWord(check), detail];
  return `  ${result.padEnd(8)} ${parts.filter(Boolean).join(": ")}`;
}

/** "apiserver.crt", "admin.conf", "manifest of etcd". */
export function shortName({ what }: Pick<Check, "what">): string {
  return what
    .replace(/ and \.key$/, "")
    .replace(/\.(crt|key|pub|pem), .*$/, ".$1")
    .replace(/^\/(etc\/kubernetes|var\/lib\/kubelet\/pki)\/(?=.*\.)/, "")
    .replace(/^pki\//, "");
}

/** At most so many sentences of what still works. */
const FEW_WORKS = 3;

/** "outage now. Still works: …"; several things that have different ones are named. */
function worksOf(cause: Cause): string[] {
  const { shown } = cause;
  const [{ severity, works }] = shown as [Check];
  const begin = `${SEVERITIES[severity!]}. Still works`;
  if (isApiAway(cause)) return [`${begin}: ${KINDS["api-ready"].works}`];
  const kinds = [...Map.groupBy(shown, (one) => one.works!)].slice(0, FEW_WORKS);
  if (kinds.length === 1) return [`${begin}: ${works}`];
  return kinds.map(
    ([works, [one]], i) => `${i === 0 ? `${begin}, ` : ""}without ${shortName(one!)}: ${works}`,
  );
}

const isApi = ({ id }: Check) => id === "api-ready";

function isApiAway({ shown, follows }: Cause): boolean {
  return [...shown.filter(hasFailed), ...follows].some(isApi);
}

function followsOf(cause: Cause): string {
  const { follows } = cause;
  const unknown = follows.filter(({ result }) => result === "unknown").length;
  const others = follows.length - unknown;
  const away = isApiAway(cause) ? ": the API does not answer" : "";
  const made = unknown > 0 ? [`${counted(unknown)} could not be made because of it${away}`] : [];
  const more = others > 0 ? [`${counted(others)} ${others === 1 ? "fails" : "fail"} because of it`] : [];
  return `${[...made, ...more].join("; ")} (--all names ${follows.length === 1 ? "it" : "them"})`;
}

const counted = (number: number) => `${number} ${number === 1 ? "check" : "checks"}`;

/** They work, but differ from kubeadm-config; and what to type before the next upgrade. */
export function printDifferences(checks: readonly Check[]) {
  const found = checks.filter(({ differs }) => differs !== undefined);
  if (found.length === 0) return;
  const width = Math.max(...found.map(({ what }) => what.length)) + 5;
  answerLines(["", DIFFERS]);
  for (const { what, detail, differs } of found) {
    answer(`  ${what.padEnd(width - 2)}${detail}`, undefined, width);
    if (differs)
      answer(`${" ".repeat(width)}before the next kubeadm upgrade: ${differs}`, undefined, width + 2);
  }
}

const DIFFERS = "differs from what kubeadm-config says, and works (nothing to do)";

/* In one sentence. */

/** First on the screen: who sees only these lines can begin. `next`: lines to type. */
export function printVerdict(verdict: string, next: readonly string[]) {
  answer(`verdict: ${verdict}`, undefined, 2);
  if (next.length > 0) answerToPaste(["", "next", ...next.map((line) => `  ${line}`)]);
}

/** "11 files have expired; the API does not answer"; "" if nothing has failed. */
export function headlineOf(checks: readonly Check[]): string {
  const causes = causesOf(worstFirst(checks)).filter(({ shown }) => shown.some(hasFailed));
  const words = causes.map(({ shown }) => sentenceOf(shown));
  const most = words.slice(0, FEW_WORKS);
  if (words.length > most.length) most.push(`${words.length - most.length} more`);
  if (causes.some((cause) => isApiAway(cause) && !cause.shown.some(isApi)))
    most.push("the API does not answer");
  return most.join("; ");
}

function sentenceOf(shown: readonly Check[]): string {
  const [{ id, what, state }] = shown as [Check];
  const ids = new Set(shown.map((one) => one.id));
  const several = shown.length > 1 ? ` and ${shown.length - 1} more` : "";
  const name = ids.size > 1 ? `${shown.length} files` : `${shortName({ what })}${several}`;
  const [is, has] = shown.length > 1 ? ["are", "have"] : ["is", "has"];
  if (id === "api-ready") return "the API does not answer";
  if (state === "expired") return `${name} ${has} expired`;
  return state === "missing" ? `${name} ${is} missing` : `failed: ${name}`;
}

/** "61 checks, 2 failed (1 outage now, 1 minor), 3 warnings". */
export const summaryText = (checks: readonly Check[]) => `${checks.length} checks, ${verdictOf(checks)}`;

export function tellSummary(checks: readonly Check[]) {
  tell("", summaryText(checks));
}
