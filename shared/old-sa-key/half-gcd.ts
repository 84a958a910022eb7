/**
 * The greatest common divisor of numbers of a hundred million bits, in plain BigInt: Euclid's algorithm by
 * halves, in the variant that needs no corrections (N. Möller, "On Schönhage's algorithm and subquadratic
 * integer gcd computation", Mathematics of Computation 77, 2008).
 *
 * A half-gcd takes n-bit numbers down to the smallest pair that still has more than n/2 bits, working on
 * their top halves only; the matrix of its steps then takes the low halves along by multiplication, which Bun
 * does in almost linear time since 1.4.1 (before that a BigInt ends at 2^20 bits). Two 134-million-bit
 * numbers take about 55 s instead of hours.
 */

/** Rows (a b), (c d), all of it not negative, determinant 1: (before) = matrix · (after). */
type Matrix = readonly [a: bigint, b: bigint, c: bigint, d: bigint];

/**
 * Bits: below LEAF Lehmer's steps on doubles; from WINOGRAD on 7 multiplications are cheaper than 8; from BIG
 * on garbage is worth collecting.
 */
const LEAF = 800;
const WINOGRAD = 100_000;
const BIG = 3_000_000;

/**
 * The share of its top bits that an outer step works on: 0.4 of the number. Between 0.33 and 0.5 it hardly
 * matters (measured: 4 %).
 */
const KEEP = 0.6;

/** Called now and then with the number of bits done so far. */
export type OnBitsDone = (bits: number) => void;

export function gcd(x: bigint, y: bigint, gone: OnBitsDone = () => {}): bigint {
  const pair = new Pair(x, y, Math.max(x.toString(16).length, y.toString(16).length) * 4, { bits: 0, gone });
  while (pair.y !== 0n) {
    if (pair.measure() >= LEAF) pair.reduceTop(Math.floor(pair.bits * KEEP));
    if (pair.x < pair.y) [pair.x, pair.y] = [pair.y, pair.x];
    if (pair.y !== 0n) [pair.x, pair.y] = [pair.y, pair.x % pair.y];
    pair.matrix = undefined;
  }
  return pair.x;
}

/**
 * The length of a number in bits; it is known to be at most `atMost`. Looks at the top only, and further down
 * while that is zero.
 */
export function bitLength(number: bigint, atMost: number): number {
  for (let start = atMost - WINDOW; ; start -= WINDOW) {
    if (start <= 0) return smallLength(Number(number));
    const top = Number(number >> BigInt(start));
    if (top !== 0) return start + smallLength(top);
  }
}

/** Bits that a double holds exactly, but for one. */
const WINDOW = 52;

/** Only for numbers below 2^53. */
function smallLength(number: number): number {
  return number < 2 ** 32 ? 32 - Math.clz32(number) : 64 - Math.clz32(number / 2 ** 32);
}

/**
 * Brings n-bit numbers down to the smallest ones that are both above 2^floor, with their difference below it.
 */
function halfGcd(pair: Pair): Pair {
  const n = pair.bits;
  const floor = (n >> 1) + 1;
  if (pair.smaller() <= floor + 1) return pair;
  if (n <= LEAF) return pair.leaf(floor);
  const threeQuarters = Math.floor((3 * n) / 4) + 2;
  if (pair.smaller() > threeQuarters) pair.reduceTop(n >> 1);
  while (pair.measure() >= threeQuarters) if (!pair.divide(floor)) return pair;
  if (pair.smaller() > floor + 2) pair.reduceTop(2 * floor - pair.bits + 1);
  while (pair.divide(floor));
  return pair;
}

/** Two numbers being reduced, and the matrix of the steps so far; undefined: none yet. */
class Pair {
  x: bigint;
  y: bigint;
  /** Upper limit of the bit length of the larger number; exact after `measure`. */
  bits: number;
  matrix: Matrix | undefined;
  readonly progress: { bits: number; readonly gone: OnBitsDone };

  constructor(x: bigint, y: bigint, bits: number, progress: Pair["progress"]) {
    this.x = x;
    this.y = y;
    this.bits = bits;
    this.progress = progress;
  }

  measure(): number {
    this.bits = Math.max(bitLength(this.x, this.bits), bitLength(this.y, this.bits));
    return this.bits;
  }

