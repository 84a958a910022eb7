/**
 * Compares the values of a database with the log or a snapshot: the database's pages have no checksums, but the log's entries and a snapshot have.
 * What the log has of a revision is right. A value that is older than the log, and in no snapshot, has no second
 * witness: it shows only whether it is whole.
 *
 * Revisions and the entries that made them go up together. Both are gone through from the newest on, and what fits no
 * entry is older than the log, if nothing before it fits one. Memory: a sum of each put in the log, and what is wrong.
 */
import type { Bbolt } from "./bbolt.ts";
import type { Leaf } from "./db-file.ts";
import { writesIn } from "./fits-log.ts";
import { fromRaw } from "./key-text.ts";
import { legacyRequest } from "./members.ts";
import { compaction } from "./mvcc.ts";
import { Damaged, fieldsOf, wireFields } from "./protobuf.ts";
import { readPut } from "./replay.ts";
import { bucketKey, type KeyValue, parseKeyValue, type RevisionKey, readRevision } from "./revisions.ts";
import { type NumberedRow, RowNumbers } from "./row-numbers.ts";
import { type Entry, readWal } from "./wal.ts";

/** A value that is wrong, or may be. */
export interface Doubt<F> extends RevisionKey {
  key: string;
  /** The findings of `look`; whether it counts shows only when all values were seen. */
  found: F[];
  /** The log, or a snapshot, has another content of this revision. */
  isOther: boolean;
  /** One of these entries of the log has made it, if the log has it. */
  entries: { first: number; last: number };
}

interface Witnessed<F> {
  values: number;
  /** The values that neither the log nor a snapshot confirms. */
  alone: number;
  doubts: Doubt<F>[];
  /** A row whose numbers etcd does not give out; one with another key may be the cause. */
  misnumbered: Damaged | undefined;
}

interface Witnesses<F> {
  /** The log's folder, and the last entry that the db has; the log may end before that. */
  log?: { folder: string; applied: number } | undefined;
  /** Other dbs of this cluster. */
  snapshots: readonly Bbolt[];
  /** Looks at a value by itself; `key` is its bytes as latin1 text, and the value holds until the next one. */
  look: (key: string, value: Uint8Array) => F[];
  /** Is called once with that of each value that the log has not; returns what may be wrong. */
  note: (found: readonly F[]) => F[];
}

/** More of them are no damage of single values: the log is another's, or pages of the tree have others' content. */
const MOST_OTHERS = 1000;

/** Errors: Damaged where more than single values are others than the witnesses have. */
export function findWitnesses<F>(db: Bbolt, { log, snapshots, look, note }: Witnesses<F>): Witnessed<F> {
  const puts = log ? putsIn(log.folder, log.applied) : noPuts();
  const result: Witnessed<F> = { values: 0, alone: 0, doubts: [], misnumbered: undefined };
  const makers = new Makers((log?.applied ?? 0) + 1, puts.gaps);
  let open: SeenRow<F>[] = [];
  // of the revisions that the log may have made
  let oldest: number | undefined;
  const deleted = new Map<string, number>();
  const numbers = new RowNumbers();
  let others = 0;
  const doubt = (row: SeenRow<F>, found: F[], isOther: boolean, first: number) => {
    const { main, sub, isTombstone, key } = row;
    result.doubts.push({
      main,
      sub,
      isTombstone,
      key,
      found,
      isOther,
      entries: { first, last: makers.last },
    });
    if (isOther && ++others > MOST_OTHERS)
      throw new Damaged(`more than ${MOST_OTHERS} values are not what the log or the snapshot has of them`);
  };
  const noteOlder = (row: SeenRow<F>) => {
    if (row.isInLog) return;
    const found = note(row.found);
    if (row.inSnapshots === undefined) result.alone++;
    if (found.length > 0 || row.inSnapshots === "other") doubt(row, found, row.inSnapshots === "other", 0);
  };
  const noteAllOlder = () => {
    for (const one of open) noteOlder(one);
    open = [];
  };
  for (const row of db.backward("key", (leaf, i) => seenRow(leaf, i, { puts, snapshots, look }))) {
    oldest ??= row.main - puts.count;
    numbers.note(row);
    if (row.isTombstone) deleted.set(row.key, row.main);
    else deleted.delete(row.key);
    if (makers.isBeforeGap(row.main)) noteAllOlder();
    if (row.content === undefined) continue;
    result.values++;
    const made = puts.entriesOf.get(row.content)?.findLast((index) => makers.mayHaveMade(index, row.main));
    if (made !== undefined && !makers.isGapAfter(made)) {
      for (const one of open) doubt(one, [], true, made);
      open = [];
      makers.note(made, row.main);
    } else if (row.main > oldest && !puts.isKept.has(row.key)) open.push(row);
    else noteOlder(row);
  }
  noteAllOlder();
  const compacted = db.stable(compaction);
  refuseDeletionOfNothing(deleted, compacted);
  numbers.checkCompacted(compacted, puts.compactions);
  result.misnumbered = numbers.faultAt(compacted);
  return result;
}

interface Gap {
  first: number;
  last: number;
}

/**
 * Which entries may have made a row, newest row first. Each entry makes one revision at most: so rows far enough down are
 * of entries before a gap in the log, and those near it may be of entries that are lost.
 */
class Makers {
  last: number;
  private readonly gaps: Gap[];
  /** Rows of lower revisions are of earlier entries than this one. */
  private newest: { entry: number; main: number } | undefined;

  constructor(last: number, gaps: readonly Gap[]) {
    [this.last, this.gaps] = [last, gaps.filter(({ first }) => first < last)];
  }

