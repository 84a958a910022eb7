/**
 * Reads a bbolt file, etcd's member/snap/db, page by page. Never opens it for writing, takes no lock and needs none: `unchanged` tells
 * whether somebody wrote meanwhile. Sources: go.etcd.io/bbolt internal/common page.go, meta.go, inode.go; bucket.go.
 *
 *   page    | id u64 | flags u16 | count u16 | overflow u32 |  then: elements, keys and values; the page spans overflow + 1 pages
 *   meta    | magic u32 | version u32 | pageSize u32 | flags u32 | root bucket { pgid u64, sequence u64 } | freelist u64 |
 *           | pgid u64 (high-water mark) | txid u64 | checksum u64 (FNV-64a of what precedes it) |     pages 0 and 1 hold one each
 *   branch  | pos u32 | ksize u32 | pgid u64 |              one per child; pos counts from the element itself
 *   leaf    | flags u32 | pos u32 | ksize u32 | vsize u32 |  one per key; flag 1: the value is a bucket { root pgid, sequence }
 *
 * A bucket whose root is 0 is inline: its only page follows the bucket header in the value. Freelist pages are of no use to a reader.
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { Damaged } from "./protobuf.ts";

const PAGE_HEADER_SIZE = 16;
const BRANCH_PAGE_FLAG = 0x01;
const LEAF_PAGE_FLAG = 0x02;
const ELEMENT_SIZE = 16;
const BUCKET_LEAF_FLAG = 0x01;
const BUCKET_HEADER_SIZE = 16;
const MAGIC = 0xed0cdaed;
const VERSION = 2;
const META_SIZE = 64;
const META_CHECKSUM = PAGE_HEADER_SIZE + 56;
/** Where the second meta page may lie when the first cannot tell. Most likely first. */
const PAGE_SIZES = [4096, 8192, 16384, 32768, 65536, 1024, 2048, 512];
const MAX_DEPTH = 64;

/** Files up to this size are read into memory at once: one consistent copy. */
const WHOLE_FILE = 128 * 1024 * 1024;
/** Larger files are read in chunks of 1 MiB, 64 of them kept: a pread per page is ten times slower, and the file need not fit. */
const CHUNK = 1024 * 1024;
const CHUNKS_KEPT = 64;

interface Meta {
  pageSize: number;
  /** Page of the bucket of buckets. */
  root: number;
  /** Pages with this id and above are not in use. */
  highWater: number;
  txid: bigint;
}

/** A key of a bucket. `key` and `value` are views that hold until the next item; `offset` is the value's place in the file. */
export interface Item {
  isBucket: boolean;
  key: Buffer;
  value: Buffer;
  offset: number;
}

/** An open bbolt file; `using db = new Bbolt(path)` closes it. Everything that breaks the format is a `Damaged`. */
export class Bbolt {
  readonly path: string;
  readonly size: number;
  readonly meta: Meta;
  private readonly file: number;
  /** Until it is closed, or a whole copy is in memory. */
  private isOpen = true;
  private readonly whole?: Buffer;
  private readonly chunks = new Map<number, Buffer>();

  constructor(path: string) {
    this.path = path;
    this.file = openSync(path, "r");
    try {
      this.size = fstatSync(this.file).size;
      if (this.size < 2 * (PAGE_HEADER_SIZE + META_SIZE)) throw new Damaged(`${path} has only ${this.size} bytes`);
      this.meta = this.newestMeta();
      const used = this.meta.highWater * this.meta.pageSize;
      if (used > this.size) throw new Damaged(`${path} is cut off: ${this.size} bytes of at least ${used}`);
      if (this.size > WHOLE_FILE) return;
      const copy = this.pread(0, this.size);
      if (!this.unchanged()) throw new Damaged(`${path} was written to while it was read`);
      this.whole = copy;
      this[Symbol.dispose]();
    } catch (err) {
      this[Symbol.dispose]();
      throw err;
    }
  }

  [Symbol.dispose]() {
    if (this.isOpen) closeSync(this.file);
    this.isOpen = false;
  }

