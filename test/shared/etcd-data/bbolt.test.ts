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
  const bytes = dbFile({ pageSize: PAGE, perLeaf: 2, txid: 2n }, { key: keys });
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
