/**
 * etcd's keys with their revisions: those in the db file, and above them those replayed from the log.
 * Sources: etcd server/storage/mvcc (kvstore.go, kvstore_compaction.go), schema/bucket.go.
 *
 *   bucket key   a revision → its key and value, see revisions.ts; revisions are only added at the end, and removed by compaction
 *   bucket meta  consistent_index, term, scheduledCompactRev, finishedCompactRev, confState, storageVersion
 *
 * A large db is read in parts while etcd goes on, each from a newer tree. This is right, because a revision
 * never changes, and because it is read from the newest revision down: compaction goes up, and takes a key's
 * older revisions before its tombstone. So a key whose tombstone is gone when its place is read has no older
 * revisions left below. Revisions above the first one read are added in the end. Only a compaction that has
 * gone beyond the first one read makes this wrong, and it is all read again then.
 *
 * Memory: an index of the revisions. Values are read when they are asked for. Replayed revisions are kept
 * whole; they are what was written since the db's last commit, or, after a kill, at most a log file or two.
 */
import type { Bbolt, Tree } from "./bbolt.ts";
import type { Leaf } from "./db-file.ts";
import { Damaged, NOTHING } from "./protobuf.ts";
import {
  bucketKey,
  type KeyValue,
  RevisionIndex,
  type RevisionKey,
  readKeyValue,
  readRevision,
  readValueHead,
  type StoredRevision,
  u64,
} from "./revisions.ts";

/** A deletion has an empty value, version 0 and createRevision 0; its modRevision is the deletion's own. */
export type Revision = KeyValue & { deleted: boolean };

/** Compaction has removed a revision since the index was made. */
export class CompactedSince extends Damaged {}

const SCANS = 5;
/** The revision of an empty store: the first write makes 2. */
const FIRST: RevisionKey = { main: 1, sub: 0, isTombstone: false };

/**
 * Inside, a key is its bytes as latin1 text, so that text order is byte order; key-text.ts converts it at
 * the interface.
 */
export class Mvcc {
  /** Main revision of the newest change. */
  revision = 1;
  /** 0 if there was no compaction yet. */
  compactedRevision = 0;
  /** The greatest revision that the db should have between two others, but has not; 0 if none. */
  private missing = 0;
  private readonly db: Bbolt | undefined;
  private index = new RevisionIndex();
  /** Replayed revisions by key, oldest first. */
  private readonly replayed = new Map<string, Revision[]>();
  /** The same, oldest first. */
  readonly changes: Revision[] = [];

  /** Returns an empty store, as before the log's first entry, if there is no database. */
  constructor(db?: Bbolt) {
    this.db = db;
    if (db) this.scan(db);
  }

  private scan(db: Bbolt) {
    if (!db.stable((tree) => tree.hasKeys)) throw new Damaged("the db has lost its keys");
    this.index = new RevisionIndex();
    const finished = db.stable((tree) => storedNumber(tree, "finishedCompactRev"));
    this.compactedRevision = db.stable(compaction);
    this.revision = Math.max(1, this.compactedRevision);
    this.missing = 0;
    let last: RevisionKey | undefined;
    for (const row of db.backward("key", readRevision)) {
      this.revision = Math.max(this.revision, row.main);
      if (last) this.noteMissing(row, last);
      last = row;
      if (row.key) checkCompacted(row, this.index.addOlder(row), finished);
    }
    if (last) this.noteMissing(FIRST, last);
  }

  /** etcd gives out each number once, and inside a transaction too. Only compaction takes some away. */
  private noteMissing(row: RevisionKey, next: RevisionKey) {
    if (row.main > next.main || (row.main === next.main && row.sub >= next.sub))
      throw new Damaged(`revision ${row.main} comes before ${next.main}`);
    const isPart = row.main === next.main ? row.sub === next.sub - 1 : next.sub === 0;
    if (!isPart) this.missing = Math.max(this.missing, next.main);
    else if (row.main < next.main - 1) this.missing = Math.max(this.missing, next.main - 1);
  }

  /** Adds etcd's writes since, and returns the result of `read` on the tree with exactly these. */
  catchUp<T>(read: (tree?: Tree) => T): T {
    const { db } = this;
    if (!db) return read();
    for (let scan = 1; scan <= SCANS; scan++) {
      const now = db.stable((tree) => ({
        compacted: compaction(tree),
        newer: newerThan(this.revision, tree),
        result: read(tree),
      }));
      if (now.compacted <= this.revision) {
        this.compactedRevision = now.compacted;
        this.addNewer(now.newer);
        if (this.missing > now.compacted)
          throw new Damaged(`revision ${this.missing} is missing, and was not compacted away`);
        return now.result;
      }
      this.scan(db);
    }
    throw new Damaged(`etcd has compacted all its revisions ${SCANS} times while they were read`);
  }

