/**
 * The page of a real repair: what was broken, what was done, what changed where, and what is left for people.
 */
import { hasFailed, savedOptionsIn, verdictOf } from "../checks/check.ts";
import { may } from "../evidence/sources.ts";
import { listed } from "../plain.ts";
import { formatNumber } from "../progress.ts";
import type { WrapUp } from "../verify/wrap-up-parts.ts";
import { leftForPeople, type ShownCheck } from "./kept-findings.ts";
import * as html from "./markup.ts";
import type { KeptRecord, KeptRuns } from "./read-runs.ts";
import { clockOf, repairTimeline, took } from "./repair-timeline.ts";
import { drawTimeline } from "./timeline.ts";
import { quotes, transcripts, whatRunsSay } from "./what-runs-say.ts";

export interface RepairReport extends KeptRuns {
  checks: readonly ShownCheck[];
  end: (Pick<WrapUp, "left" | "remove"> & Partial<WrapUp>) | undefined;
  cluster?: { name: string; kubernetes: string; nodes: readonly string[] } | undefined;
  /**
   * "good until 2027-11-30 (apiserver.crt)", with how to be warned; unset: no certificate of this node can be
   * read.
   */
  goodUntil?: string | undefined;
  tool: string;
  made: Date;
}

/**
 * `ours` are believed about the cluster: the runs of this node, and of members of etcd. `others` are only
 * quoted.
 */
interface Told extends RepairReport {
  ours: readonly KeptRecord[];
  others: readonly KeptRecord[];
}

/** `others`: runs whose node speaks only for itself. */
export function runsByTrust(runs: RepairReport["runs"]) {
  const { true: ours = [], false: others = [] } = Object.groupBy(
    runs,
    ({ source }) => `${may(source, "report")}`,
  );
  return { ours, others };
}

export function repairPage(report: RepairReport): string {
  const { ours, others } = runsByTrust(report.runs);
  const facts = { ...report, ours, others };
  const { cluster, tool, made } = report;
  const failed = report.checks.filter(hasFailed).length;
  const heading = ours.length === 0 ? "No repair was found" : headingOf(report.checks);
  const about = cluster
    ? ` · cluster "${cluster.name}" · Kubernetes ${cluster.kubernetes} · ${formatNumber(cluster.nodes.length)} nodes`
    : "";
  return html.htmlPage({
    ...{ title: "Report of a repair", good: failed === 0 && ours.length > 0, heading },
    kicker: `kube-pki-repair report${about}`,
    lead:
      ours.length === 0
        ? "No script has changed anything here, or its transcripts were removed."
        : leadOf(ours, others.length),
    body: ours.length === 0 ? [checksCard(report), notesCard(report), quotes(others)] : bodyOf(facts),
    footer: `kube-pki-repair ${tool} · made ${made.toISOString().slice(0, 19).replace("T", " ")} UTC · times are UTC, by each node's own clock`,
  });
}

function headingOf(checks: RepairReport["checks"]): string {
  const [failed, warnings] = ["failed", "warning"].map(
    (result) => checks.filter((check) => check.result === result).length,
  ) as [number, number];
  if (failed > 0) return `Not all is well: ${failed} checks fail`;
  const words = savedOptionsIn(checks);
  if (words.length > 0) return `Repaired: no check fails. Open, as you said: ${listed(words)}`;
  return warnings > 0
    ? `Repaired: no check fails, ${warnings} ${warnings === 1 ? "warning" : "warnings"}`
    : "Repaired, and all is well";
}

function leadOf(runs: readonly KeptRecord[], others: number): string {
  const time = {
    began: new Date(Math.min(...runs.map(({ began }) => began.getTime()))),
    ended: new Date(Math.max(...runs.map(({ ended }) => ended.getTime()))),
  };
  const [from, to] = [time.began, time.ended].map((one) => one.toISOString().slice(0, 10));
  const nodes = new Set(runs.map(({ node }) => node)).size;
  return `${formatNumber(runs.length)} runs on ${formatNumber(nodes)} ${nodes === 1 ? "node" : "nodes"}, ${from} ${clockOf(time.began)} to ${to === from ? "" : `${to} `}${clockOf(time.ended)} UTC: ${took(time)}${others > 0 ? `; ${formatNumber(others)} more, as others say` : ""}`;
}

function bodyOf(told: Told): string[] {
  const { ours, others, end, goodUntil } = told;
  const { changed = [] } = end ?? {};
  const tasks = leftForPeople(ours, told);
  const next = goodUntil ? [`The certificates of this node are ${goodUntil}.`] : [];
  return [
    html.card(
      "What is left for people",
      html.bullets([...(tasks.length > 0 ? tasks : [NOTHING_LEFT]), ...next]),
    ),
    html.card("Timeline", html.scrolled(drawTimeline(repairTimeline(ours, others)), "Timeline")),
    changed.length > 0 ? html.card("What has changed", html.bullets(changed)) : "",
    ...whatRunsSay(ours).map(([title, body]) => html.card(title, body)),
    end
      ? html.card(
          "What can be deleted when nothing is missing any more",
          html.table(
            ["on", "command", "what it is"],
            end.remove.map(({ on, command, why }) => [on, command, why]),
          ),
        )
      : "",
    checksCard(told),
    notesCard(told),
    quotes(others),
    html.card("Transcripts", transcripts(ours)),
  ];
}

const NOTHING_LEFT =
  "Nothing that the scripts know of. Hand out new kubeconfigs if the CA is new, and make a backup.";

function checksCard({ checks }: RepairReport): string {
  const MARKS = { ok: "✓", warning: "‼", failed: "✗", unknown: "‼" } as const;
  const row = (check: ShownCheck) => ({
    mark: MARKS[check.result],
    name: `${check.area}: ${check.what}`,
    detail: [check.state, check.detail].filter(Boolean).join(": "),
    command: check.detail.includes(check.mend ?? "") ? undefined : check.mend,
  });
  const [bad, good] = [
    checks.filter(({ result }) => result !== "ok"),
    checks.filter(({ result }) => result === "ok"),
  ];
  const rest = `<details><summary>checks that are good: ${formatNumber(good.length)}</summary>${html.markedRows(good.map(row))}</details>`;
  const title = `How it is now (05-verify): ${formatNumber(checks.length)} checks, ${verdictOf(checks)}`;
  return html.card(title, (bad.length > 0 ? html.markedRows(bad.map(row)) : "") + rest);
}

function notesCard({ runs, cluster, notes, unchanged = [] }: RepairReport): string {
  const reporting = new Set([...runs.map(({ node }) => node), ...unchanged]);
  const absent = cluster?.nodes.filter((name) => !reporting.has(name)) ?? [];
  const lines = [
    ...notes,
    ...(unchanged.length > 0 ? [`no run changed anything on ${listed(unchanged)}`] : []),
    ...(absent.length > 0
      ? [
          `no transcripts from ${absent.slice(0, 50).join(", ")}${absent.length > 50 ? ` and ${absent.length - 50} more` : ""}`,
        ]
      : []),
  ];
  return lines.length > 0 ? html.card("About these transcripts", html.bullets(lines)) : "";
}
