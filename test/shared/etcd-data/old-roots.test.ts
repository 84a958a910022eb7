/** Older trees of a db: which are taken, and each proof with a tree that only looks whole. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { Tree } from "../../../shared/etcd-data/bbolt.ts";
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import { DbFile } from "../../../shared/etcd-data/db-file.ts";
import { Mvcc } from "../../../shared/etcd-data/mvcc.ts";
import { beginningAt, checkOldRoot, type OldRoot, wholeTrees } from "../../../shared/etcd-data/old-roots.ts";
import { Replay } from "../../../shared/etcd-data/replay.ts";
import type { Entry } from "../../../shared/etcd-data/wal.ts";
import { failOf } from "../../../shared/fail.ts";
import { bytesField, intField } from "../../../shared/restore/new-member.ts";
import { busyEtcd } from "../../pretend/busy-etcd.ts";
import { writeDamaged } from "../../pretend/damaged-etcd.ts";

setDefaultTimeout(300_000);

const dir = mkdtempSync(`${tmpdir()}/old-roots-`);
afterAll(() => rmSync(dir, { recursive: true }));
const path = `${dir}/member/snap/db`;
const PAGE = 4096;

/** The fixture's file, changed, and its trees, newest first. */
function treesOf(change: (db: Buffer) => unknown = () => undefined): Generator<OldRoot> {
  const source = busyEtcd();
  const db = Buffer.from(source.db);
  change(db);
  writeDamaged(dir, "none", { seed: 0, source });
  writeFileSync(path, db);
  return wholeTrees([path]);
}

/** The fixture's older tree that is whole. */
const OLDER = 3617;

async function refusal(root: OldRoot | undefined) {
  const fail = await failOf(() => readEtcdData(dir, undefined, beginningAt(root!))[Symbol.dispose]());
  return fail?.message;
}

test("trees are found newest first, and behind them the log alone", async () => {
  const trees = [...treesOf()];
  expect(trees.map(({ index }) => index)).toEqual([3718, OLDER, 3327, 3327, 3327, 0]);
  for (const root of [...trees.slice(0, 2), trees.at(-1)!]) expect(await refusal(root)).toBeUndefined();
});

test("a tree whose top was given to another page looks whole, and is refused by the log", async () => {
  const [, , ...reused] = treesOf();
  for (const root of reused.filter(({ index }) => index > 0))
    expect(await refusal(root)).toContain("the log does not tell which entry has made its newest revision");
});

/** Pages of a tree. */
function pagesUnder(root: OldRoot): Set<number> {
  const file = new DbFile(path, root);
  const pages = new Set<number>();
  new Tree(file, root).walk((id, { span }) => {
    for (let part = id; part < id + span; part++) pages.add(part);
  });
  file.close();
  return pages;
}

/** Where in the file the values begin that the fixture wrote as revision `n`. */
function placesOf(db: Buffer, n: number): number[] {
  const places: number[] = [];
  const text = ` of write ${n} `;
  for (let at = db.indexOf(text); at >= 0; at = db.indexOf(text, at + 1)) places.push(at + text.length);
  return places;
}

/** The refusals of the older tree where one letter of a value beside it is another, at each such place in turn. */
async function changed(revisions: readonly number[]) {
  const pages = pagesUnder(treesOf().find(({ index }) => index === OLDER)!);
  const { db } = busyEtcd();
  const places = revisions.flatMap((n) => placesOf(db, n)).filter((at) => !pages.has(Math.floor(at / PAGE)));
  const said: (string | undefined)[] = [];
  for (const place of places.slice(0, process.env.EVERY_PLACE === "1" ? 4 : 1)) {
    const root = treesOf((bytes) => bytes.writeUInt8(bytes[place]! ^ 1, place)).find(
      ({ index }) => index === OLDER,
    );
    said.push(await refusal(root));
  }
  return said;
}

test("another value of a revision in a page beside the tree, older or newer than it: refused", async () => {
  for (const revisions of [
    [3250, 3251, 3252, 3253, 3254, 3255],
    [3300, 3301, 3302, 3303, 3304],
  ]) {
    const said = await changed(revisions);
    expect(said.length).toBeGreaterThan(0);
    for (const one of said) expect(one).toMatch(/revision 3\d+ has two contents, one of them in page \d+/);
  }
});

const put = (key: string, value: string) =>
  bytesField(4, Buffer.concat([bytesField(1, key), bytesField(2, value)]));
const entryAt = (index: number, data: Uint8Array): Entry => ({ type: 0, term: 1, index, data });

const newest = { main: 2, sub: 0, isTombstone: false, key: "/registry/a", value: Buffer.from("one") };
const walOf = (...later: Entry[]) =>
  ({
    before: [entryAt(1, put("/registry/a", "one"))],
    entries: new Map(later.map((one) => [one.index, one])),
  }) as never;
const under = (lease: bigint, ...later: Entry[]) => {
  const mvcc = new Mvcc();
  const { key, value } = newest;
  mvcc.add({ key, value, createRevision: 2, modRevision: 2, version: 1, lease, deleted: false });
  const replay = new Replay(mvcc);
  replay.apply(bytesField(8, Buffer.concat([intField(1, 60), intField(2, 7)])));
  return { mvcc, replay, newest, wal: walOf(...later), applied: 1 };
};

test("a tree is refused if an entry behind it may have made its newest revision, if none is known to, or if a lease is gone", () => {
  const same = entryAt(2, put("/registry/a", "one"));
  const other = entryAt(2, put("/registry/a", "two"));
  expect(() => checkOldRoot(under(0n, other), true)).not.toThrow();
  expect(() => checkOldRoot(under(7n, other), true)).not.toThrow();
  expect(() => checkOldRoot(under(0n, same), true)).toThrow("its newest revision, 2, may be of entry 2");
  expect(() => checkOldRoot(under(0n, other), false)).toThrow("does not tell which entry");
  expect(() => checkOldRoot(under(8n, other), true)).toThrow("the lease of /registry/a is gone");
});

test("a file without a page that is where it says has no trees, whatever its size", () => {
  for (const size of [0, 100, 4096, 300_000]) {
    writeFileSync(path, Buffer.alloc(size));
    expect([...wholeTrees([path])].map(({ index }) => index)).toEqual([0]);
  }
});
