import { expect, test } from "bun:test";
import type { Bbolt } from "../../../shared/etcd-data/bbolt.ts";
import { bucketKey, readRevision } from "../../../shared/etcd-data/key-value.ts";
import { Mvcc } from "../../../shared/etcd-data/mvcc.ts";
import type { Leaf } from "../../../shared/etcd-data/page.ts";
import type { Tree } from "../../../shared/etcd-data/tree.ts";

/**
 * What a tree holds: revisions in order, `-` before a key that is deleted by it, and the revision that was
 * compacted to.
 */
interface Content {
  revisions: Record<number, string>;
  compacted: number;
}

function leafOf({ revisions }: Content): Leaf {
  const rows = Object.entries(revisions).map(([main, key]) => ({
    main: Number(main),
    key: key.replace("-", ""),
    isTombstone: key[0] === "-",
  }));
  const values = rows.map(({ main, key }) =>
    Buffer.concat([Buffer.from([0x0a, key.length]), Buffer.from(key), Buffer.from([0x18, main])]),
  );
  return {
    count: rows.length,
    key: (i) => bucketKey({ ...rows[i]!, sub: 0 }),
    isBucket: () => false,
    valueSize: (i) => values[i]!.length,
    value: (i, start = 0, length = values[i]!.length) => values[i]!.subarray(start, start + length),
  };
}

function treeOf(content: Content): Tree {
  const number = Buffer.alloc(17);
  number.writeBigUInt64BE(BigInt(content.compacted));
  const found = { ...leafOf({ revisions: {}, compacted: 0 }), value: () => number };
  const find: Tree["find"] = (_bucket, _key, read) => read(found, 0);
  return { find, leavesOf: () => [leafOf(content)].values() } as unknown as Tree;
}

/**
 * A db in which somebody writes: each time that one revision was read, the next content is the newest; the
 * last one stays.
 */
function busyDb(contents: Content[]): Bbolt {
  const now = () => contents[0]!;
  return {
    stable: <T>(read: (tree: Tree, attempt: number) => T) => read(treeOf(now()), 1),
    *backward() {
      for (let below = Number.POSITIVE_INFINITY; ; ) {
        const leaf = leafOf(now());
        const rows = Array.from({ length: leaf.count }, (_, i) => readRevision(leaf, i)).filter(
          ({ main }) => main < below,
        );
        if (rows.length === 0) return;
        below = rows.at(-1)!.main;
        yield rows.at(-1)!;
        if (contents.length > 1) contents.shift();
      }
    },
  } as unknown as Bbolt;
}

function readThrough(contents: Content[]) {
  const mvcc = new Mvcc(busyDb(contents));
  mvcc.catchUp(() => undefined);
  return {
    live: [...mvcc.everyKey()].filter((key) => mvcc.has(key)).sort(),
    revision: mvcc.revision,
    compacted: mvcc.compactedRevision,
  };
}

test("a key whose tombstone is compacted away while it is read is not live again", () => {
  const before = { revisions: { 2: "a", 3: "b", 4: "-a", 5: "c" }, compacted: 0 };
  const after = { revisions: { 3: "b", 5: "c" }, compacted: 4 };
  for (const read of [1, 2, 3, 4])
    expect(readThrough([...Array(read).fill(before), after])).toEqual({
      live: ["b", "c"],
      revision: 5,
      compacted: 4,
    });
});

test("what is written while it is read counts, wherever the reading is", () => {
  const contents = [
    { revisions: { 2: "a", 3: "b" }, compacted: 0 },
    { revisions: { 2: "a", 3: "b", 4: "c" }, compacted: 0 },
    { revisions: { 2: "a", 3: "b", 4: "c", 5: "-a" }, compacted: 0 },
  ];
  expect(readThrough(contents)).toEqual({ live: ["b", "c"], revision: 5, compacted: 0 });
});

test("a compaction beyond the first revision that was read makes it be read again", () => {
  const before = { revisions: { 2: "a", 3: "b" }, compacted: 0 };
  const deletes = { revisions: { 2: "a", 3: "b", 4: "-a", 5: "c" }, compacted: 0 };
  const after = { revisions: { 3: "b", 5: "c", 6: "d" }, compacted: 5 };
  expect(readThrough([before, deletes, after])).toEqual({ live: ["b", "c", "d"], revision: 6, compacted: 5 });
});
