/**
 * Revisions of etcd's keys: as the bucket `key` of its db file has them, and an index of all of them. Sources: etcd
 * server/storage/mvcc revision.go; api/mvccpb/kv.proto.
 *
 *   bucket key   main u64 BE | "_" | sub u64 BE [ | "t" tombstone ]  →  mvccpb.KeyValue; a tombstone's holds only the key
 */
import { randomBytes } from "node:crypto";
import type { Leaf } from "./db-file.ts";
import { Damaged, NOTHING, Reader, unlessDamaged } from "./protobuf.ts";
import { noteRead, OF_A_ROW } from "./raft-files.ts";

/** A revision by its key in the bucket `key`: etcd's `mvcc.BucketKey`. */
export interface RevisionKey {
  main: number;
  sub: number;
  isTombstone: boolean;
}

export interface StoredRevision extends RevisionKey {
  /**
   * "" for a revision of no key: `etcdutl snapshot restore --bump-revision` writes one, only to raise the
   * number.
   */
  key: string;
  lease: bigint;
}

/**
 * `key` is text, revisions are etcd's (`modRevision` is Kubernetes' resourceVersion), `lease` is 0n if
 * there is none.
 */
export interface KeyValue {
  key: string;
  value: Uint8Array;
  createRevision: number;
  modRevision: number;
  version: number;
  lease: bigint;
}

const TOMBSTONE_LENGTH = 18;
const REVISION_LENGTH = 17;
const SEPARATOR = 0x5f;
const TOMBSTONE = 0x74;
/** Bytes in which a key and its numbers nearly always fit. The value follows, up to 1.5 MB. */
const HEAD = 1024;

/** A revision without its value, of which as little as possible is read. */
export function readRevision(leaf: Leaf, i: number): StoredRevision {
  noteRead(OF_A_ROW);
  const revision = parseRevision(leaf.key(i));
  if (leaf.valueSize(i) === 0 && !revision.isTombstone) return { ...revision, key: "", lease: 0n };
  const { key, modRevision, lease } = readHead(leaf, i);
  if (!revision.isTombstone && modRevision !== revision.main)
    throw new Damaged(`revision ${revision.main} holds a value of ${modRevision}`);
  return { ...revision, key, lease };
}

/** A whole value of the bucket, a copy. */
export function readKeyValue(leaf: Leaf, i: number): KeyValue {
  const keyValue = parseKeyValue(leaf.value(i));
  return { ...keyValue, value: new Uint8Array(keyValue.value) };
}

/** The first bytes of the value in a value of the bucket, a copy. */
export function readValueHead(leaf: Leaf, i: number, length: number): Uint8Array {
  const { valueStart, valueLength } = readHead(leaf, i);
  return new Uint8Array(leaf.value(i, valueStart, Math.min(length, valueLength)));
}

/** All but the value. */
function readHead(leaf: Leaf, i: number) {
  const size = leaf.valueSize(i);
  if (size <= HEAD) return parseHead(leaf.value(i), { size });
  const tail = (start: number) => leaf.value(i, start, size - start);
  const head = unlessDamaged(() => parseHead(leaf.value(i, 0, HEAD), { size, tail }));
  return head ?? parseHead(leaf.value(i), { size }); // a key so long that its numbers are not in the first bytes
}

function parseHead(message: Buffer, { size, tail }: { size: number; tail?: (start: number) => Buffer }) {
  const head = { key: "", modRevision: 0, lease: 0n, valueStart: size, valueLength: 0 };
  let reader = new Reader(message);
  for (let start = 0; !reader.done; ) {
    const tag = reader.tag();
    if (tag === 0x0a) head.key = latin1(reader.bytes());
    else if (tag === 0x18) head.modRevision = reader.number();
    else if (tag === 0x30) head.lease = reader.int64();
    else if (tag === 0x2a && tail && start === 0) {
      head.valueLength = reader.number();
      head.valueStart = reader.at;
      start = head.valueStart + head.valueLength;
      if (start > size) throw new Damaged("protobuf: message ends inside a field");
      reader = new Reader(start < size ? tail(start) : NOTHING);
    } else if (tag === 0x2a) {
      head.valueLength = reader.bytes().length;
      head.valueStart = reader.at - head.valueLength;
    } else reader.skip(tag);
  }
  if (head.key === "") throw new Damaged("a revision has no key");
  return head;
}

