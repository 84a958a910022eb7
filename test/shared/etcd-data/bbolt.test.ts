/** A db that somebody writes to while it is read: what was read counts only if nobody has committed meanwhile. */
import { expect, test } from "bun:test";
import { Bbolt, Tree } from "../../../shared/etcd-data/bbolt.ts";
import type { DbFile, Meta } from "../../../shared/etcd-data/db-file.ts";
import { Damaged } from "../../../shared/etcd-data/protobuf.ts";

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
