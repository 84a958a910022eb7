/**
 * Reads a bbolt file, etcd's member/snap/db, while somebody writes to it, or nobody. Sources: go.etcd.io/bbolt
 * tx.go, internal/freelist, bucket.go, cursor.go.
 *
 * bbolt never changes a page that the newest meta page leads to: a transaction writes pages that were free,
 * then the other meta page. N+2 is the first that writes over pages that transaction N+1 frees, so after N+1's
 * meta page. Therefore what was read of tree N is as N left it if N's meta page is still the newest one
 * *afterwards*. etcd commits every 100 ms, so a read is `stable` if it takes less; what takes longer is read
 * in parts, each from a tree of its own: see `backward`.
 */
import {
  DbFile,
  elementsEnd,
  type Leaf,
  type Meta,
  numberAt,
  PAGE_HEADER_SIZE,
  Page,
  pageId,
} from "./db-file.ts";
import { Damaged, isDamage } from "./protobuf.ts";

/**
 * A part that fails is made as small as possible; its pages are then in the cache, and it fails again only by chance.
 */
const ATTEMPTS = 1000;
const MOST_LEAVES = 256;

/** `using db = new Bbolt(path)` closes it. Everything that breaks the format is a `Damaged`. */
export class Bbolt {
  readonly file: DbFile;
  private readonly rows: Rows | undefined;
  private tree: Tree;

  /** `meta`: an older tree in place of the newest one, of a file that nobody writes to. `rows`: as `Tree` has them. */
  constructor(path: string, meta?: Meta, rows?: Rows) {
    this.file = new DbFile(path, meta);
    this.rows = rows;
    try {
      this.tree = new Tree(this.file, this.file.newestMeta(), rows);
    } catch (err) {
      this[Symbol.dispose]();
      throw err;
    }
  }

  [Symbol.dispose]() {
    this.file.close();
  }

  /**
   * Reads the newest tree. `read` must change nothing, as it runs again if somebody has committed meanwhile.
   */
  stable<T>(read: (tree: Tree, attempt: number) => T): T {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      try {
        const result = read(this.tree, attempt);
        if (this.file.isNewest(this.tree.meta)) return result;
      } catch (err) {
        if (!isDamage(err) || this.file.isNewest(this.tree.meta)) throw err;
      }
      this.tree = new Tree(this.file, this.file.newestMeta(), this.rows);
    }
    throw new Damaged(`${this.file.path} was written to ${ATTEMPTS} times while one part of it was read`);
  }

  /**
   * bbolt opens a file in which all pages are in order, and none has two places (db.go, freepages; tx_check.go). While
   * somebody writes to it, it is open: that one has checked it. Errors: Damaged.
   */
  check() {
    const { tree } = this;
    try {
      tree.pages();
    } catch (err) {
      if (!isDamage(err) || this.file.isNewest(tree.meta)) throw err;
    }
  }

  /**
   * Each key of a bucket, last key first. Keys committed meanwhile are met below the current key, and not above
   * it: all items are from one tree only if nobody committed.
   */
  *backward<T>(bucket: string, read: (leaf: Leaf, i: number) => T): Generator<T> {
    let below: Buffer | undefined;
    for (let most = 1; ; ) {
      const part = this.stable((tree, attempt) =>
        readLeaves(tree.leavesOf(bucket, below), { most: attempt === 1 ? most : 1, read }),
      );
      yield* part.items;
      if (!part.first) return;
      below = part.first;
      most = Math.min(2 * part.leaves, MOST_LEAVES);
    }
  }
}

/** `first`: the first key of the last leaf; undefined if the bucket has ended. */
function readLeaves<T>(
  leaves: Iterable<Leaf>,
  { most, read }: { most: number; read: (leaf: Leaf, i: number) => T },
) {
  const part = { items: [] as T[], leaves: 0, first: undefined as Buffer | undefined };
  for (const leaf of leaves) {
    for (let i = leaf.count - 1; i >= 0; i--) part.items.push(read(leaf, i));
    if (leaf.count === 0) continue;
    part.first = Buffer.from(leaf.key(0));
    if (++part.leaves === most) return part;
  }
  return { ...part, first: undefined };
}

