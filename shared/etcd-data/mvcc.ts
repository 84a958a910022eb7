/**
 * etcd's keys with their revisions: those in the db file, and above them those replayed from the log.
 * Sources: etcd server/storage/mvcc (revision.go, kvstore.go), schema/bucket.go; api/mvccpb/kv.proto.
 *
 *   bucket key   main u64 BE | "_" | sub u64 BE [ | "t" tombstone ]  →  mvccpb.KeyValue; a tombstone's holds only the key
 *   bucket meta  consistent_index, term, scheduledCompactRev, finishedCompactRev, confState, storageVersion
 *
 * Memory: of each revision in the file only its place is kept (about 40 bytes), of each key its name once; values are read when they
 * are asked for. Replayed revisions are kept whole; they are what was written since the db's last commit, or at most a log file or two.
 */
import type { Bbolt } from "./bbolt.ts";
import { Damaged, NOTHING, Reader } from "./protobuf.ts";

/** `key` is text, revisions are etcd's (`modRevision` is Kubernetes' resourceVersion), `lease` is 0n where there is none. */
export interface KeyValue {
  key: string;
  value: Uint8Array;
  createRevision: number;
  modRevision: number;
  version: number;
  lease: bigint;
}

/** One revision of a key. A deletion has an empty value, version 0 and createRevision 0; its modRevision is the deletion's own. */
export type Revision = KeyValue & { deleted: boolean };

const TOMBSTONE_LENGTH = 18;
const REVISION_LENGTH = 17;
const NO_ROW = -1;
const NO_VALUE = -1;

/** Inside, a key is its bytes as latin1 text, so that text order is byte order; `toRaw` and `fromRaw` convert at the door. */
export class Mvcc {
  /** Main revision of the newest change. */
  revision = 1;
  /** 0 if there was no compaction yet. */
  compactedRevision = 0;
  private readonly db: Bbolt | undefined;
  // One row per revision in the db file, oldest first.
  private readonly mains: number[] = [];
  private readonly offsets: number[] = [];
  private readonly lengths: number[] = [];
  private readonly older: number[] = [];
  private readonly leases = new Map<number, bigint>();
  private readonly newest = new Map<string, number>();
  /** Replayed revisions by key, oldest first. */
  private readonly replayed = new Map<string, Revision[]>();

  /** Without a db: an empty store, before the log's first entry. */
  constructor(db?: Bbolt) {
    this.db = db;
    if (!db) return;
    for (const item of db.items("key")) this.addRow(item);
    for (const { key, value } of db.items("meta")) {
      const isCompaction = ["scheduledCompactRev", "finishedCompactRev"].includes(key.toString());
      if (isCompaction) this.compactedRevision = Math.max(this.compactedRevision, u64(value));
    }
    this.revision = Math.max(this.revision, this.compactedRevision);
  }

  private addRow(item: { key: Buffer; value: Buffer; offset: number }) {
    const { key, value } = item;
    const isTombstone = key.length === TOMBSTONE_LENGTH && key[REVISION_LENGTH] === 0x74;
    if (key.length !== REVISION_LENGTH && !isTombstone) throw new Damaged(`revision ${key.toString("hex")} has ${key.length} bytes`);
    const main = u64(key);
    if (main < this.revision) throw new Damaged(`revision ${main} follows a later one`);
    this.revision = main;
    if (value.length === 0 && !isTombstone) return; // of no key: `etcdutl snapshot restore --bump-revision` only raises the number
    const keyValue = parseKeyValue(value);
    if (!isTombstone && keyValue.modRevision !== main) throw new Damaged(`revision ${main} holds a value of ${keyValue.modRevision}`);
    const row = this.mains.length;
    this.mains.push(main);
    this.offsets.push(isTombstone ? NO_VALUE : item.offset);
    this.lengths.push(value.length);
    this.older.push(this.newest.get(keyValue.key) ?? NO_ROW);
    this.newest.set(keyValue.key, row);
    if (keyValue.lease !== 0n) this.leases.set(row, keyValue.lease);
  }

  /** The live value of a key. */
  get(key: string): KeyValue | undefined {
    const change = this.replayed.get(key)?.at(-1);
    if (change) return change.deleted ? undefined : change;
    const row = this.newest.get(key);
    return row === undefined || this.offsets[row] === NO_VALUE ? undefined : this.load(key, row);
  }

  /** Newest first, as far back as the db file goes: at least to the last compaction. */
  history(key: string): Revision[] {
    const revisions = [...(this.replayed.get(key) ?? [])].reverse();
    for (let row = this.newest.get(key) ?? NO_ROW; row !== NO_ROW; row = this.older[row]!) revisions.push(this.load(key, row));
    return revisions;
  }

  /** All keys that ever were, as far back as the db file goes; in no order. */
  *everyKey(): Generator<string> {
    yield* this.newest.keys();
    for (const key of this.replayed.keys()) if (!this.newest.has(key)) yield key;
  }

  has(key: string): boolean {
    const change = this.replayed.get(key)?.at(-1);
    if (change) return !change.deleted;
    const row = this.newest.get(key);
    return row !== undefined && this.offsets[row] !== NO_VALUE;
  }

  /** Live keys attached to a lease. */
  keysOfLease(lease: bigint): string[] {
    return [...this.everyKey()].filter((key) => this.has(key) && this.leaseOf(key) === lease);
  }

  private leaseOf(key: string): bigint {
    const change = this.replayed.get(key)?.at(-1);
    return change ? change.lease : (this.leases.get(this.newest.get(key)!) ?? 0n);
  }

  /** Adds a replayed revision. */
  add(change: Revision) {
    const changes = this.replayed.get(change.key);
    if (changes) changes.push(change);
    else this.replayed.set(change.key, [change]);
  }

  private load(key: string, row: number): Revision {
    const modRevision = this.mains[row]!;
    if (this.offsets[row] === NO_VALUE) return deletion(key, modRevision);
    const keyValue = parseKeyValue(this.db!.read(this.offsets[row]!, this.lengths[row]!));
    if (!this.db!.unchanged()) throw new Damaged("etcd has written to its db since it was opened");
    if (keyValue.key !== key || keyValue.modRevision !== modRevision) throw new Damaged(`revision ${modRevision} is not where it was`);
    return { ...keyValue, deleted: false };
  }
}

export function deletion(key: string, modRevision: number): Revision {
  return { key, value: NOTHING, createRevision: 0, modRevision, version: 0, lease: 0n, deleted: true };
}

/** mvccpb.KeyValue { 1 key, 2 create_revision, 3 mod_revision, 4 version, 5 value, 6 lease }, with the key as latin1. */
function parseKeyValue(message: Uint8Array): KeyValue {
  const keyValue: KeyValue = { key: "", value: NOTHING, createRevision: 0, modRevision: 0, version: 0, lease: 0n };
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
  if (keyValue.key === "") throw new Damaged("a revision has no key");
  return keyValue;
}

/** Bytes as text, one character a byte. */
export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

export function toRaw(key: string): string {
  return Buffer.from(key, "utf8").toString("latin1");
}

export function fromRaw(key: string): string {
  return Buffer.from(key, "latin1").toString("utf8");
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
