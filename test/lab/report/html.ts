/** The rehearsal as one page (shared/report/markup.ts). */
import { asHtml } from "../../../shared/plain.ts";
import * as html from "../../../shared/report/markup.ts";
import { drawTimeline } from "../../../shared/report/timeline.ts";
import type { Rehearsal, Step } from "./rehearsal.ts";
import { timelineOf } from "./rehearsal-timeline.ts";
import { newPodsLine, nodesOf, pulse, seconds } from "./terminal.ts";

const { card } = html;

export function page(record: Rehearsal): string {
  const { article: other, recovered, scenario, kubernetes, title, tool, date, machine } = record;
  const word = recovered ? "Recovered" : "Not recovered";
  const { damageToWorkloadsOk: well } = record.seconds;
  return html.htmlPage({
    title: `Rehearsal ${scenario}: ${word.toLowerCase()}`,
    good: recovered,
    kicker: `kube-pki-repair rehearsal · ${scenario} · Kubernetes ${kubernetes} · ${nodesOf(record)}`,
    heading: `${word}${recovered && well !== null ? `, ${seconds(well)} after the damage` : ""}`,
    lead: title,
    body: [
      tiles(record),
      card("Timeline", html.scrolled(drawTimeline(timelineOf(record)), "Timeline") + legend()),
      other ? card(`For comparison: ${other.scenario}`, compared(record, other)) : "",
      card("What did not come back", losses(record)),
      card("Checks", checks(record)),
      card("Heartbeats", heartbeats(record)),
      record.pings.length > 0 ? card("Pings between pods", pings(record)) : "",
      card("Transcripts", record.steps.map(transcript).join("\n")),
      other ? card(`Transcripts of ${other.scenario}`, other.steps.map(transcript).join("\n")) : "",
    ],
    footer: `kube-pki-repair ${tool} · ${date} · ${machine} · real kubelet, containerd, etcd and Kubernetes ${kubernetes}`,
  });
}

function tiles(record: Rehearsal) {
  const { damageToEtcd, damageToApi, damageToNodesReady, damageToWorkloadsOk, repairCommands } =
    record.seconds;
  const timed = (name: string, value: number | null, detail: string) =>
    tile(name, time(value), detail, value === null);
  const counted = (name: string, count: number, detail: string) =>
    tile(name, String(count), detail, count > 0);
  const ratio =
    record.ratio === null
      ? "not complete"
      : `${record.ratio.toFixed(2)} × fresh init + join (${seconds(record.freshInitAndJoinSeconds)})`;
  const all = [
    timed("etcd back", damageToEtcd, "since the damage"),
    timed("API back", damageToApi, "since the damage"),
    timed("nodes back", damageToNodesReady, "by renewed Leases"),
    timed("workloads well", damageToWorkloadsOk, "no gap any more, all pods Ready"),
    timed("repair", repairCommands, ratio),
    counted(
      "containers restarted",
      record.workloadContainersRestarted,
      `before part 4; in it ${record.workloadContainersRestartedInPart4}`,
    ),
    counted(
      "pods evicted",
      record.podsEvicted,
      `${record.endpointsLostSeconds.toFixed(1)} s without endpoints`,
    ),
    counted(
      "failed Service calls",
      record.dataPlaneFailures,
      `before part 4; then ${record.dataPlaneFailuresInPart4}`,
    ),
  ];
  return `<section class="tiles">${all.join("")}</section>`;
}

function tile(name: string, value: string, detail: string, bad = false) {
  return `<div class="tile"><div class="label">${asHtml(name)}</div><div class="value${bad ? " bad" : ""}">${asHtml(value)}</div><div class="detail">${asHtml(detail)}</div></div>`;
}

function time(value: number | null) {
  return value === null ? "never" : seconds(value);
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
    [
      "Commands that failed",
      (record) => String(record.steps.filter((step) => !step.ok && !step.hung).length),
    ],
    ["Commands that hung", (record) => String(record.steps.filter((step) => step.hung).length)],
    ["Failed Service calls", (record) => String(record.dataPlaneFailures + record.dataPlaneFailuresInPart4)],
    ["Settings lost or changed", (record) => String(record.differences.length)],
    ["Files not restored", (record) => String(record.filesNotRestored.length)],
  ];
  const table = html.table(
    ["", ours.scenario, theirs.scenario],
    rows.map(([name, value]) => [name, value(ours), value(theirs)]),
  );
  const timeline = html.scrolled(drawTimeline(timelineOf(theirs)), "Timeline of the others") + legend();
  return `<p class="lead">${asHtml(theirs.title)}</p>${table}${timeline}<h3>What did not come back</h3>${losses(theirs)}${checks(theirs)}`;
}

function losses(record: Rehearsal) {
  const items = [
    ...record.filesNotRestored.map((file) => `not restored: ${file}`),
    ...record.secretsLost.map((name) => `Secret not as before: ${name}`),
    ...record.configMapsChanged.map((name) => `ConfigMap not as before: ${name}`),
    ...record.differences.map((line) => `changed: ${line}`),
    ...(record.oldTokens > 0
      ? [`${record.oldTokensValid} of ${record.oldTokens} tokens from before the damage are still valid`]
      : []),
  ];
  return items.length ? html.bullets(items) : "<p>Everything came back.</p>";
}

function checks(record: Rehearsal) {
  return html.markedRows(
    record.checks.map(({ name, ok, detail }) => ({ mark: ok ? "✓" : "✗", name, detail })),
  );
}

function heartbeats(record: Rehearsal) {
  const row = (beat: Rehearsal["heartbeats"][number]) => {
    const phases = beat.phases
      .map(({ name, calls, failed }) => `${name}: ${failed} of ${calls} failed`)
      .join(" · ");
    return `<tr><th>${asHtml(beat.name)}<div class="soft">${asHtml(beat.what)}</div></th><td>${asHtml(pulse(beat))}<div class="soft">${asHtml(phases)}</div></td></tr>`;
  };
  return `<table><tbody>${record.heartbeats.map(row).join("")}</tbody></table>`;
}

function pings(record: Rehearsal) {
  const table = html.table(
    ["asked every quarter of a second", "lost", "seconds lost", "when, in seconds since the damage"],
    record.pings.map(({ name, what, sent, lost, seconds: away, worst, spans }) => [
      `${name}: ${what}`,
      `${lost} of ${sent}`,
      lost === 0 ? "0" : `${away.toFixed(2)} (${worst})`,
      spans.map(({ from, to }) => `${from.toFixed(1)} to ${to.toFixed(1)}`).join(", "),
    ]),
  );
  const pods = html.table(
    ["new pod", "node", "started", "first answer of another pod"],
    record.newPods.map(({ name, node, start, firstAnswer }) => [
      name,
      node,
      seconds(start),
      time(firstAnswer),
    ]),
  );
  return `${table}<h3>${asHtml(newPodsLine(record))}</h3>${pods}`;
}

function transcript({ node, command, start, seconds: took, hung, exitCode, ok, stdout, stderr }: Step) {
  const output = [stdout, stderr].filter((text) => text.trim()).join("\n");
  const state = `${seconds(took)} · ${hung ? "hung" : `exit ${exitCode}`}`;
  return html.transcript({ when: seconds(start), node, command, state, output, ok });
}
