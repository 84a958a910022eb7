/** Data directories of several members: what one's database does for another's log, and whose keys differ. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { failOf } from "../../../shared/fail.ts";
import { memberDataIn } from "../../../shared/restore/lost-members-data.ts";
import { differencesOf, membersDataIn } from "../../../shared/restore/several-members.ts";
import { purgedEtcd } from "../../pretend/busy-etcd.ts";
import { writeDamaged } from "../../pretend/damaged-etcd.ts";
import { type Sandbox, sandbox } from "../../pretend/sandbox.ts";
import { type Written, type WrittenMember, writeEtcdData } from "../../pretend/write-wal.ts";

setDefaultTimeout(300_000);

const MEMBERS: WrittenMember[] = ["a1", "b2", "c3"].map((id, i) => ({
  ...{ id, name: `cp${i + 1}`, peerURLs: [`https://10.0.0.1${i}:2380`] },
}));

const puts = (count: number, other: Record<number, string> = {}): Written["puts"] =>
  Array.from({ length: count }, (_, i) => [`/registry/k/${i}`, i in other ? other[i] : `v${i}`]);

function disk(box: Sandbox, own: number, written: Written["puts"]) {
  const dir = `/mnt/cp${own + 1}`;
  mkdirSync(`${box.dir}${dir}`, { recursive: true });
  const members = [MEMBERS[own]!, ...MEMBERS.filter((_, i) => i !== own)];
  writeEtcdData(`${box.dir}${dir}`, { clusterId: "77", members, puts: written, hasRoom: true });
  return dir;
}

test("the database of another member is a beginning for a damaged member's log, as a snapshot is", async () => {
  using box = sandbox();
  const source = purgedEtcd(2900);
  writeDamaged(`${box.dir}/disk`, "db-zero", { seed: 1, source });
  writeDamaged(`${box.dir}/other`, "none", { seed: 1, source: { ...source, db: source.old } });
  expect((await failOf(() => membersDataIn(["/disk"])))?.message).toContain("no older tree is whole");
  const [found] = membersDataIn(["/disk", "/other"]);
  expect(found).toMatchObject({ dir: "/disk", last: { index: 3774, isCut: false } });
  expect(found?.root?.path).toBe(`${box.dir}/other/member/snap/db`);
});

test.each<[string, Written["puts"][], string[]]>([
  ["all have the same keys, and one has fewer", [puts(5), puts(4), puts(5)], []],
  [
    "one has two other values",
    [puts(5), puts(6, { 1: "other", 3: "third" }), puts(5)],
    ["cp2 differs from cp1, cp3 in 2 key(s) at revision 6: /registry/k/1, /registry/k/3"],
  ],
  [
    "of two, they differ in five",
    [puts(5), puts(5, { 0: "a", 1: "b", 2: "c", 3: "d", 4: "e" })],
    ["cp2 differs from cp1 in 5 key(s) at revision 6: /registry/k/0, /registry/k/1, /registry/k/2"],
  ],
])("keys of several members, at the revision that all have: %s", (_, disks, said) => {
  using box = sandbox();
  const all = disks.map((written, own) => memberDataIn(disk(box, own, written)));
  expect(differencesOf(all)).toEqual(said);
});
