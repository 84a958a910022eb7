/**
 * A log that has all entries from the first one on makes each key anew, with all its numbers: its records have checksums,
 * and the db's pages have none. Where the two differ, the log is right.
 */
import { type EtcdData, readEtcdData } from "../etcd-data/data.ts";
import type { Revision } from "../etcd-data/mvcc.ts";
import { beginningAt, LOG_ALONE, type OldRoot } from "../etcd-data/old-roots.ts";
import { Damaged } from "../etcd-data/protobuf.ts";
import { attempt, Fail } from "../fail.ts";

/** The part of all values that damage of single ones may reach: more of them are another cluster's. */
const FEW = 0.05;
const ALWAYS_FEW = 8;

export function isFew(count: number, values: number): boolean {
  return count <= Math.max(ALWAYS_FEW, FEW * values);
}

interface ByLog {
  data: EtcdData;
  /** In words, where the db has something else; then `data` is the log's, read from `from` on. */
  mended: string[];
  from?: OldRoot;
}

/** Undefined where the log does not lead from its first entry to the end of `data`. Errors: Damaged where much differs. */
export function proveByWholeLog(host: string, data: EtcdData): ByLog | undefined {
  const { isCut, index } = data.end;
  const read = attempt(() => readEtcdData(host, undefined, beginningAt(LOG_ALONE, { isCut })));
  if (read instanceof Fail || read.end.index !== index) return undefined;
  const others = [...otherIn(data, read)];
  if (others.length === 0 && read.revision === data.revision) return { data, mended: [] };
  if (!isFew(others.length, data.keyCount))
    throw new Damaged(
      `${others.length} of ${data.keyCount} values are others than the log has, so these are of another cluster (${others[0]})`,
    );
  data[Symbol.dispose]();
  const mended = others.length > 0 ? others : ["the number of the last compaction"];
  return { data: read, mended: mended.map((one) => `${one}, by the log`), from: LOG_ALONE };
}

/** In words: rows of `data` that the log has not made so; else rows that it lacks. */
function* otherIn(data: EtcdData, log: EtcdData): Generator<string> {
  const [own, lacking]: [string[], string[]] = [[], []];
  const names = [data, log].flatMap((one) => [...one.keys(""), ...one.deletedKeys("")]);
  for (const key of new Set(names)) {
    const [rows, made] = [byRevision(data.history(key)), byRevision(log.history(key))];
    for (const [revision, row] of rows) if (!isSame(row, made.get(revision))) own.push(nameOf(key, revision));
    for (const row of needed([...made.values()], data.compactedRevision))
      if (!rows.has(row.modRevision)) lacking.push(nameOf(key, row.modRevision));
  }
  yield* own.length > 0 ? own : lacking;
}

/** Newest first. */
const byRevision = (history: readonly Revision[]) => new Map(history.map((row) => [row.modRevision, row]));

const nameOf = (key: string, revision: number) => `${key} (revision ${revision})`;

/** Compaction leaves a key's newest row, unless it is a deletion, and all later ones. */
function needed(made: readonly Revision[], compacted: number): Revision[] {
  return made.filter((row, i) => row.modRevision > compacted || (i === 0 && !row.deleted));
}

function isSame(row: Revision, made: Revision | undefined): boolean {
  return made !== undefined && (row.deleted ? made.deleted : Bun.deepEquals(row, made));
}
