/** What is left of lost members; on real etcd: test/lab/checks/survivor.ts. */
import { expect, setDefaultTimeout, test } from "bun:test";
import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { type EtcdData, readEtcdData } from "../../../shared/etcd-data/data.ts";
import { readNewestSnapshot } from "../../../shared/etcd-data/raft-files.ts";
import { failOf } from "../../../shared/fail.ts";
import { chooseData, memberDataIn, writeAlone } from "../../../shared/restore/lost-members-data.ts";
import {
  CHANGE,
  entryOf,
  LogRecords,
  membershipChange,
  RECORD,
  snapRecordOf,
} from "../../../shared/restore/new-member.ts";
import { busyEtcd } from "../../pretend/busy-etcd.ts";
import { writeDamaged } from "../../pretend/damaged-etcd.ts";
import { appendTo, logTail } from "../../pretend/log-tail.ts";
import { type Sandbox, sandbox } from "../../pretend/sandbox.ts";
import { type Written, type WrittenMember, writeEtcdData } from "../../pretend/write-wal.ts";

setDefaultTimeout(300_000);

const MEMBERS: WrittenMember[] = ["a1", "b2", "c3"].map((id, i) => ({
  ...{ id, name: `cp${i + 1}`, peerURLs: [`https://10.0.0.1${i}:2380`] },
}));
const NEW = "https://10.9.9.9:2380";
const DIR = "/var/lib/etcd";

const puts = (count: number): Written["puts"] =>
  Array.from({ length: count }, (_, i) => [`/registry/k/${i}`, `v${i}`]);

/** The disk of one of the members, with so many writes. */
function disk(box: Sandbox, own: number, writes: number, more: Partial<Written> = {}): string {
  const dir = `/mnt/${more.clusterId ?? ""}cp${own + 1}`;
  mkdirSync(`${box.dir}${dir}`, { recursive: true });
  const members = [MEMBERS[own]!, ...MEMBERS.filter((_, i) => i !== own)];
  writeEtcdData(`${box.dir}${dir}`, { clusterId: "77", members, puts: puts(writes), hasRoom: true, ...more });
  return dir;
}

const log = (box: Sandbox, dir: string) => {
  const folder = `${box.dir}${dir}/member/wal`;
  return `${folder}/${readdirSync(folder).sort().at(-1)}`;
};

test("of several, the log with the last entry counts; with a quorum nothing acknowledged is lost", () => {
  using box = sandbox();
  const [one, two] = [memberDataIn(disk(box, 0, 3)), memberDataIn(disk(box, 1, 5))];
  expect(chooseData([one, two])).toMatchObject({ chosen: two, voters: 3, here: 2, isQuorum: true });
  expect(chooseData([two, one]).chosen).toBe(two);
  expect(chooseData([one])).toMatchObject({ chosen: one, voters: 3, here: 1, isQuorum: false });
});

test("a longer log of an older term does not count: its entries were never acknowledged", () => {
  const at = (id: string, term: number, index: number) => ({
    ...survivor(id),
    last: { term, index },
  });
  const [older, newer] = [at("a1", 4, 900), at("b2", 5, 12)];
  expect(chooseData([older, newer]).chosen).toBe(newer);
});

function survivor(id: string) {
  const members = MEMBERS.map((member) => ({ ...member, clientURLs: [], isLearner: false }));
  const own = members.find((member) => member.id === id)!;
  return {
    dir: `/mnt/${id}`,
    own,
    members,
    clusterId: "77",
    ...{ revision: 1, committed: 1 },
    lastWrite: new Date(0),
    last: { index: 1, term: 1 },
    proof: { values: 0, alone: 0, since: 1, hasNumbers: true, mended: [], leftOut: [] },
    open: () => expect.unreachable(),
  };
}

test("data of two clusters, or twice of one member, is refused", async () => {
  const other = { ...survivor("b2"), clusterId: "99" };
  const mixed = await failOf(() => chooseData([survivor("a1"), other]));
  expect(mixed?.message).toContain("These are data of 2 clusters");
  const twice = await failOf(() => chooseData([survivor("a1"), { ...survivor("a1"), dir: "/mnt/old" }]));
  expect(twice?.message).toContain('Two of these are data of one member, "cp1"');
  expect([mixed?.exitCode, twice?.exitCode]).toEqual([3, 3]);
});

test("a learner's data may be a part of all, and that of a member that was taken out ends there", async () => {
  using box = sandbox();
  const learner = { ...MEMBERS[0]!, isLearner: true };
  const none = disk(box, 0, 3, { clusterId: "78", members: [learner, ...MEMBERS.slice(1)] });
  expect((await failOf(() => memberDataIn(none)))?.message).toContain("has no vote yet");
  const removed = disk(box, 0, 3);
  const tail = logTail(`${box.dir}${removed}/member/wal`);
  const at = { type: 1, term: tail.term, index: tail.last.index + 1 };
  const out = entryOf(at, membershipChange(CHANGE.removeNode, BigInt(`0x${MEMBERS[0]!.id}`)));
  appendTo(tail, new LogRecords(tail.crc).add(RECORD.entry, out));
  expect((await failOf(() => memberDataIn(removed)))?.message).toContain("was taken out of etcd before");
});

