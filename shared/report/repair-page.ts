/** The page of a real repair: what was broken, what was done, what changed where, and what is left for people. */

import { asHtml } from "../plain.ts";
import { count } from "../progress.ts";
import {
  brokenThings,
  type CheckedThing,
  changedFiles,
  changedObjects,
  detailOf,
  issuedCertificates,
  leftForPeople,
  whatStopped,
} from "./kept-findings.ts";
import * as html from "./markup.ts";
import type { KeptRecord, KeptRuns } from "./read-runs.ts";
import { clockOf, lasting, moments, repairTimeline, stateOf, wentWell } from "./repair-timeline.ts";
import { drawTimeline } from "./timeline.ts";

export interface RepairReport extends KeptRuns {
  /** How it is now. */
  checks: readonly CheckedThing[];
  /** By the end of 05-verify. */
  end: { left: readonly string[]; remove: readonly { on: string; command: string; why: string }[] } | undefined;
  /** Of the cluster, where it could be read. */
  cluster?: { name: string; kubernetes: string; nodes: readonly string[] } | undefined;
  tool: string;
  made: Date;
}

/** Characters of all transcripts together: a page is to be read. */
const TRANSCRIPTS = 8 << 20;

export function repairPage(report: RepairReport): string {
  const { runs, cluster, tool, made } = report;
  const failed = report.checks.filter(({ result }) => result === "failed").length;
  const heading =
    runs.length === 0 ? "No repair was found" : failed > 0 ? `Not all is well: ${failed} checks fail` : "Repaired, and all is well";
  const of = cluster ? ` · cluster "${cluster.name}" · Kubernetes ${cluster.kubernetes} · ${count(cluster.nodes.length)} nodes` : "";
  return html.htmlPage({
    ...{ title: "Report of a repair", good: failed === 0 && runs.length > 0, heading },
    kicker: `kube-pki-repair report${of}`,
    lead: runs.length === 0 ? "No script has changed anything here, or its transcripts were removed." : leadOf(runs),
    body: runs.length === 0 ? [checksCard(report), notesCard(report)] : bodyOf(report),
    footer: `kube-pki-repair ${tool} · made ${made.toISOString().slice(0, 19).replace("T", " ")} UTC · times are UTC, by each node's own clock`,
  });
}

function leadOf(runs: readonly KeptRecord[]): string {
  const { began, ended } = extent(runs);
  const nodes = new Set(runs.map(({ node }) => node)).size;
  const day = began.toISOString().slice(0, 10);
  return `${count(runs.length)} runs on ${count(nodes)} ${nodes === 1 ? "node" : "nodes"}, ${day} ${clockOf(began)} to ${ended.toISOString().slice(0, 10) === day ? "" : `${ended.toISOString().slice(0, 10)} `}${clockOf(ended)} UTC: ${lasting(ended.getTime() - began.getTime())}`;
}

function extent(runs: readonly KeptRecord[]) {
  return {
    began: new Date(Math.min(...runs.map(({ began }) => began.getTime()))),
    ended: new Date(Math.max(...runs.map(({ ended }) => ended.getTime()))),
  };
}

function bodyOf(report: RepairReport): string[] {
  const { runs, end } = report;
  const stopped = whatStopped(runs);
  const objects = changedObjects(runs);
  return [
    tilesOf(report),
    html.card("Timeline", html.scrolled(drawTimeline(repairTimeline(runs))) + LEGEND),
    html.card("What was broken", lists(brokenThings(runs), "Nothing was missing and nothing was wrong.")),
    html.card("What was done", runsTable(runs)),
    stopped.length > 0 ? html.card("What stopped on the way", html.table(["when", "where", "why", "what to do"], stopped)) : "",
    html.card(
      "Certificates that were written",
      html.table(["nodes", "file", "subject", "until", "public key"], issuedCertificates(runs), "figures"),
    ),
    html.card("Files that changed", lists(changedFiles(runs), "None.")),
    objects.length > 0 ? html.card("Objects of the cluster that changed", html.table(["node", "run", "what", "how many"], objects)) : "",
    html.card("What is left for people", html.bullets(leftForPeople(runs, report))),
    end
      ? html.card("What can be deleted when nothing is missing any more", html.table(["on", "command", "what it is"], removals(end)))
      : "",
    checksCard(report),
    notesCard(report),
    html.card("Transcripts", transcripts(runs)),
  ];
}

function removals({ remove }: NonNullable<RepairReport["end"]>): string[][] {
  return remove.map(({ on, command, why }) => [on, command, why]);
}

