/**
 * Reads the protobuf wire format: varints, fixed numbers and length-delimited bytes, nothing else. etcd and
 * Kubernetes need no more. Source: protobuf.dev/programming-guides/encoding.
 */

/**
 * Bytes that break the rules of their format. The exported reader (`readEtcdData`, `decodeObject`) turns it
 * into a `Fail`.
 */
export class Damaged extends Error {}

/** A number that lies behind the end of the bytes is a RangeError of Node's. */
export function isDamage(err: unknown): err is Damaged | RangeError {
  return err instanceof Damaged || err instanceof RangeError;
}

/** Undefined if what it reads is damaged. */
export function unlessDamaged<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (err) {
    if (isDamage(err)) return undefined;
    throw err;
  }
}

export const VARINT = 0;
const FIXED64 = 1;
export const BYTES = 2;
const FIXED32 = 5;

/**
 * A cursor over one message. `while (!reader.done) { const tag = reader.tag(); … }`; the field number is `tag
 * >>> 3`, the wire type `tag & 7`.
 */
export class Reader {
  private position = 0;
  private readonly message: Uint8Array;

  constructor(message: Uint8Array) {
    this.message = message;
  }

  get at(): number {
    return this.position;
  }

  get done() {
    return this.position >= this.message.length;
  }

  tag(): number {
    const tag = this.number();
    if (tag < 8 || tag > 0xffffffff) throw new Damaged(`protobuf: no field has the tag ${tag}`);
    return tag;
  }

  /** Revisions, indices, lengths. */
  number(): number {
    const start = this.position;
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.byte();
      value += (byte & 127) * scale;
      if (byte < 128) break;
    }
    if (!Number.isSafeInteger(value))
      throw new Damaged(`protobuf: number at byte ${start} is larger than 2^53`);
    return value;
  }

  int64(): bigint {
    // bigints are slow
    let [low, high] = [0, 0n];
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.byte();
      if (shift < 49) low += (byte & 127) * 2 ** shift;
      else high += BigInt(byte & 127) << BigInt(shift);
      if (byte < 128) return shift < 49 ? BigInt(low) : BigInt.asIntN(64, high + BigInt(low));
    }
    throw new Damaged(`protobuf: varint before byte ${this.position} is longer than ten bytes`);
  }

  /** A view, not a copy. */
  bytes(): Uint8Array {
    const length = this.number();
    return this.message.subarray(this.position, this.advance(length));
  }

  text(): string {
    return Buffer.from(this.bytes()).toString("utf8");
  }

  skip(tag: number) {
    const wire = tag & 7;
    if (wire === VARINT) this.int64();
    else if (wire === BYTES) this.advance(this.number());
    else if (wire === FIXED64) this.advance(8);
    else if (wire === FIXED32) this.advance(4);
    else throw new Damaged(`protobuf: wire type ${wire} at byte ${this.position}`);
  }

  private byte(): number {
    if (this.done) throw new Damaged("protobuf: message ends inside a field");
    return this.message[this.position++]!;
  }

  private advance(length: number): number {
    if (length > this.message.length - this.position)
      throw new Damaged("protobuf: message ends inside a field");
    this.position += length;
    return this.position;
  }
}

/** One field as it is on the wire. Only the one of `number` and `bytes` that fits its wire type is set. */
interface WireField {
  number: number;
  int: bigint;
  bytes: Uint8Array;
}

export const NOTHING = new Uint8Array(0);

/** Keeps the order of the wire; messages are read rarely so. Fixed numbers are left out. */
export function* wireFields(message: Uint8Array): Generator<WireField> {
  const reader = new Reader(message);
  while (!reader.done) {
    const tag = reader.tag();
    const wire = tag & 7;
    if (wire === VARINT) yield { number: tag >>> 3, int: reader.int64(), bytes: NOTHING };
    else if (wire === BYTES) yield { number: tag >>> 3, int: 0n, bytes: reader.bytes() };
    else reader.skip(tag);
  }
}

/**
 * The last one of each counts: in these messages each comes once. A field that is not there is zero, or empty.
 */
export function fieldsOf(message: Uint8Array) {
  const last = new Map<number, WireField>();
  for (const field of wireFields(message)) last.set(field.number, field);
  return {
    int: (number: number) => last.get(number)?.int ?? 0n,
    number: (number: number) => Number(last.get(number)?.int ?? 0n),
    bytes: (number: number) => last.get(number)?.bytes ?? NOTHING,
  };
}

/** A uint64 id as etcd prints it: hex, no leading zeros. */
export function hexId(id: bigint): string {
  return BigInt.asUintN(64, id).toString(16);
}
