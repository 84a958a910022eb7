/** A drill for the terminal. */
import { megabytes } from "../files/room.ts";
import { FEW, listed } from "../plain.ts";
import { answer, VERSION } from "../run.ts";
import { type ComparedFile, type Drill, fieldsIn, type KeptFile } from "./drill-report.ts";

export function printDrill(found: Drill) {
  const { node, kubernetes, files, servers, lost, backup, others, stops, allBack, todo } = found;
  answer(`kube-pki-repair ${VERSION}   drill, reads only   node ${node}   Kubernetes ${kubernetes}`);
  answer("if /etc/kubernetes were deleted now, and no old key were found, the repair would make:\n");
  const rows = [...KINDS.flatMap((is) => rowsOf(is, files)), ...serverRows(servers)];
  const lines = [
    ...rows,
    ...lost.map(lostRow),
    ...(backup ? [["backup of the keys", backup.fits ? "ok" : "!NONE!", backup.says]] : []),
    ...stops.map(({ message }) => ["the repair", "!STOPS!", message]),
  ];
  table(lines);
  if (others.length > 0) answer(`\n  not rebuilt, and named by no flag: ${listed(others)}`);
  if (rows.some(([, state]) => state === "!CHANGED!")) answer("\n  - is here and would be missing, + would be new");
  printRestarts(found);
  answer(
    `\n  compared: ${files.length} files and ${servers.length} servers, ${fieldsIn(found)} fields. Asked of the API server: ${found.apiReads} request`,
  );
  answer(`\nverdict: ${allBack ? "all of it would come back" : `not all of it would come back as it is. To do now: ${todo.length}`}`);
  if (todo.length > 0) answer(`\nnow, while all is well\n${todo.map((lines) => lines.replaceAll(/^/gm, "  ")).join("\n")}`);
}

const KINDS: readonly ComparedFile["is"][] = ["CA", "key", "certificate", "kubeconfig", "manifest"];

const WORDS: Record<ComparedFile["is"], [many: string, back: string]> = {
  CA: ["CAs", "new ones"],
  key: ["private keys", "new ones"],
  certificate: ["certificates", "the same subject, names, usages and kind of key"],
  kubeconfig: ["kubeconfigs", "the same server, user and rights"],
  manifest: ["manifests", "the same in meaning"],
};

/** What it would cost, by part 4's code and the rehearsals' figures. */
function printRestarts({ restarts: { unknown, workloads, left }, time }: Drill) {
  const pods = workloads.reduce((sum, one) => sum + one.pods.length, 0);
  answer(
    unknown
      ? `\n  what part 4 would restart is not known: ${unknown}`
      : `\n  part 4 would restart ${counted(pods, "pod")} of ${counted(workloads.length, "workload")}`,
  );
  if (left.length > 0) answer("  it would leave to you:");
  for (const { workload, why, hint } of left.slice(0, FEW)) answer(`    ${workload}: ${why}${hint ? `: ${hint}` : ""}`);
  if (left.length > FEW) answer(`    and ${left.length - FEW} more`);
  const { controlPlanes, workers, bytes, keys } = time;
  answer(
    `\n  estimated, by the rehearsals' figures, for ${counted(controlPlanes, "control plane node")}, ${counted(workers, "worker")}, ${keys} keys in etcd, ${megabytes(bytes)} MB:`,
  );
  answer(
    `    the API after ${minutes(time.untilApi)}, all nodes after ${minutes(time.untilNodes)}, all pods after ${minutes(time.untilPods)}; and the time in which you read`,
  );
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** "1 to 3 minutes" */
function minutes(range: readonly [number, number]): string {
  const [least, most] = range.map((seconds) => Math.max(1, Math.round(seconds / 60))) as [number, number];
  return least === most ? counted(least, "minute") : `${least} to ${most} minutes`;
}

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

const KEPT: Record<KeptFile["kept"], [state: string, copy: string]> = {
  same: ["kept", "your copy is the same"],
  other: ["!LOST!", "your copy is another one"],
  none: ["!LOST!", "nobody can rebuild it"],
};

function lostRow({ path, program, namedBy, kept }: KeptFile): string[] {
  const [state, copy] = KEPT[kept];
  return [path, state, `${named(program, namedBy)} needs it; ${copy}`];
}

function named(program: string, namedBy: string): string {
  return namedBy.startsWith("/") ? namedBy : `${program} ${namedBy}`;
}

function table(rows: string[][]) {
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows) answer(`  ${row[0]!.padEnd(widths[0]! + 3)}${row[1]!.padEnd(widths[1]! + 3)}${row[2]}`.trimEnd());
}
