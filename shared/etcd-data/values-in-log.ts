/** Whether the db's values are those that the log's entries have written. */
import type { Bbolt } from "./bbolt.ts";
import { writesIn } from "./fits-log.ts";
import { readRevision, valueIn } from "./key-value.ts";
import { legacyRequest } from "./members.ts";
import type { Leaf } from "./page.ts";
import { Damaged, wireFields } from "./protobuf.ts";
import { readPut } from "./replay.ts";
import type { RevisionKey } from "./revision-index.ts";
import { type Entry, readWal } from "./wal.ts";

/**
 * Errors: Damaged where a value is another one than the log has of it: pages have no checksums, the log has. `folder` is
 * the log's, `applied` the last entry that the db has. Revisions and the entries that made them go up together: both are
 * gone through from the newest on, and what fits no entry is older than the log, if nothing before it fits one.
 */
export function checkValues(db: Bbolt, folder: string, applied: number) {
  const { entriesOf, count } = putsIn(folder, applied);
  let [entry, oldest, open] = [applied + 1, 0, undefined as RevisionKey | undefined];
  for (const row of db.backward("key", contentOf)) {
    oldest ||= row.main - count;
    if (row.main <= oldest) return;
    if (row.content === undefined) continue;
    const made = entriesOf.get(row.content)?.findLast((index) => index <= entry);
    if (made === undefined) open = row;
    else if (open) throw new Damaged(`revision ${open.main} is not what the log has of it`);
    entry = made ?? entry;
  }
}

/** `content`: a sum of key and value; undefined where there is no value. */
function contentOf(leaf: Leaf, i: number): RevisionKey & { content: number | undefined } {
  const row = readRevision(leaf, i);
  const hasValue = row.key !== "" && !row.isTombstone;
  return { ...row, content: hasValue ? sumOf(row.key, valueIn(leaf, i)) : undefined };
}

function sumOf(key: string, value: Uint8Array): number {
  return Number(BigInt.asUintN(53, Bun.hash(value, Bun.hash(key))));
}

/**
 * The entries that put each content, oldest first, and how many entries may have made a revision; only for
 * the part of the log that has no gap.
 */
function putsIn(folder: string, applied: number) {
  const puts = { entriesOf: new Map<number, number[]>(), count: 0 };
  let last = 0;
  const note = ({ type, index, data }: Entry): boolean => {
    if (index > last + 1) Object.assign(puts, { entriesOf: new Map(), count: 0 });
    last = index;
    if (index > applied || type !== 0 || legacyRequest(data)) return false;
    puts.count++;
    for (const { isPut, message } of wireFields(data).flatMap(({ number, bytes }) =>
      writesIn(number, bytes),
    )) {
      if (!isPut) continue;
      const { key, value } = readPut(message);
      const sum = sumOf(key, value);
      puts.entriesOf.set(sum, [...(puts.entriesOf.get(sum) ?? []), index]);
    }
    return false;
  };
  readWal(folder, { after: 0, isWanted: note, readsOn: true });
  return puts;
}
