/** One more transaction in a bbolt file of any form. That etcd takes it: test/lab/checks/restore.ts. */
import { describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { Bbolt } from "../../../shared/etcd-data/bbolt.ts";
import { DB_MAGIC, DB_VERSION, fnv64a } from "../../../shared/etcd-data/db-file.ts";
import { DbEdit } from "../../../shared/restore/db-edit.ts";
import { type DbNode, inlineBytes, pageBytes } from "../../../shared/restore/db-nodes.ts";
import { sandbox } from "../../pretend/sandbox.ts";

interface Form {
  pageSize: number;
  /** Keys of a leaf; more of them make a branch. */
  perLeaf: number;
  txid: bigint;
}

const FORMS: [string, Form][] = [
  ["as etcd's mostly is", { pageSize: 4096, perLeaf: 100, txid: 8n }],
  ["of an odd transaction, as in a snapshot", { pageSize: 4096, perLeaf: 100, txid: 9n }],
  ["with branches, of the buckets as well", { pageSize: 4096, perLeaf: 2, txid: 8n }],
  ["of a machine with pages of 64 KB", { pageSize: 65536, perLeaf: 3, txid: 8n }],
];

/** Buckets, each with its keys; a small one is inline. */
type Content = Record<string, Record<string, string>>;

const CONTENT: Content = {
  alarm: {},
  key: Object.fromEntries(
    Array.from({ length: 40 }, (_, i) => [`k${String(i).padStart(3, "0")}`, "v".repeat(300)]),
  ),
  members: { m1: "one", m2: "two" },
  meta: { consistent_index: "7", term: "2" },
};

/** Writes a file of this form, with a freelist that is kept on the disk. */
function dbFile({ pageSize, perLeaf, txid }: Form, content: Content): Buffer {
  const pages: Buffer[] = [];
  let end = 3;
  const write = (node: DbNode): number => {
    const bytes = pageBytes(node, end, pageSize);
    pages.push(bytes);
    end += bytes.length / pageSize;
    return end - bytes.length / pageSize;
  };
  const tree = (items: { key: Buffer; value: Buffer; isBucket: boolean }[]): DbNode => {
    if (items.length <= perLeaf) return { isLeaf: true, items };
    const leaves = Array.from({ length: Math.ceil(items.length / perLeaf) }, (_, i) =>
      items.slice(i * perLeaf, (i + 1) * perLeaf),
    );
    return { isLeaf: false, children: leaves.map((leaf) => ({ key: leaf[0]!.key, id: write(tree(leaf)) })) };
  };
  const bucket = (keys: Record<string, string>) => {
    const items = Object.entries(keys).map(([key, value]) => ({
      ...{ key: Buffer.from(key), value: Buffer.from(value), isBucket: false },
    }));
    const header = Buffer.alloc(16);
    const node = tree(items);
    const inline = inlineBytes(node);
    if (node.isLeaf && inline.length <= pageSize / 4) return Buffer.concat([header, inline]);
    header.writeBigUInt64LE(BigInt(write(node)), 0);
    return header;
  };
  const buckets = Object.entries(content).map(([name, keys]) => ({
    ...{ key: Buffer.from(name), value: bucket(keys), isBucket: true },
  }));
  const root = write(tree(buckets));
  const meta = (slot: number, of: bigint) => {
    const page = Buffer.alloc(pageSize);
    page.writeBigUInt64LE(BigInt(slot), 0);
    page.writeUInt16LE(4, 8);
    for (const [i, number] of [DB_MAGIC, DB_VERSION, pageSize].entries())
      page.writeUInt32LE(number, 16 + 4 * i);
    for (const [i, number] of [BigInt(root), 0n, 2n, BigInt(end), of].entries())
      page.writeBigUInt64LE(number, 32 + 8 * i);
    page.writeBigUInt64LE(fnv64a(page.subarray(16, 72)), 72);
    return page;
  };
  const freelist = Buffer.alloc(pageSize);
  freelist.writeBigUInt64LE(2n, 0);
  freelist.writeUInt16LE(0x10, 8);
  // as WriteTo: the first page has the transaction, the second the one before
  return Buffer.concat([meta(0, txid), meta(1, txid - 1n), freelist, ...pages]);
}

function contentOf(path: string, names: string[]): Content {
  using db = new Bbolt(path);
  return db.stable((tree) =>
    Object.fromEntries(
      names.map((name) => [
        name,
        Object.fromEntries(
          // a value holds until the next one is read
          Array.from(tree.items(name), ({ key, value }) => [String(key), String(value)]),
        ),
      ]),
    ),
  );
}

describe.each(FORMS)("a database %s", (_, form) => {
  test("has what was changed, and all else as before", () => {
    using box = sandbox();
    mkdirSync(box.dir, { recursive: true });
    const path = `${box.dir}/db`;
    writeFileSync(path, dbFile(form, CONTENT));
    expect(contentOf(path, Object.keys(CONTENT))).toEqual(CONTENT);
    {
      using edit = new DbEdit(path);
      edit.replace("members", (items) => {
        items.clear();
        items.set("m3", Buffer.from("three"));
      });
      edit.replace("meta", (items) => items.set("scheduled", Buffer.from("9")));
      expect(String(edit.lastKey("key"))).toBe("k039");
      edit.append("key", Buffer.from("k040"), Buffer.from("last"));
      edit.commit();
    }
    const { key, meta, ...rest } = CONTENT;
    expect(contentOf(path, Object.keys(CONTENT))).toEqual({
      ...rest,
      key: { ...key, k040: "last" },
      members: { m3: "three" },
      meta: { ...meta, scheduled: "9" },
    });
  });

  test("is as before until it is committed: no page that the old meta page leads to is written over", () => {
    using box = sandbox();
    const [path, before] = [`${box.dir}/db`, dbFile(form, CONTENT)];
    writeFileSync(path, before);
    using edit = new DbEdit(path);
    edit.append("key", Buffer.from("k040"), Buffer.from("last"));
    expect(readFileSync(path).equals(before)).toBe(true);
    edit.commit();
    const { pageSize } = form;
    const used = readFileSync(path).subarray(2 * pageSize, before.length);
    expect(used.equals(before.subarray(2 * pageSize))).toBe(true);
  });

  test("says that it has no freelist: etcd then looks for the free pages itself", () => {
    using box = sandbox();
    const path = `${box.dir}/db`;
    writeFileSync(path, dbFile(form, CONTENT));
    {
      using edit = new DbEdit(path);
      edit.replace("alarm", (items) => items.clear());
      edit.commit();
    }
    const bytes = readFileSync(path);
    const slots = [0, form.pageSize].map((at) => ({
      txid: bytes.readBigUInt64LE(at + 64),
      freelist: bytes.readBigUInt64LE(at + 48),
    }));
    expect(slots.find(({ txid }) => txid === form.txid + 1n)?.freelist).toBe(2n ** 64n - 1n);
  });
});

test("a bucket that is not there is no database of etcd", () => {
  using box = sandbox();
  const path = `${box.dir}/db`;
  writeFileSync(path, dbFile(FORMS[0]![1], CONTENT));
  using edit = new DbEdit(path);
  expect(() => edit.replace("members_removed", (items) => items.clear())).toThrow(
    'no bucket "members_removed"',
  );
});
