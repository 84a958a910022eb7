/**
 * The pulse of the workloads. Pods write one JSON line a call ({"t":1732456789012,"ok":false,"err":"…"}) to a
 * file on their node; here the lines become gaps and counts. A late call counts like a failed one: silence is
 * downtime, too.
 */
import type { Gap, Heartbeat } from "./rehearsal.ts";

export interface Beat {
  t: number;
  ok: boolean;
  err?: string;
}

/** A stretch of time with a name: "before the damage", "part 4". `to` is Infinity for the last one. */
export interface Phase {
  name: string;
  from: number;
  to: number;
}

export function readBeats(text: string): Beat[] {
  const lines = text.split("\n");
  lines.pop(); // empty, or a line that is just being written
  return lines
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Beat)
    .sort((a, b) => a.t - b.t);
}

/** Milliseconds of silence that count as one late call: the machine's two cores are busy. */
const LATE = 2000;

/**
 * Calls and gaps since the damage at `zero` (ms). What failed while the workloads started is in `phases`
 * only.
 */
export function measure(
  beats: Beat[],
  options: { name: string; what: string; zero: number; end: number; phases: Phase[] },
): Heartbeat {
  const { name, what, zero, end, phases } = options;
  const since = beats.filter((beat) => beat.t >= zero);
  return {
    name,
    what,
    calls: since.length,
    failed: since.filter((beat) => !beat.ok).length,
    gaps: findGaps(beats, zero, end).filter(({ to }) => to === null || to > 0),
    phases: phases.map((phase) => {
      const inside = beats.filter((beat) => beat.t >= phase.from && beat.t < phase.to);
      return { name: phase.name, calls: inside.length, failed: inside.filter((beat) => !beat.ok).length };
    }),
  };
}

function findGaps(beats: Beat[], zero: number, end: number): Gap[] {
  const gaps: Gap[] = [];
  let lastGood = beats[0]?.t ?? zero;
  let failed: Beat[] = [];
  const close = (to: number | null) => {
    const silent = (to ?? end) - lastGood > LATE;
    if (failed.length > 0 || silent) gaps.push(gap(lastGood, to, failed, zero));
  };
  for (const beat of beats) {
    if (!beat.ok) failed.push(beat);
    else {
      close(beat.t);
      lastGood = beat.t;
      failed = [];
    }
  }
  close(null);
  return gaps;
}

function gap(from: number, to: number | null, failed: Beat[], zero: number): Gap {
  const error = failed.at(-1)?.err ?? (failed.length ? "failed" : "silent");
  return {
    from: (from - zero) / 1000,
    to: to === null ? null : (to - zero) / 1000,
    failed: failed.length,
    error,
  };
}
