#!/usr/bin/env bun
/**
 * RUNBOOK part 0: what is damaged on this node, what survives, and the commands that mend it.
 * Reads only; run it on any node, at any time.
 */
import { parseArgs } from "node:util";
import { type Assessment, assess } from "../shared/assess/assess.ts";
import { run, step, VERSION } from "../shared/run.ts";

const USAGE = `Usage:
    ./bunw scripts/00-assess.ts [--json] [--etcd-data DIR]

Says what is damaged on this node, where the old keys may still be, and which commands come next. Reads only.

Options:
    --json           Print the same as JSON.
    --etcd-data DIR  etcd's data directory (default: /var/lib/etcd).
    --help           Print this text.

Exit codes: 0 nothing is damaged, 1 could not look, 2 damage found
`;

const OPTIONS = {
  json: { type: "boolean" },
  "etcd-data": { type: "string", default: "/var/lib/etcd" },
  help: { type: "boolean" },
} as const;

async function main() {
  const { values } = parseArgs({ options: OPTIONS });
  if (values.help) return console.log(USAGE);
  const assessment = await step("0.1 Look at this node", () => assess(values["etcd-data"]));
  if (values.json) console.log(JSON.stringify(assessment, null, 2));
  else print(assessment);
  if (assessment.damaged) process.exitCode = 2;
}

function print({ node, role, kubernetes, cluster, damage, survivors, verdict, next }: Assessment) {
  console.log(`kube-pki-repair ${VERSION}   reads only   node ${node} (${role})${kubernetes ? `   Kubernetes ${kubernetes}` : ""}\n`);
  table(
    ["what", "state", "detail"],
    damage.map((row) => [row.what, row.state === "known" ? "note" : row.state, row.detail]),
  );
  if (cluster) console.log(`\n  cluster, read from etcd: ${cluster}`);
  if (survivors.length > 0) {
    console.log("\nwhere the old keys may still be");
    table(
      undefined,
      survivors.map((survivor) => [survivor.where, survivor.hope, survivor.detail]),
    );
  }
  console.log(`\nverdict: ${verdict}`);
  if (next.length > 0) console.log(`\nnext\n${next.map((line) => `  ${line}`).join("\n")}`);
}

/** Columns as wide as their widest cell. */
function table(head: string[] | undefined, rows: string[][]) {
  const all = head ? [head, ...rows] : rows;
  const widths = [0, 1].map((column) => Math.max(...all.map((row) => row[column]!.length)));
  for (const row of all) console.log(`  ${row[0]!.padEnd(widths[0]! + 3)}${row[1]!.padEnd(widths[1]! + 3)}${row[2]}`.trimEnd());
}

if (import.meta.main) await run(main);
