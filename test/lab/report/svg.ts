/** The drawn timeline: a lane for each server and node, each heartbeat and each script, over the seconds since the damage. */
import type { Rehearsal } from "./rehearsal.ts";
import { groups, returns, seconds } from "./terminal.ts";

const WIDTH = 1120;
const LEFT = 190;
const RIGHT = 90;
const ROW = 30;
const BAR = 16;
/** About the width of a character of the small labels. */
const LETTER = 6.4;

interface Span {
  from: number;
  to: number | null;
  kind: "away" | "run" | "failed";
  label: string;
}

interface Row {
  name: string;
  title: string;
  /** A lane has a track of "well" below its spans; a command has not. */
  lane: boolean;
  spans: Span[];
}

export function drawTimeline(record: Rehearsal): string {
  const sections = [
    { name: "The cluster", rows: clusterRows(record) },
    { name: "The workloads' calls", rows: heartbeatRows(record) },
    { name: "Commands", rows: commandRows(record) },
  ];
  const end = lastSecond(record);
  const x = (at: number) => LEFT + (Math.max(0, Math.min(at, end)) / end) * (WIDTH - LEFT - RIGHT);
  const flags = placeFlags([{ at: 0, what: "damage", detail: "" }, ...returns(record)], x);
  let y = 18 + 18 * (1 + Math.max(...flags.map((flag) => flag.level)));
  const top = y;
  const body: string[] = [];
  for (const { name, rows } of sections.filter((section) => section.rows.length > 0)) {
    body.push(`<text class="section" x="0" y="${y + 20}">${name}</text>`);
    y += 28;
    for (const row of rows) {
      body.push(drawRow(row, y, x, end));
      y += ROW;
    }
    y += 8;
  }
  const height = y + 24;
  const back = [...ticks(end, x, top, y), ...flags.map((flag) => drawFlag(flag, y))];
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="Timeline of the rehearsal ${esc(record.scenario)}">\n${[...back, ...body].join("\n")}\n</svg>`;
}

function clusterRows({ lanes }: Rehearsal): Row[] {
  return lanes.map(({ name, away, note }) => ({
    name,
    title: note,
    lane: true,
    spans: away.map((span) => gap(span, note || "did not answer")),
  }));
}

function heartbeatRows({ heartbeats }: Rehearsal): Row[] {
  return heartbeats.map(({ name, what, gaps }) => ({
    name,
    title: what,
    lane: true,
    spans: gaps.map((span) => gap(span, `${span.failed} calls failed: ${span.error}`)),
  }));
}

function gap({ from, to }: { from: number; to: number | null }, why: string): Span {
  return { from, to, kind: "away", label: to === null ? `no answer until the end; ${why}` : `${seconds(to - Math.max(0, from))}; ${why}` };
}

function commandRows({ steps }: Rehearsal): Row[] {
  return groups(steps).map((group) => {
    const state = group.hung ? " (hung)" : group.ok ? "" : " (failed)";
    const span: Span = {
      from: group.start,
      to: group.start + group.seconds,
      kind: group.ok ? "run" : "failed",
      label: `${seconds(group.seconds)}${state}`,
    };
    return { name: group.name, title: group.detail, lane: false, spans: [span] };
  });
}

function drawRow(row: Row, y: number, x: (at: number) => number, end: number): string {
  const top = y + (ROW - BAR) / 2;
  const name = row.name.replace(/^kubeadm /, "");
  const label = name.length > 25 ? `${name.slice(0, 24)}…` : name;
  const track = row.lane ? `<rect class="well" x="${x(0)}" y="${top}" width="${x(end) - x(0)}" height="${BAR}" rx="4"/>` : "";
  const spans = row.spans.map((span) => drawSpan(span, top, x, end)).join("");
  return `<g><title>${esc(`${row.name}\n${row.title}`)}</title><text class="name" x="${LEFT - 12}" y="${top + 12}">${esc(label)}</text>${track}${spans}</g>`;
}

function drawSpan({ from, to, kind, label }: Span, top: number, x: (at: number) => number, end: number): string {
  const left = x(from);
  const width = Math.max(2.5, x(to ?? end) - left);
  const short = label.split(";")[0]!;
  const inside = width > short.length * LETTER + 10;
  const at = inside ? left + width / 2 : left + width + 6;
  const text = `<text class="${inside ? `in ${kind}-in` : "beside"}" x="${at.toFixed(1)}" y="${top + 12}">${esc(short)}</text>`;
  return `<g><title>${esc(label)}</title><rect class="${kind}" x="${left.toFixed(1)}" y="${top}" width="${width.toFixed(1)}" height="${BAR}" rx="4"/>${text}</g>`;
}

interface Flag {
  x: number;
  level: number;
  text: string;
  /** The text stands left of its line, where it would run out of the picture. */
  left: boolean;
  damage: boolean;
}

/** Puts each flag on the lowest level on which it touches no other. */
function placeFlags(moments: { at: number; what: string; detail: string }[], x: (at: number) => number): Flag[] {
  const ends: number[] = [];
  return moments.map(({ at, what }) => {
    const text = at === 0 ? what : `${what} ${seconds(at)}`;
    const length = text.length * LETTER + 14;
    const left = x(at) + length > WIDTH;
    const start = left ? x(at) - length : x(at);
    let level = ends.findIndex((end) => end <= start);
    if (level < 0) level = ends.length;
    ends[level] = start + length;
    return { x: x(at), level, text, left, damage: at === 0 };
  });
}

function drawFlag({ x, level, text, left, damage }: Flag, bottom: number): string {
  const y = 14 + level * 18;
  const kind = damage ? "flag damage" : "flag";
  const anchor = left ? ` text-anchor="end" x="${(x - 5).toFixed(1)}"` : ` x="${(x + 5).toFixed(1)}"`;
  return `<line class="${kind}" x1="${x.toFixed(1)}" x2="${x.toFixed(1)}" y1="${y - 10}" y2="${bottom}"/><text class="${kind}"${anchor} y="${y}">${esc(text)}</text>`;
}

function ticks(end: number, x: (at: number) => number, top: number, bottom: number): string[] {
  const step = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600].find((candidate) => end / candidate <= 12) ?? 1200;
  return Array.from({ length: Math.floor(end / step) + 1 }, (_, index) => {
    const at = x(index * step).toFixed(1);
    return `<line class="tick" x1="${at}" x2="${at}" y1="${top}" y2="${bottom}"/><text class="tick" x="${at}" y="${bottom + 16}">${index * step} s</text>`;
  });
}

function lastSecond({ steps, lanes, heartbeats, seconds }: Rehearsal): number {
  const ends = [
    ...steps.map((step) => step.start + step.seconds),
    ...[...lanes.map((lane) => lane.away), ...heartbeats.map((beat) => beat.gaps)].flat().flatMap((span) => [span.from, span.to ?? 0]),
    ...Object.values({ ...seconds, repairCommands: 0 }).map((value) => value ?? 0),
  ];
  return Math.max(1, ...ends) * 1.01;
}

export function esc(text: string) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
