/** The rehearsal as one page that needs nothing else: no script, font or picture from elsewhere; light or dark as the reader's system is. */
import { stripVTControlCharacters } from "node:util";
import type { Rehearsal, Step } from "./rehearsal.ts";
import style from "./report.css" with { type: "text" };
import { drawTimeline, esc } from "./svg.ts";
import { nodesOf, pulse, seconds } from "./terminal.ts";

export function page(record: Rehearsal): string {
  const other = record.article;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Rehearsal ${esc(record.scenario)}: ${record.recovered ? "recovered" : "not recovered"}</title>
<style>
${style}</style>
</head>
<body>
<main>
${head(record)}
${tiles(record)}
${card("Timeline", `<div class="scroll">${drawTimeline(record)}</div>${legend()}`)}
${other ? card(`For comparison: ${esc(other.scenario)}`, compared(record, other)) : ""}
${card("What did not come back", losses(record))}
${card("Checks", checks(record))}
${card("Heartbeats", heartbeats(record))}
${card("Transcripts", record.steps.map(transcript).join("\n"))}
${other ? card(`Transcripts of ${esc(other.scenario)}`, other.steps.map(transcript).join("\n")) : ""}
<footer>kube-pki-repair ${esc(record.tool)} · ${esc(record.date)} · ${esc(record.machine)} · real kubelet, containerd, etcd and Kubernetes ${esc(record.kubernetes)}</footer>
</main>
</body>
</html>
`;
}

function head({ recovered, scenario, title, kubernetes, seconds: { damageToWorkloadsOk }, ...record }: Rehearsal) {
  const word = recovered ? "Recovered" : "Not recovered";
  const when = recovered && damageToWorkloadsOk !== null ? `, ${seconds(damageToWorkloadsOk)} after the damage` : "";
  return `<header><p class="kicker">kube-pki-repair rehearsal · ${esc(scenario)} · Kubernetes ${esc(kubernetes)} · ${nodesOf(record)}</p>
<h1><span class="badge ${recovered ? "good" : "bad"}">${recovered ? "✓" : "✗"}</span> ${word}${when}</h1>
<p class="lead">${esc(title)}</p></header>`;
}

function tiles(record: Rehearsal) {
  const { damageToEtcd, damageToApi, damageToNodesReady, damageToWorkloadsOk, repairCommands } = record.seconds;
  const all = [
    tile("etcd back", time(damageToEtcd), "since the damage"),
    tile("API back", time(damageToApi), "since the damage"),
    tile("nodes back", time(damageToNodesReady), "by renewed Leases"),
    tile("workloads well", time(damageToWorkloadsOk), "no gap any more, all pods Ready"),
    tile(
      "repair",
      time(repairCommands),
      record.ratio === null
        ? "not complete"
        : `${record.ratio.toFixed(2)} × fresh init + join (${seconds(record.freshInitAndJoinSeconds)})`,
    ),
    tile(
      "containers restarted",
      String(record.workloadContainersRestarted),
      `before part 4; in it ${record.workloadContainersRestartedInPart4}`,
      record.workloadContainersRestarted,
    ),
    tile("pods evicted", String(record.podsEvicted), `${record.endpointsLostSeconds.toFixed(1)} s without endpoints`, record.podsEvicted),
    tile(
      "failed Service calls",
      String(record.dataPlaneFailures),
      `before part 4; then ${record.dataPlaneFailuresInPart4}`,
      record.dataPlaneFailures,
    ),
  ];
  return `<section class="tiles">${all.join("")}</section>`;
}

function tile(name: string, value: string, detail: string, bad = 0) {
  return `<div class="tile"><div class="label">${esc(name)}</div><div class="value${bad || value === "never" ? " bad" : ""}">${esc(value)}</div><div class="detail">${esc(detail)}</div></div>`;
}

function time(value: number | null) {
  return value === null ? "never" : seconds(value);
}

function card(title: string, body: string) {
  return `<section class="card"><h2>${title}</h2>${body}</section>`;
}

function legend() {
  return `<p class="legend"><span class="key well"></span> answers <span class="key away"></span> no answer <span class="key run"></span> a command <span class="key failed"></span> failed or hung</p>`;
}

function compared(ours: Rehearsal, theirs: Rehearsal) {
  const rows: [string, (record: Rehearsal) => string][] = [
    ["Recovered", (record) => (record.recovered ? "yes" : "no")],
    ["etcd back", (record) => time(record.seconds.damageToEtcd)],
    ["API back", (record) => time(record.seconds.damageToApi)],
    ["All nodes back", (record) => time(record.seconds.damageToNodesReady)],
    ["Workloads well", (record) => time(record.seconds.damageToWorkloadsOk)],
    ["Commands typed", (record) => String(record.steps.length)],
    ["Commands that failed", (record) => String(record.steps.filter((step) => !step.ok && !step.hung).length)],
    ["Commands that hung", (record) => String(record.steps.filter((step) => step.hung).length)],
    ["Failed Service calls", (record) => String(record.dataPlaneFailures + record.dataPlaneFailuresInPart4)],
    ["Settings lost or changed", (record) => String(record.differences.length)],
    ["Files not restored", (record) => String(record.filesNotRestored.length)],
  ];
  const cells = rows.map(([name, value]) => `<tr><th>${name}</th><td>${value(ours)}</td><td>${value(theirs)}</td></tr>`).join("");
  const table = `<table><thead><tr><th></th><th>${esc(ours.scenario)}</th><th>${esc(theirs.scenario)}</th></tr></thead><tbody>${cells}</tbody></table>`;
  return `<p class="lead">${esc(theirs.title)}</p>${table}<div class="scroll">${drawTimeline(theirs)}</div>${legend()}<h3>What did not come back</h3>${losses(theirs)}${checks(theirs)}`;
}

function losses(record: Rehearsal) {
  const items = [
    ...record.filesNotRestored.map((file) => `not restored: ${file}`),
    ...record.secretsLost.map((name) => `Secret not as before: ${name}`),
    ...record.configMapsChanged.map((name) => `ConfigMap not as before: ${name}`),
    ...record.differences.map((line) => `changed: ${line}`),
    ...(record.oldTokens > 0 ? [`${record.oldTokensValid} of ${record.oldTokens} tokens from before the damage are still valid`] : []),
  ];
  return items.length ? `<ul>${items.map((item) => `<li>${esc(item)}</li>`).join("")}</ul>` : "<p>Everything came back.</p>";
}

function checks(record: Rehearsal) {
  const row = ({ name, ok, detail }: Rehearsal["checks"][number]) =>
    `<tr class="${ok ? "" : "bad"}"><td class="mark">${ok ? "✓" : "✗"}</td><td>${esc(name)}</td><td class="soft">${esc(detail)}</td></tr>`;
  return `<table class="checks"><tbody>${record.checks.map(row).join("")}</tbody></table>`;
}

function heartbeats(record: Rehearsal) {
  const row = (beat: Rehearsal["heartbeats"][number]) => {
    const phases = beat.phases.map(({ name, calls, failed }) => `${name}: ${failed} of ${calls} failed`).join(" · ");
    return `<tr><th>${esc(beat.name)}<div class="soft">${esc(beat.what)}</div></th><td>${esc(pulse(beat))}<div class="soft">${esc(phases)}</div></td></tr>`;
  };
  return `<table><tbody>${record.heartbeats.map(row).join("")}</tbody></table>`;
}

function transcript(step: Step) {
  const said = stripVTControlCharacters([step.stdout, step.stderr].filter((text) => text.trim()).join("\n")).trimEnd();
  const state = step.hung ? "hung" : `exit ${step.exitCode}`;
  return `<details class="${step.ok ? "" : "bad"}"><summary><span class="soft">${step.start.toFixed(1)} s</span> <b>${esc(step.node)}#</b> <code>${esc(step.command)}</code> <span class="soft">${seconds(step.seconds)} · ${state}</span></summary><pre>${esc(said || "(nothing)")}</pre></details>`;
}
