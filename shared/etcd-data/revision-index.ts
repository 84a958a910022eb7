/**
 * Which revisions there are of each key, without their values. Memory: 16 bytes for a revision, and each
 * key's name once, so that an etcd of 8 GB fits. Inside, a key is its bytes as latin1 text: text order is
 * byte order.
 */

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

const NO_ROW = -1;
const TOMBSTONE = 1;

export class RevisionIndex {
  private readonly ids = new Map<string, number>();
  // by id of a key
  private readonly newest = new Column(Int32Array);
  private readonly oldest = new Column(Int32Array);
  // by row
  private readonly mains = new Column(Float64Array);
  /** Twice the number inside the transaction, and 1 for a tombstone. */
  private readonly subs = new Column(Uint32Array);
  private readonly older = new Column(Int32Array);
  private readonly leases = new Map<number, bigint>();

  /** Adds a revision that is older than all of its key; returns the one after it, Infinity if there is none. */
  addOlder(row: StoredRevision): number {
    const id = this.idOf(row.key);
    const added = this.append(row, NO_ROW);
    const next = this.oldest.get(id);
    this.oldest.set(id, added);
    if (next === NO_ROW) this.newest.set(id, added);
    else this.older.set(next, added);
    return next === NO_ROW ? Number.POSITIVE_INFINITY : this.mains.get(next);
  }

  /** Adds a revision that is newer than all of its key. */
  addNewer(row: StoredRevision) {
    const id = this.idOf(row.key);
    const added = this.append(row, this.newest.get(id));
    if (this.oldest.get(id) === NO_ROW) this.oldest.set(id, added);
    this.newest.set(id, added);
  }

  keys(): IterableIterator<string> {
    return this.ids.keys();
  }

  has(key: string): boolean {
    return this.ids.has(key);
  }

  /** Undefined for a key that never was, as far back as the db file goes. */
  newestOf(key: string): RevisionKey | undefined {
    return this.history(key).next().value;
  }

  /** 0n if there is none. */
  leaseOf(key: string): bigint {
    const id = this.ids.get(key);
    return (id !== undefined && this.leases.get(this.newest.get(id))) || 0n;
  }

  /** Newest first. */
  *history(key: string): Generator<RevisionKey, undefined> {
    const id = this.ids.get(key);
    for (
      let row = id === undefined ? NO_ROW : this.newest.get(id);
      row !== NO_ROW;
      row = this.older.get(row)
    ) {
      const sub = this.subs.get(row);
      yield { main: this.mains.get(row), sub: sub >>> 1, isTombstone: (sub & TOMBSTONE) !== 0 };
    }
  }

  private idOf(key: string): number {
    const known = this.ids.get(key);
    if (known !== undefined) return known;
    const id = this.newest.push(NO_ROW);
    this.oldest.push(NO_ROW);
    this.ids.set(key, id);
    return id;
  }

  private append({ main, sub, isTombstone, lease }: StoredRevision, older: number): number {
    const row = this.mains.push(main);
    this.subs.push(sub * 2 + (isTombstone ? TOMBSTONE : 0));
    this.older.push(older);
    if (lease !== 0n) this.leases.set(row, lease);
    return row;
  }
}

const CHUNK = 4096;

/** Numbers in chunks, so that growing copies nothing. */
class Column<A extends Int32Array | Uint32Array | Float64Array> {
  private readonly make: new (
    length: number,
  ) => A;
  private readonly chunks: A[] = [];
  private length = 0;

  constructor(make: new (length: number) => A) {
    this.make = make;
  }

  /** Returns its index. */
  push(value: number): number {
    if (this.length % CHUNK === 0) this.chunks.push(new this.make(CHUNK));
    this.set(this.length, value);
    return this.length++;
  }

  get(i: number): number {
    return this.chunks[Math.floor(i / CHUNK)]![i % CHUNK]!;
  }

  set(i: number, value: number) {
    this.chunks[Math.floor(i / CHUNK)]![i % CHUNK] = value;
  }
}