function parseRevision(key: Buffer): RevisionKey {
  const isTombstone = key.length === TOMBSTONE_LENGTH && key[REVISION_LENGTH] === TOMBSTONE;
  const isRevision = (key.length === REVISION_LENGTH || isTombstone) && key[8] === SEPARATOR;
  if (!isRevision) throw new Damaged(`"${key.toString("hex")}" is no revision`);
  return { main: u64(key), sub: u64(key.subarray(9)), isTombstone };
}

/** The revision's key in the bucket. */
export function bucketKey({ main, sub, isTombstone }: RevisionKey): Buffer {
  const key = Buffer.alloc(isTombstone ? TOMBSTONE_LENGTH : REVISION_LENGTH, TOMBSTONE);
  key.writeBigUInt64BE(BigInt(main), 0);
  key[8] = SEPARATOR;
  key.writeBigUInt64BE(BigInt(sub), 9);
  return key;
}

/**
 * mvccpb.KeyValue { 1 key, 2 create_revision, 3 mod_revision, 4 version, 5 value, 6 lease }, with the key as
 * latin1.
 */
export function parseKeyValue(message: Uint8Array): KeyValue {
  const keyValue: KeyValue = {
    key: "",
    value: NOTHING,
    createRevision: 0,
    modRevision: 0,
    version: 0,
    lease: 0n,
  };
  const reader = new Reader(message);
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x0a) keyValue.key = latin1(reader.bytes());
    else if (tag === 0x10) keyValue.createRevision = reader.number();
    else if (tag === 0x18) keyValue.modRevision = reader.number();
    else if (tag === 0x20) keyValue.version = reader.number();
    else if (tag === 0x2a) keyValue.value = reader.bytes();
    else if (tag === 0x30) keyValue.lease = reader.int64();
    else reader.skip(tag);
  }
  return keyValue;
}

/** Bytes as text, one character a byte. */
export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

/** The leading big-endian u64 of a revision or an index. */
export function u64(bytes: Buffer): number {
  return Number(u64Exact(bytes));
}

/** The same for an id, which needs all 64 bits. */
export function u64Exact(bytes: Buffer): bigint {
  if (bytes.length < 8) throw new Damaged(`a number of ${bytes.length} bytes, 8 are needed`);
  return bytes.readBigUInt64BE(0);
}

/*
 * Which revisions there are of each key, without their values. Memory: about 10 bytes for a revision and 35 for a key, so
 * that an etcd of 8 GB fits. Inside, a key is its bytes as latin1 text: text order is byte order.
 */

const DELETED = 1;

export class RevisionIndex {
  private readonly names = new Names();
  /** The oldest row of a key, by the key's number. */
  private readonly oldest = new Column();
  // by row
  private readonly mains = new Column();
  /** Twice the number inside the transaction, and 1 for a tombstone. */
  private readonly subs = new Column();
  /** The next older row of the key; behind the oldest one comes the newest. */
  private readonly older = new Column();
  private readonly leases = new Column();
  private readonly leaseIds = new Numbers<bigint>();

  /** Adds a revision that is older than all of its key; returns the one after it, Infinity if there is none. */
  addOlder(row: StoredRevision): number {
    const [id, next] = this.append(row);
    this.oldest.set(id, this.mains.length - 1);
    return next === undefined ? Number.POSITIVE_INFINITY : this.mains.get(next);
  }

  /** Adds a revision that is newer than all of its key. */
  addNewer(row: StoredRevision) {
    this.append(row);
  }

