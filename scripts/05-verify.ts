#!/usr/bin/env bun
/**
 * RUNBOOK part 5: proof. Each chain of certificates, each node, each token. Reads only. On a
 * control plane node it looks at the whole cluster, on a worker at its kubelet. Run it at any time.
 */
import { dirname } from "node:path";
import { command, inLines } from "../shared/again.ts";
import { type Check, checksAsJson, summaryOf } from "../shared/checks/check.ts";
import { type Ending, goodUntil } from "../shared/checks/forecast.ts";
import { SEVERITIES } from "../shared/checks/kinds.ts";
import {
  headlineOf,
  printChecks,
  printVerdict,
  summaryText,
  tellSummary,
} from "../shared/checks/print-checks.ts";
import { hintOf, nextCommands } from "../shared/checks/way.ts";
import { saveOptions } from "../shared/facts/typed-options.ts";
import { Fail } from "../shared/fail.ts";
import { stat } from "../shared/files/files.ts";
import { parseOptions, writeTyped } from "../shared/files/operator-files.ts";
import { backupMade } from "../shared/hand-over/backup-mark.ts";
import { readNode } from "../shared/node/node.ts";
import { answerJson, answerLines, answerToPaste, run, tell, VERSION } from "../shared/run.ts";
import { untilGood, type VerifiedHere, verifyHere } from "../shared/verify/verify-here.ts";
import { wrapUp, wrapUpLines } from "../shared/verify/wrap-up.ts";
import type { WrapUp } from "../shared/verify/wrap-up-parts.ts";

/**
 * Looks, and changes nothing but the metrics file that `--metrics` names:
 * 1. The same look as 00-assess: who this node is, and the cluster as it was.
 * 2. Each check of this node, and of the cluster through the API: a row with its proof.
 * 3. With `--wait` it looks again at what is on its way, such as a pod that starts.
 * 4. What the repair has left to do, and what may be deleted now.
 * 5. The verdict first, then each failed check with its command, then the next expiry.
 */
async function main() {
  const values = parse();
  if (values.metrics) refuseMetricsPlace(values.metrics);
  const node = await readNode();
  tell(`kube-pki-repair ${VERSION}   05-verify   reads only   node ${node.name}`);
  const how = { etcdData: values["etcd-data"], without: values.without, well: new Map() };
  const look = () => verifyHere(node, how);
  const found = await untilGood(await look(), look, Number(values.wait ?? 0));
  if (found.partialFacts?.cp) saveOptions(found.partialFacts.cp);
  const pki = found.partialFacts?.certificatesDir;
  const backup = pki ? backupMade(pki) : undefined;
  if (values.metrics)
    writeMetrics(values.metrics, metricsText({ node: node.name, backup, ...found }));
  const end = await wrapUp(node, found.partialFacts?.cp);
  report(found, values, end, goodUntil(found.endings));
}

function report(
  { checks, others }: Pick<VerifiedHere, "checks" | "others">,
  values: Values,
  repair: WrapUp | undefined,
  until: string | undefined,
) {
  if (values.json) answerJson({ ...checksAsJson(checks), repair });
  else screen(checks, values, repair, others);
  const hint = hintOf(checks);
  if (until && !hint) tell("", until);
  tellSummary(checks);
  if (!hint) return;
  tell(`hint: ${hint}`);
  process.exitCode = 2;
}

/** The verdict and the next commands, then the table. */
function screen(
  checks: readonly Check[],
  { all, output }: Values,
  repair: WrapUp | undefined,
  others: readonly string[],
) {
  const verdict = [headlineOf(checks), summaryText(checks)].filter(Boolean).join(". ");
  printVerdict(verdict, inLines(nextCommands(checks, others)));
  if (all || checks.some(({ result }) => result !== "ok")) answerLines([""]);
  printChecks(checks, { all, advice: output === "short" ? "behind" : "below" });
  if (repair) answerToPaste(["", ...wrapUpLines(repair)]);
}

interface Findings {
  node: string;
  checks: readonly Check[];
  endings: readonly Ending[];
  /** Holders of a renewed CA's old certificate, and until when it is valid. */
  oldCa: readonly { kind: string; until: Date }[];
  /** When the backup of these keys was made; unset: there is none. */
  backup: Date | undefined;
}

interface Sample {
  labels?: Record<string, string>;
  value: number;
}

/** The file's text. `now`: when the node was checked. */
export function metricsText(
  { node, checks, endings, oldCa, backup }: Findings,
  now = new Date(),
): string {
  const { ok, unknown } = summaryOf(checks);
  const bad = (["failed", "warning"] as const).flatMap((result) =>
    Object.keys(SEVERITIES).map((severity) => ({
      labels: { result, severity },
      value: checks.filter((check) => check.result === result && check.severity === severity)
        .length,
    })),
  );
  return [
    metric("info", "The kit that has looked.", [{ labels: { version: VERSION, node }, value: 1 }]),
    metric("last_run_timestamp_seconds", "When it was looked last.", [{ value: seconds(now) }]),
    metric("checks", "How many checks ended so.", [
      { labels: { result: "ok", severity: "" }, value: ok },
      { labels: { result: "unknown", severity: "" }, value: unknown },
      ...bad,
    ]),
    metric("bad_checks", "Checks that failed or warn, by their id.", badById(checks)),
    metric(
      "certificate_expiry_timestamp_seconds",
      "When the certificate in this file expires (notAfter).",
      endings.map(({ kind, path, notAfter }) => ({
        labels: { kind, path },
        value: seconds(notAfter),
      })),
    ),
    metric(
      "old_ca_holders",
      "How many still hold a CA's old certificate, as far as this node knows.",
      byKind(oldCa, (all) => all.length),
    ),
    metric(
      "old_ca_expiry_timestamp_seconds",
      "When the first of these older certificates expires (notAfter).",
      byKind(oldCa, (all) => Math.min(...all.map(({ until }) => seconds(until)))),
    ),
    metric(
      "backup_age_seconds",
      "How old the backup of the shared keys is; not there: there is no backup.",
      backup ? [{ value: seconds(now) - seconds(backup) }] : [],
    ),
  ].join("");
}

