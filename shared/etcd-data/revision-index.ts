/**
 * Which revisions there are of each key, without their values. Memory: 16 bytes for a revision, and for a key some 40
 * and the last part of its name, so that an etcd of 8 GB fits. Inside, a key is its bytes as latin1 text: text order
 * is byte order.
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
  private readonly names = new Names();
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

  /** Those that begin so, in no order. */
  keys(prefix: string): Generator<string> {
    return this.names.under(prefix);
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
    const id = this.names.idOf(key);
    return (id !== undefined && this.leases.get(this.newest.get(id))) || 0n;
  }

  /** Newest first. */
  *history(key: string): Generator<RevisionKey, undefined> {
    const id = this.names.idOf(key);
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
    const known = this.names.idOf(key);
    if (known !== undefined) return known;
    const id = this.newest.push(NO_ROW);
    this.oldest.push(NO_ROW);
    this.names.add(key);
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

/** Bytes of names that are kept together. */
const NAMES = 65_536;
/** Names that are added or asked for before their memory is taken back: it would grow by a multiple of what is kept. */
const MANY = 16_384;

interface Folder {
  id: number;
  name: string;
  /** Its newest key. */
  last: number;
}

/** Names of keys by number, from 0 on. The folder of a path is there once. */
class Names {
  private readonly folders = new Map<string, Folder>();
  private readonly byId: Folder[] = [];
  private readonly chunks: Buffer[] = [];
  /** Bytes of the last one. */
  private used = NAMES;
  /** A number and 1 where its hash says, or behind it; else 0. */
  private slots = new Int32Array(1024);
  // by number: its folder, the key before it there, and its last part
  private readonly hashes = new Column(Uint32Array);
  private readonly folderOf = new Column(Uint32Array);
  private readonly before = new Column(Int32Array);
  private readonly starts = new Column(Uint32Array);
  private readonly lengths = new Column(Uint32Array);
  private read = 0;

  idOf(key: string): number | undefined {
    const hash = Bun.hash.xxHash32(key);
    for (let slot = hash; ; slot++) {
      const id = this.slots[slot & (this.slots.length - 1)]! - 1;
      if (id < 0) return undefined;
      if (this.hashes.get(id) === hash && this.nameOf(id) === key) return id;
    }
  }

  add(key: string) {
    const cut = key.lastIndexOf("/") + 1;
    const folder = this.folderCalled(key.slice(0, cut));
    if (this.used + key.length - cut > NAMES) {
      this.chunks.push(Buffer.allocUnsafeSlow(Math.max(NAMES, key.length)));
      this.used = 0;
    }
    const id = this.hashes.push(Bun.hash.xxHash32(key));
    this.folderOf.push(folder.id);
    this.before.push(folder.last);
    this.starts.push((this.chunks.length - 1) * NAMES + this.used);
    this.lengths.push(key.length - cut);
    this.used += this.chunks.at(-1)!.write(key.slice(cut), this.used, "latin1");
    folder.last = id;
    if (id * 2 > this.slots.length) {
      this.slots = new Int32Array(this.slots.length * 2);
      for (let known = 0; known < id; known++) this.putSlot(known);
    }
    this.putSlot(id);
  }

  *under(prefix: string): Generator<string> {
    for (const { name, last } of this.folders.values()) {
      if (!name.startsWith(prefix) && !prefix.startsWith(name)) continue;
      for (let id = last; id !== NO_ROW; id = this.before.get(id)) {
        const key = this.nameOf(id);
        if (key.startsWith(prefix)) yield key;
      }
    }
  }

  private folderCalled(name: string): Folder {
    const known = this.folders.get(name);
    if (known) return known;
    const folder = { id: this.byId.length, name, last: NO_ROW };
    this.byId.push(folder);
    this.folders.set(name, folder);
    return folder;
  }

  private nameOf(id: number): string {
    if (++this.read % MANY === 0) Bun.gc(true);
    const [start, length] = [this.starts.get(id), this.lengths.get(id)];
    const last = this.chunks[Math.floor(start / NAMES)]!.toString(
      "latin1",
      start % NAMES,
      (start % NAMES) + length,
    );
    return this.byId[this.folderOf.get(id)]!.name + last;
  }

  private putSlot(id: number) {
    let slot = this.hashes.get(id);
    while (this.slots[slot & (this.slots.length - 1)] !== 0) slot++;
    this.slots[slot & (this.slots.length - 1)] = id + 1;
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
