/**
 * A db that somebody writes to while it is read: what was read counts only if nobody has committed meanwhile. And one
 * with a page of another time: nothing is read through it.
 */
import { expect, test } from "bun:test";
import { Bbolt, Tree } from "../../../shared/etcd-data/bbolt.ts";
import type { DbFile, Meta } from "../../../shared/etcd-data/db-file.ts";
import { Damaged } from "../../../shared/etcd-data/protobuf.ts";
import { write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { dbFile } from "../../pretend/write-db.ts";

/** A db whose newest meta page has the number that is set, until the next one is. */
function written() {
  const meta = (txid: bigint): Meta => ({ pageSize: 512, root: 0, highWater: 0, txid, raw: Buffer.alloc(0) });
  const state = { newest: 1n };
  const file = {
    path: "/db",
    size: 0,
    isNewest: ({ txid }: Meta) => txid === state.newest,
    newestMeta: () => meta(state.newest),
  } as unknown as DbFile;
  const db = Object.assign(Object.create(Bbolt.prototype), { file, tree: new Tree(file, meta(1n)) }) as Bbolt;
  return { db, state };
}

/** What is read of the tree N is N; a transaction commits while each of the first `commits` is read. */
function readOf({ commits, fails }: { commits: number; fails?: Error }) {
  const { db, state } = written();
  const attempts: number[] = [];
  const read = ({ meta }: Tree, attempt: number) => {
    attempts.push(attempt);
    const isLast = attempts.length > commits;
    if (!isLast) state.newest++;
    if (fails && !isLast) throw fails;
    return Number(meta.txid);
  };
  return { attempts, result: () => db.stable(read) };
}

const DAMAGED = new Damaged("a page that is written over");

test.each<[string, Parameters<typeof readOf>[0], number]>([
  ["nobody writes: once", { commits: 0 }, 1],
  ["somebody commits twice: the third reading counts", { commits: 2 }, 3],
  ["pages are written over meanwhile: it is read again", { commits: 1, fails: DAMAGED }, 2],
])("%s", (_, how, tree) => {
  const { attempts, result } = readOf(how);
  expect(result()).toBe(tree);
  expect(attempts).toEqual(Array.from({ length: tree }, (_, i) => i + 1));
});

test("what is damaged though nobody has committed is damaged; a bug is none, whoever commits", () => {
  const { db, state } = written();
  let read = 0;
  const fails = (error: Error, commits: boolean) => () => {
    read++;
    if (commits) state.newest++;
    throw error;
  };
  expect(() => db.stable(fails(DAMAGED, false))).toThrow(DAMAGED);
  const bug = new TypeError("a bug");
  expect(() => db.stable(fails(bug, false))).toThrow(bug);
  expect(() => db.stable(fails(bug, true))).toThrow(bug);
  expect(read).toBe(3);
});

test("a db that is never left alone is not read", () => {
  expect(readOf({ commits: 5000 }).result).toThrow(
    "/db was written to 1000 times while one part of it was read",
  );
});

const [PAGE, FIRST, COUNT] = [512, 3, 10];
const pageOf = (db: Buffer, id: number) => db.subarray(id * PAGE, (id + 1) * PAGE);

/** Two keys on each leaf: a and b, c and d, e and f. They are pages 3 to 5. */
function threeLeaves(change: (db: Buffer) => unknown) {
  const keys = Object.fromEntries([..."abcdef"].map((key) => [key, key.repeat(200)]));
  const box = sandbox();
  const bytes = dbFile({ pageSize: PAGE, perLeaf: 2, txid: 2n }, { key: keys, other: keys });
  change(bytes);
  write(`${box.dir}/db`, bytes);
  return { box, path: `${box.dir}/db` };
}

test.each<[string, (db: Buffer) => unknown, string]>([
  ["all as they were written: they are read", () => undefined, ""],
  [
    "one holds what another one held some time: it is refused",
    (db) => pageOf(db, FIRST + 1).set(pageOf(db, FIRST + 2).subarray(COUNT), COUNT),
    "does not begin with the key",
  ],
  [
    "one is empty: it is refused",
    (db) => pageOf(db, FIRST + 1).writeUInt16LE(0, COUNT),
    "does not begin with the key",
  ],
])("the leaves of a tree: %s", (_, change, error) => {
  const { box, path } = threeLeaves(change);
  using _box = box;
  using db = new Bbolt(path);
  const keys = (tree: Tree) => [...tree.items("key")].map(({ key }) => key.toString());
  const found = (tree: Tree) => tree.find("key", Buffer.from("c"), (leaf, i) => leaf.key(i).toString());
  if (!error) return expect([db.stable(found), ...db.stable(keys)]).toEqual(["c", ..."abcdef"]);
  for (const read of [keys, found]) expect(() => db.stable<unknown>(read)).toThrow(error);
  expect(() => [...db.backward("key", () => undefined)]).toThrow(error);
});

/** One page of six keys, and what a bit or two make of it: etcd does not start on it, or starts with fewer keys. */
const ELEMENTS = 16;
const LEAF: [string, (page: Buffer) => unknown, RegExp][] = [
  ["keys that have changed places", (page) => page.write("z", page.indexOf("b".repeat(9))), /not in order/],
  ["a count that is too small", (page) => page.writeUInt16LE(5, COUNT), /does not begin where/],
  ["a count of zero", (page) => page.writeUInt16LE(0, COUNT), /bytes, and keys and values up to byte 16/],
  [
    "more pages than it needs",
    (page) => page.writeUInt32LE(page.readUInt32LE(12) + 1, 12),
    /keys and values up to/,
  ],
  ["a flag that no page has", (page) => page.writeUInt16LE(0x42, 8), /neither branch nor leaf/],
  [
    "a longer value",
    (page) => page.writeUInt32LE(page.readUInt32LE(ELEMENTS + 12) + 1, ELEMENTS + 12),
    /does not begin where/,
  ],
  ["a longer key", (page) => page.writeUInt32LE(2, ELEMENTS + 8), /does not begin where/],
  [
    "a key in another place",
    (page) => page.writeUInt32LE(page.readUInt32LE(ELEMENTS + 4) ^ 4, ELEMENTS + 4),
    /does not begin where/,
  ],
  ["a bucket among its keys", (page) => page.writeUInt32LE(1, ELEMENTS), /a bucket among keys/],
];

test.each(LEAF)("a page with %s is refused: by every reading, and by the check", (_, change, error) => {
  using box = sandbox();
  const keys = Object.fromEntries([..."abcdef"].map((key) => [key.repeat(9), key.repeat(90)]));
  const bytes = dbFile({ pageSize: PAGE, perLeaf: 9, txid: 2n }, { key: keys, other: keys });
  change(bytes.subarray(FIRST * PAGE));
  write(`${box.dir}/db`, bytes);
  using db = new Bbolt(`${box.dir}/db`);
  expect(() => db.check()).toThrow(error);
  expect(() => [...db.backward("key", () => undefined)]).toThrow(error);
});

test.each<[string, (db: Buffer) => unknown, RegExp]>([
  [
    "a leaf goes on behind the beginning of the next one",
    (db) => changeKey(db, FIRST, 1, "e"),
    /ends behind the beginning/,
  ],
  ["two buckets lead to one page", (db) => sameRoot(db), /has two places/],
  ["a bucket has become a key", (db) => rootOf(db).writeUInt32LE(0, ELEMENTS), /a key among buckets/],
])("a tree of which %s is refused", (_, change, error) => {
  const { box, path } = threeLeaves(change);
  using _box = box;
  using db = new Bbolt(path);
  expect(() => db.check()).toThrow(error);
});

/** The page of the bucket of buckets. */
const rootOf = (db: Buffer) => pageOf(db, Number(db.readBigUInt64LE(32)));

function changeKey(db: Buffer, id: number, i: number, key: string) {
  const page = pageOf(db, id);
  const element = ELEMENTS + i * 16;
  page.write(key, element + page.readUInt32LE(element + 4));
}

/** The second bucket's root is the first one's. */
function sameRoot(db: Buffer) {
  const [page, root] = [rootOf(db), (i: number) => ELEMENTS + i * 16];
  const value = (i: number) => root(i) + page.readUInt32LE(root(i) + 4) + page.readUInt32LE(root(i) + 8);
  page.writeBigUInt64LE(page.readBigUInt64LE(value(0)), value(1));
}
