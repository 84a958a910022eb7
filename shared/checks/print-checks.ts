/** Checks on the terminal, as lines, or as JSON. */
import { command } from "../again.ts";
import { answer, type Sign, tell } from "../run.ts";
import { type Check, summaryOf, worstFirst } from "./check.ts";
import { SEVERITIES, type Severity } from "./kind.ts";
import { KINDS } from "./kinds.ts";

/** Changes when a field of the JSON goes or gets another meaning; a new field changes nothing. */
const SCHEMA_VERSION = 1;

const SIGNS: Record<Check["result"], Sign> = { ok: "√", warning: "‼", failed: "×" };

export function signOf({ result }: Pick<Check, "result">): Sign {
  return SIGNS[result];
}

interface Shown {
  all?: boolean | undefined;
  short?: boolean | undefined;
}

/** The worst first. Without `all` what is well is only counted; `short`: one line each. */
export function printChecks(checks: readonly Check[], { all, short }: Shown = {}) {
  const shown = worstFirst(checks).filter(({ result }) => all || result !== "ok");
  for (const [index, check] of shown.entries()) {
    answer(lineOf(check, short), signOf(check));
    const next = shown[index + 1];
    // what is the same for all of a kind is said once, below the last one
    if (!short && check.severity && !(next && sameAdvice(check, next)))
      for (const line of adviceOf(check, isOneOfMany(check, shown))) answer(line);
  }
  if (!short) printDifferences(checks);
}

/** What works, and is not as kubeadm-config would have it; nothing where nothing differs. */
export function printDifferences(checks: readonly Check[]) {
  const found = checks.filter(({ differs }) => differs !== undefined);
  if (found.length === 0) return;
  const width = Math.max(...found.map(({ what }) => what.length)) + 5;
  answer(`\n${DIFFERS}`);
  for (const { what, detail, differs } of found) {
    answer(`  ${what.padEnd(width - 2)}${detail}`);
    if (differs) answer(`${" ".repeat(width)}before the next kubeadm upgrade: ${differs}`);
  }
}

const DIFFERS = "differs from what kubeadm-config says, and works (nothing to do)";

function lineOf({ result, area, what, detail, mend }: Check, short?: boolean): string {
  return `  ${result.padEnd(8)} ${area}: ${what}: ${detail}${short && mend ? `: ${mend}` : ""}`;
}

function sameAdvice(a: Check, b: Check): boolean {
  return a.id === b.id && a.severity === b.severity && a.result === b.result;
}

function isOneOfMany(check: Check, shown: readonly Check[]): boolean {
  return shown.filter((other) => sameAdvice(check, other)).length > 1;
}

const INDENT = " ".repeat(11);

function adviceOf({ id, severity, works, mend }: Check, many: boolean): string[] {
  return [
    `${INDENT}${SEVERITIES[severity!]}. Still works: ${works}`,
    `${INDENT}mend: ${many ? KINDS[id].mend.replace("…", "NODE") : mend}`,
  ];
}

/** "61 checks, 2 failed (1 outage now, 1 weakens), 3 warnings". */
export function tellSummary(checks: readonly Check[]) {
  const failed = checks.filter(({ result }) => result === "failed");
  const warnings = checks.filter(({ result }) => result === "warning").length;
  const kinds = Object.entries(Object.groupBy(worstFirst(failed), ({ severity }) => severity!));
  const howBad = kinds.map(([severity, some]) => `${some.length} ${SEVERITIES[severity as Severity]}`).join(", ");
  const verdict = failed.length > 0 ? `${failed.length} failed (${howBad})` : "all good";
  tell(`\n${checks.length} checks, ${verdict}${warnings > 0 ? `, ${warnings} warning${warnings > 1 ? "s" : ""}` : ""}`);
}

/** The parts that 00-assess sends to; a hand-over, say, stays what the check itself names. */
const PART = /^\.\/bunw scripts\/0[0-4]-/;

/** What to do about what has failed: a part of the repair where one mends it, else what each check names. Undefined where nothing has failed. */
export function hintOf(checks: readonly Check[]): string | undefined {
  const failed = checks.filter(({ result }) => result === "failed");
  if (failed.length === 0) return undefined;
  return failed.some(({ mend }) => PART.test(mend ?? ""))
    ? `${command("00-assess")} on that node says which part repairs it`
    : "type what mends each, then run this again";
}

/** What every `--output json` of a list of checks has. */
export function checksAsJson(checks: readonly Check[]) {
  return { schemaVersion: SCHEMA_VERSION, summary: summaryOf(checks), checks };
}
