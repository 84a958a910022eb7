/**
 * Metrics for Prometheus in its text format (prometheus.io/docs/instrumenting/exposition_formats), for
 * node_exporter's textfile collector. Names and dates only, no secret: other users of the node may read the
 * file.
 */
import { dirname } from "node:path";
import { Fail } from "../fail.ts";
import { stat } from "../files/files.ts";
import { writeTyped } from "../files/operator-files.ts";
import { VERSION } from "../run.ts";
import { type Check, summaryOf } from "./check.ts";
import type { Ending } from "./forecast.ts";
import { SEVERITIES } from "./kinds.ts";

interface Seen {
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
export function metricsText({ node, checks, endings, oldCa, backup }: Seen, now = new Date()): string {
  const { ok } = summaryOf(checks);
  const bad = (["failed", "warning"] as const).flatMap((result) =>
    Object.keys(SEVERITIES).map((severity) => ({
      labels: { result, severity },
      value: checks.filter((check) => check.result === result && check.severity === severity).length,
    })),
  );
  return [
    metric("info", "The kit that has looked.", [{ labels: { version: VERSION, node }, value: 1 }]),
    metric("last_run_timestamp_seconds", "When it was looked last.", [{ value: seconds(now) }]),
    metric("checks", "How many checks ended so.", [
      { labels: { result: "ok", severity: "" }, value: ok },
      ...bad,
    ]),
    metric("bad_checks", "Checks that failed or warn, by their id.", badById(checks)),
    metric(
      "certificate_expiry_timestamp_seconds",
      "When the certificate in this file expires (notAfter).",
      endings.map(({ kind, path, notAfter }) => ({ labels: { kind, path }, value: seconds(notAfter) })),
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

type OldCa = Seen["oldCa"];

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
      hint: `give a name that ends in .prom: --metrics ${path}.prom`,
    });
  if (stat(dirname(path))?.kind !== "dir")
    throw new Fail(`There is no folder "${dirname(path)}"`, {
      hint: "give the folder that node_exporter reads: ps -C node_exporter -o args shows --collector.textfile.directory",
    });
}

/** Written beside it and renamed: node_exporter reads the old file or the new one. */
export function writeMetrics(path: string, text: string) {
  writeTyped(path, text, { mode: 0o644, use: "public" });
}
