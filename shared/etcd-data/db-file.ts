/**
 * The bytes of a bbolt file and its two meta pages. Never opens it for writing, and takes no lock.
 *
 *   meta    | magic u32 | version u32 | pageSize u32 | flags u32 | root bucket { pgid u64, sequence u64 } | freelist u64 |
 *           | pgid u64 (high-water mark) | txid u64 | checksum u64 (FNV-64a of what precedes it) |     pages 0 and 1 hold one each
 *
 * Source: go.etcd.io/bbolt internal/common meta.go; db.go (mmap, where the newer valid one counts).
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { Damaged } from "./protobuf.ts";

export const PAGE_HEADER_SIZE = 16;
const MAGIC = 0xed0cdaed;
const VERSION = 2;
const META_SIZE = 64;
const META_END = PAGE_HEADER_SIZE + META_SIZE;
const META_CHECKSUM = PAGE_HEADER_SIZE + 56;
/** Where the second meta page may lie when the first cannot tell. Most likely first. */
const PAGE_SIZES = [4096, 8192, 16384, 32768, 65536, 1024, 2048, 512];

/** Bytes. A file up to this size is held in memory, so that its answers stay the same however long they are asked for. */
const SMALL_FILE = 64 * 1024 * 1024;
/** Bytes that are read at once where the next read lies near the last one, as a disk likes it. */
const LARGEST_BLOCK = 256 * 1024;
const NEAR = 32 * 1024;
const NO_BYTES = Buffer.alloc(0);

export interface Meta {
  pageSize: number;
  /** Page of the bucket of buckets. */
  root: number;
  /** Pages with this id and above are not in use. */
  highWater: number;
  txid: bigint;
  /** Both meta pages as they were: as long as they are the same, nobody has committed. */
  raw: Buffer;
}

/** An open file; whoever opens it closes it. Everything that breaks the format is a `Damaged`. */
export class DbFile {
  readonly path: string;
  private readonly file: number;
  private isOpen = true;
  private whole: Buffer | undefined;
  private block = NO_BYTES;
  private blockStart = 0;
  private blockLength = 0;

  constructor(path: string) {
    this.path = path;
    this.file = openSync(path, "r");
    try {
      this.holdSmall();
    } catch (err) {
      this.close();
      throw err;
    }
  }

  close() {
    if (this.isOpen) closeSync(this.file);
    this.isOpen = false;
  }

  get size(): number {
    return this.whole?.length ?? fstatSync(this.file).size;
  }

  /** The valid meta with the higher txid, as it is now. Forgets what was read under an older one. */
  newestMeta(): Meta {
    this.blockLength = 0;
    const head = this.rawMeta(0);
    const first = head && parseMeta(head);
    for (const size of first ? [first.pageSize] : PAGE_SIZES) {
      const other = this.rawMeta(size);
      const second = other && parseMeta(other, size);
      const newest = first && second ? (second.txid > first.txid ? second : first) : (first ?? second);
      if (newest) return { ...newest, raw: Buffer.concat([head!, other ?? NO_BYTES]) };
    }
    throw new Damaged(`${this.path} has no valid meta page`);
  }

  /** Whether nobody has committed since `meta` was the newest. */
  isNewest(meta: Meta): boolean {
    return this.whole !== undefined || Buffer.concat([0, meta.pageSize].flatMap((offset) => this.rawMeta(offset) ?? [])).equals(meta.raw);
  }

  /** Fills `target` with the bytes at `offset`. */
  read(target: Buffer, offset: number) {
    const end = offset + target.length;
    if (offset < this.blockStart || end > this.blockStart + this.blockLength) {
      if (this.whole || target.length > LARGEST_BLOCK) return this.fill(target, offset);
      this.readBlock(offset, end);
    }
    this.block.copy(target, 0, offset - this.blockStart, end - this.blockStart);
  }

  /** The next block: from `offset` on, or up to `end` where reading goes backward; larger each time that it lies near the last one. */
  private readBlock(offset: number, end: number) {
    const [start, stop] = [this.blockStart, this.blockStart + this.blockLength];
    const isNear = this.blockLength > 0 && offset <= stop + NEAR && end >= start - NEAR;
    const length = Math.max(end - offset, isNear ? Math.min(2 * this.blockLength, LARGEST_BLOCK) : 0);
    const from = isNear && offset < start ? Math.max(0, end - length) : offset;
    this.blockLength = 0;
    const count = Math.max(end - from, Math.min(length, this.size - from));
    if (this.block.length === 0) this.block = Buffer.allocUnsafeSlow(LARGEST_BLOCK);
    this.fill(this.block.subarray(0, count), from);
    [this.blockStart, this.blockLength] = [from, count];
  }

  private fill(target: Buffer, offset: number) {
    if (this.whole) {
      if (this.whole.copy(target, 0, offset) < target.length) throw new Damaged(`${this.path} ends before byte ${offset + target.length}`);
      return;
    }
    for (let done = 0; done < target.length; ) {
      const count = readSync(this.file, target, done, target.length - done, offset + done);
      if (count === 0) throw new Damaged(`${this.path} ends at byte ${offset + done}`);
      done += count;
    }
  }

  /** A copy in memory, if nobody commits while it is made. */
  private holdSmall() {
    if (this.size < 2 * META_END) throw new Damaged(`${this.path} has only ${this.size} bytes`);
    if (this.size > SMALL_FILE) return;
    const before = this.newestMeta();
    const copy = Buffer.allocUnsafeSlow(this.size);
    this.fill(copy, 0);
    if (!this.isNewest(before)) return;
    this.whole = copy;
    this.close();
  }

  private rawMeta(offset: number): Buffer | undefined {
    if (offset + META_END > this.size) return undefined;
    const raw = Buffer.allocUnsafe(META_END);
    this.fill(raw, offset);
    return raw;
  }
}

/** Undefined if this is no valid meta page, or not the one of a file with this page size. */
function parseMeta(bytes: Buffer, size?: number): Omit<Meta, "raw"> | undefined {
  if (bytes.readUInt32LE(16) !== MAGIC || bytes.readUInt32LE(20) !== VERSION) return undefined;
  if (bytes.readBigUInt64LE(META_CHECKSUM) !== fnv64a(bytes.subarray(PAGE_HEADER_SIZE, META_CHECKSUM))) return undefined;
  const meta = { pageSize: bytes.readUInt32LE(24), root: pageId(bytes, 32), highWater: pageId(bytes, 56), txid: bytes.readBigUInt64LE(64) };
  return PAGE_SIZES.includes(size ?? meta.pageSize) && meta.pageSize === (size ?? meta.pageSize) ? meta : undefined;
}

/** Page ids are far below 2^53 in any real file; a larger one fails the bounds like any other. */
export function pageId(bytes: Buffer, offset: number): number {
  return Number(bytes.readBigUInt64LE(offset));
}

function fnv64a(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}
