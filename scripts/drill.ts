#!/usr/bin/env bun
/**
 * On a quiet afternoon, on a healthy control plane node: repairs this node in memory, and says what
 * would come back and what would not. Reads only; RUNBOOK-MORE, "Before it happens".
 */
import { command } from "../shared/again.ts";
import type { TableRow } from "../shared/checks/check.ts";
import { printLines } from "../shared/checks/print-checks.ts";
import type { ComparedFile, Fields } from "../shared/drill/compared.ts";
import { type Drill, drill } from "../shared/drill/drill.ts";
import { flagOfLostFile } from "../shared/facts/lost-files.ts";
import { parseOptions } from "../shared/files/operator-files.ts";
import { etcdBackup } from "../shared/hand-over/backup-mark.ts";
import { day } from "../shared/pki/certificate.ts";
import { listed } from "../shared/plain.ts";
import { answer, answerJson, answerLines, answerText, run, step, VERSION } from "../shared/run.ts";

async function main() {
  const { values } = parseOptions({ options: OPTIONS, usage: USAGE });
  const found = await step("Drill: repair this node in memory, and compare", () =>
    drill({ ...values, etcdData: values["etcd-data"] }),
  );
  if (values.json) answerJson(found);
  else printDrill(found);
  if (!found.allBack) process.exitCode = 2;
}

export function printDrill(found: Drill) {
  const { node, kubernetes, files, servers, lost, backup, snapshot, others, due, stops } = found;
  const { allBack, todo } = found;
  answer(
    `kube-pki-repair ${VERSION}   drill, reads only   node ${node}   Kubernetes ${kubernetes}`,
  );
  answerLines([
    "if /etc/kubernetes were deleted now, and no old key were found, the repair would make:",
    "",
  ]);
  const rows = [...WORDS.flatMap((words) => fileRows(words, files)), ...serverRows(servers)];
  for (const file of lost) {
    const detail = `${flagOfLostFile(file)} needs it; ${COPY[file.kept]}`;
    if (file.kept === "same") rows.push({ ...ok(file.path, detail), state: "saved" });
    else rows.push(bad(file.path, "lost", detail));
  }
  if (backup) rows.push(backup.fits ? ok(BACKUP, backup.says) : bad(BACKUP, "none", backup.says));
  if (snapshot) rows.push(snapshotRow(snapshot));
  printLines([...rows, ...stops.map(({ message }) => bad("the repair", "stops", message))]);
  if (others.length > 0)
    answerLines(["", `  not rebuilt, and named by no flag: ${listed(others)}`]);
  if (rows.some(({ state }) => state === "changed"))
    answerLines(["", "  - is here and would be missing, + would be new"]);
  if (due)
    answerLines([
      "",
      `  ${listed(due.files)}: in the second half of a CA's life, until ${day(due.first)}. ` +
        `It is renewed on the living cluster: ${command("renew-ca")}`,
    ]);
  answerLines([
    "",
    "  if all disks of the control plane are lost, its objects come from a snapshot of etcd: " +
      etcdBackup(),
  ]);
  answerLines([
    "",
    `  compared: ${files.length} files and ${servers.length} servers, ` +
      `${fieldsIn(found)} fields. Asked of the API server: ${found.apiReads} request`,
  ]);
  const notAll = `not all of it would come back as it is. To do now: ${todo.length}`;
  answerLines(["", `verdict: ${allBack ? "all of it would come back" : notAll}`]);
  if (todo.length > 0)
    answerText(
      `\nnow, while all is well\n${todo.map((lines) => lines.replaceAll(/^/gm, "  ")).join("\n")}`,
    );
}

/** How many were compared. */
export function fieldsIn({ files, servers }: Pick<Drill, "files" | "servers">): number {
  const inFile = (fields: Fields = {}) => Object.values(fields).flat().length;
  const ofServers = servers.map(({ path }) => files.find((file) => file.path === path)?.back);
  return [...files.map(({ here }) => here), ...ofServers].reduce(
    (sum, fields) => sum + inFile(fields),
    0,
  );
}

const BACKUP = "backup of the keys";
const WORDS: readonly [is: ComparedFile["is"], many: string, back: string][] = [
  ["CA", "CAs", "new ones"],
  ["key", "private keys", "new ones"],
  ["certificate", "certificates", "the same subject, names, usages and kind of key"],
  ["kubeconfig", "kubeconfigs", "the same server, user and rights"],
  ["manifest", "manifests", "the same in meaning"],
];
const COPY = {
  same: "your copy is the same",
  other: "your copy is another one",
  none: "nobody can rebuild it",
};

const ok = (what: string, detail: string): TableRow => ({ what, result: "ok", detail });
const bad = (what: string, state: string, detail: string): TableRow => ({
  ...{ what, result: "failed", state, detail },
});

const snapshotRow = ({ path, fits, says }: NonNullable<Drill["snapshot"]>) =>
  fits ? ok(path, says) : bad(path, "no snapshot", says);

const isBack = ({ differences }: { differences: string[] }) => differences.length === 0;

/** One line for all files that come back; a line for each that does not. */
function fileRows(
  [kind, many, words]: (typeof WORDS)[number],
  files: readonly ComparedFile[],
): TableRow[] {
  const own = files.filter(({ is, here }) => is === kind && here);
  const equal = own.filter(isBack);
  const rows = equal.length > 0 ? [ok(`${equal.length} ${many}`, words)] : [];
  for (const { path, note } of equal) if (note) rows.push({ ...ok(path, note), result: "warning" });
  for (const { path, back, differences } of own.filter((file) => !isBack(file)))
    rows.push(back ? bad(path, "changed", differences.join(", ")) : bad(path, "not made", ""));
  return rows;
}

function serverRows(servers: Drill["servers"]): TableRow[] {
  const equal = servers.filter(isBack).length;
  const rows = equal > 0 ? [ok(`${equal} servers`, "they show what they would show")] : [];
  for (const { server, differences } of servers.filter((one) => !isBack(one)))
    rows.push(bad(server, "changed", differences.join(", ")));
  return rows;
}

const USAGE = `Usage:
    ./bunw scripts/drill.ts [--bundle FILE] [--backup DIR] [--snapshot FILE] [--json]
                            [--etcd-data DIR]

On a healthy control plane node: repairs it in memory, as if /etc/kubernetes were deleted and no old
key were found. Compares that with the files here, and says what would not come back, and what to do
about it now. Reads only.

Options:
    --bundle FILE    The bundle of hand-over pack: does it still have the current keys?
    --backup DIR     Your copies of files that nobody can rebuild: are they current?
    --snapshot FILE  A snapshot of etcd: is it whole, and this cluster's, by the rules of restore?
    --json           Print the same for programs: each file as it is, and as it would be.

Exit codes: 0 all would come back, 1 could not look, 2 not all, 3 refused: this node is not well`;

const OPTIONS = {
  bundle: { type: "string", path: "proved" },
  backup: { type: "string", path: "trusted" },
  snapshot: { type: "string", path: "trusted" },
  json: { type: "boolean" },
  "etcd-data": { type: "string", path: "proved" },
} as const;

if (import.meta.main) await run(main);
