/**
 * `report FILE.html`: the page of this repair, over all nodes whose transcripts are here. `report --bundle FILE`:
 * facts for a helper elsewhere, as a tar file, without keys, and without names unless asked.
 */
import { again } from "../again.ts";
import { assess } from "../assess/assess.ts";
import { assessmentAsJson } from "../assess/assessment.ts";
import { lookHere } from "../assess/look-here.ts";
import { checksAsJson } from "../checks/check.ts";
import { goodUntil } from "../checks/forecast.ts";
import { may } from "../evidence/sources.ts";
import type { Cluster } from "../facts/cluster-before.ts";
import type { KnownNode } from "../facts/known-node.ts";
import { controlPlaneNames } from "../facts/known-nodes.ts";
import { attemptLater, Fail } from "../fail.ts";
import { writeTyped } from "../files/operator-files.ts";
import { writeTar } from "../hand-over/tar.ts";
import { okAnswer } from "../json-answer.ts";
import { PACK_RUNS } from "../node/rescue-folder.ts";
import { typed } from "../options.ts";
import { isDnsName } from "../pki/addresses.ts";
import { FEW, listed, redact } from "../plain.ts";
import { answer, say, VERSION } from "../run.ts";
import { shell } from "../shell-line.ts";
import type { VerifiedHere } from "../verify/verify-here.ts";
import { addressToType, type Identities, identitiesOf } from "../workers/identities.ts";
import { aliasesOf, type Written } from "./aliases.ts";
import { type KeptRecord, readKeptRuns } from "./read-runs.ts";
import { type RepairReport, repairPage, runsByTrust } from "./repair-page.ts";

interface Verified extends VerifiedHere {
  here: string;
  end: RepairReport["end"];
}

/** `logs`: the folder with other nodes' transcripts. Errors: as `readKeptRuns` and `writeTyped`. */
export function writeReport(
  file: string,
  logs: string | undefined,
  { here, partialFacts, checks, end, endings }: Verified,
) {
  const found = partialFacts?.cluster &&
    partialFacts.data && { cluster: partialFacts.cluster, data: partialFacts.data };
  const nodes = found?.cluster.nodes ?? [];
  const {
    runs,
    notes,
    unchanged = [],
  } = readKeptRuns(here, logs, controlPlaneNames(partialFacts?.cluster?.nodes ?? []));
  const cluster = found && {
    name: found.cluster.name,
    kubernetes: found.cluster.kubernetesVersion,
    nodes: nodes.map(({ name }) => name),
  };
  const page = repairPage({
    ...{ runs, notes, unchanged, checks, end, cluster },
    ...{ goodUntil: goodUntil(endings), tool: VERSION, made: new Date() },
  });
  writeTyped(file, page, { mode: 0o600 });
  for (const line of notes) say(`warning: ${line}`);
  const reporting = new Set(runs.map(({ node }) => node));
  const others = nodes.filter(
    ({ name }) => ![here, ...reporting, ...unchanged].includes(name) && isDnsName(name),
  );
  if (unchanged.length > 0) say(`no run changed anything on ${listed(unchanged)}`);
  say(`${runs.length} runs${whoSays(runs)}`);
  const target = nodes.find(({ name }) => name === here);
  if (found && target && others.length > 0) printHowToBring(others, target, identitiesOf(found));
}

/** ": 5 on cp1; 2 by the words of w1, w2" */
function whoSays(runs: Parameters<typeof runsByTrust>[0]): string {
  const { ours, others } = runsByTrust(runs);
  const phrase = (some: typeof runs, words: string) =>
    some.length > 0 ? [`${some.length} ${words} ${listed([...new Set(some.map(({ node }) => node))])}`] : [];
  const parts = [...phrase(ours, "on"), ...phrase(others, "by the words of")];
  return parts.length > 0 ? `: ${parts.join("; ")}` : "";
}

/** The folder's name in RUNBOOK.md and in a plan, on that machine and on this node. */
const LOGS = "logs.d";

/**
 * Lines for one shell on a machine that reaches all nodes, which writes into a new folder alone. A worker's address is what
 * its own kubelet says: by its name ssh finds out which machine it is.
 */
function printHowToBring(others: readonly KnownNode[], here: KnownNode, nodesByName: Identities) {
  say(
    `no transcripts from ${listed(others.map(({ name }) => name))}. To bring them, where you can reach all nodes:`,
  );
  answer("d=$(mktemp -d)");
  for (const node of others.slice(0, FEW)) {
    const { address, why } = addressToType(node, nodesByName);
    if (why) say(`${node.name}: use the address that you know: ${why}`);
    const line = node.controlPlane
      ? shell`ssh root@${address} ${PACK_RUNS}`
      : shell`ssh -o ${`HostKeyAlias=${node.name}`} root@${address} ${PACK_RUNS}`;
    answer(`${line} > "$d"/${shell`${node.name}`}.tar`);
  }
  if (others.length > FEW)
    say(
      `and the same for ${others.length - FEW} more nodes; or by the playbook: scripts/fleet.yaml --tags report`,
    );
  const folder = `${typed(".")}/${LOGS}`;
  const unpack = shell`mkdir -p -m 700 ${folder} && cd ${folder} && tar -xf -`;
  answer(`tar -C "$d" -cf - . | ${shell`ssh root@${addressToType(here, nodesByName).address} ${unpack}`}`);
  say(`then: ${again({ logs: LOGS })}`);
}

