/** A drill for the terminal. */
import { command } from "../again.ts";
import { printLines, type TableRow } from "../checks/print-checks.ts";
import { etcdBackup } from "../hand-over/backup-mark.ts";
import { day } from "../pki/judge.ts";
import { listed } from "../plain.ts";
import { answer, VERSION } from "../run.ts";
import { type ComparedFile, type Drill, fieldsIn, type KeptFile } from "./drill-report.ts";

export function printDrill(found: Drill) {
  const { node, kubernetes, files, servers, lost, backup, others, due, stops, allBack, todo } = found;
  answer(`kube-pki-repair ${VERSION}   drill, reads only   node ${node}   Kubernetes ${kubernetes}`);
  answer("if /etc/kubernetes were deleted now, and no old key were found, the repair would make:\n");
  const rows = [...KINDS.flatMap((is) => rowsOf(is, files)), ...serverRows(servers)];
  const ofBackup = backup
    ? [backup.fits ? ok("backup of the keys", backup.says) : bad("backup of the keys", "none", backup.says)]
    : [];
  printLines([
    ...rows,
    ...lost.map(lostRow),
    ...ofBackup,
    ...stops.map(({ message }) => bad("the repair", "stops", message)),
  ]);
  if (others.length > 0) answer(`\n  not rebuilt, and named by no flag: ${listed(others)}`);
  if (rows.some(({ state }) => state === "changed"))
    answer("\n  - is here and would be missing, + would be new");
  if (due)
    answer(
      `\n  ${listed(due.files)}: in the second half of a CA's life, until ${day(due.first)}. It is renewed on the living cluster: ${command("renew-ca")}`,
    );
  answer(
    `\n  if all disks of the control plane are lost, its objects come from a snapshot of etcd: ${etcdBackup()}`,
  );
  answer(
    `\n  compared: ${files.length} files and ${servers.length} servers, ${fieldsIn(found)} fields. Asked of the API server: ${found.apiReads} request`,
  );
  answer(
    `\nverdict: ${allBack ? "all of it would come back" : `not all of it would come back as it is. To do now: ${todo.length}`}`,
  );
  if (todo.length > 0)
    answer(`\nnow, while all is well\n${todo.map((lines) => lines.replaceAll(/^/gm, "  ")).join("\n")}`);
}

const KINDS: readonly ComparedFile["is"][] = ["CA", "key", "certificate", "kubeconfig", "manifest"];

const WORDS: Record<ComparedFile["is"], [many: string, back: string]> = {
  CA: ["CAs", "new ones"],
  key: ["private keys", "new ones"],
  certificate: ["certificates", "the same subject, names, usages and kind of key"],
  kubeconfig: ["kubeconfigs", "the same server, user and rights"],
  manifest: ["manifests", "the same in meaning"],
};

/** One line for all that come back; a line for each one that does not. */
function rowsOf(is: ComparedFile["is"], files: readonly ComparedFile[]): TableRow[] {
  const own = files.filter((file) => file.is === is && file.here);
  const [same, other] = [
    own.filter(({ differences }) => differences.length === 0),
    own.filter(({ differences }) => differences.length > 0),
  ];
  const [many, back] = WORDS[is];
  return [
    ...(same.length > 0 ? [ok(`${same.length} ${many}`, back)] : []),
    ...same.flatMap(({ path, note }): TableRow[] =>
      note ? [{ what: path, result: "warning", detail: note }] : [],
    ),
    ...other.map(({ path, back, differences }) =>
      back ? bad(path, "changed", differences.join(", ")) : bad(path, "not made", ""),
    ),
  ];
}

function serverRows(servers: Drill["servers"]): TableRow[] {
  const other = servers.filter(({ differences }) => differences.length > 0);
  const same = servers.length - other.length;
  return [
    ...(same > 0 ? [ok(`${same} servers`, "they show what they would show")] : []),
    ...other.map(({ server, differences }) => bad(server, "changed", differences.join(", "))),
  ];
}

const COPY = {
  same: "your copy is the same",
  other: "your copy is another one",
  none: "nobody can rebuild it",
};

function lostRow({ path, program, namedBy, kept }: KeptFile): TableRow {
  const detail = `${named(program, namedBy)} needs it; ${COPY[kept]}`;
  return kept === "same" ? { ...ok(path, detail), state: "kept" } : bad(path, "lost", detail);
}

const ok = (what: string, detail: string): TableRow => ({ what, result: "ok", detail });
const bad = (what: string, state: string, detail: string): TableRow => ({
  what,
  result: "failed",
  state,
  detail,
});

function named(program: string, namedBy: string): string {
  return namedBy.startsWith("/") ? namedBy : `${program} ${namedBy}`;
}
