/**
 * The drawn timeline, as SVG: named rows with spans of time, moments as flags, and long pauses folded. Times
 * are seconds since its beginning.
 */
import { asHtml } from "../plain.ts";

const WIDTH = 1120;
const LEFT = 190;
const RIGHT = 90;
const ROW = 30;
const BAR = 16;
/** About the width of a character of the small labels. */
const LETTER = 6.4;
const FOLD = 46;
/** Total width of all folded pauses: many pauses get less each. */
const FOLDS = (WIDTH - LEFT - RIGHT) / 2;

export interface Span {
  from: number;
  /** Null: open until the end. */
  to: number | null;
  kind: "away" | "run" | "failed";
  /** Text up to a semicolon is written at the span, the rest appears under the pointer. */
  label: string;
}

export interface TimelineRow {
  name: string;
  title: string;
  /** A lane has a "well" track below its spans; a command has none. */
  lane: boolean;
  spans: Span[];
}

export interface Pause {
  from: number;
  to: number;
  text: string;
}

export interface Timeline {
  /** Text for screen readers. */
  label: string;
  sections: { name: string; rows: TimelineRow[] }[];
  /** `bad`: a flag of the damage. */
  flags: { at: number; text: string; bad?: boolean }[];
  end: number;
  /** Folded periods without events, in order and separate. */
  pauses?: Pause[];
  /** The label below the axis for a time; unset: seconds. */
  clock?: (at: number) => string;
}

export function drawTimeline({
  label,
  sections,
  flags: moments,
  end,
  pauses = [],
  clock = (at) => `${at} s`,
}: Timeline): string {
  const scale = scaleOf(end, pauses);
  const flags = placeFlags(moments, scale.x);
  let y = 18 + 18 * Math.max(1, ...flags.map((flag) => flag.level + 1));
  const top = y;
  const body: string[] = [];
  for (const { name, rows } of sections.filter((section) => section.rows.length > 0)) {
    body.push(`<text class="section" x="0" y="${y + 20}">${asHtml(name)}</text>`);
    y += 28;
    for (const row of rows) {
      body.push(drawRow(row, y, scale.x, end));
      y += ROW;
    }
    y += 8;
  }
  const back = [
    ...pauses.map((pause) => drawPause(pause, scale.x, top, y)),
    ...ticks(end, scale, { top, bottom: y, pauses, clock }),
    ...flags.map((flag) => drawFlag(flag, y)),
  ];
  return `<svg viewBox="0 0 ${WIDTH} ${y + 24}" role="img" aria-label="${asHtml(label)}">\n${[...back, ...body].join("\n")}\n</svg>`;
}

interface Scale {
  x: (at: number) => number;
  /** Seconds that are drawn to scale. */
  active: number;
}

function scaleOf(end: number, pauses: readonly Pause[]): Scale {
  const active = end - pauses.reduce((sum, { from, to }) => sum + to - from, 0);
  const fold = Math.min(FOLD, FOLDS / pauses.length);
  const perSecond = (WIDTH - LEFT - RIGHT - fold * pauses.length) / active;
  const x = (time: number) => {
    const at = Math.max(0, Math.min(time, end));
    const folded = pauses.map(({ from, to }) => ({
      over: Math.max(0, Math.min(at, to) - from),
      of: to - from,
    }));
    const drawn = folded.reduce((sum, { over, of }) => sum + (over / of) * fold, 0);
    return LEFT + drawn + (at - folded.reduce((sum, { over }) => sum + over, 0)) * perSecond;
  };
  return { x, active };
}

function drawPause({ from, to, text }: Pause, x: Scale["x"], top: number, bottom: number): string {
  const middle = ((x(from) + x(to)) / 2).toFixed(1);
  return `<g><title>${asHtml(text)}</title><rect class="pause" x="${x(from).toFixed(1)}" y="${top}" width="${(x(to) - x(from)).toFixed(1)}" height="${bottom - top}"/><text class="tick" x="${middle}" y="${top + 12}">${asHtml(text)}</text></g>`;
}

