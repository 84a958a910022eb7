/** The index of all revisions, beside one of plain maps. */
import { expect, test } from "bun:test";
import { RevisionIndex, type StoredRevision } from "../../../shared/etcd-data/revisions.ts";
import { random } from "../../pretend/damage.ts";

const KEYS = 9000;
const ROWS = 20_000;

/** Rows of an etcd, oldest first; numbers jump, as after a restore, and few keys have a lease. */
function rowsOf(seed: number): StoredRevision[] {
  const pick = random(seed);
  let main = 2;
  return Array.from({ length: ROWS }, () => {
    main += pick(5000) === 0 ? 1_000_000_000 : 1;
    const n = pick(KEYS);
    const key = `/registry/${["pods", "leases"][n % 2]}/ns-${n % 7}/\u00e9"${n}`;
    const lease = n % 9 === 0 ? BigInt(2 ** 40 + (n % 4)) : 0n;
    return { key, main, sub: pick(50) === 0 ? pick(200_000) : 0, isTombstone: pick(4) === 0, lease };
  });
}

test.each([1, 2, 3])(
  "what was added older, then newer, is found by name, by folder and by lease (%i)",
  (seed) => {
    const rows = rowsOf(seed);
    const index = new RevisionIndex();
    const older = rows.slice(0, ROWS / 2);
    const above = new Map<string, number>();
    for (const row of older.toReversed()) {
      expect(index.addOlder(row)).toBe(above.get(row.key) ?? Number.POSITIVE_INFINITY);
      above.set(row.key, row.main);
    }
    for (const row of rows.slice(ROWS / 2)) index.addNewer(row);
    const expected = Map.groupBy(rows.toReversed(), ({ key }) => key);
    const shown = [...expected].map(([key, found]) => [
      key,
      found.map(({ main, sub, isTombstone }) => ({ main, sub, isTombstone })),
      found[0]!.lease,
    ]);
    expect(shown).toEqual(
      [...expected.keys()].map((key) => [key, [...index.history(key)], index.leaseOf(key)]),
    );
    const under = (prefix: string) => [...expected.keys()].filter((key) => key.startsWith(prefix)).sort();
    for (const prefix of ["", "/registry/pods/", '/registry/pods/ns-3/\u00e9"1', "/nothing"])
      expect([...index.keys(prefix)].sort()).toEqual(under(prefix));
    const newest = [...expected.values()].map(([row]) => row!);
    expect(index.liveCount).toBe(newest.filter(({ isTombstone }) => !isTombstone).length);
    const isOdd = (lease: bigint) => lease % 2n === 1n;
    const leased = newest.filter(({ lease }) => lease !== 0n && isOdd(lease)).map(({ key }) => key);
    expect(leased.length).toBeGreaterThan(10);
    expect([...index.withLease(isOdd)].sort()).toEqual(leased.sort());
    expect([index.has("/registry/pods/ns-1/"), index.newestOf("/other"), index.leaseOf("/other")]).toEqual([
      false,
      undefined,
      0n,
    ]);
  },
);
