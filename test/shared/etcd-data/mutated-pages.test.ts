/**
 * Pages of a db whose bytes were changed, seeded: whatever they hold, they are read or they are damage. Nothing ends
 * with another error, so the search for an older whole tree goes on.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { Tree } from "../../../shared/etcd-data/bbolt.ts";
import { DbFile, numberAt, Page } from "../../../shared/etcd-data/db-file.ts";
import { Damaged, isDamage, unlessDamaged } from "../../../shared/etcd-data/protobuf.ts";
import { readRevision } from "../../../shared/etcd-data/revisions.ts";
import { dbFile } from "../../pretend/write-db.ts";

setDefaultTimeout(300_000);

const dir = mkdtempSync(`${tmpdir()}/mutated-pages-`);
afterAll(() => rmSync(dir, { recursive: true }));
const PAGE = 4096;
const REVISION = "\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0";
const keys = Object.fromEntries(
  Array.from({ length: 300 }, (_, i) => [String(i).padStart(17, "k"), "value"]),
);
const whole = dbFile(
  { pageSize: PAGE, perLeaf: 40, txid: 9n },
  { key: { [REVISION]: "value", ...keys }, meta: { consistent_index: "\0\0\0\0\0\0\0\x07" } },
);

/** Deterministic (mulberry32). */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), 1 | state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) % below;
  };
}

/** A few bytes of heads and elements: there are the numbers. */
function mutated(seed: number): Buffer {
  const [db, next] = [Buffer.from(whole), numbers(seed)];
  for (let left = 1 + next(4); left > 0; left--) {
    const page = 3 + next(db.length / PAGE - 3);
    const at = page * PAGE + 8 + next(120);
    db[at] = next(2) === 0 ? next(256) : [0, 1, 2, 3, 255][next(5)]!;
  }
  return db;
}

function readAll(path: string) {
  const file = new DbFile(path);
  try {
    const tree = new Tree(file, file.newestMeta());
    tree.pages();
    for (const bucket of ["key", "meta", "members"]) for (const _ of tree.items(bucket));
    tree.walk((_, page, bucket) => {
      if (bucket === "key" && page.isLeaf) for (let i = 0; i < page.count; i++) readRevision(page, i);
    });
  } finally {
    file.close();
  }
}

test("600 files with changed pages: each is read, or is damage", () => {
  const others: string[] = [];
  let damaged = 0;
  for (let seed = 1; seed <= 600; seed++) {
    const path = `${dir}/db`;
    writeFileSync(path, mutated(seed));
    try {
      readAll(path);
    } catch (err) {
      if (err instanceof Damaged) damaged++;
      else others.push(`seed ${seed}: ${err}`);
    }
  }
  expect(others).toEqual([]);
  expect(damaged).toBeGreaterThan(100);
});

test("a number that does not end in its bytes is damage, and so is any RangeError of a reader", () => {
  for (const size of [2, 4, 8] as const)
    for (const have of [0, size - 1]) expect(() => numberAt(Buffer.alloc(have), 0, size)).toThrow(Damaged);
  expect(numberAt(Buffer.from([1, 2, 0, 0, 0, 0, 0, 0]), 0, 8)).toBe(513);
  expect(() => new Page("a page", { head: Buffer.alloc(8), size: 8, rest: () => Buffer.alloc(0) })).toThrow(
    Damaged,
  );
  expect(unlessDamaged(() => Buffer.alloc(2).readUInt32LE(0))).toBeUndefined();
  expect(isDamage(new TypeError("a bug"))).toBe(false);
});