  /**
   * Whether all that was read so far belongs together. Pages freed by transaction N+1 may be overwritten from N+2 on, so as long as the
   * newest meta on disk is still ours, nothing of our tree has been touched. A whole copy in memory stays as it is.
   */
  unchanged(): boolean {
    return this.whole !== undefined || this.newestMeta().txid === this.meta.txid;
  }

  /** Names of the top-level buckets. */
  buckets(): string[] {
    return [...this.walk(this.meta.root)].filter((item) => item.isBucket).map((item) => item.key.toString());
  }

  /** All keys of a bucket, in order. A bucket that does not exist is empty. */
  *items(bucket: string): Generator<Item> {
    const found = this.findBucket(bucket);
    if (!found) return;
    if (found.root !== 0) yield* this.walk(found.root);
    else yield* leafItems({ bytes: found.inline, offset: found.offset, what: `inline page of bucket ${bucket}` });
  }

  /** Reads again what an `Item` pointed to: a copy in a chunked file, a view in one that is in memory. */
  read(offset: number, length: number): Buffer {
    if (offset + length > this.size) throw new Damaged(`${this.path}: bytes ${offset}+${length} lie beyond its end`);
    if (this.whole) return this.whole.subarray(offset, offset + length);
    const start = offset % CHUNK;
    const first = this.chunk(Math.floor(offset / CHUNK));
    if (start + length <= CHUNK) return Buffer.from(first.subarray(start, start + length));
    const out = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const at = offset + done;
      done += this.chunk(Math.floor(at / CHUNK)).copy(out, done, at % CHUNK);
    }
    return out;
  }

  private findBucket(name: string) {
    for (const item of this.walk(this.meta.root)) {
      if (!item.isBucket || item.key.toString() !== name) continue;
      if (item.value.length < BUCKET_HEADER_SIZE) throw new Damaged(`bucket ${name} has a header of ${item.value.length} bytes`);
      const inline = Buffer.from(item.value.subarray(BUCKET_HEADER_SIZE));
      return { root: u64(item.value, 0), inline, offset: item.offset + BUCKET_HEADER_SIZE };
    }
    return undefined;
  }

  /** A tree from its root page. Counts the pages: a damaged tree that comes back to itself has more of them than the file. */
  private *walk(root: number): Generator<Item> {
    yield* this.subtree(root, { depth: 1, seen: { pages: 0 } });
  }

  private *subtree(id: number, at: { depth: number; seen: { pages: number } }): Generator<Item> {
    if (at.depth > MAX_DEPTH) throw new Damaged(`page ${id} lies deeper than ${MAX_DEPTH} levels`);
    if (++at.seen.pages > this.meta.highWater) throw new Damaged(`page ${id} is met twice`);
    const page = this.page(id);
    const flags = page.bytes.readUInt16LE(8);
    if (flags & LEAF_PAGE_FLAG) return yield* leafItems(page);
    if (!(flags & BRANCH_PAGE_FLAG)) throw new Damaged(`${page.what} is neither branch nor leaf: flags ${flags}`);
    for (const child of branchChildren(page)) yield* this.subtree(child, { ...at, depth: at.depth + 1 });
  }

  private page(id: number): Page {
    const { pageSize, highWater } = this.meta;
    if (id < 2 || id >= highWater) throw new Damaged(`page ${id} is outside the ${highWater} pages in use`);
    const header = this.read(id * pageSize, PAGE_HEADER_SIZE);
    if (u64(header, 0) !== id) throw new Damaged(`page ${id} says it is page ${u64(header, 0)}`);
    const overflow = header.readUInt32LE(12);
    if (id + overflow >= highWater) throw new Damaged(`page ${id} spans ${overflow + 1} pages, more than there are`);
    return { bytes: this.read(id * pageSize, (overflow + 1) * pageSize), offset: id * pageSize, what: `page ${id}` };
  }

  /** The valid meta with the higher txid, as it is on the disk now. */
  private newestMeta(): Meta {
    const first = this.readMeta(0);
    const second = (first ? [first.pageSize] : PAGE_SIZES).map((size) => this.readMeta(size)).find((meta) => meta !== undefined);
    if (!first && !second) throw new Damaged(`${this.path} has no valid meta page`);
    if (!first || !second) return (first ?? second)!;
    return second.txid > first.txid ? second : first;
  }

  private readMeta(offset: number): Meta | undefined {
    if (offset + PAGE_HEADER_SIZE + META_SIZE > this.size) return undefined;
    const bytes = this.pread(offset, PAGE_HEADER_SIZE + META_SIZE);
    if (bytes.readUInt32LE(16) !== MAGIC || bytes.readUInt32LE(20) !== VERSION) return undefined;
    if (bytes.readBigUInt64LE(META_CHECKSUM) !== fnv64a(bytes.subarray(PAGE_HEADER_SIZE, META_CHECKSUM))) return undefined;
    const meta = { pageSize: bytes.readUInt32LE(24), root: u64(bytes, 32), highWater: u64(bytes, 56), txid: bytes.readBigUInt64LE(64) };
    return PAGE_SIZES.includes(meta.pageSize) ? meta : undefined;
  }

  /** Buffers go round: what was handed out by `read` is a copy. */
  private chunk(index: number): Buffer {
    const kept = this.chunks.get(index);
    this.chunks.delete(index);
    const chunk = kept ?? this.pread(index * CHUNK, Math.min(CHUNK, this.size - index * CHUNK), this.oldestChunk());
    this.chunks.set(index, chunk); // a Map keeps the order of insertion: the first is the one not used for longest
    return chunk;
  }

  private oldestChunk(): Buffer | undefined {
    if (this.chunks.size < CHUNKS_KEPT) return undefined;
    const [index, chunk] = this.chunks.entries().next().value!;
    this.chunks.delete(index);
    return chunk;
  }

  private pread(offset: number, length: number, buffer?: Buffer): Buffer {
    const bytes = buffer?.length === length ? buffer : Buffer.allocUnsafeSlow(length);
    for (let done = 0; done < length; ) {
      const count = readSync(this.file, bytes, done, length - done, offset + done);
      if (count === 0) throw new Damaged(`${this.path} ended at byte ${offset + done} while it was read`);
      done += count;
    }
    return bytes;
  }
}

