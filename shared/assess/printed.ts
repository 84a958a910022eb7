/** The report of 00-assess as tables for the terminal. */
import { answer, VERSION } from "../run.ts";
import type { Assessment } from "./report.ts";

export function printAssessment({ node, role, kubernetes, cluster, damage, survivors, deep, verdict, next }: Assessment) {
  answer(`kube-pki-repair ${VERSION}   reads only   node ${node} (${role})${kubernetes ? `   Kubernetes ${kubernetes}` : ""}\n`);
  table(
    damage.map((row) => [row.what, row.state === "known" ? "note" : row.state, row.detail]),
    ["what", "state", "detail"],
  );
  if (cluster) answer(`\n  cluster, read from etcd: ${cluster}`);
  if (deep) {
    answer("\nlost keys, and where each can still be found");
    table(deep.keys.map((key) => [key.file, key.places[0]?.where ?? "nowhere", key.detail]));
  } else if (survivors.length > 0) {
    answer("\nwhere the old keys may still be");
    table(survivors.map((survivor) => [survivor.where, survivor.hope, survivor.detail]));
  }
  answer(`\nverdict: ${verdict}`);
  if (next.length > 0) answer(`\nnext\n${next.map((line) => `  ${line}`).join("\n")}`);
}

/** Columns as wide as their widest cell. */
function table(rows: string[][], head?: string[]) {
  const all = head ? [head, ...rows] : rows;
  const widths = [0, 1].map((column) => Math.max(...all.map((row) => row[column]!.length)));
  for (const row of all) answer(`  ${row[0]!.padEnd(widths[0]! + 3)}${row[1]!.padEnd(widths[1]! + 3)}${row[2]}`.trimEnd());
}
