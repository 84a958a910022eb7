/**
 * A second look at a node: what has changed since the first. The file of the first decides nothing but what
 * is said here.
 */
import { command } from "../again.ts";
import type { Check } from "../checks/check.ts";
import { printTable, stateWord } from "../checks/print-checks.ts";
import { Fail } from "../fail.ts";
import { smallText } from "../files/untrusted-file.ts";
import { answer } from "../run.ts";
import type { Assessment, AssessmentJson } from "./assessment.ts";

/** State by what was looked at. */
type Earlier = ReadonlyMap<string, string>;

/**
 * Prints what is well now, what is new, what is otherwise, and what is as before. Errors: Fail where the file
 * is no look at this node.
 */
export function printSince({ node, damage }: Assessment, file: string) {
  const before = earlierLook(file, node);
  const bad = damage.filter(({ result }) => result !== "ok");
  const now = new Map(damage.map((check) => [keyOf(check), check]));
  const well = [...before].filter(([key, state]) => isBad(state) && !isNowBad(now.get(key)));
  const rows = bad.map((check) => [
    changeOf(check, before.get(keyOf(check))),
    check.what,
    wordOf(check, before.get(keyOf(check))),
  ]);
  const changed = rows.filter(([change]) => change !== AS_BEFORE);
  answer(`since ${file}`);
  if (well.length + changed.length === 0) answer("nothing has changed");
  printTable([
    ...well.map(([key, state]) => ["well now", whatOf(key), `was ${state}`]),
    ...changed,
    ...rows.filter((row) => !changed.includes(row)),
  ]);
}

const AS_BEFORE = "as before";

function changeOf(check: Check, before: string | undefined): string {
  if (before === undefined || !isBad(before)) return before === stateOf(check) ? AS_BEFORE : "new";
  return before === stateOf(check) ? AS_BEFORE : "otherwise";
}

function wordOf(check: Check, before: string | undefined): string {
  const was = before !== undefined && isBad(before) && before !== stateOf(check) ? `, was ${before}` : "";
  return `${stateOf(check)}${was}${before === stateOf(check) ? "" : ` ${check.detail}`}`.trim();
}

/** As `--json` has it. */
function stateOf(check: Check): string {
  return check.result === "warning" ? "known" : stateWord(check);
}

function isBad(state: string): boolean {
  return state.startsWith("!");
}

function isNowBad(check: Check | undefined): boolean {
  return check !== undefined && isBad(stateOf(check));
}

function keyOf({ id, what }: { id: string; what: string }): string {
  return `${id} ${what}`;
}

function whatOf(key: string): string {
  return key.slice(key.indexOf(" ") + 1);
}

function earlierLook(file: string, node: string): Earlier {
  const look = parsed(smallText(file) ?? "");
  if (look.node === node && Array.isArray(look.damage))
    return new Map(look.damage.map((row) => [keyOf(row ?? NO_ROW), String(row?.state)]));
  throw new Fail(`"${file}" is no look of 00-assess at "${node}"`, {
    hint: `${command("00-assess --json")} > look.json makes one`,
  });
}

const NO_ROW = { id: "", what: "" };

/** Nothing of it where the text is no JSON. */
function parsed(text: string): Partial<AssessmentJson> {
  try {
    return (JSON.parse(text) as Partial<AssessmentJson> | null) ?? {};
  } catch (err) {
    if (err instanceof SyntaxError) return {};
    throw err;
  }
}
