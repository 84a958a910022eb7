/**
 * The right value, in place of one that is damaged: the entry of the log that made it, or a snapshot's row of the
 * same revision. The entry is known by the revision's place between its neighbours' entries, and by its size: damage
 * changes bytes, and not how many there are. The row's own numbers, such as its version, are taken as they are.
 */
import type { Bbolt, Rows } from "../etcd-data/bbolt.ts";
import { unlessDamaged } from "../etcd-data/protobuf.ts";
import { bucketKey, parseKeyValue } from "../etcd-data/revisions.ts";
import { type Doubt, eachEntry, putsOf } from "../etcd-data/witnesses.ts";
import { keyValueBytes } from "./key-value-bytes.ts";

interface Mended {
  doubt: Doubt<unknown>;
  message: Buffer;
  by: "log" | "snapshot";
}

interface By {
  /** The log's folder. */
  log?: string | undefined;
  snapshots: readonly Bbolt[];
  /** Whether a value is whole, by itself; `key` is its bytes as latin1 text. */
  isWhole: (key: string, value: Uint8Array) => boolean;
}

/** Mends the values for which exactly one undamaged value was found. */
export function mend(
  db: Bbolt,
  doubts: readonly Doubt<unknown>[],
  { log, snapshots, isWhole }: By,
): Mended[] {
  if (doubts.length === 0) return [];
  const inLog = log === undefined ? new Map<Doubt<unknown>, Buffer>() : fromLog(db, doubts, log);
  return doubts.flatMap((doubt): Mended[] => {
    const message = inLog.get(doubt);
    if (message) return [{ doubt, message, by: "log" }];
    const found = snapshots.flatMap((snapshot) => rowIn(snapshot, doubt) ?? []);
    const [whole] = found.filter((row) => {
      const { key, value } = parseKeyValue(row);
      return isWhole(key, value);
    });
    return whole ? [{ doubt, message: whole, by: "snapshot" }] : [];
  });
}

/** A copy. */
function rowIn(db: Bbolt, doubt: Doubt<unknown>): Buffer | undefined {
  return unlessDamaged(() =>
    db.stable((tree) => tree.find("key", bucketKey(doubt), (leaf, i) => Buffer.from(leaf.value(i)))),
  );
}

function fromLog(db: Bbolt, doubts: readonly Doubt<unknown>[], folder: string): Map<Doubt<unknown>, Buffer> {
  const damaged = doubts.flatMap((doubt) => {
    const own = rowIn(db, doubt);
    const row = own && unlessDamaged(() => parseKeyValue(own));
    return own && row ? [{ doubt, own, row }] : [];
  });
  const candidates = new Map<Doubt<unknown>, Map<number | bigint, Buffer>>();
  eachEntry(folder, (entry) => {
    const near = damaged.filter(
      ({ doubt: { entries } }) => entry.index >= entries.first && entry.index <= entries.last,
    );
    if (near.length === 0) return;
    for (const { key, value, lease } of putsOf(entry))
      for (const { doubt, own, row } of near) {
        const isIts =
          key === row.key || (key.length === row.key.length && Buffer.from(row.value).equals(value));
        const message = isIts ? keyValueBytes({ ...row, key, value, lease }) : undefined;
        if (message?.length !== own.length) continue;
        const all = candidates.get(doubt) ?? new Map<number | bigint, Buffer>();
        candidates.set(doubt, all.set(Bun.hash(message), message));
      }
  });
  return new Map(
    [...candidates].filter(([, all]) => all.size === 1).map(([doubt, all]) => [doubt, [...all.values()][0]!]),
  );
}

/** Each by its key in the bucket `key`. */
export function rowsOfMended(mended: readonly Mended[]): Rows {
  return new Map(mended.map(({ doubt, message }) => [bucketKey(doubt).toString("latin1"), message]));
}
