/**
 * A bbolt file: its bytes, its two meta pages, and its other pages. Never opens it for writing, and takes no lock.
 *
 *   meta    | magic u32 | version u32 | pageSize u32 | flags u32 | root bucket { pgid u64, sequence u64 } | freelist u64 |
 *           | pgid u64 (high-water mark) | txid u64 | checksum u64 (FNV-64a of what precedes it) |     pages 0 and 1 hold one each
 *
 *   page    | id u64 | flags u16 | count u16 | overflow u32 |  then: elements, keys and values; the page spans overflow + 1 pages
 *   branch  | pos u32 | ksize u32 | pgid u64 |              one per child, with its first key; pos counts from the element itself
 *   leaf    | flags u32 | pos u32 | ksize u32 | vsize u32 |  one per key; flag 1: the value is a bucket { root pgid, sequence }
 *
 * Source: go.etcd.io/bbolt internal/common meta.go, page.go, inode.go; db.go (mmap, where the newer valid one counts).
 */
import { closeSync, fstatSync, readSync } from "node:fs";
import { Damaged } from "./protobuf.ts";
import { noteRead, openRegular } from "./raft-files.ts";

export const PAGE_HEADER_SIZE = 16;
export const DB_MAGIC = 0xed0cdaed;
export const DB_VERSION = 2;
const META_SIZE = 64;
const META_END = PAGE_HEADER_SIZE + META_SIZE;
const META_CHECKSUM = PAGE_HEADER_SIZE + 56;
/** Possible offsets of the second meta page if the first is damaged. Most likely first. */
export const PAGE_SIZES = [4096, 8192, 16384, 32768, 65536, 1024, 2048, 512];

/** Bytes. Up to this size a file is held in memory, so that its answers stay the same. */
const SMALL_FILE = 64 * 1024 * 1024;
/** Bytes to read at once if the next read continues the last one. */
const LARGEST_BLOCK = 256 * 1024;
/** Bytes between two such reads that are read along if they come from a disk: that is faster than a seek. */
const NEAR = 64 * 1024;
/** Milliseconds of a read from a disk; from the page cache it takes a twentieth. */
const FROM_DISK = 0.1;
const NO_BYTES = Buffer.alloc(0);

export interface Meta {
  pageSize: number;
  /** Page of the bucket of buckets. */
  root: number;
  /** Pages with this id and above are not in use. */
  highWater: number;
  txid: bigint;
  /** Both meta pages as bytes: as long as they are the same, nobody has committed. */
  raw: Buffer;
}

type Found = Omit<Meta, "raw">;

/** An open file; whoever opens it closes it. Everything that breaks the format is a `Damaged`. */
export class DbFile {
  readonly path: string;
  private readonly file: number;
  private readonly fixed: Meta | undefined;
  private isOpen = true;
  private whole: Buffer | undefined;
  private block = NO_BYTES;
  private first = NO_BYTES;
  private blockStart = 0;
  private blockLength = 0;
  private isSlow = false;

  /** `fixed`: in place of the newest meta page, if nobody writes to the file. */
  constructor(path: string, fixed?: Meta) {
    [this.path, this.fixed] = [path, fixed];
    this.file = openRegular(path);
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
    if (this.fixed) return this.fixed;
    this.blockLength = 0;
    const head = this.bytesUpTo(META_END);
    const first = head && parseMeta(head, 0);
    for (const size of first ? [first.pageSize] : PAGE_SIZES) {
      const raw = this.bytesUpTo(size + META_END);
      if (!raw) continue;
      const newest = newerMeta(parseMeta(raw, 0), parseMeta(raw, size));
      if (newest) return { ...newest, raw: Buffer.from(raw) };
    }
    throw new Damaged(`${this.path} has no valid meta page`);
  }

