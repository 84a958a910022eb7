/**
 * The timeline of a real repair: a row for each node and one for each script, over the time since the first
 * run; long pauses are folded.
 */
import { formatNumber } from "../progress.ts";
import type { KeptRecord } from "./read-runs.ts";
import type { Pause, Span, Timeline, TimelineRow } from "./timeline.ts";

/**
 * Nodes with a row of their own. If there are more, only those of the control plane and those with a failure
 * come first.
 */
const ROWS = 30;

const SPANS = 200;

/** Seconds. Longer pauses are folded: people talk, sleep and fetch passwords. */
const PAUSE = 90;

/**
 * `others`: runs that nobody vouches for. They have rows, but do not change the scale. Throws nothing; needs
 * at least one run.
 */
export function repairTimeline(runs: readonly KeptRecord[], others: readonly KeptRecord[] = []): Timeline {
  const zero = Math.min(...runs.map(({ began }) => began.getTime()));
  const at = (time: Date) => (time.getTime() - zero) / 1000;
  const busy = runs.map((run) => ({ from: at(run.began), to: at(run.ended) }));
  const scripts = Map.groupBy(runs, ({ script }) => script);
  const end = Math.max(1, ...busy.map(({ to }) => to));
  return {
    label: "Timeline of the repair",
    sections: [
      { name: "Nodes", rows: nodeRows(runs, at) },
      { name: "Scripts", rows: rowsOf(scripts, at, ({ node }) => node) },
      { name: "Other nodes, as they say", rows: nodeRows(others, at) },
    ],
    flags: moments(runs).map(({ time, text }) => ({ at: at(time), text })),
    end: end * 1.01,
    pauses: pausesBetween(busy),
    clock: (seconds) => clockOf(new Date(zero + seconds * 1000)),
  };
}

/** It runs in the background until `close` ends it. */
const BACKGROUND = "03-workers approve";

/** Whether it ended as it should: 2 means "not all was found" for a salvage. */
export function wentWell({ exitCode, script }: KeptRecord): boolean {
  if (exitCode === undefined) return script === BACKGROUND;
  return exitCode === 0 || (exitCode === 2 && script === "00-salvage");
}

export function stateOf(run: KeptRecord): string {
  if (run.exitCode === undefined) return run.script === BACKGROUND ? "until close ended it" : "cut off";
  return run.exitCode === 0 ? "done" : `exit ${run.exitCode}`;
}

/** UTC. */
export function clockOf(time: Date): string {
  return time.toISOString().slice(11, 19);
}

/** "3.2 s", "12 min 5 s", "3 h 4 min" */
export function lasting(milliseconds: number): string {
  const short = (Math.max(0, milliseconds) / 1000).toFixed(1);
  const seconds = Math.round(Math.max(0, milliseconds) / 1000);
  if (Number(short) < 60) return `${short} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  return `${formatNumber(Math.floor(seconds / 3600))} h ${Math.floor((seconds % 3600) / 60)} min`;
}

export function took({ began, ended }: { began: Date; ended: Date }): string {
  return lasting(ended.getTime() - began.getTime());
}

type At = (time: Date) => number;

/** A row for each node or script, with its runs. */
function rowsOf(
  groups: ReadonlyMap<string, readonly KeptRecord[]>,
  at: At,
  labelOf: (run: KeptRecord) => string,
): TimelineRow[] {
  const span = (run: KeptRecord): Span => ({
    from: at(run.began),
    to: at(run.ended),
    kind: wentWell(run) ? "run" : "failed",
    label: `${labelOf(run)}${wentWell(run) ? "" : ` (${stateOf(run)})`}; ${took(run)}`,
  });
  return [...groups].map(([name, runs]) => ({
    ...{ name, title: `${runs.length} runs`, lane: false },
    spans: runs.slice(0, SPANS).map(span),
  }));
}

/** Nodes in the order in which they were first touched; if there are too many, those with a failure first. */
function nodeRows(runs: readonly KeptRecord[], at: At): TimelineRow[] {
  const all = [...Map.groupBy(runs, ({ node }) => node)];
  const failed = ([, its]: (typeof all)[number]) => (its.every(wentWell) ? 1 : 0);
  const shown = all.length > ROWS ? all.toSorted((a, b) => failed(a) - failed(b)).slice(0, ROWS) : all;
  const more = `… ${formatNumber(all.length - shown.length)} more nodes`;
  return [
    ...rowsOf(new Map(shown), at, ({ script }) => script),
    ...(all.length > shown.length ? [{ name: more, title: "", lane: false, spans: [] }] : []),
  ];
}

type When = (run: KeptRecord) => Date | undefined;

const goodEnd: When = ({ exitCode, ended }) => (exitCode === 0 ? ended : undefined);
/** etcd is proved when enough of its members run, not when the first one does. */
const proved: When = ({ events }) =>
  events.find((event) => event.what === "proved" && event.subject === "etcd")?.at;
/** Later steps of part 2 are for other nodes. */
const proofOfApi: When = ({ steps }) => steps.find(({ title, ok }) => ok && title.startsWith("2.4 "))?.ended;

const MEANS: { script: string; text: string; when: When }[] = [
  { script: "01-etcd", text: "etcd proved", when: proved },
  { script: "02-control-plane", text: "API proved", when: proofOfApi },
  { script: "03-workers close", text: "nodes back", when: goodEnd },
  { script: "04-sa-tokens", text: "pods and tokens renewed", when: goodEnd },
];

export function moments(runs: readonly KeptRecord[]) {
  return MEANS.flatMap(({ script, text, when }) => {
    const times = runs.filter((run) => run.script === script).flatMap((run) => when(run)?.getTime() ?? []);
    return times.length > 0 ? [{ time: new Date(Math.min(...times)), text }] : [];
  });
}

function pausesBetween(busy: readonly { from: number; to: number }[]): Pause[] {
  const pauses: Pause[] = [];
  let until = 0;
  for (const { from, to } of busy.toSorted((a, b) => a.from - b.from)) {
    if (from - until > PAUSE)
      pauses.push({
        from: until + 2,
        to: from - 2,
        text: lasting((from - until) * 1000).replace(/ \d+ s$/, ""),
      });
    until = Math.max(until, to);
  }
  return pauses;
}
