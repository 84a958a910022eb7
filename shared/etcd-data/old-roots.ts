/**
 * Older trees in a bbolt file: what is left where the newest one is damaged. Each commit of etcd writes a new root page,
 * and the old ones stay until their place is needed. A root page has the bucket `meta` inside, and so the raft index of
 * the whole database under it: with the log from there on it is what the newest one was.
 *
 * What proves that no page of such a tree was given to another one since: each page begins with its parent's key and no
 * two lead to one; an entry up to the root's index has made the tree's newest revision, and none behind it can have;
 * the keys' leases are there; and no other page of the file says anything else of any revision, be it older or made by
 * the log's entries. Sources: go.etcd.io/bbolt tx.go, internal/freelist; etcd server/storage/schema.
 */
import { existsSync } from "node:fs";
import { Bbolt, type Rows, Tree } from "./bbolt.ts";
import { DbFile, elementsEnd, type Meta, PAGE_SIZES, Page, pageId } from "./db-file.ts";
import type { Beginning, Read } from "./directory.ts";
import { couldHaveRevision } from "./fits-log.ts";
import { legacyRequest } from "./members.ts";
import { compaction, type Mvcc, storedNumber } from "./mvcc.ts";
import { Damaged, unlessDamaged } from "./protobuf.ts";
import { bucketKey, readKeyValue, readRevision, type StoredRevision } from "./revisions.ts";

/**
 * A tree in the db at `path`, by its root page: `index` is that of the last entry that it has. 0: no tree, where the log
 * has all entries from the first one on.
 */
export interface OldRoot extends Meta {
  path: string;
  index: number;
  /** Read in place of damaged values: witnesses have them. */
  rows?: Rows | undefined;
  /** Whether the tree is used without the log entries that follow it. */
  isAlone?: boolean;
}

const NO_META: Meta = { pageSize: 0, root: 0, txid: 0n, highWater: 0, raw: Buffer.alloc(0) };
const BLOCK = 1024 * 1024;
/** Pages that are looked at to tell their size. */
const LOOKED_AT = 1000;

/** No tree: the log has all entries from the first one on. */
export const LOG_ALONE: OldRoot = { ...NO_META, path: "", index: 0 };

/** Newest first: the later a tree is, the further the log leads from it. The last one is the log alone. */
export function* wholeTrees(paths: readonly string[]): Generator<OldRoot> {
  const found = paths.filter((path) => existsSync(path)).flatMap((path) => [...rootsIn(path)]);
  const whole = new Map(paths.map((path) => [path, new Set<number>()]));
  for (const root of found.sort((a, b) => b.index - a.index)) {
    const file = new DbFile(root.path, root);
    const isWhole = unlessDamaged(() => fitsTogether(new Tree(file, root), whole.get(root.path)!));
    file.close();
    if (isWhole) yield root;
  }
  yield LOG_ALONE;
}

function* rootsIn(path: string): Generator<OldRoot> {
  const pageSize = pageSizeOf(path);
  const file = new DbFile(path, { ...NO_META, pageSize });
  try {
    const meta = { ...NO_META, path, pageSize, highWater: Math.floor(file.size / pageSize) };
    for (const page of pagesIn(file, pageSize)) {
      const root = { ...meta, root: page.id };
      const index =
        isRoot(page) && unlessDamaged(() => storedNumber(new Tree(file, root), "consistent_index"));
      if (index) yield { ...root, index };
    }
  } finally {
    file.close();
  }
}

/** `whole`: branches that were read to their end, in this tree or another. */
function fitsTogether(tree: Tree, whole: Set<number>): true {
  tree.walk((_, page, bucket) => {
    if (bucket === "key" && page.isLeaf) for (let i = 0; i < page.count; i++) readRevision(page, i);
  }, whole);
  return true;
}

/** That of the first meta page, else the one by which most pages are in their place. */
function pageSizeOf(path: string): number {
  const file = new DbFile(path, NO_META);
  try {
    const counts = PAGE_SIZES.map((size) => pagesIn(file, size).take(LOOKED_AT).toArray().length * size);
    return PAGE_SIZES[counts.indexOf(Math.max(...counts))]!;
  } finally {
    file.close();
  }
}

interface FoundPage {
  id: number;
  page: Page;
}

/** All pages of leaves and branches that are where they say, in use or not. They hold until the next one. */
function* pagesIn(file: DbFile, pageSize: number): Generator<FoundPage> {
  const last = Math.floor(file.size / pageSize);
  const block = Buffer.allocUnsafeSlow(BLOCK);
  for (let first = 2; first < last; first += BLOCK / pageSize) {
    const bytes = block.subarray(0, Math.min(BLOCK, (last - first) * pageSize));
    file.read(bytes, first * pageSize);
    for (let at = 0; at < bytes.length; at += pageSize) {
      const id = first + at / pageSize;
      const head = bytes.subarray(at, at + pageSize);
      if (pageId(head, 0) !== id || elementsEnd(head) > pageSize) continue;
      const page = unlessDamaged(() => new Page(`page ${id}`, { head, size: pageSize, rest: beyond }));
      if (page) yield { id, page };
    }
  }
}