interface Page {
  bytes: Buffer;
  /** Where it begins in the file. */
  offset: number;
  what: string;
}

function* leafItems(page: Page): Generator<Item> {
  const { bytes } = page;
  for (const element of elements(page)) {
    const start = element + bytes.readUInt32LE(element + 4);
    const middle = start + bytes.readUInt32LE(element + 8);
    const end = middle + bytes.readUInt32LE(element + 12);
    if (end > bytes.length) throw new Damaged(`${page.what}: a key or value ends at byte ${end} of ${bytes.length}`);
    const isBucket = (bytes.readUInt32LE(element) & BUCKET_LEAF_FLAG) !== 0;
    yield { isBucket, key: bytes.subarray(start, middle), value: bytes.subarray(middle, end), offset: page.offset + middle };
  }
}

function* branchChildren(page: Page): Generator<number> {
  for (const element of elements(page)) yield u64(page.bytes, element + 8);
}

/** Where the page's elements begin. */
function* elements(page: Page): Generator<number> {
  const { bytes } = page;
  if (bytes.length < PAGE_HEADER_SIZE) throw new Damaged(`${page.what} has no header`);
  const count = bytes.readUInt16LE(10);
  if (PAGE_HEADER_SIZE + count * ELEMENT_SIZE > bytes.length) throw new Damaged(`${page.what}: ${count} elements do not fit`);
  for (let i = 0; i < count; i++) yield PAGE_HEADER_SIZE + i * ELEMENT_SIZE;
}

/** Page ids are far below 2^53 in any real file; a larger one fails the bounds like any other. */
function u64(bytes: Buffer, offset: number): number {
  return Number(bytes.readBigUInt64LE(offset));
}

function fnv64a(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  return hash;
}