const BUCKET_HEADER_SIZE = 16;
const MAX_DEPTH = 64;
/** Cached branch pages: those near the root are needed for each key. */
const BRANCHES_KEPT = 512;

/** Where a walk is: its level, and the key that is behind this page. */
interface At {
  depth: number;
  counters: { pages: number; leafDepth: number };
  until?: Buffer;
}

/** The root of a tree: a page id, or the page of an inline bucket. */
type Root = { id: number } | { inline: Buffer };

export interface Row {
  key: Buffer;
  value: Buffer;
}

/** Values that are read in place of the file's own, by their key as latin1 text. */
export type Rows = ReadonlyMap<string, Buffer>;

/** `bucket`: "" for the bucket of buckets. */
type Visit = (id: number, page: Page, bucket: string) => void;

/**
 * The pages of a file as one transaction left them. A bucket whose root is 0 is inline: its only page follows the bucket
 * header in the value. Freelist pages are of no use to a reader.
 */
export class Tree {
  readonly meta: Meta;
  private readonly file: DbFile;
  private readonly rows: Rows | undefined;
  private readonly branches = new Map<number, Page>();
  private readonly leafHead: Buffer;
  /** The bytes behind a leaf's first ones, valid until more of it is read. */
  private rest = Buffer.alloc(0);

  /** `rows`: only of the bucket `key`, whose keys are like no other bucket's. */
  constructor(file: DbFile, meta: Meta, rows?: Rows) {
    [this.file, this.meta, this.rows] = [file, meta, rows];
    const used = meta.highWater * meta.pageSize;
    if (used > file.size)
      throw new Damaged(`${file.path} is cut off: ${file.size} bytes of at least ${used}`);
    this.leafHead = Buffer.allocUnsafeSlow(meta.pageSize);
  }

  /** First key first, with their values: copies. A bucket that does not exist is empty. */
  *items(bucket: string): Generator<Row> {
    const root = this.findBucket(bucket);
    if (!root) return;
    for (const leaf of this.leaves(this.page(root), undefined, true))
      for (let i = 0; i < leaf.count; i++)
        yield { key: Buffer.from(leaf.key(i)), value: Buffer.from(leaf.value(i)) };
  }

  /** Last first, each cut off at keys that are not below `below`. Each is valid until the next one. */
  *leavesOf(bucket: string, below?: Buffer): Generator<Leaf> {
    const root = this.findBucket(bucket);
    if (root) yield* this.leaves(this.page(root), below);
  }

  /** The result of `read` for a key; undefined if there is none. */
  find<T>(bucket: string, key: Buffer, read: (leaf: Leaf, i: number) => T): T | undefined {
    const root = this.findBucket(bucket);
    return root && this.findIn(root, key, read);
  }

  /** Whether nobody has written to it since it was made (bbolt's db.go, init). */
  get isNew(): boolean {
    return this.meta.txid <= 1n;
  }

  /** Whether etcd has made its buckets of revisions and of what is stored about them. */
  get hasKeys(): boolean {
    return ["key", "meta"].every((name) => this.findBucket(name));
  }

  /** 1 for each page that the tree leads to. Errors: Damaged where bbolt would not open the file. */
  pages(): Uint8Array {
    const taken = new Uint8Array(this.meta.highWater);
    this.walk((id, page) => {
      for (let part = id; part < id + page.span; part++) {
        if (taken[part]) throw new Damaged(`page ${part} has two places`);
        taken[part] = 1;
      }
    });
    return taken;
  }

