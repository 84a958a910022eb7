#!/usr/bin/env bun
/**
 * On a quiet afternoon, on a healthy control plane node: repairs this node in memory, and says what
 * would come back and what would not. Reads only; RUNBOOK-MORE, "Before it happens".
 */
import { drill } from "../shared/drill/drill.ts";
import { printDrill } from "../shared/drill/printed-drill.ts";
import { parseOptions } from "../shared/files/operator-files.ts";
import { answer, run, step } from "../shared/run.ts";

async function main() {
  const { values } = parseOptions({ options: OPTIONS, usage: USAGE });
  const found = await step("Drill: repair this node in memory, and compare", () =>
    drill({ ...values, etcdData: values["etcd-data"] }),
  );
  if (values.json) answer(JSON.stringify(found, null, 2));
  else printDrill(found);
  if (!found.allBack) process.exitCode = 2;
}

const USAGE = `Usage:
    ./bunw scripts/drill.ts [--bundle FILE] [--backup DIR] [--json] [--etcd-data DIR]

On a healthy control plane node: repairs it in memory, as if /etc/kubernetes were deleted and no old
key were found. Compares that with the files here, and says what would not come back, and what to do
about it now. Reads only.

Options:
    --bundle FILE    The bundle of hand-over pack: does it still have the current keys?
    --backup DIR     Your copies of files that nobody can rebuild: are they current?
    --json           Print the same for programs: each file as it is, and as it would be.
    --etcd-data DIR  etcd's data directory (default: found by itself).
    --help           Print this text.

Exit codes: 0 all would come back, 1 could not look, 2 not all, 3 refused: this node is not well
`;

const OPTIONS = {
  bundle: { type: "string", path: "proved" },
  backup: { type: "string", path: "trusted" },
  json: { type: "boolean" },
  "etcd-data": { type: "string", path: "proved" },
} as const;

if (import.meta.main) await run(main);
