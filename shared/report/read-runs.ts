/**
 * Records that runs leave (node/kept-run.ts): on this node, and in a folder with those of other nodes, one
 * NODE.tar each. Root on that node wrote them, so they are quoted as that node's words, and decide nothing
 * unless that node is a member of etcd (evidence/sources.ts). Each line is checked; wrong ones are left out,
 * and counted.
 */
import { basename, join } from "node:path";
import { may, type SourceName } from "../evidence/sources.ts";
import { attempt, Fail } from "../fail.ts";
import { list, readBytes, stat } from "../files/files.ts";
import { refuseOthers } from "../files/operator-files.ts";
import { readTar } from "../hand-over/tar.ts";
import { rescueFolders, transcriptFolder } from "../node/rescue-folder.ts";
import { isDnsName } from "../pki/addresses.ts";
import { orUndefined } from "../pki/certificate.ts";
import { listed, plain, quoteUntrusted, redact } from "../plain.ts";
import { formatNumber } from "../progress.ts";
import { asEvent, type KeptEvent } from "./kept-event.ts";

export interface KeptRecord {
  /** The transcript's node: this one, or the one that the file is named after. */
  node: string;
  source: SourceName;
  script: string;
  version: string;
  args: readonly string[];
  began: Date;
  /** Undefined if the run was interrupted, or still runs. */
  exitCode: number | undefined;
  ended: Date;
  steps: {
    title: string;
    began: Date;
    ended: Date | undefined;
    ok: boolean;
    waited: { for: string; seconds: number }[];
  }[];
  events: KeptEvent[];
  text: string;
}

export interface KeptRuns {
  /** Names of nodes whose archive has no transcript: nothing was changed there. */
  unchanged?: readonly string[];
  /** In order of time, by each node's own clock. */
  runs: KeptRecord[];
  notes: string[];
}

/** Limits in bytes for all files of one node, one file, and one transcript. */
const LARGEST_TAR = 64 << 20;
const LARGEST_FILE = 9 << 20;
const LONGEST_TEXT = 200_000;
const REST = "\n… (it is longer: all of it is in that node's rescue folder)\n";

/**
 * Limits for one node, newest runs first: reading happens beside the API server, and root on any worker
 * chooses the amount. A join with long waits has 20 kB and 100 lines, part 4 of a large cluster 300 kB.
 */
const BUDGET = {
  believed: { runs: 500, lines: 200_000, bytes: 64 << 20 },
  quoted: { runs: 200, lines: 10_000, bytes: 4 << 20 },
};

/** A record, by the path that node/kept-run.ts gives it. */
const RECORD = /(^|\/)kube-pki-repair-\d{8}T\d{6}\/runs\/[\w-]{1,100}\.jsonl$/;

/**
 * `logs`: the folder with NODE.tar. `controlPlanes`: members of etcd, by its data. Errors: Fail if that folder does
 * not exist.
 */
export function readKeptRuns(here: string, logs?: string, controlPlanes: readonly string[] = []): KeptRuns {
  if (logs !== undefined && stat(logs)?.kind !== "dir")
    throw new Fail(`There is no folder "${logs}"`, {
      hint: "name the folder into which the nodes' NODE.tar files were brought",
    });
  const found: KeptRuns & { unchanged: string[] } = { runs: [], notes: [], unchanged: [] };
  addNode(found, { node: here, source: "this node" }, filesHere());
  const archives =
    logs === undefined ? [] : list(logs).filter((name) => name.endsWith(".tar") && name !== `${here}.tar`);
  for (const name of archives) {
    const node = name.slice(0, -".tar".length);
    const files =
      isDnsName(node) && !node.startsWith("*") ? filesIn(join(logs!, name)) : "its name is no node's";
    if (typeof files === "string") found.notes.push(`${quoteUntrusted(name)}: left out: ${files}`);
    else if (files.size === 0) found.unchanged.push(node);
    else
      addNode(
        found,
        {
          node,
          source: controlPlanes.includes(node)
            ? "a control plane node's transcripts"
            : "another node's transcripts",
        },
        files,
      );
  }
  found.runs.sort((a, b) => a.began.getTime() - b.began.getTime());
  return found;
}

type Files = Map<string, Uint8Array>;

function filesHere(): Files {
  const paths = rescueFolders().flatMap((rescue) =>
    list(transcriptFolder(rescue)).map((name) => `${transcriptFolder(rescue)}/${name}`),
  );
  return new Map(
    paths.filter((path) => stat(path)!.size <= LARGEST_FILE).map((path) => [path, readBytes(path)!]),
  );
}