  /**
   * Each page is valid until the next one. Skips everything below the branches in `whole`, and adds each branch that
   * it has visited to its end.
   */
  walk(visit: Visit, whole?: Set<number>) {
    const buckets: { id: number; name: string }[] = [];
    let left = this.meta.highWater;
    const below = (id: number, page: Page, { bucket, until }: { bucket: string; until?: Buffer }) => {
      if (whole?.has(id)) return;
      if (left-- === 0) throw new Damaged(`${page.what} is met twice`);
      checkPage(page, !bucket, until);
      visit(id, page, bucket);
      for (let i = 0; page.isLeaf && !bucket && i < page.count; i++)
        buckets.push({ id: pageId(page.value(i), 0), name: page.key(i).toString() });
      if (page.isLeaf) return;
      for (let i = page.count - 1; i >= 0; i--)
        below(page.child(i), this.child(page, i), { bucket, ...endOf(page, i, until) });
      if (bucket) whole?.add(id);
    };
    below(this.meta.root, this.page({ id: this.meta.root }), { bucket: "" });
    for (const { id, name } of buckets) if (id !== 0) below(id, this.page({ id }), { bucket: name });
  }

  private findBucket(name: string): Root | undefined {
    return this.findIn({ id: this.meta.root }, Buffer.from(name), (leaf, i) => {
      if (!leaf.isBucket(i)) throw new Damaged(`${name} is no bucket`);
      const value = leaf.value(i);
      if (value.length < BUCKET_HEADER_SIZE)
        throw new Damaged(`bucket ${name} has a header of ${value.length} bytes`);
      const id = pageId(value, 0);
      return id === 0 ? { inline: Buffer.from(value.subarray(BUCKET_HEADER_SIZE)) } : { id };
    });
  }

  private findIn<T>(root: Root, key: Buffer, read: (leaf: Leaf, i: number) => T): T | undefined {
    let page = this.page(root);
    for (let depth = 1; !page.isLeaf; depth++) {
      if (depth > MAX_DEPTH) throw new Damaged(`${page.what} lies deeper than ${MAX_DEPTH} levels`);
      if (page.count === 0) return undefined;
      const next = page.lowerBound(key);
      const isFirst = next < page.count && page.key(next).equals(key);
      page = this.child(page, Math.max(0, isFirst ? next : next - 1));
    }
    const i = page.lowerBound(key);
    return i < page.count && page.key(i).equals(key) ? read(this.shown(page), i) : undefined;
  }

  /**
   * Counts the pages: a damaged tree with a loop has more of them than the file. bbolt has all leaves on one
   * level: a leaf on another level is from another time.
   */
  private *leaves(
    page: Page,
    below?: Buffer,
    isForward = false,
    at: At = { depth: 1, counters: { pages: 0, leafDepth: 0 } },
  ): Generator<Leaf> {
    const { depth, counters, until } = at;
    if (depth > MAX_DEPTH) throw new Damaged(`${page.what} lies deeper than ${MAX_DEPTH} levels`);
    if (++counters.pages > this.meta.highWater) throw new Damaged(`${page.what} is met twice`);
    checkPage(page, false, until);
    const count = below ? page.lowerBound(below) : page.count;
    if (!page.isLeaf) {
      for (let step = 0; step < count; step++) {
        const i = isForward ? step : count - 1 - step;
        const next = { depth: depth + 1, counters, ...endOf(page, i, until) };
        yield* this.leaves(this.child(page, i), below, isForward, next);
      }
      return;
    }
    counters.leafDepth ||= depth;
    if (depth !== counters.leafDepth)
      throw new Damaged(
        `${page.what} is a leaf on level ${depth}, and others are on level ${counters.leafDepth}`,
      );
    yield this.shown(count === page.count ? page : cutOff(page, count));
  }

  private shown(leaf: Leaf): Leaf {
    const { rows } = this;
    if (!rows) return leaf;
    const valueAt = (i: number) => rows.get(leaf.key(i).toString("latin1"));
    return {
      count: leaf.count,
      key: (i) => leaf.key(i),
      isBucket: (i) => leaf.isBucket(i),
      value: (i, start = 0, length) =>
        valueAt(i)?.subarray(start, length === undefined ? undefined : start + length) ??
        leaf.value(i, start, length),
      valueSize: (i) => valueAt(i)?.length ?? leaf.valueSize(i),
    };
  }

