/**
 * The output of another machine, within bounds: a node that prints without end, or says nothing, is left. Its own lane ends,
 * with the reason; no other one waits, and memory is bounded.
 */
import type { Subprocess } from "bun";
import { plainLine } from "../plain.ts";
import { MOST_OUTPUT, type Patience } from "./patience.ts";

/** Seconds without a byte. A script of this kit that waits says so every ten seconds. */
const QUIET = 900;

/** Seconds for a line that names no other limit: more than any script of this kit takes, but a search of a disk. */
const LONGEST = 3600;

/** The longest part of a line that is kept, in characters. */
const LONGEST_LINE = 4096;

interface Watched extends Patience {
  /** "w1 has said nothing". */
  silence: string;
  /** "w1 has been at work". */
  work: string;
}

/** Ends programs, each in a session of its own, with all that they have started. */
export class Leash implements Disposable {
  /** Why they were ended; undefined: they were not. */
  reason: string | undefined;
  readonly #children: readonly Subprocess[];
  readonly #quiet: ReturnType<typeof setTimeout>;
  readonly #whole: ReturnType<typeof setTimeout>;
  readonly #over = new AbortController();
  readonly #onLate: Patience["onLate"];
  #isAsking = false;

  constructor(
    children: readonly Subprocess[],
    { silence, work, quiet = QUIET, most = LONGEST, onLate }: Watched,
  ) {
    this.#children = children;
    this.#onLate = onLate;
    this.#quiet = setTimeout(() => this.#late(`${silence} for ${quiet} s`), quiet * 1000);
    this.#whole = setTimeout(() => this.#late(`${work} for ${most} s, and has not ended`), most * 1000);
  }

  /** A byte has come, or has gone. */
  moved() {
    this.#quiet.refresh();
  }

  async #late(why: string) {
    if (this.#isAsking || this.#over.signal.aborted) return;
    this.#isAsking = true;
    const mayGoOn = (await this.#onLate?.(why, this.#over.signal)) ?? false;
    this.#isAsking = false;
    if (this.#over.signal.aborted) return;
    if (!mayGoOn) return this.end(why);
    this.#quiet.refresh();
    this.#whole.refresh();
  }

  end(reason: string) {
    this.reason ??= reason;
    for (const { pid } of this.#children) endGroup(pid);
  }

  [Symbol.dispose]() {
    this.#over.abort();
    clearTimeout(this.#quiet);
    clearTimeout(this.#whole);
  }
}

function endGroup(pid: number) {
  try {
    process.kill(-pid, "SIGKILL");
  } catch (err) {
    // it has ended already
    if ((err as NodeJS.ErrnoException).code !== "ESRCH") throw err;
  }
}

/** A login shell may print before the command: that is no answer of the command. */
export class BehindMark {
  readonly #mark: Buffer | undefined;
  #before = Buffer.alloc(0);
  #isFound: boolean;

  /** A line that the command prints first; undefined: nothing stands before the answer. */
  constructor(mark: string | undefined) {
    this.#mark = mark === undefined ? undefined : Buffer.from(`${mark}\n`);
    this.#isFound = mark === undefined;
  }

  /** The bytes that belong to the answer. */
  of(bytes: Uint8Array): Uint8Array {
    if (this.#isFound) return bytes;
    const all = Buffer.concat([this.#before, bytes]);
    const at = all.indexOf(this.#mark!);
    this.#isFound = at >= 0;
    this.#before = this.#isFound ? Buffer.alloc(0) : all.subarray(-this.#mark!.length);
    return this.#isFound ? all.subarray(at + this.#mark!.length) : Buffer.alloc(0);
  }
}

interface HowToRead {
  leash: Leash;
  /** Whose words they are. */
  name: string;
  mark?: string | undefined;
  onLine?: ((line: string) => void) | undefined;
}

/** The lines of a text that comes in pieces, each within bounds, as it came: another's words. */
export class Lines {
  #open = "";
  readonly #onLine: (line: string) => void;

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  take(text: string) {
    const lines = `${this.#open}${text}`.split("\n");
    this.#open = lines.pop()!.slice(-LONGEST_LINE);
    for (const line of lines) this.#onLine(line.slice(0, LONGEST_LINE));
  }

  /** The rest, which has no line break. */
  end() {
    if (this.#open) this.#onLine(this.#open);
  }
}

/** At most MOST_OUTPUT bytes; behind them its program is ended. */
export async function boundedText(
  stream: ReadableStream<Uint8Array>,
  { leash, name, mark, onLine }: HowToRead,
): Promise<string> {
  const [decoder, behind] = [new TextDecoder(), new BehindMark(mark)];
  const lines = onLine && new Lines((line) => onLine(plainLine(line)));
  const parts: string[] = [];
  let length = 0;
  for await (const bytes of stream) {
    leash.moved();
    length += bytes.length;
    if (length > MOST_OUTPUT) {
      leash.end(`${name} has printed more than ${MOST_OUTPUT / 2 ** 20} MB`);
      break;
    }
    const text = decoder.decode(behind.of(bytes), { stream: true });
    parts.push(text);
    lines?.take(text);
  }
  lines?.end();
  return parts.join("");
}