/** A sentence if it cannot be read. */
function filesIn(path: string): Files | string {
  const linked = attempt(() => refuseOthers(path, "proved"));
  if (linked instanceof Fail) return linked.message;
  const info = stat(path);
  if (info?.kind !== "file" || info.size > LARGEST_TAR)
    return `it is no file of at most ${LARGEST_TAR >> 20} MB`;
  const files = attempt(() => readTar(readBytes(path)!));
  if (files instanceof Fail) return "it is no tar file of plain files, or it is cut off";
  return new Map(
    files.filter(({ bytes }) => bytes.length <= LARGEST_FILE).map(({ name, bytes }) => [name, bytes]),
  );
}

type Whose = Pick<KeptRecord, "node" | "source">;

function addNode(found: KeptRuns, whose: Whose, files: Files) {
  const records = [...files.keys()].filter((path) => RECORD.test(path)).sort();
  const { read, leftOut } = withinBudget(
    records.reverse(),
    files,
    BUDGET[may(whose.source, "report") ? "believed" : "quoted"],
  );
  const all = read.reverse().map((one) => ({ ...one, ...recordOf(whose, one.lines, one.output) }));
  found.runs.push(...all.flatMap(({ run }) => run ?? []));
  const none = all.filter(({ run }) => !run).map(({ name }) => basename(name));
  const bad = all.filter((one) => one.run && one.bad > 0);
  const badLines = bad.reduce((sum, one) => sum + one.bad, 0);
  const notes = [
    none.length > 0 && `left out, as they do not begin as a record of a run does: ${listed(none)}`,
    badLines > 0 &&
      `lines are left out that are cut off, or not as this kit writes them: ${formatNumber(badLines)}, of ${listed([...new Set(bad.map(({ run }) => run!.script))])}`,
    leftOut,
  ];
  found.notes.push(
    ...notes.filter((note) => typeof note === "string").map((note) => `${whose.node}: ${note}`),
  );
}

/** The files without what looks like a secret, until the budget is spent. `leftOut`: a sentence. */
function withinBudget(names: readonly string[], files: Files, most: (typeof BUDGET)["quoted"]) {
  const read: { name: string; lines: string[]; output: string }[] = [];
  let [lines, bytes] = [0, 0];
  for (const name of names) {
    const record = files.get(name)!;
    const quoted = files.get(name.replace(/jsonl$/, "txt")) ?? new Uint8Array();
    bytes += record.length + Math.min(quoted.length, LONGEST_TEXT);
    lines += record.reduce((sum, byte) => sum + (byte === 0x0a ? 1 : 0), 1);
    if (read.length === most.runs || lines > most.lines || bytes > most.bytes) {
      const budget = `${formatNumber(most.runs)} runs, ${formatNumber(most.lines)} lines and ${most.bytes >> 20} MB`;
      return {
        read,
        leftOut: `the oldest ${formatNumber(names.length - read.length)} of its ${formatNumber(names.length)} runs are left out: more than ${budget} are not read of one node`,
      };
    }
    read.push({
      name,
      lines: redact(text(record)).text.split("\n").filter(Boolean),
      output:
        redact(plain(text(quoted.subarray(0, LONGEST_TEXT)), LONGEST_TEXT)).text +
        (quoted.length > LONGEST_TEXT ? REST : ""),
    });
  }
  return { read, leftOut: undefined };
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("utf8");
}

/** `bad`: the number of wrong lines. */
function recordOf(whose: Whose, all: readonly string[], output: string) {
  const events = all.flatMap((line) => asEvent(orUndefined(() => JSON.parse(line) as unknown)) ?? []);
  const [first] = events;
  if (first?.what !== "run") return { run: undefined, bad: all.length };
  const end = events.find((event) => event.what === "end");
  const run = {
    ...{
      ...whose,
      script: first.script,
      version: first.version,
      args: first.args,
      began: first.at,
      exitCode: end?.exitCode,
    },
    ...{ ended: events.at(-1)!.at, steps: stepsOf(events), events, text: output },
  };
  return { run, bad: all.length - events.length };
}

function stepsOf(events: readonly KeptEvent[]): KeptRecord["steps"] {
  const steps: KeptRecord["steps"] = [];
  const open = new Map<string, KeptRecord["steps"]>();
  for (const event of events) {
    if (event.what === "step") {
      const step = { title: event.title, began: event.at, ended: undefined, ok: false, waited: [] };
      steps.push(step);
      const earlier = open.get(event.title);
      if (earlier) earlier.push(step);
      else open.set(event.title, [step]);
    }
    if (event.what === "waited")
      steps.findLast(({ ended }) => !ended)?.waited.push({ for: event.for, seconds: event.seconds });
    const last = event.what === "step end" ? open.get(event.title)?.pop() : undefined;
    if (last && event.what === "step end") Object.assign(last, { ended: event.at, ok: event.ok });
  }
  return steps;
}