/** An old page to which no branch points may have been overwritten, with its following pages, since it was freed. */
function beyond(): never {
  throw new Damaged("a value does not end in its page");
}

function isRoot({ page }: FoundPage): boolean {
  const names = (): string[] =>
    Array.from({ length: page.count }, (_, i) => (page.isBucket(i) ? page.key(i).toString("latin1") : ""));
  const found = (page.isLeaf && page.count < 32 && unlessDamaged(names)) || [];
  return ["key", "meta"].every((name) => found.includes(name));
}

/** Reads a directory from this tree on. `proved`: what came of it before. */
export function beginningAt(root: OldRoot, proved?: { isCut: boolean }): Beginning {
  return {
    ...(root.isAlone && { isAlone: true }),
    open: () => (root.index === 0 ? undefined : new Bbolt(root.path, root, root.rows)),
    check(read, isMade) {
      if (proved) return;
      if (read.wal.last.index === 0) throw new Damaged("entry 1 is not in the log");
      if (!read.db) return;
      checkOldRoot(read, isMade);
    },
    isCut: (read) =>
      proved?.isCut ??
      (latestBeside(read) > read.mvcc.revision || latestIndexIn(read.paths.db) > read.wal.last.index),
  };
}

/** The newest tree without the log behind it: its last write may be an earlier one than its index says. */
export function databaseAlone(): Beginning {
  return {
    isAlone: true,
    check: ({ mvcc, replay }) => checkLeases(mvcc, replay),
    isCut(read) {
      latestBeside(read);
      return true;
    },
  };
}

function checkLeases(mvcc: Mvcc, { leases }: Read["replay"]) {
  for (const key of mvcc.keysWithLease((lease) => !leases.has(lease)))
    throw new Damaged(`the lease of ${key} is gone`);
}

/** Errors: Damaged where a page of this tree may be of another time. */
export function checkOldRoot(
  { mvcc, replay, newest, wal, applied }: Omit<Read, "db" | "paths">,
  isMade: boolean,
) {
  if (!isMade) throw new Damaged("the log does not tell which entry has made its newest revision");
  for (const { type, index, data } of wal.entries.values())
    if (type === 0 && index > applied && !legacyRequest(data) && couldHaveRevision(data, newest))
      throw new Damaged(`its newest revision, ${newest!.main}, may be of entry ${index}`);
  checkLeases(mvcc, replay);
}

/** Includes trees that are damaged: their roots still say which log entry they have applied last. */
function latestIndexIn(path: string): number {
  return existsSync(path) ? Math.max(0, ...rootsIn(path).map(({ index }) => index)) : 0;
}

/**
 * The greatest revision in pages that the tree does not lead to, and in the directory's own db. Errors: Damaged where one
 * of them has another content of a revision than the tree, or the log, and where two pages of the tree lead to one.
 */
function latestBeside({ db, mvcc, newest, paths }: Read): number {
  const isOwn = db?.file.path === paths.db || !existsSync(paths.db);
  const compacted = db?.stable(compaction) ?? 0;
  let latest = 0;
  for (const { id, page } of pagesAround(db, isOwn ? [] : [paths.db])) {
    for (let i = 0; page.isLeaf && i < page.count; i++) {
      const row = unlessDamaged(() => rowIn(page, i));
      if (!row) continue;
      latest = Math.max(latest, row.main);
      const isNewer = row.main > (newest?.main ?? 1);
      if (isNewer ? !isReplayed(page, i, row, mvcc) : db && !isInTree(row, db, compacted))
        throw new Damaged(`revision ${row.main} has two contents, one of them in page ${id}`);
    }
  }
  return latest;
}

function* pagesAround(db: Bbolt | undefined, others: readonly string[]): Generator<FoundPage> {
  if (db) {
    const taken = db.stable((tree) => tree.pages());
    for (const found of pagesIn(db.file, db.file.newestMeta().pageSize)) if (!taken[found.id]) yield found;
  }
  for (const path of others) {
    const file = new DbFile(path, { ...NO_META, pageSize: pageSizeOf(path) });
    try {
      yield* pagesIn(file, pageSizeOf(path));
    } finally {
      file.close();
    }
  }
}

type Row = StoredRevision & { message: Buffer };

/** Undefined where it is of no key. */
function rowIn(page: Page, i: number): Row | undefined {
  const row = page.isBucket(i) ? undefined : { ...readRevision(page, i), message: page.value(i) };
  return row?.key ? row : undefined;
}

function isReplayed(page: Page, i: number, { main, isTombstone, key }: Row, mvcc: Mvcc): boolean {
  if (main > mvcc.revision) return true; // of an entry that the log has lost
  const made = mvcc.replayedAt(key, main);
  if (!made || isTombstone || made.deleted) return made?.deleted === isTombstone;
  return Bun.deepEquals({ ...readKeyValue(page, i), deleted: false }, made);
}

/** A revision that was compacted away says nothing. */
function isInTree(row: Row, db: Bbolt, compacted: number): boolean {
  const isSame = db.stable((tree) =>
    tree.find("key", bucketKey(row), (leaf, i) => leaf.value(i).equals(row.message)),
  );
  return isSame ?? row.main <= compacted;
}
