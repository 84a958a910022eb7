/**
 * A lane for each node that is at work: its seconds and its script's last line. On a terminal the lanes are redrawn each
 * second, and many nodes are counted; elsewhere, and with TERM=dumb, each line comes once, behind the node's name.
 */
import { formatNumber } from "../progress.ts";
import { say } from "../run.ts";

interface Lane {
  name: string;
  began: number;
  last: string;
  /** Lines of it that were printed. */
  shown?: number;
  end?: { ok: boolean; seconds: number };
}

/** The most nodes that have a lane of their own. */
const MOST = 12;

/** Without a terminal: lines of one node that are printed; no script of this kit says so many. */
export const MOST_LINES = 500;

/** Milliseconds between two drawings. */
const REDRAW = 1000;

function hasLanes(): boolean {
  return process.stderr.isTTY === true && process.env.TERM !== "dumb";
}

/** Questions that are on the terminal now. */
let questions = 0;

/** No lane is drawn while somebody is asked. */
export function stillLanes(): Disposable {
  questions += 1;
  return {
    [Symbol.dispose]() {
      questions -= 1;
    },
  };
}

export class Lanes implements Disposable {
  readonly #lanes: Lane[];
  readonly #timer: ReturnType<typeof setInterval> | undefined;
  #drawn = 0;

  constructor(names: readonly string[]) {
    this.#lanes = names.map((name) => ({ name, began: Date.now(), last: "" }));
    if (hasLanes()) this.#timer = setInterval(() => this.#draw(), REDRAW);
  }

  /** `line` is plain text already. */
  show(name: string, line: string) {
    const lane = this.#of(name);
    if (!lane || lane.end || line.trim() === "") return;
    lane.last = line.trim();
    if (!this.#timer) sayOf(lane, line);
  }

  ended(name: string, ok: boolean, last?: string) {
    const lane = this.#of(name);
    if (!lane || lane.end) return;
    lane.last = last ?? lane.last;
    lane.end = { ok, seconds: (Date.now() - lane.began) / 1000 };
    if (!this.#timer) say(`${name}: ${ok ? "done" : "STOPPED"} after ${lane.end.seconds.toFixed(0)} s`);
  }

  #of(name: string): Lane | undefined {
    return this.#lanes.find((lane) => lane.name === name);
  }

  #draw() {
    if (questions > 0) {
      // what is drawn stands above the question
      this.#drawn = 0;
      return;
    }
    const lines = linesOf(this.#lanes, Date.now(), (process.stderr.columns ?? 80) - 1);
    const up = this.#drawn > 0 ? `\u001b[${this.#drawn}A` : "";
    process.stderr.write(`${up}${lines.map((line) => `\u001b[2K${line}`).join("\n")}\n`);
    this.#drawn = lines.length;
  }

  [Symbol.dispose]() {
    if (!this.#timer) return;
    clearInterval(this.#timer);
    this.#draw();
  }
}

/** One node cannot fill the output of all. */
function sayOf(lane: Lane, line: string) {
  const shown = (lane.shown ?? 0) + 1;
  lane.shown = shown;
  if (shown <= MOST_LINES) say(`${lane.name}: ${line}`);
  else if (shown === MOST_LINES + 1) say(`${lane.name}: more lines of it are not shown`);
}

/** "  √ cp1   4 s  done.  next: …"; of many nodes only those that run or have stopped, below a count. */
export function linesOf(lanes: readonly Lane[], now: number, width: number): string[] {
  const longest = Math.max(...lanes.map(({ name }) => name.length));
  const line = ({ name, began, last, end }: Lane) => {
    const seconds = (end?.seconds ?? (now - began) / 1000).toFixed(0).padStart(4);
    const sign = end ? (end.ok ? "√" : "×") : "·";
    return `  ${sign} ${name.padEnd(longest)} ${seconds} s  ${last}`.slice(0, width);
  };
  if (lanes.length <= MOST) return lanes.map(line);
  const [done, bad] = [lanes.filter(({ end }) => end?.ok), lanes.filter(({ end }) => end && !end.ok)];
  const open = lanes.filter(({ end }) => !end);
  const figures = `${formatNumber(done.length)} of ${formatNumber(lanes.length)} done, ${formatNumber(open.length)} at work, ${formatNumber(bad.length)} stopped`;
  const shown = [...bad, ...open].slice(0, MOST - 1).map(line);
  return [`  ${figures}`.slice(0, width), ...shown, ...Array(MOST - 1 - shown.length).fill("")];
}