  smaller(): number {
    return Math.min(bitLength(this.x, this.bits), bitLength(this.y, this.bits));
  }

  /** Reduces the bits above `shift`, and carries the lower ones along. */
  reduceTop(shift: number) {
    const width = BigInt(shift);
    const top = new Pair(this.x >> width, this.y >> width, this.bits - shift, this.progress);
    const { matrix } = top.measured();
    if (!matrix) return;
    const [a, b, c, d] = matrix;
    const [lowX, lowY] = [BigInt.asUintN(shift, this.x), BigInt.asUintN(shift, this.y)];
    this.x = (top.x << width) + (d * lowX - b * lowY);
    this.y = (top.y << width) + (a * lowY - c * lowX);
    this.follow(matrix, top.bits);
    if (this.bits > BIG) Bun.gc(true);
  }

  measured(): Pair {
    this.measure();
    return halfGcd(this);
  }

  /**
   * One division, if it leaves both numbers above 2^floor and their difference not below it; false if not.
   */
  divide(floor: number): boolean {
    const floorBits = BigInt(floor);
    const first = this.x > this.y;
    const [large, small] = first ? [this.x, this.y] : [this.y, this.x];
    if ((large - small) >> floorBits === 0n) return false;
    let quotient = large / small;
    let rest = large - quotient * small;
    if (rest >> floorBits === 0n) [quotient, rest] = [quotient - 1n, rest + small];
    if (first) this.x = rest;
    else this.y = rest;
    this.follow(first ? [1n, quotient, 0n, 1n] : [1n, 0n, quotient, 1n], 0);
    return true;
  }

  /** Lehmer's algorithm: many steps at once on the top 52 bits, which doubles hold exactly. */
  leaf(floor: number): Pair {
    const began = this.bits;
    for (;;) {
      const n = this.measure();
      const shift = Math.max(n - 52, 2 * floor - n + 1, 0);
      const top =
        n - shift > 6
          ? smallHalfGcd(Number(this.x >> BigInt(shift)), Number(this.y >> BigInt(shift)), n - shift)
          : undefined;
      if (top) {
        const [a, b, c, d] = top;
        [this.x, this.y] = [d * this.x - b * this.y, a * this.y - c * this.x];
        this.follow(top, 0);
      } else if (!this.divide(floor)) break;
    }
    this.progress.bits += began - this.bits;
    this.progress.gone(this.progress.bits);
    return this;
  }

  follow(step: Matrix, bits: number) {
    this.matrix = this.matrix ? multiply(this.matrix, step, bits) : step;
  }
}

/** The same in doubles, for numbers of up to 52 bits; undefined if no step is possible. */
function smallHalfGcd(x: number, y: number, bits: number): Matrix | undefined {
  const floor = 2 ** ((bits >> 1) + 1);
  if (x <= floor || y <= floor) return undefined;
  let a = 1;
  let b = 0;
  let c = 0;
  let d = 1;
  while (Math.abs(x - y) >= floor) {
    const large = Math.max(x, y);
    const small = Math.min(x, y);
    let quotient = Math.floor(large / small);
    if (large - quotient * small < floor) quotient--;
    if (quotient === 0) break;
    if (x > y) {
      x -= quotient * y;
      b += quotient * a;
      d += quotient * c;
    } else {
      y -= quotient * x;
      a += quotient * b;
      c += quotient * d;
    }
  }
  return b === 0 && c === 0 ? undefined : [BigInt(a), BigInt(b), BigInt(c), BigInt(d)];
}

/**
 * The product; for large numbers S. Winograd's form of Strassen's, with 7 multiplications and 15 additions.
 */
function multiply([a, b, c, d]: Matrix, [e, f, g, h]: Matrix, bits: number): Matrix {
  if (bits < WINOGRAD) return [a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h];
  const [s1, t1] = [c + d, f - e];
  const [s2, t2] = [s1 - a, h - t1];
  const [p1, p2] = [a * e, b * g];
  const u2 = p1 + s2 * t2;
  const u3 = u2 + (a - c) * (h - f);
  const p5 = s1 * t1;
  return [p1 + p2, u2 + p5 + (b - s2) * h, u3 - d * (t2 - g), u3 + p5];
}