function drawRow(row: TimelineRow, y: number, x: Scale["x"], end: number): string {
  const top = y + (ROW - BAR) / 2;
  const label = row.name.length > 25 ? `${row.name.slice(0, 24)}…` : row.name;
  const track = row.lane
    ? `<rect class="well" x="${x(0)}" y="${top}" width="${x(end) - x(0)}" height="${BAR}" rx="4"/>`
    : "";
  const spans = row.spans
    .map((span, index) => drawSpan(span, { top, x, end, until: row.spans[index + 1]?.from }))
    .join("");
  return `<g><title>${asHtml(`${row.name}\n${row.title}`)}</title><text class="name" x="${LEFT - 12}" y="${top + 12}">${asHtml(label)}</text>${track}${spans}</g>`;
}

/** `until`: the start of the next span; a label that does not fit before it is only in the title. */
function drawSpan(
  { from, to, kind, label }: Span,
  { top, x, end, until }: { top: number; x: Scale["x"]; end: number; until: number | undefined },
) {
  const left = x(from);
  const width = Math.max(2.5, x(to ?? end) - left);
  const short = label.split(";")[0]!;
  const length = short.length * LETTER + 10;
  const isInside = width > length;
  const fits = isInside || until === undefined || left + width + length < x(until);
  const at = isInside ? left + width / 2 : left + width + 6;
  const text = fits
    ? `<text class="${isInside ? `in ${kind}-in` : "beside"}" x="${at.toFixed(1)}" y="${top + 12}">${asHtml(short)}</text>`
    : "";
  return `<g><title>${asHtml(label)}</title><rect class="${kind}" x="${left.toFixed(1)}" y="${top}" width="${width.toFixed(1)}" height="${BAR}" rx="4"/>${text}</g>`;
}

interface Flag {
  x: number;
  level: number;
  text: string;
  /** The text stands left of its line if it would leave the picture. */
  left: boolean;
  bad: boolean;
}

/** Puts each flag on the lowest level on which it touches no other. */
function placeFlags(moments: Timeline["flags"], x: Scale["x"]): Flag[] {
  const ends: number[] = [];
  return moments.map(({ at, text, bad = false }) => {
    const length = text.length * LETTER + 14;
    const left = x(at) + length > WIDTH;
    const start = left ? x(at) - length : x(at);
    let level = ends.findIndex((end) => end <= start);
    if (level < 0) level = ends.length;
    ends[level] = start + length;
    return { x: x(at), level, text, left, bad };
  });
}

function drawFlag({ x, level, text, left, bad }: Flag, bottom: number): string {
  const y = 14 + level * 18;
  const kind = bad ? "flag damage" : "flag";
  const anchor = left ? ` text-anchor="end" x="${(x - 5).toFixed(1)}"` : ` x="${(x + 5).toFixed(1)}"`;
  return `<line class="${kind}" x1="${x.toFixed(1)}" x2="${x.toFixed(1)}" y1="${y - 10}" y2="${bottom}"/><text class="${kind}"${anchor} y="${y}">${asHtml(text)}</text>`;
}

const DAY = 86_400;
const STEPS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600, 7200, 21_600, DAY];

function ticks(
  end: number,
  { x, active }: Scale,
  {
    top,
    bottom,
    pauses,
    clock,
  }: { top: number; bottom: number } & Required<Pick<Timeline, "pauses" | "clock">>,
): string[] {
  const step = STEPS.find((candidate) => active / candidate <= 12) ?? Math.ceil(active / 12 / DAY) * DAY;
  const starts = [0, ...pauses.map(({ to }) => to)];
  const all = starts.flatMap((from, i) => stepsIn(from, pauses[i]?.from ?? end, step));
  return all.map((at) => {
    const place = x(at).toFixed(1);
    return `<line class="tick" x1="${place}" x2="${place}" y1="${top}" y2="${bottom}"/><text class="tick" x="${place}" y="${bottom + 16}">${asHtml(clock(at))}</text>`;
  });
}

/** Only for the drawn time: a pause can last for years if a clock was wrong. */
function stepsIn(from: number, to: number, step: number): number[] {
  const first = Math.ceil(from / step);
  return Array.from({ length: Math.max(0, Math.floor(to / step) - first + 1) }, (_, i) => (first + i) * step);
}