  /** Whether nobody has committed since `meta` was the newest. */
  isNewest(meta: Meta): boolean {
    return (
      this.whole !== undefined ||
      meta === this.fixed ||
      (this.bytesUpTo(meta.raw.length)?.equals(meta.raw) ?? false)
    );
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

  /**
   * The block from `offset` on, or, when reading backward, up to `end` and a bit further, as a page's values lie
   * behind its head. It grows each time that it continues the last one.
   */
  private readBlock(offset: number, end: number) {
    const [start, stop] = [this.blockStart, this.blockStart + this.blockLength];
    const gap = this.isSlow ? NEAR : 0;
    const isNear = this.blockLength > 0 && offset <= stop + gap && end >= start - gap;
    const length = Math.max(end - offset, isNear ? Math.min(2 * this.blockLength, LARGEST_BLOCK) : 0);
    const isBack = isNear && offset < start;
    const from = isBack ? Math.max(0, end - length) : offset;
    const to = isBack ? end + gap : from + length;
    if (this.block.length === 0) this.block = Buffer.allocUnsafeSlow(LARGEST_BLOCK + NEAR);
    this.blockLength = 0;
    const began = performance.now();
    const count = this.readAt(this.block.subarray(0, to - from), from);
    this.isSlow = performance.now() - began > FROM_DISK;
    if (count < end - from) throw this.endsBefore(end);
    [this.blockStart, this.blockLength] = [from, count];
  }

  private fill(target: Buffer, offset: number) {
    if (this.readAt(target, offset) < target.length) throw this.endsBefore(offset + target.length);
  }

  /** Returns how many bytes there were. */
  private readAt(target: Buffer, offset: number): number {
    if (this.whole) return this.whole.copy(target, 0, Math.min(offset, this.whole.length));
    noteRead(target.length);
    let done = 0;
    for (let count = -1; count !== 0 && done < target.length; done += count)
      count = readSync(this.file, target, done, target.length - done, offset + done);
    return done;
  }

  private endsBefore(end: number): Damaged {
    return new Damaged(`${this.path} ends before byte ${end}`);
  }

  /** The file's first bytes, until the next call; undefined if it has fewer. */
  private bytesUpTo(length: number): Buffer | undefined {
    if (length > this.first.length) this.first = Buffer.allocUnsafeSlow(length);
    const bytes = this.first.subarray(0, length);
    return this.readAt(bytes, 0) === length ? bytes : undefined;
  }

  /** A copy in memory, if nobody commits while it is made. */
  private holdSmall() {
    if (this.size < 2 * META_END && !this.fixed)
      throw new Damaged(`${this.path} has only ${this.size} bytes`);
    if (this.size > SMALL_FILE) return;
    const before = this.newestMeta();
    const copy = Buffer.allocUnsafeSlow(this.size);
    this.fill(copy, 0);
    if (!this.isNewest(before)) return;
    this.whole = copy;
    this.close();
  }
}

function newerMeta(one: Found | undefined, other: Found | undefined): Found | undefined {
  return one && other ? (other.txid > one.txid ? other : one) : (one ?? other);
}

/** Undefined if there is no valid meta page at `offset`, or not the one of a file with this page size. */
function parseMeta(raw: Buffer, offset: number): Found | undefined {
  const bytes = raw.subarray(offset, offset + META_END);
  if (numberAt(bytes, 16, 4) !== DB_MAGIC || numberAt(bytes, 20, 4) !== DB_VERSION) return undefined;
  if (bytes.readBigUInt64LE(META_CHECKSUM) !== fnv64a(bytes.subarray(PAGE_HEADER_SIZE, META_CHECKSUM)))
    return undefined;
  const meta = {
    pageSize: numberAt(bytes, 24, 4),
    root: pageId(bytes, 32),
    highWater: pageId(bytes, 56),
    txid: bytes.readBigUInt64LE(64),
  };
  return PAGE_SIZES.includes(meta.pageSize) && (offset === 0 || offset === meta.pageSize) ? meta : undefined;
}

/** Page ids are far below 2^53 in any real file; a larger one fails the bounds like any other. */
export function pageId(bytes: Buffer, offset: number): number {
  return numberAt(bytes, offset, 8);
}

/** Unsigned, little-endian. Errors: Damaged where the bytes end before it does. */
export function numberAt(bytes: Buffer, offset: number, size: 2 | 4 | 8): number {
  if (offset + size > bytes.length)
    throw new Damaged(`a number at byte ${offset} does not end in ${bytes.length} bytes`);
  if (size === 2) return bytes.readUInt16LE(offset);
  return size === 4 ? bytes.readUInt32LE(offset) : Number(bytes.readBigUInt64LE(offset));
}

export function fnv64a(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}

export const BRANCH_PAGE_FLAG = 0x01;
export const LEAF_PAGE_FLAG = 0x02;
export const ELEMENT_SIZE = 16;
export const BUCKET_LEAF_FLAG = 0x01;

/**
 * Its first bytes: at least header and elements. The rest is read when it is asked for: large values lie behind them.
 */
export class Page {
  readonly count: number;
  readonly isLeaf: boolean;
  readonly what: string;
  protected readonly head: Buffer;
  private readonly size: number;
  private readonly rest: (start: number, length: number) => Buffer;