  /** The keys with this prefix, in no order. */
  keys(prefix: string): Generator<string> {
    return this.names.under(prefix);
  }

  /** How many there are that are not deleted. */
  get liveCount(): number {
    let count = 0;
    for (let id = 0; id < this.oldest.length; id++)
      count += this.subs.get(this.older.get(this.oldest.get(id))) & DELETED ? 0 : 1;
    return count;
  }

  /** The keys whose newest revision has one of these leases. */
  *withLease(isWanted: (lease: bigint) => boolean): Generator<string> {
    const wanted = this.leaseIds.all.map((lease) => lease !== 0n && isWanted(lease));
    for (let id = 0; id < this.oldest.length; id++)
      if (wanted[this.leases.get(this.older.get(this.oldest.get(id)))]) yield this.names.nameOf(id);
  }

  has(key: string): boolean {
    return this.names.idOf(key) !== undefined;
  }

  /** Undefined for a key that never was, as far back as the db file goes. */
  newestOf(key: string): RevisionKey | undefined {
    return this.history(key).next().value;
  }

  /** 0n if there is none. */
  leaseOf(key: string): bigint {
    const row = this.newestRow(key);
    return row === undefined ? 0n : this.leaseIds.all[this.leases.get(row)]!;
  }

  /** Newest first. */
  *history(key: string): Generator<RevisionKey, undefined> {
    const newest = this.newestRow(key);
    for (let row = newest; row !== undefined; ) {
      const sub = this.subs.get(row);
      yield { main: this.mains.get(row), sub: sub >>> 1, isTombstone: (sub & DELETED) !== 0 };
      row = this.older.get(row);
      if (row === newest) return;
    }
  }

  private newestRow(key: string): number | undefined {
    const id = this.names.idOf(key);
    return id === undefined ? undefined : this.older.get(this.oldest.get(id));
  }

  /** Behind the oldest row of its key, before the newest. Returns the key's number, and the former if there was one. */
  private append({ key, main, sub, isTombstone, lease }: StoredRevision): [id: number, oldest?: number] {
    const row = this.mains.push(main);
    this.subs.push(sub * 2 + (isTombstone ? DELETED : 0));
    this.leases.push(this.leaseIds.of(lease));
    const id = this.names.of(key);
    if (id === this.oldest.length) {
      this.older.push(row);
      this.oldest.push(row);
      return [id];
    }
    const oldest = this.oldest.get(id);
    this.older.push(this.older.get(oldest));
    this.older.set(oldest, row);
    return [id, oldest];
  }
}

/** Numbers things from 0 on. */
class Numbers<T> {
  readonly all: T[] = [];
  private readonly numbers = new Map<T, number>();

  of(one: T): number {
    const number = this.numbers.get(one) ?? this.all.length;
    if (number === this.all.length) this.numbers.set(one, this.all.push(one) - 1);
    return number;
  }
}

/** The number of names that are compressed together. */
const TOGETHER = 1024;
/** The share of slots that may be in use. */
const FULL = 0.75;

/**
 * Names of keys by number, from 0 on. A name is known by 64 bits of a hash that nobody can foresee: two names with one
 * hash, one chance in two million for four million keys, would be damage when their values are read.
 */
class Names {
  /** The folders of paths. */
  private readonly folders = new Numbers<string>();
  private readonly folderOf = new Column();
  /** The last parts of names, by `TOGETHER`. */
  private readonly chunks: Uint8Array[] = [];
  private newest: string[] = [];
  private opened = { chunk: -1, names: [""] };
  private readonly seed = randomBytes(16).toString("latin1");
  private readonly sum = new Int32Array(5);
  private readonly hashes = [new Column(0), new Column(0)] as const;
  /** A number and 1 where its hash says, or behind it; else 0. */
  private slots = new Int32Array(1024);

  idOf(key: string): number | undefined {
    const id = this.slots[this.slotOf(...this.hashOf(key))]!;
    return id === 0 ? undefined : id - 1;
  }