test.each([
  ["as it is", (_: string) => undefined],
  ["whose last write a power loss has cut off", (path: string) => tear(path)],
  ["whose last file has just begun", undefined],
])("a disk %s: its member goes on alone, at its new address, with all that it has", async (_, damage) => {
  using box = sandbox();
  const dir = disk(box, 1, 6, { cut: damage === undefined });
  damage?.(log(box, dir));
  const before = readFileSync(log(box, dir));
  await writeAlone(memberDataIn(dir), { dir: DIR, peerUrl: NEW });
  using data = readEtcdData(`${box.dir}${DIR}`);
  expect(data.warnings).toEqual([]);
  expect(data.members.map(({ id, peerURLs }) => [id, peerURLs])).toEqual([["b2", [NEW]]]);
  expect(data).toMatchObject({ memberId: "b2", clusterId: "77", revision: 7, committed: { revision: 7 } });
  expect([...data.list("/registry/")].map(({ value }) => Buffer.from(value).toString())).toEqual(
    puts(6).map(([, value]) => value as string),
  );
  expect(readFileSync(log(box, dir)).equals(before)).toBe(true);
  expect(readdirSync(`${box.dir}${DIR}`)).toEqual(["member"]);
});

test.each([
  ["all is there", "none"],
  ["the newest .snap is damaged, and an older one is not", "snap-flip"],
  ["no .snap is left", "snap-none"],
  ["the db is older than every .snap", "db-old"],
])("where %s (%s), all revisions are there, and a .snap of the last entry", async (_, form) => {
  using box = sandbox();
  writeDamaged(`${box.dir}/whole`, "none", { seed: 1, source: busyEtcd() });
  writeDamaged(`${box.dir}/disk`, form, { seed: 1, source: busyEtcd() });
  const survivor = memberDataIn("/disk");
  await writeAlone(survivor, { dir: DIR, peerUrl: NEW });
  const member = `${box.dir}${DIR}/member`;
  using truth = readEtcdData(`${box.dir}/whole`);
  using data = readEtcdData(`${box.dir}${DIR}`);
  const { clusterId, revision, compactedRevision, storageVersion } = truth;
  expect(data).toMatchObject({ clusterId, revision, compactedRevision, storageVersion, warnings: [] });
  expect(data.members).toMatchObject([{ name: "default", peerURLs: [NEW] }]);
  for (const key of truth.keys("")) expect(sinceCompaction(data, key)).toEqual(sinceCompaction(truth, key));
  expect(data.stored().leases).toEqual(truth.stored().leases);
  const at = readNewestSnapshot(`${member}/snap`)!;
  expect([at.index, at.term]).toEqual([survivor.last.index, survivor.last.term]);
  const known = survivor.members.map((one) => ({ ...one, id: BigInt(`0x${one.id}`) }));
  const log = readdirSync(`${member}/wal`).map((name) => readFileSync(`${member}/wal/${name}`));
  expect(Buffer.concat(log).includes(snapRecordOf(at, known))).toBe(true);
  expect(
    JSON.parse(Buffer.from(at.store).toString()).Root.Children["0"].Children.members.Children,
  ).toHaveProperty(survivor.own.id);
});

/** Older ones are there or not, as far as etcd's compaction has come. */
const sinceCompaction = (data: EtcdData, key: string) =>
  data.history(key).filter(({ modRevision }, i) => i === 0 || modRevision > data.compactedRevision);

/** The head of one more record is there, and the rest of its sector is not. */
function tear(path: string) {
  truncateSync(path, statSync(path).size - 64);
  const header = Buffer.alloc(1024);
  header.writeUInt32LE(500, 0);
  header.write("\x08\x02", 8);
  appendFileSync(path, header);
}

test.each([
  ["before its last write", "v4", 5],
  ["in its last write", "v5", 6],
])(
  "a log that etcd refuses, damaged %s (%s): what is whole is taken, and it is no quorum's",
  async (_, value, revision) => {
    using box = sandbox();
    const dir = disk(box, 0, 6);
    const path = log(box, dir);
    const bytes = readFileSync(path);
    bytes[bytes.lastIndexOf(value)]! ^= 1;
    writeFileSync(path, bytes);
    const found = memberDataIn(dir);
    expect(found).toMatchObject({ revision, last: { isCut: true } });
    expect(chooseData([found, memberDataIn(disk(box, 1, 3))])).toMatchObject({ here: 1, isQuorum: false });
    await writeAlone(found, { dir: DIR, peerUrl: NEW });
    using data = readEtcdData(`${box.dir}${DIR}`);
    expect(data).toMatchObject({
      revision,
      memberId: "a1",
      clusterId: "77",
      warnings: [],
      end: { isCut: false },
    });
    expect(data.members).toMatchObject([{ id: "a1", peerURLs: [NEW] }]);
    expect(data.keys("/registry/k/")).toHaveLength(revision - 1);
  },
);

/** A pipe that nobody writes to: whoever opens it as a file waits for ever. */
const pipe = (path: string) => Bun.spawnSync(["mkfifo", path]);

test.each<[string, string, (path: string) => unknown, string | undefined]>([
  ["the database is a pipe", "member/snap/db", pipe, "is no regular file"],
  [
    "the database is a link to a device",
    "member/snap/db",
    (path) => symlinkSync("/dev/zero", path),
    "is no regular file",
  ],
  ["the database is a folder", "member/snap/db", (path) => mkdirSync(path), "is no regular file"],
  ["the log is a pipe", "member/wal/LAST", pipe, "is no regular file"],
  ["a newest snapshot is a pipe", `member/snap/${"f".repeat(16)}-${"f".repeat(16)}.snap`, pipe, undefined],
])("a stranger's disk, %s: nothing waits for it", async (_, place, put, why) => {
  using box = sandbox();
  const dir = disk(box, 0, 3);
  const path = place.endsWith("LAST") ? log(box, dir) : `${box.dir}${dir}/${place}`;
  rmSync(path, { force: true });
  put(path);
  const said = await failOf(() => memberDataIn(dir));
  expect(said?.message).toEqual(why ? expect.stringContaining(why) : (undefined as never));
});
