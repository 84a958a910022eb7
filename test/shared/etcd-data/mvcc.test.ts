import { expect, test } from "bun:test";
import type { Bbolt, Tree } from "../../../shared/etcd-data/bbolt.ts";
import type { Leaf } from "../../../shared/etcd-data/db-file.ts";
import { Mvcc } from "../../../shared/etcd-data/mvcc.ts";
import { bucketKey, readRevision } from "../../../shared/etcd-data/revisions.ts";

/**
 * What a tree holds: revisions in order, `-` before a key that is deleted by it, and the revision that was
 * compacted to.
 */
interface Content {
  revisions: Record<number, string>;
  compacted: number;
  /** Where a compaction goes on: up to where the last one has ended. */
  finished?: number;
  /** Unset: etcd has made its buckets. */
  hasKeys?: false;
}

function leafOf({ revisions }: Content): Leaf {
  const rows = Object.entries(revisions).map(([main, key]) => ({
    main: Number(main),
    key: key.replace("-", ""),
    isTombstone: key[0] === "-",
  }));
  const values = rows.map(({ main, key }) =>
    key === ""
      ? Buffer.alloc(0)
      : Buffer.concat([Buffer.from([0x0a, key.length]), Buffer.from(key), Buffer.from([0x18, main])]),
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
  const find: Tree["find"] = (_bucket, key, read) => {
    const { compacted, finished = compacted } = content;
    const number = Buffer.alloc(17);
    number.writeBigUInt64BE(BigInt(key.toString() === "finishedCompactRev" ? finished : compacted));
    return read({ ...leafOf({ revisions: {}, compacted: 0 }), value: () => number }, 0);
  };
  return {
    hasKeys: content.hasKeys ?? true,
    find,
    leavesOf: () => [leafOf(content)].values(),
  } as unknown as Tree;
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

const missing = (revision: number) => `revision ${revision} is missing, and was not compacted away`;
const compacted = (revision: number, by: number) =>
  `revision ${revision} is there, and was compacted away by ${by}`;

const CONTENTS: [string, Content, string?][] = [
  ["all from the first on", { revisions: { 2: "a", 3: "b", 4: "a" }, compacted: 0 }],
  ["nothing yet", { revisions: {}, compacted: 0 }],
  [
    "a bucket of etcd's is gone: that is no empty etcd",
    { revisions: {}, compacted: 0, hasKeys: false },
    "the db has lost its keys",
  ],
  ["only what a compaction has left", { revisions: { 3: "b", 9: "a" }, compacted: 12 }],
  [
    "what a compaction has left, and all after it",
    { revisions: { 3: "b", 9: "a", 13: "b", 14: "-a" }, compacted: 12 },
  ],
  [
    "a tombstone at the compaction itself, as etcd 3.5 and 3.6 may leave it",
    { revisions: { 3: "-b", 4: "a" }, compacted: 3 },
  ],
  [
    "a compaction that goes on",
    { revisions: { 3: "b", 5: "a", 7: "-b", 9: "a" }, compacted: 8, finished: 3 },
  ],
  [
    "a raised revision, compacted up to it",
    { revisions: { 3: "b", 5: "a", 105: "", 106: "a" }, compacted: 105, finished: 3 },
  ],
  ["one is missing between two", { revisions: { 2: "a", 4: "b" }, compacted: 0 }, missing(3)],
  ["the first ones are missing", { revisions: { 4: "b" }, compacted: 0 }, missing(3)],
  [
    "those after the compaction are missing",
    { revisions: { 3: "b", 9: "a", 15: "b" }, compacted: 12 },
    missing(14),
  ],
  [
    "a raised revision that nobody has compacted up to",
    { revisions: { 3: "b", 5: "a", 105: "" }, compacted: 3 },
    missing(104),
  ],
  [
    "an older one of a key is back",
    { revisions: { 3: "b", 5: "b", 13: "b" }, compacted: 12 },
    compacted(3, 12),
  ],
  ["a deletion is back", { revisions: { 3: "b", 5: "-a", 13: "b" }, compacted: 12 }, compacted(5, 12)],
];
for (const [what, content, damage] of CONTENTS)
  test(what, () => {
    const read = () => readThrough([content]);
    if (damage) expect(read).toThrow(damage);
    else expect(read().compacted).toBe(content.compacted);
  });
