/** A drill for the terminal. */
import { answer, VERSION } from "../run.ts";
import { type ComparedFile, type Drill, fieldsIn } from "./drill-report.ts";

export function printDrill(found: Drill) {
  const { node, kubernetes, files, servers, lost, others, stops, allBack, todo } = found;
  answer(`kube-pki-repair ${VERSION}   drill, reads only   node ${node}   Kubernetes ${kubernetes}`);
  answer("if /etc/kubernetes were deleted now, and no old key were found, the repair would make:\n");
  const rows = [...KINDS.flatMap((is) => rowsOf(is, files)), ...serverRows(servers)];
  const lines = [
    ...rows,
    ...lost.map(({ path, program, namedBy }) => [path, "!LOST!", `${named(program, namedBy)} needs it, and nobody can rebuild it`]),
    ...stops.map(({ message }) => ["the repair", "!STOPS!", message]),
  ];
  table(lines);
  if (others.length > 0) answer(`\n  not rebuilt, and named by no flag: ${others.join(", ")}`);
  if (rows.some(([, state]) => state === "!CHANGED!")) answer("\n  - is here and would be missing, + would be new");
  answer(`\n  compared: ${files.length} files and ${servers.length} servers, ${fieldsIn(found)} fields`);
  answer(`\nverdict: ${allBack ? "all of it would come back" : `not all of it would come back as it is. To do now: ${todo.length}`}`);
  if (todo.length > 0) answer(`\nnow, while all is well\n${todo.map((lines) => lines.replaceAll(/^/gm, "  ")).join("\n")}`);
}

const KINDS: readonly ComparedFile["is"][] = ["CA", "key", "certificate", "kubeconfig", "manifest"];

const WORDS: Record<ComparedFile["is"], [many: string, back: string]> = {
  CA: ["CAs", "new ones"],
  key: ["keys", "new ones"],
  certificate: ["certificates", "the same subject, names, usages and kind of key"],
  kubeconfig: ["kubeconfigs", "the same server, user and rights"],
  manifest: ["manifests", "the same in meaning"],
};

/** One line for all that come back; a line for each one that does not. */
function rowsOf(is: ComparedFile["is"], files: readonly ComparedFile[]): string[][] {
  const own = files.filter((file) => file.is === is && file.here);
  const [same, other] = [
    own.filter(({ differences }) => differences.length === 0),
    own.filter(({ differences }) => differences.length > 0),
  ];
  const [many, back] = WORDS[is];
  return [
    ...(same.length > 0 ? [[`${same.length} ${many}`, "ok", back]] : []),
    ...same.flatMap(({ path, note }) => (note ? [[path, "note", note]] : [])),
    ...other.map(({ path, back, differences }) => [path, back ? "!CHANGED!" : "!NOT MADE!", back ? differences.join(", ") : ""]),
  ];
}

function serverRows(servers: Drill["servers"]): string[][] {
  const other = servers.filter(({ differences }) => differences.length > 0);
  const same = servers.length - other.length;
  return [
    ...(same > 0 ? [[`${same} servers`, "ok", "they show what they would show"]] : []),
    ...other.map(({ server, differences }) => [server, "!CHANGED!", differences.join(", ")]),
  ];
}

function named(program: string, namedBy: string): string {
  return namedBy.startsWith("/") ? namedBy : `${program} ${namedBy}`;
}

function table(rows: string[][]) {
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows) answer(`  ${row[0]!.padEnd(widths[0]! + 3)}${row[1]!.padEnd(widths[1]! + 3)}${row[2]}`.trimEnd());
}
