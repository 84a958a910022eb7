/**
 * The timeline of a rehearsal: a lane for each server and node, each heartbeat and each script, over the
 * seconds since the damage.
 */
import type { Span, Timeline, TimelineRow } from "../../../shared/report/timeline.ts";
import type { Rehearsal } from "./rehearsal.ts";
import { groups, returns, seconds } from "./terminal.ts";

export function timelineOf(record: Rehearsal): Timeline {
  return {
    label: `Timeline of the rehearsal ${record.scenario}`,
    sections: [
      { name: "The cluster", rows: clusterRows(record) },
      { name: "The workloads' calls", rows: heartbeatRows(record) },
      ...(record.pings.length > 0 ? [{ name: "Pings", rows: pingRows(record) }] : []),
      { name: "Commands", rows: commandRows(record) },
    ],
    flags: [
      { at: 0, text: "damage", bad: true },
      ...returns(record).map(({ at, what }) => ({ at, text: at === 0 ? what : `${what} ${seconds(at)}` })),
    ],
    end: lastSecond(record),
  };
}

function clusterRows({ lanes }: Rehearsal): TimelineRow[] {
  return lanes.map(({ name, away, note }) => ({
    name,
    title: note,
    lane: true,
    spans: away.map((span) => gap(span, note || "did not answer")),
  }));
}

function heartbeatRows({ heartbeats }: Rehearsal): TimelineRow[] {
  return heartbeats.map(({ name, what, gaps }) => ({
    name,
    title: what,
    lane: true,
    spans: gaps.map((span) => gap(span, `${span.failed} calls failed: ${span.error}`)),
  }));
}

function pingRows({ pings }: Rehearsal): TimelineRow[] {
  return pings.map(({ name, what, spans }) => ({
    name,
    title: what,
    lane: true,
    spans: spans.map(({ from, to, lost }) => ({ from, to, kind: "away", label: `${lost} lost` })),
  }));
}

function gap({ from, to }: { from: number; to: number | null }, why: string): Span {
  return {
    from,
    to,
    kind: "away",
    label: to === null ? `no answer until the end; ${why}` : `${seconds(to - Math.max(0, from))}; ${why}`,
  };
}

function commandRows({ steps }: Rehearsal): TimelineRow[] {
  return groups(steps).map((group) => {
    const state = group.hung ? " (hung)" : group.ok ? "" : " (failed)";
    const span: Span = {
      from: group.start,
      to: group.start + group.seconds,
      kind: group.ok ? "run" : "failed",
      label: `${seconds(group.seconds)}${state}`,
    };
    return { name: group.name.replace(/^kubeadm /, ""), title: group.detail, lane: false, spans: [span] };
  });
}

function lastSecond({ steps, lanes, heartbeats, seconds }: Rehearsal): number {
  const ends = [
    ...steps.map((step) => step.start + step.seconds),
    ...[...lanes.map((lane) => lane.away), ...heartbeats.map((beat) => beat.gaps)]
      .flat()
      .flatMap((span) => [span.from, span.to ?? 0]),
    ...Object.values({ ...seconds, repairCommands: 0 }).map((value) => value ?? 0),
  ];
  return Math.max(1, ...ends) * 1.01;
}