interface Bundled extends Verified {
  hostName: string;
  logs: string | undefined;
  withNames: boolean | undefined;
  /** The path as it was typed. */
  etcdData: string | undefined;
}

/**
 * `logs`: as for the report. `withNames`: host names and addresses stay. Errors: as `readKeptRuns` and
 * `writeTyped`.
 */
export async function writeBundle(
  file: string,
  { here, hostName, partialFacts, checks, end, ...options }: Bundled,
) {
  const { runs, notes } = readKeptRuns(
    here,
    options.logs,
    controlPlaneNames(partialFacts?.cluster?.nodes ?? []),
  );
  const assessed = await assessment(options.etcdData);
  const kubernetes = partialFacts?.cluster?.kubernetesVersion;
  const verified = okAnswer({ node: here, kubernetes, ...checksAsJson(checks), end });
  const found: BundledFile[] = [
    { name: "assess", end: ".json", text: JSON.stringify(assessed, null, 2) },
    { name: "verify", end: ".json", text: JSON.stringify(verified, null, 2) },
    { name: "notes", end: ".txt", text: notes.join("\n") },
    ...runs.flatMap(filesOfRun),
  ];
  // before names are replaced: a replaced name could break the form by which a secret is recognised
  const files = found.map((one) => ({ ...one, text: redact(one.text).text }));
  const names = [here, hostName, ...(partialFacts?.data?.members ?? []).map(({ name }) => name)];
  const renamed = options.withNames ? (text: string) => text : renaming(partialFacts?.cluster, names, files);
  files.unshift({ name: "README", end: ".txt", text: readme(options.withNames ?? false) });
  const entries = files.map(({ name, run, end, text }) => ({
    ...{
      name: `kube-pki-repair/${name}${run ? `-${ofName(renamed(run.node))}-${ofName(run.script)}` : ""}${end}`,
      mode: 0o600,
    },
    bytes: Buffer.from(`${redact(renamed(text, whoseWord(run))).text.trimEnd()}\n`),
  }));
  writeTyped(file, writeTar(entries, new Date()), {
    mode: 0o600,
    note: `${entries.length} files, ${runs.length} runs`,
  });
  say(
    options.withNames
      ? "host names and addresses are in it"
      : "host names and addresses are aliases in it; names of namespaces and workloads are not: read it before you send it on",
  );
}

async function assessment(etcdData: string | undefined): Promise<unknown> {
  const assessed = await attemptLater(async () => assess(await lookHere(etcdData)));
  return assessed instanceof Fail
    ? { error: assessed.message, hint: assessed.hint }
    : assessmentAsJson(assessed);
}

interface BundledFile {
  /** Our own name: letters, numbers and a slash. */
  name: string;
  /** Its node is in its name. */
  run?: KeptRecord;
  end: ".json" | ".txt";
  text: string;
}

/** The node whose own words these are; undefined if they are believed. */
function whoseWord(run: KeptRecord | undefined): string | undefined {
  return run && !may(run.source, "report") ? run.node : undefined;
}

/** The aliases for these files: a node that is only quoted has its own. */
function renaming(cluster: Cluster | undefined, names: readonly string[], files: readonly BundledFile[]) {
  const writtenIn = (those: readonly BundledFile[]): Written => ({
    names: those.flatMap(({ run }) => (run ? namesIn(run) : [])),
    texts: those.map(({ text }) => text),
  });
  const byAuthor = Map.groupBy(files, ({ run }) => whoseWord(run));
  const { names: more, texts } = writtenIn(byAuthor.get(undefined) ?? []);
  const others = [...byAuthor].flatMap(([node, those]): [string, Written][] =>
    node === undefined ? [] : [[node, writtenIn(those)]],
  );
  const nodes = others.map(([node]) => node);
  return aliasesOf(cluster, { names: [...names, ...more, ...nodes], texts }, new Map(others));
}

function filesOfRun(run: KeptRecord, index: number): BundledFile[] {
  const name = `runs/${String(index + 1).padStart(4, "0")}`;
  const { text, events, steps: _, ...head } = run;
  return [
    { name, run, end: ".txt", text },
    { name, run, end: ".json", text: JSON.stringify({ ...head, events }, null, 1) },
  ];
}

/** A safe part of a file's name: short, and without a path. */
function ofName(word: string): string {
  return word.replaceAll(/[^\w.-]/g, "-").slice(0, 60);
}

function namesIn({ node, events }: KeptRecord): string[] {
  return [
    node,
    ...events.flatMap((event) =>
      event.what === "node" ? [event.name] : event.what === "run" ? [event.host] : [],
    ),
  ];
}

function readme(withNames: boolean): string {
  return `Made by kube-pki-repair ${VERSION}, report --bundle, for a colleague or an issue.

assess.json  what 00-assess says of this node now
verify.json  every check of 05-verify, now
runs/        what each run of a script has printed (.txt), and what it changed (.json), in order of time; "source" says whose word it is
notes.txt    what was left out of the runs, and why

No key, token or content of a Secret is in it. ${withNames ? "Host names and addresses are." : "Host names and addresses are aliases: the same one is the same alias in all files."}
Names of namespaces, workloads, Secrets and files are as they are: read it before you send it on.
`;
}