  /** True once: its entry, and all later ones, are before the next gap. */
  isBeforeGap(main: number): boolean {
    this.newest ??= { entry: this.last, main: main + 1 };
    const gap = this.gaps.at(-1);
    if (!gap || main >= this.newest.main - (this.newest.entry - gap.first)) return false;
    this.gaps.pop();
    [this.last, this.newest] = [gap.first - 1, { entry: gap.first, main: main + 1 }];
    return true;
  }

  /** Then a lost entry may have made the same row: the next rows show whether they are of entries behind the gap. */
  isGapAfter(entry: number): boolean {
    return (this.gaps.at(-1)?.last ?? 0) > entry;
  }

  /** An entry makes one revision, of several rows where it is a transaction. */
  mayHaveMade(entry: number, main: number): boolean {
    if (!this.newest || entry < this.newest.entry) return entry <= this.last;
    return entry === this.newest.entry && main === this.newest.main;
  }

  note(entry: number, main: number) {
    [this.last, this.newest] = [entry, { entry, main }];
  }
}

/** Only what was there is deleted, and a compaction before that leaves it (mvcc/key_index.go). */
function refuseDeletionOfNothing(deleted: ReadonlyMap<string, number>, compacted: number) {
  for (const [key, main] of deleted)
    if (main > compacted)
      throw new Damaged(`revision ${main} deletes "${fromRaw(key)}", which was not there`);
}

interface SeenRow<F> extends NumberedRow {
  /** A sum of key, value and lease; undefined where there is no value. */
  content: number | undefined;
  isInLog: boolean;
  inSnapshots: "same" | "other" | undefined;
  found: F[];
}

interface LogWitnesses<F> extends Pick<Witnesses<F>, "snapshots" | "look"> {
  puts: Puts;
}

/** Keeps no value: those of one part of a db may be gigabytes. */
function seenRow<F>(leaf: Leaf, i: number, { puts, snapshots, look }: LogWitnesses<F>): SeenRow<F> {
  const { main, sub, isTombstone, key } = readRevision(leaf, i);
  const row = {
    ...{ main, sub, isTombstone, key, createRevision: 0, version: 0 },
    ...{ isInLog: false, inSnapshots: undefined, found: [] },
  };
  if (key === "" || isTombstone) return { ...row, content: undefined };
  const message = leaf.value(i);
  const { value, createRevision, version, lease } = parseKeyValue(message);
  Object.assign(row, { createRevision, version });
  const content = sumOf({ key, value, lease });
  if (puts.entriesOf.has(content)) return { ...row, content, isInLog: true };
  const isSame = snapshots.map((db) =>
    db.stable((tree) => tree.find("key", bucketKey(row), (other, k) => other.value(k).equals(message))),
  );
  const inSnapshots = isSame.includes(true) ? "same" : isSame.includes(false) ? "other" : undefined;
  return { ...row, content, inSnapshots, found: look(key, value) };
}

function sumOf({ key, value, lease }: Pick<KeyValue, "key" | "value" | "lease">): number {
  return Number(BigInt.asUintN(53, Bun.hash(value, Bun.hash(`${lease} ${key}`))));
}

interface Puts {
  /** The entries that put each content, oldest first. */
  entriesOf: Map<number, number[]>;
  /** Keys that were put without their value or lease, which stays as it was. */
  isKept: Set<string>;
  /** How many entries may have made a revision; lost ones, too. */
  count: number;
  /** Entries that are lost, between others or behind them, oldest first. */
  gaps: Gap[];
  /** Revisions up to which an entry has compacted. */
  compactions: Set<number>;
}

const noPuts = (): Puts => ({
  ...{ entriesOf: new Map(), isKept: new Set(), count: 0, gaps: [], compactions: new Set() },
});

function putsIn(folder: string, applied: number): Puts {
  const puts = noPuts();
  let next: number | undefined;
  const noteLost = (end: number) => {
    if (next === undefined || end <= next) return;
    puts.gaps.push({ first: next, last: end - 1 });
    puts.count += end - next;
  };
  eachEntry(folder, (entry) => {
    noteLost(Math.min(entry.index, applied + 1));
    next = Math.max(next ?? 0, entry.index + 1);
    if (entry.index > applied || !isRequest(entry)) return;
    puts.count++;
    for (const { number, bytes } of wireFields(entry.data))
      if (number === COMPACTION) puts.compactions.add(fieldsOf(bytes).number(1));
    for (const { ignoreValue, ignoreLease, ...put } of putsOf(entry)) {
      if (ignoreValue || ignoreLease) puts.isKept.add(put.key);
      const sum = sumOf(put);
      const made = puts.entriesOf.get(sum);
      if (made) made.push(entry.index);
      else puts.entriesOf.set(sum, [entry.index]);
    }
  });
  noteLost(applied + 1);
  return puts;
}

/** Each entry of the log, whose data is a view that holds until the next one; behind damage, too. */
export function eachEntry(folder: string, visit: (entry: Entry) => void) {
  const isWanted = (entry: Entry) => {
    visit(entry);
    return false;
  };
  readWal(folder, { after: 0, isWanted, readsOn: true });
}

/** InternalRaftRequest { 7 CompactionRequest { 1 revision } }. */
const COMPACTION = 7;

const isRequest = ({ type, data }: Entry) => type === 0 && !legacyRequest(data);

/** In all branches of its transactions. */
export function putsOf(entry: Entry): ReturnType<typeof readPut>[] {
  if (!isRequest(entry)) return [];
  return wireFields(entry.data)
    .flatMap(({ number, bytes }) => writesIn(number, bytes))
    .filter(({ isPut }) => isPut)
    .map(({ message }) => readPut(message))
    .toArray();
}
