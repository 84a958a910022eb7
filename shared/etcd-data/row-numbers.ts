/**
 * Whether the numbers of a db's rows are those that etcd gives out: the first put of a key makes version 1, and each later
 * one the next, until a deletion. Compaction takes a key's rows from the oldest one on, and leaves no gap. Sources: etcd
 * server/storage/mvcc kvstore_txn.go (put), key_index.go.
 */
import type { Bbolt } from "./bbolt.ts";
import { fromRaw } from "./key-text.ts";
import { compaction } from "./mvcc.ts";
import { Damaged } from "./protobuf.ts";
import { type KeyValue, parseKeyValue, type RevisionKey, readRevision } from "./revisions.ts";

export interface NumberedRow extends RevisionKey, Pick<KeyValue, "createRevision" | "version"> {
  /** "" for a row of no key. */
  key: string;
}

export class RowNumbers {
  private newest = 0;
  /** The oldest row seen of each key. */
  private readonly oldest = new Map<string, NumberedRow>();

  private fault: Damaged | undefined;

  /** Newest row first. */
  note({ main, sub, isTombstone, key, createRevision, version }: NumberedRow) {
    this.newest ||= main;
    if (key === "") return;
    const row = { main, sub, isTombstone, key, createRevision, version };
    const next = this.oldest.get(key);
    if (!isPossible(row)) this.fault ??= ofRow(row);
    if (next && !next.isTombstone && !follows(next, row)) this.fault ??= ofRow(next);
    this.oldest.set(key, row);
  }

  /** Over all rows that were noted. `compacted`: up to this revision rows are gone. */
  faultAt(compacted: number): Damaged | undefined {
    for (const row of this.oldest.values())
      if (!row.isTombstone && row.version > 1 && row.main > compacted) this.fault ??= ofRow(row);
    return this.fault;
  }

  /**
   * `compactions`: those that the log has. One goes no further than the newest revision. Errors: Damaged where it does,
   * unless the log says so: then the newest one was a deletion, and is gone.
   */
  checkCompacted(compacted: number, compactions: ReadonlySet<number>) {
    if (this.newest === 0 || compacted <= this.newest || compactions.has(compacted)) return;
    throw new Damaged(
      `revisions up to ${compacted} are compacted, but the newest one is ${this.newest}, and the log has no such compaction`,
    );
  }
}

/** The same of a db whose damaged rows were put right. Errors: Damaged. */
export function checkNumbers(db: Bbolt) {
  const numbers = new RowNumbers();
  const rows = db.backward("key", (leaf, i) => {
    const row = readRevision(leaf, i);
    const isNumbered = row.key !== "" && !row.isTombstone;
    return { createRevision: 0, version: 0, ...(isNumbered && parseKeyValue(leaf.value(i))), ...row };
  });
  for (const row of rows) numbers.note(row);
  const fault = numbers.faultAt(db.stable(compaction));
  if (fault) throw fault;
}

function isPossible({ main, isTombstone, createRevision, version }: NumberedRow): boolean {
  if (isTombstone) return true;
  if (createRevision === main) return version === 1;
  return createRevision > 1 && version > 1 && version <= main - createRevision + 1;
}

function follows(next: NumberedRow, row: NumberedRow): boolean {
  if (row.isTombstone) return next.version === 1;
  return next.version === row.version + 1 && next.createRevision === row.createRevision;
}

function ofRow({ main, key, createRevision, version }: NumberedRow): Damaged {
  return new Damaged(
    `revision ${main} of "${fromRaw(key)}" has numbers that etcd does not give out: created at ${createRevision}, version ${version}`,
  );
}