  private addNewer(rows: StoredRevision[]) {
    let last: RevisionKey = { main: this.revision, sub: 0, isTombstone: false };
    for (const row of rows.reverse()) {
      this.noteMissing(last, row);
      last = row;
      this.revision = row.main;
      if (row.key) this.index.addNewer(row);
    }
  }

  get(key: string): KeyValue | undefined {
    const change = this.replayed.get(key)?.at(-1);
    if (change) return change.deleted ? undefined : change;
    const newest = this.index.newestOf(key);
    return newest && !newest.isTombstone ? this.load(key, newest) : undefined;
  }

  /** At most the first `length` bytes of the live value of a key. */
  valueHead(key: string, length: number): Uint8Array | undefined {
    const change = this.replayed.get(key)?.at(-1);
    if (change) return change.deleted ? undefined : change.value.subarray(0, length);
    const newest = this.index.newestOf(key);
    return newest && !newest.isTombstone
      ? this.find(newest, (leaf, i) => readValueHead(leaf, i, length))
      : undefined;
  }

  replayedAt(key: string, revision: number): Revision | undefined {
    return this.replayed.get(key)?.find(({ modRevision }) => modRevision === revision);
  }

  /** Newest first, as far back as the db file goes: at least to the last compaction. */
  history(key: string): Revision[] {
    const replayed = [...(this.replayed.get(key) ?? [])].reverse();
    return [...replayed, ...this.index.history(key).map((revision) => this.load(key, revision))];
  }

  /** All keys that ever existed and begin so, as far back as the db file goes; unsorted. */
  *everyKey(prefix = ""): Generator<string> {
    yield* this.index.keys(prefix);
    for (const key of this.replayed.keys()) if (key.startsWith(prefix) && !this.index.has(key)) yield key;
  }

  has(key: string): boolean {
    const change = this.replayed.get(key)?.at(-1);
    if (change) return !change.deleted;
    return this.index.newestOf(key)?.isTombstone === false;
  }

  /** How many keys there are that are not deleted. */
  get keyCount(): number {
    const isLive = (key: string) => this.index.newestOf(key)?.isTombstone === false;
    const more = [...this.replayed.keys()].map((key) => Number(this.has(key)) - Number(isLive(key)));
    return more.reduce((sum, one) => sum + one, this.index.liveCount);
  }

  *keysWithLease(isWanted: (lease: bigint) => boolean): Generator<string> {
    for (const key of this.index.withLease(isWanted)) if (!this.replayed.has(key) && this.has(key)) yield key;
    for (const [key, changes] of this.replayed) {
      const { deleted, lease } = changes.at(-1)!;
      if (!deleted && lease !== 0n && isWanted(lease)) yield key;
    }
  }

  leaseOf(key: string): bigint {
    return this.replayed.get(key)?.at(-1)?.lease ?? this.index.leaseOf(key);
  }

  add(change: Revision) {
    this.changes.push(change);
    const changes = this.replayed.get(change.key);
    if (changes) changes.push(change);
    else this.replayed.set(change.key, [change]);
  }

  private load(key: string, revision: RevisionKey): Revision {
    if (revision.isTombstone) return deletion(key, revision.main);
    const keyValue = this.find(revision, readKeyValue);
    if (keyValue.key !== key || keyValue.modRevision !== revision.main)
      throw new Damaged(`revision ${revision.main} has changed`);
    return { ...keyValue, deleted: false };
  }

  private find<T>(revision: RevisionKey, read: (leaf: Leaf, i: number) => T): T {
    const found = this.db!.stable((tree) => tree.find("key", bucketKey(revision), read));
    if (found === undefined) throw new CompactedSince(`revision ${revision.main} is gone`);
    return found;
  }
}

export function compaction(tree: Tree): number {
  return Math.max(...["scheduledCompactRev", "finishedCompactRev"].map((name) => storedNumber(tree, name)));
}

/** 0 where the bucket `meta` has it not. */
export function storedNumber(tree: Tree, name: string): number {
  return tree.find("meta", Buffer.from(name), (leaf, i) => u64(leaf.value(i))) ?? 0;
}

/** A finished compaction leaves one revision of a key up to it, and none of a deleted one (mvcc/key_index.go). */
function checkCompacted(row: StoredRevision, next: number, finished: number) {
  if (next <= finished || (row.isTombstone && row.main < finished))
    throw new Damaged(`revision ${row.main} is there, and was compacted away by ${finished}`);
}

function newerThan(revision: number, tree: Tree): StoredRevision[] {
  const rows: StoredRevision[] = [];
  for (const leaf of tree.leavesOf("key")) {
    for (let i = leaf.count - 1; i >= 0; i--) {
      const row = readRevision(leaf, i);
      if (row.main <= revision) return rows;
      rows.push(row);
    }
  }
  return rows;
}

export function deletion(key: string, modRevision: number): Revision {
  return { key, value: NOTHING, createRevision: 0, modRevision, version: 0, lease: 0n, deleted: true };
}
