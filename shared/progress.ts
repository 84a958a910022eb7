/** Shows how far a long step is: on a terminal one line that is redrawn, elsewhere a line now and then. */
import { FEW, listed, plainLine } from "./plain.ts";
import { ERASE_LINE, redrawn, say } from "./run.ts";

interface Figures {
  what: string;
  done: number;
  /** Unset if it is unknown. */
  total?: number | undefined;
  /** The unit, if `what` does not say it: "MB". */
  unit?: string | undefined;
  /** Seconds since the beginning. */
  seconds: number;
  /** More words to show. */
  note?: string;
}

const BAR = 20;

/**
 * Milliseconds. A terminal is redrawn after REDRAW; elsewhere a line comes with each tenth after AT_MOST, and
 * after AT_LEAST in any case.
 */
const REDRAW = 100;
const LINE_AT_MOST = 2000;
const LINE_AT_LEAST = 30_000;

export class Progress {
  readonly #what: string;
  readonly #total: number | undefined;
  readonly #isTerminal: boolean;
  readonly #unit: string | undefined;
  readonly #began = Date.now();
  #figures: Figures | undefined;
  #last = { time: 0, tenth: 0, done: 0 };

  constructor(what: string, total?: number, terminal = process.stderr.isTTY, unit?: string) {
    this.#what = what;
    this.#total = total;
    this.#isTerminal = terminal;
    this.#unit = unit;
    this.#last.time = this.#began;
  }

  /** Shows the progress if it is time for a line. */
  show(done: number, note?: string) {
    const now = Date.now();
    const seconds = (now - this.#began) / 1000;
    this.#figures = {
      what: this.#what,
      done,
      total: this.#total,
      unit: this.#unit,
      seconds,
      ...(note ? { note } : {}),
    };
    if (this.#isTerminal) {
      if (now - this.#last.time >= REDRAW) this.#draw(now);
    } else if ((this.#total ?? Infinity) > FEW && done > this.#last.done) {
      const tenth = Math.floor((done / (this.#total ?? Infinity)) * 10);
      const elapsed = now - this.#last.time;
      if (
        done === this.#total ||
        (tenth > this.#last.tenth && elapsed >= LINE_AT_MOST) ||
        elapsed >= LINE_AT_LEAST
      )
        this.#line(now, tenth);
    }
  }

  /** A line of its own, above the one that is redrawn. */
  say(line: string) {
    this.clear();
    say(line);
  }

  /** Removes the line; the next message takes its place. */
  clear() {
    if (!this.#isTerminal) return;
    if (this.#figures) process.stderr.write(ERASE_LINE);
    redrawn.isShown = false;
    this.#last.time = 0;
  }

  #draw(now: number) {
    this.#last.time = now;
    redrawn.isShown = true;
    process.stderr.write(
      `${ERASE_LINE}  ${plainLine(progressLine(this.#figures!, true))}`.slice(
        0,
        (process.stderr.columns || 80) + ERASE_LINE.length,
      ),
    );
  }

  #line(now: number, tenth: number) {
    this.#last = { time: now, tenth, done: this.#figures!.done };
    say(progressLine(this.#figures!, false));
  }
}

/**
 * `nodes back ███████████████░░░░░ 3,871 / 5,000 41/s about 28 s left 2 refused`; nothing about speed before
 * the first, and `tokens 3,500 1,020/s` if nobody knows how many there are.
 */
export function progressLine({ what, done, total, unit, seconds, note }: Figures, hasBar: boolean): string {
  const rate = seconds > 0 ? done / seconds : 0;
  const totalPart = total === undefined ? "" : ` / ${formatNumber(total)}`;
  return [
    what,
    `${hasBar && total !== undefined ? `${barOf(done, total)}  ` : ""}${formatNumber(done)}${totalPart}${unit ? ` ${unit}` : ""}`,
    ...(rate > 0 && total !== undefined && done >= total ? [`in ${duration(seconds)}`] : []),
    ...(rate > 0 ? [speed(rate, unit)] : []),
    ...(rate > 0 && total !== undefined && done < total
      ? [`about ${duration((total - done) / rate)} left`]
      : []),
    ...(note ? [note] : []),
  ].join("   ");
}

function barOf(done: number, total: number): string {
  const full = total === 0 ? BAR : Math.round((done / total) * BAR);
  return `${"█".repeat(full)}${"░".repeat(BAR - full)}`;
}

/** 5,000 */
export function formatNumber(number: number): string {
  return number.toLocaleString("en-US");
}

function speed(rate: number, unit?: string): string {
  const per = unit ? ` ${unit}` : "";
  if (rate >= 10) return `${formatNumber(Math.round(rate))}${per}/s`;
  return rate >= 0.1 ? `${rate.toFixed(1)}${per}/s` : `${(rate * 60).toFixed(1)}${per}/min`;
}

function duration(seconds: number): string {
  const whole = Math.max(1, Math.round(seconds));
  if (whole < 120) return `${whole} s`;
  return whole < 7200 ? `${Math.round(whole / 60)} min` : `${Math.round(whole / 3600)} h`;
}

/** The first names of a list in a line; nothing if there is none. */
export function sayNames(what: string, names: readonly string[]) {
  if (names.length > 0) say(`${what}: ${listed(names)}`);
}

/** A line about one of many items. */
export interface LineOfMany {
  /** The item's name in a list. */
  name: string;
  /** Words that belong to this item: lines with the same reason have their own in these positions. */
  own: Iterable<string | undefined>;
  text: string;
}

/** The words that all items with this reason share. */
function reasonOf({ own, text }: LineOfMany): string {
  const words = new Set(own);
  const masked = text.replaceAll(/\w(?:[\w.-]*\w)?/g, (word) => (words.has(word) ? "…" : word));
  return masked.replaceAll(/…(?: …)+/g, "…");
}

/**
 * The lines in their order. If more than a few have the same reason: the first of them, and below it a line
 * with the number of the others, and the first of their names.
 */
export function fewLines(lines: readonly LineOfMany[]): string[] {
  const alike = [...Map.groupBy(lines, reasonOf).values()].filter(({ length }) => length > FEW);
  const rest = new Map(alike.map(([first, ...others]) => [first!, others]));
  const others = new Set([...rest.values()].flat());
  return lines.flatMap((line) => {
    if (others.has(line)) return [];
    const more = rest.get(line);
    return more ? [line.text, moreLike(line.name, more)] : line.text;
  });
}

function moreLike(name: string, more: readonly LineOfMany[]): string {
  return `${formatNumber(more.length)} more like ${name}: ${listed(more.map((one) => one.name))}`;
}

/** The same for lines that come one by one: the first few of each reason are printed when they come. */
export class LinesOfMany {
  readonly #byReason = new Map<string, LineOfMany[]>();

  say(line: LineOfMany) {
    const reason = reasonOf(line);
    const alike = this.#byReason.get(reason) ?? [];
    this.#byReason.set(reason, alike);
    if (alike.push(line) <= FEW) say(line.text);
  }

  /** Called after the last one. */
  sayRest() {
    for (const alike of this.#byReason.values())
      if (alike.length > FEW) say(moreLike(alike[0]!.name, alike.slice(FEW)));
  }
}
