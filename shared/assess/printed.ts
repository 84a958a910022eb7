/** The report of 00-assess as tables for the terminal. */
import { answer, VERSION } from "../run.ts";
import type { Assessment } from "./report.ts";

export function printAssessment({ node, role, kubernetes, cluster, ca, damage, survivors, verdict, next, ...more }: Assessment) {
  const { deep, lost = [], way, filesBack = [] } = more;
  answer(`kube-pki-repair ${VERSION}   reads only   node ${node} (${ROLES[role]})${kubernetes ? `   Kubernetes ${kubernetes}` : ""}`);
  if (lost.length > 0) answer(`${lostIs(deep)}: ${lost.join(", ")}${deep && !deep.diskSearched ? " (the disk was not searched)" : ""}`);
  answer(way ? `your way: ${way}\n` : "");
  table(
    damage.map((row) => [row.what, row.state === "known" ? "note" : row.state, row.detail]),
    ["what", "state", "detail"],
  );
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
  answer(`\nverdict: ${verdict}`);
  if (next.length > 0) answer(`\nnext\n${next.map((line) => `  ${line}`).join("\n")}`);
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

/** Columns as wide as their widest cell. */
function table(rows: string[][], head?: string[]) {
  const all = head ? [head, ...rows] : rows;
  const widths = [0, 1].map((column) => Math.max(...all.map((row) => row[column]!.length)));
  for (const row of all) answer(`  ${row[0]!.padEnd(widths[0]! + 3)}${row[1]!.padEnd(widths[1]! + 3)}${row[2]}`.trimEnd());
}