type OldCa = Findings["oldCa"];

function byKind(oldCa: OldCa, figure: (all: OldCa) => number): Sample[] {
  return [...Map.groupBy(oldCa, ({ kind }) => kind)].map(([kind, all]) => ({
    labels: { kind },
    value: figure(all),
  }));
}

function badById(checks: readonly Check[]): Sample[] {
  const bad = checks.filter(({ result }) => result !== "ok");
  const groups = Map.groupBy(bad, ({ id, result, severity }) => [id, result, severity].join(" "));
  return [...groups.values()].map((group) => {
    const { id, result, severity = "" } = group[0]!;
    return { labels: { id, result, severity }, value: group.length };
  });
}

function metric(name: string, help: string, samples: readonly Sample[]): string {
  const full = `kube_pki_repair_${name}`;
  if (samples.length === 0) return "";
  return [
    `# HELP ${full} ${help}`,
    `# TYPE ${full} gauge`,
    ...samples.map(({ labels, value }) => `${full}${labelsOf(labels)} ${value}`),
    "",
  ].join("\n");
}

function labelsOf(labels: Record<string, string> | undefined): string {
  if (!labels) return "";
  return `{${Object.entries(labels)
    .map(([name, value]) => `${name}="${escaped(value)}"`)
    .join(",")}}`;
}

function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function seconds(date: Date): number {
  return Math.floor(date.getTime() / 1000);
}

/** Runs before any check. Errors: Fail if node_exporter would not read the file. */
export function refuseMetricsPlace(path: string) {
  if (!path.endsWith(".prom"))
    throw new Fail(`node_exporter reads only files that end in .prom, not "${path}"`, {
      hint: `give another name: ${command("05-verify", { metrics: `${path}.prom` })}`,
    });
  if (stat(dirname(path))?.kind !== "dir")
    throw new Fail(`There is no folder "${dirname(path)}"`, {
      hint:
        "give the folder that node_exporter reads: ps -C node_exporter -o args shows " +
        "--collector.textfile.directory",
    });
}

/** Written beside it and renamed: node_exporter reads the old file or the new one. */
function writeMetrics(path: string, text: string) {
  writeTyped(path, text, { mode: 0o644, use: "public" });
}

const USAGE = `Usage:
    ./bunw scripts/05-verify.ts [--output short|json] [--all] [--wait SECONDS]
                                [--without NODE,…] [--metrics FILE.prom] [--etcd-data DIR]

Checks certificates, servers, nodes and tokens. On a control plane node it checks the whole cluster,
on a worker the worker's kubelet. Reads only. The verdict and the next commands come first, then a
row for each cause, the worst on top. It says how bad it is, what still works and until when, and
the command that repairs it. Checks that could not be made are counted below their cause. How bad:
    outage now   something does not work
    outage later it works until a date, or until something restarts
    minor        it works; a spare, a protection or a tool is missing
    note         good to know
After a repair it ends with what has changed, what is left for people, and what to delete on which
node. ./bunw scripts/report.ts makes a page of the repair, and a bundle for a colleague.

Options:
    --all            Print every check, also those that are good, and those that could not be made.
    --output WORD    short: one line for each. json: all checks, for programs, with a summary, the
                     version of these fields, and what a repair has changed and left.
    --json           Print as --output json does.
    --wait SECONDS   Check again until nothing fails, or the time is over. It says for what it
                     waits.
    --without NODES  Nodes that are away for now: they are not asked, and nobody waits for them. It
                     is saved for all scripts, in memory or in the rescue folder.
    --metrics FILE   Write the results for Prometheus (node_exporter's textfile collector): when
                     each certificate expires, what is bad, the age of the backup. The name of the
                     file ends in .prom.

On a terminal each line has a sign: √ good, ‼ warning, × failed. NO_COLOR=1 and TERM=dumb take the
colour away; without UTF-8 (LC_ALL=C) the signs are + ! x.

Exit codes: 0 nothing failed (there may be warnings), 1 could not look, 2 a check failed,
            3 refused: this is no node of a kubeadm cluster`;

const OPTIONS = {
  all: { type: "boolean" },
  output: { type: "string", oneOf: ["short", "json"] },
  json: { type: "boolean" },
  wait: { type: "string", number: true },
  without: { type: "string", list: true },
  metrics: { type: "string", path: "public" },
  "etcd-data": { type: "string", path: "proved" },
} as const;

type Values = ReturnType<typeof parse>;

function parse() {
  const { values } = parseOptions({ options: OPTIONS, usage: USAGE });
  return { ...values, json: values.json || values.output === "json" };
}

if (import.meta.main) await run(main);
