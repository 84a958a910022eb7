/** The rehearsal as a timeline for the terminal. html.ts draws the same record as a page. */
import { pingLine } from "./pings.ts";
import type { Heartbeat, Moment, Rehearsal, Step } from "./rehearsal.ts";

export function seconds(value: number) {
  return `${value.toFixed(1)} s`;
}

/** Commands of one script on one or several nodes, one after the other. */
export interface Group {
  name: string;
  part: number | undefined;
  start: number;
  seconds: number;
  ok: boolean;
  hung: boolean;
  detail: string;
  steps: Step[];
}

export function timeline(record: Rehearsal): string {
  const lines = [
    ` kube-pki-repair rehearsal   scenario ${record.scenario}   Kubernetes ${record.kubernetes}   ${nodesOf(record)}   real kubelet, containerd, etcd`,
    ...rows(record),
    ...record.heartbeats.map((beat) => ` ${beat.name}, ${beat.what}: ${pulse(beat)}`),
    ...record.pings.map((row) => ` pings ${pingLine(row)}`),
    ...(record.newPods.length > 0 ? [` ${newPodsLine(record)}`] : []),
    ...losses(record),
    ` fresh kubeadm init + join of the same lab: ${seconds(record.freshInitAndJoinSeconds)}; ${speed(record)}`,
    verdict(record),
    ...failing(record),
  ];
  if (record.article) lines.push("", timeline(record.article));
  return lines.join("\n");
}

function rows(record: Rehearsal): string[] {
  const commands = groups(record.steps).map((group) => ({ at: group.start, text: commandRow(group) }));
  const moments = [...record.moments, ...returns(record)].map((moment) => ({
    at: moment.at,
    text: momentRow(moment),
  }));
  return [...commands, ...moments]
    .sort((a, b) => a.at - b.at)
    .map(({ at, text }) => `${at.toFixed(1).padStart(7)} s  ${text}`);
}

function commandRow({ name, seconds: took, ok, hung, detail }: Group) {
  const state = hung ? "HUNG  " : ok ? "" : "FAILED  ";
  return `${clip(name, 34).padEnd(34)} ${took.toFixed(1).padStart(6)} s  ${state}${clip(detail, 96)}`;
}

function momentRow({ what, detail }: Moment) {
  return detail ? `${what.padEnd(43)}  ${detail}` : what;
}

/** When things came back, as moments of the timeline. */
export function returns({
  seconds: { damageToEtcd, damageToApi, damageToNodesReady, damageToWorkloadsOk },
}: Rehearsal): Moment[] {
  const all = [
    { at: damageToEtcd, what: "etcd back" },
    { at: damageToApi, what: "API back" },
    { at: damageToNodesReady, what: "nodes Ready" },
    { at: damageToWorkloadsOk, what: "workloads well again" },
  ];
  return all.flatMap(({ at, what }) => (at === null ? [] : [{ at, what, detail: "" }]));
}

export function groups(steps: Step[]): Group[] {
  const found: Group[] = [];
  for (const step of steps) {
    const name = nameOf(step);
    const last = found.at(-1);
    if (last?.name === name && last.part === step.part) last.steps.push(step);
    else
      found.push({
        name,
        part: step.part,
        start: step.start,
        seconds: 0,
        ok: true,
        hung: false,
        detail: "",
        steps: [step],
      });
  }
  for (const group of found) {
    const end = group.steps.at(-1)!;
    group.seconds = end.start + end.seconds - group.start;
    group.ok = group.steps.every((step) => step.ok);
    group.hung = group.steps.some((step) => step.hung);
    group.detail = tellingLine(group.steps.find((step) => !step.ok) ?? end);
  }
  return found;
}

/** "03-join" for one of our scripts, otherwise the command as it was typed. */
function nameOf({ command }: Step) {
  const [, script, word] = command.match(/scripts\/([\w-]+)\.ts(?:\s+([a-z]+))?/) ?? [];
  return script ? [script, word].filter(Boolean).join(" ") : command;
}

/** The most telling line: a verdict or an error, otherwise the last line. */
function tellingLine({ stdout, stderr }: Step) {
  const lines = `${stdout}\n${stderr}`.split("\n").filter((line) => line.trim() !== "");
  const telling = lines.find((line) => /^\s*(verdict|error):/i.test(line)) ?? lines.at(-1) ?? "";
  return telling.trim();
}

/** The first answer of another pod to a new one, and the cluster's DNS, which is a new pod itself. */
export function newPodsLine({
  newPods,
  dnsLostSeconds,
}: Pick<Rehearsal, "newPods" | "dnsLostSeconds">): string {
  const waits = newPods.map(({ firstAnswer }) => firstAnswer ?? Number.POSITIVE_INFINITY);
  const worst = Math.max(...waits);
  const text = Number.isFinite(worst)
    ? `after ${seconds(worst)} at most`
    : `${waits.filter((wait) => !Number.isFinite(wait)).length} never`;
  return `${newPods.length} new pods got the first answer of another pod ${text}; cluster DNS without endpoints: ${seconds(dnsLostSeconds)}`;
}

export function pulse({ calls, failed, gaps }: Heartbeat): string {
  if (calls === 0) return "no call was recorded";
  const open = gaps.some((gap) => gap.to === null);
  const away = gaps.reduce((sum, gap) => sum + (gap.to === null ? 0 : gap.to - gap.from), 0);
  const answered = `${calls - failed} of ${calls} calls answered`;
  if (open) return `${answered}; never came back`;
  return gaps.length === 0
    ? `${answered}, no gap`
    : `${answered}; no answer for ${seconds(away)} in ${gaps.length} ${gaps.length === 1 ? "gap" : "gaps"}`;
}

function losses(record: Rehearsal): string[] {
  return [
    ` not restored: ${list([...record.filesNotRestored, ...record.secretsLost])}`,
    ` changed: ${list(record.differences)}`,
  ];
}

function list(items: string[]) {
  if (items.length === 0) return "nothing";
  return items.length > 6
    ? `${items.slice(0, 6).join("; ")}; and ${items.length - 6} more`
    : items.join("; ");
}

export function speed({ seconds: { repairCommands, commandsToWorkloadsOk }, ratio }: Rehearsal) {
  if (repairCommands === null || ratio === null) return "the repair never got all nodes Ready";
  const well =
    commandsToWorkloadsOk === null
      ? ""
      : `; all clients and pods well ${seconds(commandsToWorkloadsOk)} after its first command`;
  return `repair ${seconds(repairCommands)} (${ratio.toFixed(2)}x)${well}`;
}

function verdict(record: Rehearsal) {
  const good = record.checks.filter((check) => check.ok).length;
  return ` ${record.recovered ? "recovered" : "NOT RECOVERED"}: ${good} of ${record.checks.length} checks passed`;
}

function failing(record: Rehearsal) {
  return record.checks
    .filter((check) => !check.ok)
    .map((check) => `   failed: ${check.name}: ${clip(check.detail, 160)}`);
}

export function nodesOf({ nodes }: Pick<Rehearsal, "nodes">) {
  const controlPlanes = nodes.filter((node) => node.role === "control-plane").length;
  return nodeCount(controlPlanes, nodes.length - controlPlanes);
}

export function nodeCount(controlPlanes: number, workers: number) {
  return `${controlPlanes} control plane ${controlPlanes === 1 ? "node" : "nodes"} and ${workers} ${workers === 1 ? "worker" : "workers"}`;
}

function clip(text: string, length: number) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}