const LEGEND = `<p class="legend"><span class="key run"></span> a run <span class="key failed"></span> stopped, or was cut off <span class="key pause"></span> a pause, not to scale</p>`;

function tilesOf({ runs, cluster, checks }: RepairReport): string {
  const { began } = extent(runs);
  const reached = moments(runs).map(({ time, text }) => html.tile(text, lasting(time.getTime() - began.getTime()), "since the first run"));
  const bad = runs.filter((run) => !wentWell(run)).length;
  const from = new Set(runs.map(({ node }) => node));
  const missing = cluster?.nodes.filter((name) => !from.has(name)).length ?? 0;
  const files = runs.flatMap(({ events }) => events.filter(({ what }) => what === "file")).length;
  const good = checks.filter(({ result }) => result === "ok").length;
  return html.tiles([
    ...reached,
    html.tile("runs that stopped", String(bad), `of ${count(runs.length)}`, bad > 0),
    html.tile("changes of files", count(files), "written, moved, removed; each is named below"),
    html.tile(
      "nodes with transcripts",
      count(from.size),
      missing > 0 ? `of ${count(from.size + missing)}; the others brought none` : "all",
    ),
    html.tile(
      "checks now",
      `${count(good)} of ${count(checks.length)}`,
      "are good",
      checks.some(({ result }) => result === "failed"),
    ),
  ]);
}

/** Each node's sentences under its name. */
function lists(byNode: Map<string, string[]>, none: string): string {
  if (byNode.size === 0) return `<p>${asHtml(none)}</p>`;
  return [...byNode]
    .map(
      ([node, lines]) =>
        `<details${byNode.size <= 6 ? " open" : ""}><summary><b>${asHtml(node)}</b> <span class="soft">${count(lines.length)}</span></summary>${html.bullets(lines)}</details>`,
    )
    .join("\n");
}

function runsTable(runs: readonly KeptRecord[]): string {
  const steps = (run: KeptRecord) =>
    run.steps.map(
      ({ title, began, ended, ok }) => `${title}: ${ended ? lasting(ended.getTime() - began.getTime()) : "not finished"}${ok ? "" : " ✗"}`,
    );
  const rows = runs.map((run) => {
    const head = `<span class="soft">${clockOf(run.began)}</span> <b>${asHtml(run.node)}</b> <code>${asHtml(typedAs(run))}</code>`;
    const took = `<span class="soft">${lasting(run.ended.getTime() - run.began.getTime())} · ${stateOf(run)}</span>`;
    return `<details class="${wentWell(run) ? "" : "bad"}"><summary>${head} ${took}</summary>${html.bullets(steps(run))}</details>`;
  });
  return rows.join("\n");
}

/** "03-workers join --server …": the script's name holds its sub-command already. */
function typedAs({ script, args }: KeptRecord): string {
  return [script, ...args.filter((arg) => !script.endsWith(` ${arg}`))].join(" ");
}

function checksCard({ checks }: RepairReport): string {
  const MARKS = { ok: "✓", warning: "‼", failed: "✗" } as const;
  const row = (check: CheckedThing) => ({ mark: MARKS[check.result], name: `${check.area}: ${check.what}`, detail: detailOf(check) });
  const [bad, good] = [checks.filter(({ result }) => result !== "ok"), checks.filter(({ result }) => result === "ok")];
  const rest = `<details><summary>checks that are good: ${count(good.length)}</summary>${html.markedRows(good.map(row))}</details>`;
  return html.card("How it is now (05-verify)", (bad.length > 0 ? html.markedRows(bad.map(row)) : "") + rest);
}

function notesCard({ notes, runs, cluster }: RepairReport): string {
  const from = new Set(runs.map(({ node }) => node));
  const without = cluster?.nodes.filter((name) => !from.has(name)) ?? [];
  const lines = [
    ...notes,
    ...(without.length > 0
      ? [`no transcripts from ${without.slice(0, 50).join(", ")}${without.length > 50 ? ` and ${without.length - 50} more` : ""}`]
      : []),
  ];
  return lines.length > 0 ? html.card("About these transcripts", html.bullets(lines)) : "";
}

function transcripts(runs: readonly KeptRecord[]): string {
  let room = TRANSCRIPTS;
  return runs
    .map((run) => {
      room -= run.text.length;
      const said = room >= 0 ? run.text : "(left out: this page is large enough; it is in the node's rescue folder)";
      const state = `${lasting(run.ended.getTime() - run.began.getTime())} · ${stateOf(run)}`;
      return html.transcript({
        when: clockOf(run.began),
        node: run.node,
        command: typedAs(run),
        state,
        said,
        ok: wentWell(run),
      });
    })
    .join("\n");
}
