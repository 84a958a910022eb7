/** The report of 00-assess as tables for the terminal. */
import { worstFirst } from "../checks/check.ts";
import { SEVERITIES } from "../checks/kind.ts";
import { checksAsJson, printDifferences, signOf } from "../checks/print-checks.ts";
import { answer, type Sign, VERSION } from "../run.ts";
import { type Assessment, checkOf, isDamage, type Row } from "./assessment.ts";

/** `short`: without what is well, and without the tables below the damage. */
export function printAssessment(assessment: Assessment, short: boolean) {
  if (short) printShort(assessment);
  else printAll(assessment);
}

function printShort({ damage, verdict, next }: Assessment) {
  for (const check of worstFirst(damage.map(checkOf)).filter(({ result }) => result !== "ok"))
    answer(`  ${check.result.padEnd(8)} ${check.what}: ${check.detail}`, signOf(check));
  printNext({ verdict, next });
}

function printNext({ verdict, next }: Pick<Assessment, "verdict" | "next">) {
  answer(`\nverdict: ${verdict}`);
  if (next.length > 0) answer(`\nnext\n${next.map((line) => `  ${line}`).join("\n")}`);
}

function printAll({ node, role, kubernetes, well, cluster, ca, damage, survivors, verdict, next, ...more }: Assessment) {
  const { deep, lost = [], way, filesBack = [] } = more;
  answer(`kube-pki-repair ${VERSION}   reads only   node ${node} (${ROLES[role]})${kubernetes ? `   Kubernetes ${kubernetes}` : ""}`);
  if (lost.length > 0) answer(`${lostIs(deep)}: ${lost.join(", ")}${deep && !deep.diskSearched ? " (the disk was not searched)" : ""}`);
  if (well) answer(`well: ${well}`);
  answer(way ? `your way: ${way}\n` : "");
  if (well) notes(damage);
  else damageTable(damage);
  printDifferences(damage.map(checkOf));
  stillWorks(damage);
  if (cluster) answer(`\n  cluster, read from etcd: ${cluster}`);
  printCas(ca);
  if (deep) {
    answer("\nlost keys, and where each can still be found");
    table(deep.keys.map((key) => [key.file, key.places[0]?.where ?? "nowhere", key.detail]));
  } else if (survivors.length > 0) {
    answer("\nwhere the old keys may still be");
    table(survivors.map((survivor) => [survivor.where, survivor.hope, survivor.detail]));
  }
  if (filesBack.length > 0) answer(`\n${FILES_BACK}\n${filesBack.map((line) => `  ${line}`).join("\n")}`);
  printNext({ verdict, next });
}

/** What programs read: every field of the assessment, and its damage as checks. */
export function assessmentAsJson(assessment: Assessment) {
  return { ...checksAsJson(assessment.damage.map(checkOf)), ...assessment };
}

const FILES_BACK = "files that cannot be rebuilt: bring them back before part 1, by any of these";

const ROLES: Record<Assessment["role"], string> = {
  "control plane": "control plane",
  worker: "worker",
  unknown: "worker, or a control plane node that lost everything",
};

function lostIs(deep: Assessment["deep"]): string {
  return deep ? "no longer to be had" : "lost on this node";
}

/** The cluster's CA, and whether each CA on this node is that one. */
function printCas({ hashes, from, copies }: Assessment["ca"]) {
  answer(`\n  the cluster's CA${hashes.length > 0 ? `, by ${from}: ${hashes.join(", ")}` : `: ${NOBODY_NAMES_IT}`}`);
  for (const { what, hash, is } of copies) answer(`    ${what}: ${is === "the cluster's" || !hash ? is : `${is}, ${hash}`}`);
}

const NOBODY_NAMES_IT = "nothing here names it; 00-assess on a control plane node with etcd's data does";

/** What is good to know of a node that is well. */
function notes(damage: readonly Row[]) {
  for (const { what, detail } of damage.filter(({ state }) => state === "known")) answer(`  note   ${what}: ${detail}`);
}

/** The worst first. */
function damageTable(damage: readonly Row[]) {
  const rowOf = new Map(damage.filter(({ state }) => state !== "differs").map((row) => [checkOf(row), row]));
  const sorted = worstFirst([...rowOf.keys()]).map((check) => ({ sign: signOf(check), row: rowOf.get(check)! }));
  const cells = sorted.map(({ row: { what, state, detail } }) => [what, state === "known" ? "note" : state, detail]);
  table([["what", "state", "detail"], ...cells], [undefined, ...sorted.map(({ sign }) => sign)]);
}

/** How bad the damage is, and how long it can wait: a line for all of one kind. */
function stillWorks(damage: readonly Row[]) {
  const kinds = Map.groupBy(worstFirst(damage.filter(isDamage).map(checkOf)), ({ severity, works }) => `${severity} ${works}`);
  if (kinds.size === 0) return;
  answer("\nhow bad it is, and what still works meanwhile");
  table(
    [...kinds.values()].map(([first, ...more]) => [
      SEVERITIES[first!.severity!],
      more.length > 0 ? `${first!.what} and ${more.length} more` : first!.what,
      first!.works!,
    ]),
  );
}

/** Columns as wide as their widest cell. */
function table(rows: readonly string[][], signs: readonly (Sign | undefined)[] = []) {
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const [index, row] of rows.entries())
    answer(`  ${row[0]!.padEnd(widths[0]! + 3)}${row[1]!.padEnd(widths[1]! + 3)}${row[2]}`.trimEnd(), signs[index]);
}
