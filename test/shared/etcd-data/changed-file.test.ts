/** A database that was compressed, or copied as text: the script says so, and the line that it prints brings it back. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { changeOfFile } from "../../../shared/etcd-data/changed-file.ts";
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import { failOf } from "../../../shared/fail.ts";
import { memberDataIn } from "../../../shared/restore/lost-members-data.ts";
import { checkSnapshotFile } from "../../../shared/restore/snapshot-file.ts";
import { purgedEtcd } from "../../pretend/busy-etcd.ts";
import { writeDamaged } from "../../pretend/damaged-etcd.ts";
import { sandbox } from "../../pretend/sandbox.ts";

setDefaultTimeout(300_000);

/** As ftp in its text mode. */
const asText = (bytes: Buffer) => Buffer.from(bytes.toString("latin1").replaceAll("\n", "\r\n"), "latin1");

const CHANGES: [string, (bytes: Buffer) => Buffer, string][] = [
  ["gzip", gzipSync, "is compressed (gzip)"],
  ["base64", (bytes) => Buffer.from(bytes.toString("base64")), "is in base64"],
  ["CRLF", asText, "has other ends of lines (CRLF), as a copy that was made as text"],
];

test.each(CHANGES)(
  "a member's database, changed by %s: said so, and the printed line brings it back",
  async (_, change, is) => {
    using box = sandbox();
    const source = purgedEtcd(3606);
    writeDamaged(`${box.dir}/disk`, "none", { seed: 1, source });
    const path = `${box.dir}/disk/member/snap/db`;
    writeFileSync(path, change(source.db));
    const read = await failOf(() => readEtcdData(`${box.dir}/disk`));
    expect(read?.message).toBe(`etcd's data in "${box.dir}/disk" is damaged: "${path}" ${is}`);
    const refused = await failOf(() => memberDataIn("/disk"));
    expect(refused?.hint).toBe(read!.hint);
    const [, line] = /^write it as it was, and name that: (.*)\. Else leave it as it is/.exec(refused!.hint)!;
    expect(spawnSync("sh", ["-c", line!]).status).toBe(0);
    expect(readFileSync(`${box.dir}/disk.copy/member/snap/db`).equals(source.db)).toBe(true);
    expect(memberDataIn("/disk.copy").last.index).toBe(3774);
  },
);

test.each(CHANGES)(
  "a snapshot, changed by %s: said so, and the printed line brings it back",
  async (_, change, is) => {
    using box = sandbox();
    const { db } = purgedEtcd(3606);
    const snapshot = Buffer.concat([db, new Bun.CryptoHasher("sha256").update(db).digest()]);
    writeFileSync(`${box.dir}/night.db`, change(snapshot));
    const refused = await failOf(() => checkSnapshotFile("/night.db"));
    expect(refused).toMatchObject({ message: `"/night.db" ${is}`, exitCode: 3 });
    const [, line] = /^write it as it was, and name that: (.*)$/.exec(refused!.hint)!;
    expect(spawnSync("sh", ["-c", line!.replaceAll("/night.db", `${box.dir}/night.db`)]).status).toBe(0);
    expect(await checkSnapshotFile("/night.db.as-it-was")).toBe(true);
  },
);

test.each([
  ["28b52ffd00", "is compressed (zstd)", "zstd -d < FILE > NEW"],
  ["fd377a585a0000", "is compressed (xz)", "xz -d < FILE > NEW"],
  ["425a6839", "is compressed (bzip2)", "bunzip2 < FILE > NEW"],
  ["504b030414", "is in a ZIP archive", "unzip -p FILE > NEW"],
  [`${"00".repeat(257)}7573746172`, "is in a tar archive", "tar -xOf FILE > NEW"],
  [`${"00".repeat(16)}efbfbdefbfbd0cefbfbd`, "was changed as text is (UTF-8)", undefined],
])("what begins with these bytes is known: %#", (hex, is, line) => {
  using box = sandbox();
  writeFileSync(`${box.dir}/file`, Buffer.from(hex, "hex"));
  const change = changeOfFile(`${box.dir}/file`, "FILE");
  expect([change?.message, change?.lineTo?.("NEW")]).toEqual([`"FILE" ${is}`, line]);
});

test("a database that is none of these, whole or damaged, is not said to be", () => {
  using box = sandbox();
  for (const form of ["none", "meta-both", "db-zero", "garbage-20", "bits-100"]) {
    writeDamaged(`${box.dir}/disk`, form, { seed: 1, source: purgedEtcd(3606) });
    expect(changeOfFile(`${box.dir}/disk/member/snap/db`)).toBeUndefined();
  }
});