  constructor(
    what: string,
    bytes: { head: Buffer; size: number; rest: (start: number, length: number) => Buffer },
  ) {
    [this.what, this.head, this.size, this.rest] = [what, bytes.head, bytes.size, bytes.rest];
    const flags = numberAt(this.head, 8, 2);
    this.count = numberAt(this.head, 10, 2);
    this.isLeaf = flags === LEAF_PAGE_FLAG;
    if (!this.isLeaf && flags !== BRANCH_PAGE_FLAG)
      throw new Damaged(`${what} is neither branch nor leaf: flags ${flags}`);
  }

  /**
   * bbolt writes keys and values behind the elements, in their order and without a gap, and takes as many pages as they
   * need (node.go, write and spill). Errors: Damaged where this page is not so: a changed count hides keys.
   */
  checkLayout(pageSize = this.size) {
    let end = PAGE_HEADER_SIZE + this.count * ELEMENT_SIZE;
    for (let i = 0; i < this.count; i++) {
      const element = this.element(i);
      const field = element + (this.isLeaf ? 4 : 0);
      if (element + numberAt(this.head, field, 4) !== end)
        throw new Damaged(`${this.what}: key ${i} does not begin where the one before it ends`);
      end += numberAt(this.head, field + 4, 4) + (this.isLeaf ? this.valueSize(i) : 0);
    }
    if (Math.ceil(end / pageSize) * pageSize !== this.size)
      throw new Damaged(`${this.what} has ${this.size} bytes, and keys and values up to byte ${end}`);
  }

  /** Keys are in order, and `until` comes after them: a search among others ends too early. Errors: Damaged. */
  checkOrder(until?: Buffer) {
    let last: Buffer | undefined;
    for (let i = 0; i < this.count; i++) {
      const key = Buffer.from(this.key(i));
      if (last && last.compare(key) >= 0) throw new Damaged(`${this.what} has keys that are not in order`);
      last = key;
    }
    if (last && until && last.compare(until) >= 0)
      throw new Damaged(`${this.what} ends behind the beginning of the page after it`);
  }

  get span(): number {
    return numberAt(this.head, 12, 4) + 1;
  }

  key(i: number): Buffer {
    const element = this.element(i) + (this.isLeaf ? 4 : 0);
    return this.bytes(this.element(i) + numberAt(this.head, element, 4), numberAt(this.head, element + 4, 4));
  }

  child(i: number): number {
    return pageId(this.head, this.element(i) + 8);
  }

  isBucket(i: number): boolean {
    return (numberAt(this.head, this.element(i), 4) & BUCKET_LEAF_FLAG) !== 0;
  }

  valueSize(i: number): number {
    return numberAt(this.head, this.element(i) + 12, 4);
  }

  /** The whole value, or a part of it. The bytes are valid only until the next key or value is read. */
  value(i: number, start = 0, length = this.valueSize(i)): Buffer {
    const element = this.element(i);
    return this.bytes(
      element + numberAt(this.head, element + 4, 4) + numberAt(this.head, element + 8, 4) + start,
      length,
    );
  }

  lowerBound(key: Buffer): number {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.key(middle).compare(key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private element(i: number): number {
    return PAGE_HEADER_SIZE + i * ELEMENT_SIZE;
  }

  private bytes(start: number, length: number): Buffer {
    if (start + length > this.size)
      throw new Damaged(`${this.what}: a key or value ends at byte ${start + length} of ${this.size}`);
    return start + length <= this.head.length
      ? this.head.subarray(start, start + length)
      : this.rest(start, length);
  }
}

export type Leaf = Pick<Page, "count" | "key" | "isBucket" | "value" | "valueSize">;

/** Bytes of a page's header and elements; `header` holds at least the former. */
export function elementsEnd(header: Buffer): number {
  return PAGE_HEADER_SIZE + numberAt(header, 10, 2) * ELEMENT_SIZE;
}
