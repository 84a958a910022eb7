/**
 * What a text costs a parser, in CPU by its size: a price that grows with the square of the size, or faster, stops a script
 * for hours at a text that somebody made for it. Measured in one run, so that no machine is too slow for it.
 */

/** One parser of bytes that others may have written, and texts of about so many bytes that are made for it. */
export interface Priced {
  parser: string;
  /** It may throw: a refusal is an answer. */
  parse: (bytes: Buffer) => unknown;
  texts: Record<string, (size: number) => string | Buffer>;
}

/** ms of CPU for one parse: all threads, as a collector's work is a price, too. */
async function once(parse: Priced["parse"], bytes: Buffer): Promise<number> {
  const before = process.cpuUsage();
  try {
    await parse(bytes);
  } catch (err) {
    if (!(err instanceof Error)) throw err;
  }
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/**
 * The least of some tries: what else runs meanwhile makes each only dearer. It ends with the first that is no more than
 * `enough`.
 */
async function least(parse: Priced["parse"], bytes: Buffer, enough: number): Promise<number> {
  let ms = await once(parse, bytes);
  // a collector's or a neighbour's minute is no price: one try alone is never believed
  for (let tries = 1; tries < MOST_TRIES && ms > enough && (tries < 2 || ms < TOO_LONG_MS); tries++)
    ms = Math.min(ms, await once(parse, bytes));
  return ms;
}

/** On a machine with a load of 27, four were too few for a text of 16 kB. */
const MOST_TRIES = 12;

/** A text of 48 bytes tells an exponential price, before one of 2048 lasts for ever. */
const TINY = [20, 28, 48];
const TINY_MS = 100;

/** Bytes from which on a price is compared, and how many times it may grow: engines and collectors are not linear either. */
const COMPARED = 2048;
const MOST_TIMES = 5;

/** From 2 kB to a megabyte a square is 512 times as dear: there collectors may cost more. */
const FAR = 128 * 1024;

/** ms that are never too dear, whatever they grow from; and that are so before anything can be compared. */
const CHEAP_MS = 30;
const TOO_LONG_MS = 400;

/** The sentences about a parser whose price per byte grows up to this size. */
export async function tooDear({ parser, parse, texts }: Priced, largest: number): Promise<string[]> {
  const found: string[] = [];
  for (const [name, make] of Object.entries(texts)) {
    const why = await dearAt(parse, (size) => Buffer.from(make(size) as string, "latin1"), largest);
    if (why) found.push(`${parser}, ${name}: ${why}`);
  }
  return found;
}

async function dearAt(
  parse: Priced["parse"],
  make: (size: number) => Buffer,
  largest: number,
): Promise<string | undefined> {
  for (const size of TINY) {
    const ms = await least(parse, make(size), TINY_MS);
    if (ms > TINY_MS) return `${Math.round(ms)} ms for ${size} bytes`;
  }
  let price = Number.POSITIVE_INFINITY;
  for (let size = COMPARED / 8; size <= largest; size *= 2) {
    const bytes = make(size);
    const times = largest > FAR ? 4 * MOST_TIMES : MOST_TIMES;
    const most = size > COMPARED ? Math.max(CHEAP_MS, times * price * bytes.length) : TOO_LONG_MS;
    // the price that the others are compared with is the least of all tries
    const ms = await least(parse, bytes, size === COMPARED ? 0 : most);
    if (ms > most)
      return `${ms.toFixed(0)} ms for ${bytes.length} bytes, and no more than ${most.toFixed(0)} was expected`;
    if (size >= COMPARED) price = Math.min(price, ms / bytes.length);
  }
  return undefined;
}
