/** Copies of what has links in it: what is read later must not be read at the place of today. */
import { expect, test } from "bun:test";
import * as fs from "node:fs";
import { join } from "node:path";
import { copyLargeTree, copyTree, moveToRescue, sizeBelow } from "../../../shared/files/file-tree.ts";
import { list, readText, stat, writeFile } from "../../../shared/files/files.ts";
import { sandbox } from "../../pretend/sandbox.ts";

const ETCD = "/var/lib/etcd";

/** etcd's data, where all but the folder itself is on other disks. */
function linkedData() {
  const box = sandbox();
  const link = (target: string, path: string) => {
    fs.mkdirSync(join(box.dir, path, ".."), { recursive: true });
    fs.symlinkSync(target, join(box.dir, path));
  };
  writeFile("/mnt/one/member/snap/db", "database", { mode: 0o640 });
  writeFile("/mnt/two/wal/0.wal", "log");
  link("/mnt/one/member", `${ETCD}/member`);
  link("../../two/wal", "/mnt/one/member/wal");
  return { box, link };
}

const isLink = (path: string) => fs.lstatSync(path).isSymbolicLink();

test("a large copy holds what links lead to, with its mode, and is as large as was asked for", async () => {
  const { box, link } = linkedData();
  using _box = box;
  link(ETCD, "/data");
  expect(sizeBelow(join(box.dir, "data"))).toBe("database".length + "log".length);
  await copyLargeTree("/data", "/rescue/etcd");
  for (const part of ["", "/member", "/member/wal"])
    expect({ part, is: isLink(`${box.dir}/rescue/etcd${part}`) }).toEqual({ part, is: false });
  fs.rmSync(join(box.dir, "mnt"), { recursive: true });
  expect([readText("/rescue/etcd/member/snap/db"), readText("/rescue/etcd/member/wal/0.wal")]).toEqual([
    "database",
    "log",
  ]);
  expect(stat("/rescue/etcd/member/snap/db")?.mode).toBe(0o640);
  expect(box.said).toContain(
    `${box.dir}${ETCD}/member: a link, so ${box.dir}/mnt/one/member is copied in its place`,
  );
});

test("a link to what is copied anyway stays one, inside the copy; so does a loop, and nothing is copied for ever", async () => {
  const { box, link } = linkedData();
  using _box = box;
  link("/mnt/one/member/snap/db", "/mnt/one/member/newest");
  link("../..", "/mnt/one/member/snap/up");
  link("/mnt/one/member", "/mnt/two/wal/back");
  link("/rescue", `${ETCD}/copies`);
  await copyLargeTree(ETCD, "/rescue/etcd");
  const at = (path: string) => fs.readlinkSync(`${box.dir}/rescue/etcd/${path}`);
  expect([at("member/newest"), at("member/wal/back")]).toEqual(["snap/db", ".."]);
  expect(list("/rescue/etcd/copies")).toEqual([]);
  expect(box.said).toContain(`skipped ${box.dir}/rescue/etcd.kube-pki-repair.partial (it is this copy)`);
});

test("a link to nothing, or to itself, is left out and named: its target may come back with other content", async () => {
  const { box, link } = linkedData();
  using _box = box;
  link("/mnt/gone", `${ETCD}/gone`);
  link("loop", `${ETCD}/loop`);
  await copyLargeTree(ETCD, "/rescue/etcd");
  expect(list("/rescue/etcd")).toEqual(["member"]);
  expect(fs.readdirSync(join(box.dir, "rescue/etcd"))).toEqual(["member"]);
  for (const name of ["gone", "loop"])
    expect(box.said).toContain(`skipped ${box.dir}${ETCD}/${name} (a link to nothing: ${name})`);
});

test("a link that others have made is not followed to what is not theirs, and no copy is left", async () => {
  const { box, link } = linkedData();
  using _box = box;
  writeFile("/etc/shadow", "secret");
  link("/etc/shadow", "/mnt/one/member/db");
  fs.lchownSync(`${box.dir}/mnt/one/member/db`, 1234, 1234);
  const error =
    /^Cannot copy the target of the link ".*\/mnt\/one\/member\/db": it is a link of user 1234 to ".*\/etc\/shadow" of user 0$/;
  expect(() => sizeBelow(join(box.dir, ETCD))).toThrow(error);
  await expect(copyLargeTree(ETCD, "/rescue/etcd")).rejects.toThrow(error);
  expect(list("/rescue")).toEqual([]);
  fs.lchownSync(`${box.dir}/etc/shadow`, 1234, 1234);
  await copyLargeTree(ETCD, "/rescue/etcd");
  expect(readText("/rescue/etcd/member/db")).toBe("secret");
});

test("a small copy, which is put back as it was, keeps its links", () => {
  const { box } = linkedData();
  using _box = box;
  copyTree(ETCD, "/rescue/etcd");
  expect(fs.readlinkSync(join(box.dir, "rescue/etcd/member"))).toBe("/mnt/one/member");
});

test("of a link that is moved aside, what it leads to stays, and that is said", () => {
  const { box } = linkedData();
  using _box = box;
  moveToRescue(`${ETCD}/member`, "/aside");
  expect(box.said.at(-1)).toBe(
    `moved ${ETCD}/member to /aside${ETCD}/member (a link: unchanged /mnt/one/member)`,
  );
  expect(readText("/mnt/one/member/snap/db")).toBe("database");
});
