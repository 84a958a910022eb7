/** Parts of a page: the records of runs on trusted nodes, and a block for each other node. */
import { asHtml } from "../plain.ts";
import { formatNumber } from "../progress.ts";
import {
  brokenThings,
  changedFiles,
  changedObjects,
  issuedCertificates,
  stoppedRuns,
} from "./kept-findings.ts";
import * as html from "./markup.ts";
import type { KeptRecord } from "./read-runs.ts";
import { clockOf, lasting, stateOf, took, wentWell } from "./repair-timeline.ts";

/** Characters of all transcripts of our own, and of all others: a page is to be read. */
const TRANSCRIPTS = 8 << 20;

export function whatRunsSay(runs: readonly KeptRecord[]): [title: string, body: string][] {
  const stopped = stoppedRuns(runs);
  const objects = changedObjects(runs);
  return [
    ["What was broken", lists(brokenThings(runs), "Nothing was missing and nothing was wrong.")],
    ["What was done", runsTable(runs)],
    [
      "What stopped on the way",
      stopped.length > 0 ? html.table(["when", "where", "why", "what to do"], stopped) : "",
    ],
    [
      "Certificates that were written",
      html.table(["nodes", "file", "subject", "until", "public key"], issuedCertificates(runs), "figures"),
    ],
    ["Files that changed", lists(changedFiles(runs), "None.")],
    [
      "Objects of the cluster that changed",
      objects.length > 0 ? html.table(["node", "run", "what", "how many"], objects) : "",
    ],
  ].filter((section): section is [string, string] => section[1] !== "");
}

/** Each node that nobody vouches for, those that stopped first: root on that node wrote the text. */
export function quotes(others: readonly KeptRecord[]): string {
  const stopped = (runs: readonly KeptRecord[]) => runs.filter((run) => !wentWell(run)).length;
  const all = [...Map.groupBy(others, ({ node }) => node)].toSorted(
    ([, a], [, b]) => Number(stopped(b) > 0) - Number(stopped(a) > 0),
  );
  const blocks = all.map(([node, runs]) => {
    const parts = whatRunsSay(runs).map(([title, body]) => `<h3>${asHtml(title)}</h3>${body}`);
    const printed = `<h3>Transcripts</h3>${transcripts(runs, TRANSCRIPTS / all.length)}`;
    const bad = stopped(runs);
    const how = `${formatNumber(runs.length)} runs${bad > 0 ? `, ${formatNumber(bad)} of them stopped` : ""}`;
    return `<details class="${bad > 0 ? "bad" : ""}"><summary><b>${asHtml(node)} says</b> <span class="soft">${how}</span></summary><blockquote>${parts.join("")}${printed}</blockquote></details>`;
  });
  const notice = `<p class="soft">Root on a node wrote its block: it is that node's word about itself. Type nothing from there that you do not know.</p>`;
  return blocks.length > 0 ? html.card("What other nodes say of themselves", notice + blocks.join("\n")) : "";
}

const SHORT = 12;

function lists(byNode: Map<string, string[]>, none: string): string {
  if (byNode.size === 0) return `<p>${asHtml(none)}</p>`;
  return [...byNode]
    .map(
      ([node, lines]) =>
        `<details${byNode.size <= 6 && lines.length <= SHORT ? " open" : ""}><summary><b>${asHtml(node)}</b> <span class="soft">${formatNumber(lines.length)}</span></summary>${html.bullets(lines)}</details>`,
    )
    .join("\n");
}

function runsTable(runs: readonly KeptRecord[]): string {
  const waits = (waited: KeptRecord["steps"][number]["waited"]) =>
    waited.length > 0
      ? `, of which it waited ${waited.map((one) => `${lasting(one.seconds * 1000)} for ${one.for}`).join(", and ")}`
      : "";
  const steps = (run: KeptRecord) =>
    run.steps.map(({ title, began, ended, ok, waited }) => {
      const time = ended ? took({ began, ended }) : "not finished";
      return `${title}: ${time}${ok ? "" : " ✗"}${waits(waited)}`;
    });
  const rows = runs.map((run) => {
    const head = `<span class="soft">${clockOf(run.began)}</span> <b>${asHtml(run.node)}</b> <code>${asHtml(typedAs(run))}</code>`;
    const time = `<span class="soft">${took(run)} · ${stateOf(run)}</span>`;
    return `<details class="${wentWell(run) ? "" : "bad"}"><summary>${head} ${time}</summary>${html.bullets(steps(run))}</details>`;
  });
  return rows.join("\n");
}

/** "03-workers close --wait …": the script's name holds its sub-command already. */
function typedAs({ script, args }: KeptRecord): string {
  return [script, ...args.filter((arg) => !script.endsWith(` ${arg}`))].join(" ");
}

/** `room`: characters. */
export function transcripts(runs: readonly KeptRecord[], room = TRANSCRIPTS): string {
  return runs
    .map((run) => {
      room -= run.text.length;
      const text =
        room >= 0 ? run.text : "(left out: this page is large enough; it is in the node's rescue folder)";
      return html.transcript({
        ...{ when: clockOf(run.began), node: run.node, command: typedAs(run), ok: wentWell(run) },
        ...{ state: `${took(run)} · ${stateOf(run)}`, output: text },
      });
    })
    .join("\n");
}
