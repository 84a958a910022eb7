/** An etcd's db as a file: how long it is held open. */
import { expect, test } from "bun:test";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DbFile } from "../../../shared/etcd-data/db-file.ts";
import { dbFile } from "../../pretend/write-db.ts";

const FORM = { pageSize: 4096, perLeaf: 8, txid: 2n };
const LARGE = 65 * 1024 * 1024;

/** How often this process has it open. The folder's own handle is gone when it was listed. */
function handlesOf(path: string): number {
  const handles = readdirSync("/proc/self/fd").map((fd) => `/proc/self/fd/${fd}`);
  return handles.filter((handle) => existsSync(handle) && readlinkSync(handle) === path).length;
}

test.each<[string, number | undefined, number]>([
  ["a small one is open only while it is read into memory", undefined, 0],
  ["a large one stays open until it is closed, once", LARGE, 1],
])("%s", (_, size, open) => {
  const dir = mkdtempSync(join(tmpdir(), "db-"));
  const path = join(dir, "db");
  try {
    writeFileSync(path, dbFile(FORM, { key: { a: "1" } }));
    if (size !== undefined) truncateSync(path, size);
    const db = new DbFile(path);
    expect([db.newestMeta().txid, handlesOf(path)]).toEqual([FORM.txid, open]);
    for (const _ of ["once", "again"]) {
      db.close();
      expect(handlesOf(path)).toBe(0);
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
});