  /** The same; a new name gets the next number. */
  of(key: string): number {
    const [hash, more] = this.hashOf(key);
    const slot = this.slotOf(hash, more);
    if (this.slots[slot] !== 0) return this.slots[slot]! - 1;
    const cut = key.lastIndexOf("/") + 1;
    const id = this.folderOf.push(this.folders.of(key.slice(0, cut)));
    this.hashes[0].push(hash);
    this.hashes[1].push(more);
    this.slots[slot] = id + 1;
    if (this.newest.push(key.slice(cut)) === TOGETHER) {
      this.chunks.push(Bun.zstdCompressSync(JSON.stringify(this.newest), { level: 1 }));
      this.newest = [];
    }
    if (id < this.slots.length * FULL) return id;
    this.slots = new Int32Array(this.slots.length * 2);
    for (let number = 0; number <= id; number++)
      this.slots[this.slotOf(this.hashes[0].get(number), this.hashes[1].get(number))] = number + 1;
    return id;
  }

  *under(prefix: string): Generator<string> {
    const isWanted = this.folders.all.map((name) => name.startsWith(prefix) || prefix.startsWith(name));
    for (let id = 0; id < this.folderOf.length; id++) {
      const key = isWanted[this.folderOf.get(id)] ? this.nameOf(id) : undefined;
      if (key?.startsWith(prefix)) yield key;
    }
  }

  nameOf(id: number): string {
    return this.folders.all[this.folderOf.get(id)]! + this.lastPartOf(id);
  }

  private lastPartOf(id: number): string {
    const chunk = Math.floor(id / TOGETHER);
    if (chunk === this.chunks.length) return this.newest[id % TOGETHER]!;
    if (chunk !== this.opened.chunk) {
      noteRead(TOGETHER * OF_A_ROW);
      this.opened = { chunk, names: JSON.parse(Bun.zstdDecompressSync(this.chunks[chunk]!).toString()) };
    }
    return this.opened.names[id % TOGETHER]!;
  }

  /** That of the name with this hash, or the one where it would be. */
  private slotOf(hash: number, more: number): number {
    for (let at = hash; ; at++) {
      const slot = at & (this.slots.length - 1);
      const id = this.slots[slot]! - 1;
      if (id < 0 || (this.hashes[0].get(id) === hash && this.hashes[1].get(id) === more)) return slot;
    }
  }

  private hashOf(key: string): [number, number] {
    Bun.SHA1.hash(this.seed + key, this.sum);
    return [this.sum[0]!, this.sum[1]!];
  }
}

const CHUNK = 4096;
const KINDS = [Int8Array, Int16Array, Int32Array, Float64Array];

/** Numbers in chunks, by their distance from a base, in as few bytes as the greatest one needs. */
class Column {
  private readonly base: number | undefined;
  private readonly chunks: { base: number; numbers: InstanceType<(typeof KINDS)[number]> }[] = [];
  length = 0;

  /** `base`: by default the first number of each chunk. */
  constructor(base?: number) {
    this.base = base;
  }

  /** Returns its index. */
  push(value: number): number {
    if (this.length % CHUNK === 0)
      this.chunks.push({ base: this.base ?? value, numbers: new Int8Array(CHUNK) });
    this.set(this.length, value);
    return this.length++;
  }

  get(i: number): number {
    const { base, numbers } = this.chunks[Math.floor(i / CHUNK)]!;
    return base + numbers[i % CHUNK]!;
  }

  set(i: number, value: number) {
    const chunk = this.chunks[Math.floor(i / CHUNK)]!;
    const [place, distance] = [i % CHUNK, value - chunk.base];
    chunk.numbers[place] = distance;
    while (chunk.numbers[place] !== distance) {
      const Wider = KINDS[KINDS.findIndex((Kind) => chunk.numbers instanceof Kind) + 1]!;
      chunk.numbers = new Wider(chunk.numbers);
      chunk.numbers[place] = distance;
    }
  }
}
