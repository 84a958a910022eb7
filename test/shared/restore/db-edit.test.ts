/** One more transaction in a bbolt file of any form. That etcd takes it: test/lab/checks/restore.ts. */
import { describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { Bbolt } from "../../../shared/etcd-data/bbolt.ts";
import { DbEdit } from "../../../shared/restore/db-edit.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { type Content, dbFile, type Form } from "../../pretend/write-db.ts";

const FORMS: [string, Form][] = [
  ["as etcd's mostly is", { pageSize: 4096, perLeaf: 100, txid: 8n }],
  ["of an odd transaction, as in a snapshot", { pageSize: 4096, perLeaf: 100, txid: 9n }],
  ["with branches, of the buckets as well", { pageSize: 4096, perLeaf: 2, txid: 8n }],
  ["of a machine with pages of 64 KB", { pageSize: 65536, perLeaf: 3, txid: 8n }],
];

const CONTENT: Content = {
  alarm: {},
  key: Object.fromEntries(
    Array.from({ length: 40 }, (_, i) => [`k${String(i).padStart(3, "0")}`, "v".repeat(300)]),
  ),
  members: { m1: "one", m2: "two" },
  meta: { consistent_index: "7", term: "2" },
};

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
