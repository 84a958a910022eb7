/**
 * Reads a bbolt file, etcd's member/snap/db, while somebody writes to it, or nobody. Source: go.etcd.io/bbolt
 * tx.go, internal/freelist.
 *
 * bbolt never changes a page that the newest meta page leads to: a transaction writes pages that were free,
 * then the other meta page. What transaction N+1 frees is written over by N+2 at the earliest, so after N+1's
 * meta page. Therefore what was read of tree N is as N left it if N's meta page is still the newest one
 * *afterwards*. etcd commits every 100 ms, so a read is `stable` if it takes less; what takes longer is read
 * in parts, each from a tree of its own: see `backward`.
 */
import { DbFile, type Meta } from "./db-file.ts";
import type { Leaf } from "./page.ts";
import { Damaged } from "./protobuf.ts";
import { Tree } from "./tree.ts";

/**
 * A part that fails is made as small as can be, and its pages are in the cache then: it fails again only by
 * chance.
 */
const ATTEMPTS = 1000;
const MOST_LEAVES = 256;

/**
 * An open bbolt file; `using db = new Bbolt(path)` closes it. Everything that breaks the format is a
 * `Damaged`.
 */
export class Bbolt {
  readonly file: DbFile;
  private tree: Tree;

  /** `meta`: an older tree in place of the newest one, of a file that nobody writes to. */
  constructor(path: string, meta?: Meta) {
    this.file = new DbFile(path, meta);
    try {
      this.tree = new Tree(this.file, this.file.newestMeta());
    } catch (err) {
      this[Symbol.dispose]();
      throw err;
    }
  }

  [Symbol.dispose]() {
    this.file.close();
  }

  /**
   * What `read` makes of the newest tree. It is called again where somebody has committed meanwhile, so it
   * must not change anything.
   */
  stable<T>(read: (tree: Tree, attempt: number) => T): T {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      try {
        const result = read(this.tree, attempt);
        if (this.file.isNewest(this.tree.meta)) return result;
      } catch (err) {
        if (!(err instanceof Damaged) || this.file.isNewest(this.tree.meta)) throw err;
      }
      this.tree = new Tree(this.file, this.file.newestMeta());
    }
    throw new Damaged(`${this.file.path} was written to ${ATTEMPTS} times while one part of it was read`);
  }

  /**
   * What `read` makes of each key of a bucket, last key first. What was committed meanwhile is met below the
   * place where the reading is, and not above: all items are from one tree only if nothing was.
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

/** `first`: the first key of the last leaf; undefined where the bucket has ended. */
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