  /**
   * bbolt's branches hold the first key of each child (node.go, spill): a child with another one is from
   * another time.
   */
  private child(branch: Page, i: number): Page {
    const page = this.page({ id: branch.child(i) });
    if (page.count === 0 || !page.key(0).equals(branch.key(i)))
      throw new Damaged(`${page.what} does not begin with the key that ${branch.what} has for it`);
    return page;
  }

  private page(root: Root): Page {
    if ("inline" in root) return this.inlinePage(root.inline);
    const { id } = root;
    const cached = this.branches.get(id);
    if (cached) return cached;
    const page = this.readPage(id, this.leafHead);
    if (page.isLeaf) return page;
    if (this.branches.size >= BRANCHES_KEPT) this.branches.clear();
    const branch = this.readPage(id, Buffer.allocUnsafe(this.leafHead.length));
    this.branches.set(id, branch);
    return branch;
  }

  private inlinePage(bytes: Buffer): Page {
    if (bytes.length < PAGE_HEADER_SIZE) throw new Damaged("an inline page has no header");
    if (elementsEnd(bytes) > bytes.length) throw new Damaged("an inline page is cut off");
    const page = new Page("an inline page", { head: bytes, size: bytes.length, rest: () => bytes });
    page.checkLayout();
    return page;
  }

  private readPage(id: number, buffer: Buffer): Page {
    const { pageSize, highWater } = this.meta;
    if (id < 2 || id >= highWater) throw new Damaged(`page ${id} is outside the ${highWater} pages in use`);
    const place = id * pageSize;
    this.file.read(buffer, place);
    if (pageId(buffer, 0) !== id) throw new Damaged(`page ${id} says it is page ${pageId(buffer, 0)}`);
    const size = (numberAt(buffer, 12, 4) + 1) * pageSize;
    if (place + size > highWater * pageSize)
      throw new Damaged(`page ${id} spans ${size / pageSize} pages, more than there are`);
    const elements = elementsEnd(buffer);
    if (elements > size) throw new Damaged(`page ${id}: its elements do not fit`);
    const head = elements > buffer.length ? Buffer.from(this.readRest(place, elements)) : buffer;
    const rest = (start: number, length: number) => this.readRest(place + start, length);
    const page = new Page(`page ${id}`, { head, size, rest });
    page.checkLayout(pageSize);
    return page;
  }

  private readRest(offset: number, length: number): Buffer {
    if (length > this.rest.length) this.rest = Buffer.allocUnsafeSlow(length);
    const bytes = this.rest.subarray(0, length);
    this.file.read(bytes, offset);
    return bytes;
  }
}

/** The first key behind the child `i`; `until`: behind the branch itself. */
function endOf(branch: Page, i: number, until?: Buffer): { until?: Buffer } {
  const next = i + 1 < branch.count ? Buffer.from(branch.key(i + 1)) : until;
  return next ? { until: next } : {};
}

/** A bucket in a bucket is none of etcd's, nor a key beside its buckets. */
function checkPage(page: Page, isOfBuckets: boolean, until?: Buffer) {
  page.checkOrder(until);
  for (let i = 0; page.isLeaf && i < page.count; i++)
    if (page.isBucket(i) !== isOfBuckets)
      throw new Damaged(`${page.what} has ${isOfBuckets ? "a key among buckets" : "a bucket among keys"}`);
}

function cutOff(leaf: Page, count: number): Leaf {
  return {
    count,
    key: (i) => leaf.key(i),
    isBucket: (i) => leaf.isBucket(i),
    value: (...part) => leaf.value(...part),
    valueSize: (i) => leaf.valueSize(i),
  };
}
