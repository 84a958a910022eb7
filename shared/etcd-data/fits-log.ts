/**
 * Whether the db's newest revision is the one that the log's entries up to the db's index have made: pages of
 * the last moments that were not on the disk leave a tree that looks whole, and older keys in it.
 *
 * From the entry that made the newest revision up to the db's index no entry has made one. So each of them,
 * asked of the keys as the db has them, must change nothing now either. Sources: etcd
 * server/etcdserver/server.go (applyEntryNormal), cindex.go: keys and index are of one transaction.
 */
import type { Tree } from "./bbolt.ts";
import { legacyRequest } from "./members.ts";
import { Damaged, fieldsOf, wireFields } from "./protobuf.ts";
import { type Replay, readPut, readRange } from "./replay.ts";
import { type KeyValue, type RevisionKey, readKeyValue, readRevision } from "./revisions.ts";
import type { Entry } from "./wal.ts";

/** The db's newest revision. A deletion has an empty value. */
export type Newest = RevisionKey & Pick<KeyValue, "key" | "value">;

/** Undefined if the db has no key. */
export function newestIn(tree: Tree): Newest | undefined {
  for (const leaf of tree.leavesOf("key")) {
    if (leaf.count === 0) return undefined;
    const last = leaf.count - 1;
    const row = readRevision(leaf, last);
    return { ...row, value: row.key && !row.isTombstone ? readKeyValue(leaf, last).value : new Uint8Array() };
  }
  return undefined;
}

/**
 * `before`: entries up to the db's index, oldest first. Returns whether one of them is known to have made the newest
 * revision. Errors: Damaged if the db lacks a key that one of them wrote.
 */
export function checkFitsLog(before: readonly Entry[], newest: Newest | undefined, replay: Replay): boolean {
  for (const { type, index, data } of before.toReversed()) {
    // up to etcd 3.5 a member publishes itself by a request of v2: it writes no key
    if (type !== 0 || legacyRequest(data)) continue;
    if (couldHaveRevision(data, newest)) return true;
    if (hidesWrites(data, newest?.main ?? 1)) return false;
    if (replay.wouldWrite(data))
      throw new Damaged(
        `the db does not have what entry ${index} of the log wrote: it ends at revision ${newest?.main ?? 1}`,
      );
  }
  return false;
}

/** Whether one of its writes, in either branch, is this revision. */
export function couldHaveRevision(request: Uint8Array, newest: Newest | undefined): boolean {
  if (!newest) return false;
  return wireFields(request).some(({ number, bytes }) =>
    number === 9 ? newest.isTombstone : writesIn(number, bytes).some((write) => isWrite(write, newest)),
  );
}

interface Write {
  isPut: boolean;
  message: Uint8Array;
}

/** RequestOp { 2 put, 3 delete_range, 4 txn }, TxnRequest { 2 success, 3 failure }. */
export function writesIn(field: number, message: Uint8Array): Write[] {
  if (field === 4 || field === 5) return [{ isPut: field === 4, message }];
  if (field !== 6) return [];
  const operations = wireFields(message).filter(({ number }) => number === 2 || number === 3);
  return operations
    .flatMap(({ bytes }) => [...wireFields(bytes)])
    .flatMap(({ number, bytes }) => writesIn(number + 2, bytes))
    .toArray();
}

function isWrite({ isPut, message }: Write, newest: Newest): boolean {
  if (isPut === newest.isTombstone) return false;
  if (isPut) {
    const put = readPut(message);
    return put.key === newest.key && (put.ignoreValue || Buffer.compare(put.value, newest.value) === 0);
  }
  const { start, end } = readRange(message);
  return newest.key === start || (newest.key > start && (end === "\0" || newest.key < end));
}

/**
 * Whether this entry and earlier ones cannot be judged: a compaction up to the newest revision may have
 * removed newer keys, an alarm refused writes, and a user of etcd may have no right (RequestHeader 2).
 */
function hidesWrites(request: Uint8Array, newest: number): boolean {
  return wireFields(request).some(({ number, bytes }) => {
    if (number === 7) return fieldsOf(bytes).number(1) >= newest;
    return number === 10 || (number === 100 && fieldsOf(bytes).bytes(2).length > 0);
  });
}
