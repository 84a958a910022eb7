/**
 * What runs have left of themselves (node/kept-run.ts): on this node, and in a folder to which other nodes' were brought, one NODE.tar each.
 * These others are input: root on that node wrote them, so they are quoted as that node's words, and decide nothing but where that node is a
 * member of etcd (trust/sources.ts). Each line is checked; what does not fit is left out, and counted.
 */
import { basename, join } from "node:path";
import { attempt, Fail } from "../fail.ts";
import { list, readBytes, stat } from "../files/files.ts";
import { refuseOthers } from "../files/operator-files.ts";
import { readTar } from "../hand-over/tar.ts";
import { rescueFolders, runsIn } from "../node/rescue-folder.ts";
import { isDnsName } from "../pki/addresses.ts";
import { orUndefined } from "../pki/certificate.ts";
import { plain, strangers } from "../plain.ts";
import type { SourceName } from "../trust/sources.ts";
import { asEvent, type KeptEvent } from "./kept-event.ts";

/** One run of a script that changed something. */
export interface KeptRecord {
  /** Whose transcript it is: this node, or the one that the file is named after. */
  node: string;
  source: SourceName;
  /** "hand-over pack" */
  script: string;
  version: string;
  args: readonly string[];
  began: Date;
  /** Undefined: it was cut off, or runs still. */
  exitCode: number | undefined;
  /** Of its last line. */
  ended: Date;
  steps: { title: string; began: Date; ended: Date | undefined; ok: boolean }[];
  events: KeptEvent[];
  /** As the operator saw it. */
  text: string;
}

export interface KeptRuns {
  /** In order of time, by each node's own clock. */
  runs: KeptRecord[];
  /** What was left out, and why. */
  notes: string[];
}

/** Bytes of all that one node brought, and of one file in it. */
const LARGEST_TAR = 64 << 20;
const LARGEST_FILE = 9 << 20;

/** Runs of one node, events of one run, characters of one transcript. */
const MOST = { runs: 500, events: 20_000, text: 200_000 };

/** A record, by its path: what node/kept-run.ts makes. */
const RECORD = /(^|\/)kube-pki-repair-\d{8}T\d{6}\/runs\/[\w-]{1,100}\.jsonl$/;

/**
 * Everything that is here. `logs`: the folder with NODE.tar. `controlPlanes`: members of etcd, by its data. Errors: Fail where that folder is
 * not there.
 */
export function readKeptRuns(here: string, logs?: string, controlPlanes: readonly string[] = []): KeptRuns {
  if (logs !== undefined && stat(logs)?.kind !== "dir")
    throw new Fail(`There is no folder "${logs}"`, { hint: "name the folder into which the nodes' NODE.tar files were brought" });
  const found: KeptRuns = { runs: [], notes: [] };
  addNode(found, { node: here, source: "this node" }, filesHere());
  const brought = logs === undefined ? [] : list(logs).filter((name) => name.endsWith(".tar") && name !== `${here}.tar`);
  for (const name of brought) {
    const node = name.slice(0, -".tar".length);
    const files = isDnsName(node) && !node.startsWith("*") ? filesIn(join(logs!, name)) : "its name is no node's";
    if (typeof files === "string") found.notes.push(`${strangers(name)}: left out: ${files}`);
    else
      addNode(
        found,
        { node, source: controlPlanes.includes(node) ? "a control plane node's transcripts" : "another node's transcripts" },
        files,
      );
  }
  found.runs.sort((a, b) => a.began.getTime() - b.began.getTime());
  return found;
}

type Files = Map<string, Uint8Array>;

function filesHere(): Files {
  const paths = rescueFolders().flatMap((rescue) => list(runsIn(rescue)).map((name) => `${runsIn(rescue)}/${name}`));
  return new Map(paths.filter((path) => stat(path)!.size <= LARGEST_FILE).map((path) => [path, readBytes(path)!]));
}

/** A sentence where it cannot be read. */
function filesIn(path: string): Files | string {
  const linked = attempt(() => refuseOthers(path, "proved"));
  if (linked instanceof Fail) return linked.message;
  const info = stat(path);
  if (info?.kind !== "file" || info.size > LARGEST_TAR) return `it is no file of at most ${LARGEST_TAR >> 20} MB`;
  const files = attempt(() => readTar(readBytes(path)!));
  if (files instanceof Fail) return "it is no tar file of plain files, or it is cut off";
  return new Map(files.filter(({ bytes }) => bytes.length <= LARGEST_FILE).map(({ name, bytes }) => [name, bytes]));
}

type Whose = Pick<KeptRecord, "node" | "source">;

function addNode(found: KeptRuns, whose: Whose, files: Files) {
  const { node } = whose;
  const records = [...files.keys()].filter((path) => RECORD.test(path)).sort();
  if (records.length > MOST.runs) found.notes.push(`${node}: ${records.length - MOST.runs} of its ${records.length} runs are left out`);
  for (const name of records.slice(-MOST.runs)) {
    const said = files.get(name.replace(/jsonl$/, "txt")) ?? new Uint8Array();
    const { run, bad } = recordOf(whose, text(files.get(name)!), plain(text(said), MOST.text));
    if (run) found.runs.push(run);
    if (!run) found.notes.push(`${node}: ${basename(name)}: left out, it does not begin as a record of a run does`);
    else if (bad > 0)
      found.notes.push(
        `${node}: ${run.script}: ${bad} line${bad === 1 ? " is" : "s are"} left out: cut off, or not as this kit writes them`,
      );
  }
}

function text(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("utf8");
}

/** `bad`: how many lines do not fit. */
function recordOf(whose: Whose, lines: string, said: string): { run: KeptRecord | undefined; bad: number } {
  const all = lines.split("\n").filter(Boolean).slice(0, MOST.events);
  const events = all.flatMap((line) => asEvent(orUndefined(() => JSON.parse(line) as unknown)) ?? []);
  const [first] = events;
  if (first?.what !== "run") return { run: undefined, bad: all.length };
  const end = events.find((event) => event.what === "end");
  const run = {
    ...{ ...whose, script: first.script, version: first.version, args: first.args, began: first.at, exitCode: end?.exitCode },
    ...{ ended: events.at(-1)!.at, steps: stepsOf(events), events, text: said },
  };
  return { run, bad: all.length - events.length };
}

function stepsOf(events: readonly KeptEvent[]): KeptRecord["steps"] {
  const steps: KeptRecord["steps"] = [];
  for (const event of events) {
    if (event.what === "step") steps.push({ title: event.title, began: event.at, ended: undefined, ok: false });
    const open = event.what === "step end" ? steps.findLast(({ title, ended }) => title === event.title && !ended) : undefined;
    if (open && event.what === "step end") Object.assign(open, { ended: event.at, ok: event.ok });
  }
  return steps;
}
