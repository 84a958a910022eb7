/** Damaged data of a lost member: what leads back, and what is refused; on real etcd: test/lab/checks/ways-back.ts. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { type EtcdData, readEtcdData } from "../../../shared/etcd-data/data.ts";
import { databaseAlone } from "../../../shared/etcd-data/old-roots.ts";
import { type Entry, readWal } from "../../../shared/etcd-data/wal.ts";
import { failOf } from "../../../shared/fail.ts";
import {
  chooseData,
  memberDataIn,
  wayInWords,
  writeAlone,
} from "../../../shared/restore/lost-members-data.ts";
import { entryOf, LogRecords, metadataOf, RECORD } from "../../../shared/restore/new-member.ts";
import { REVISION_BUMP } from "../../../shared/restore/write-data.ts";
import { busyEtcd, purgedEtcd } from "../../pretend/busy-etcd.ts";
import { writeDamaged } from "../../pretend/damaged-etcd.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { flipEntry, makeRoom } from "../../pretend/write-wal.ts";

setDefaultTimeout(300_000);

const DIR = "/var/lib/etcd";
const NEW = "https://10.9.9.9:2380";
/** After the fixture's last .snap, as etcd purges it. */
const PURGED = 3606;

const contentOf = (data: EtcdData) =>
  new Map(
    data
      .list("")
      .map(({ key, value, createRevision, modRevision, version, lease }) => [
        key,
        [createRevision, modRevision, version, lease, Bun.hash(value)].join(" "),
      ]),
  );

/** All bytes of a folder. */
const bytesIn = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => [name, Bun.hash(readFileSync(`${parentPath}/${name}`))])
    .sort();

test.each([
  ["both meta pages are zeros", "meta-both", purgedEtcd(PURGED), "an older tree, of entry 3718, and the log"],
  ["the newest root page is zeros", "root", purgedEtcd(PURGED), "an older tree, of entry 3617, and the log"],
  [
    "the top of the keys' tree is",
    "branch-top",
    purgedEtcd(PURGED),
    "an older tree, of entry 3617, and the log",
  ],
  // other damages of the db, with the same way back: BY_LOG of test/soak/ways-back.test.ts
  ["the db is, and the log is whole", "db-zero", busyEtcd(), "the log from its first entry on"],
])("%s (%s): all keys come back, and the disk is as before", async (_, form, source, by) => {
  using box = sandbox();
  writeDamaged(`${box.dir}/whole`, "none", { seed: 1, source });
  writeDamaged(`${box.dir}/disk`, form, { seed: 1, source });
  const before = bytesIn(`${box.dir}/disk`);
  const found = memberDataIn("/disk");
  expect(wayInWords(found)).toStartWith(
    `exact: ${by} has all keys up to entry 3774, the last one on this disk; `,
  );
  await writeAlone(found, { dir: DIR, peerUrl: NEW });
  using truth = readEtcdData(`${box.dir}/whole`);
  using data = readEtcdData(`${box.dir}${DIR}`);
  expect(contentOf(data)).toEqual(contentOf(truth));
  const { clusterId, memberId, revision, compactedRevision } = truth;
  expect(data).toMatchObject({ clusterId, memberId, revision, compactedRevision, warnings: [] });
  expect(data.members).toMatchObject([{ name: "default", peerURLs: [NEW] }]);
  expect(bytesIn(`${box.dir}/disk`)).toEqual(before);
});

test.each([
  [
    "leaves of all trees are gone",
    "leaf-10",
    /No exact way leads back: 2 older tree\(s\), of entry 3327, do not fit the log .*the log has entries 3606 to 3774$/,
  ],
  [
    "the db is zeros",
    "db-zero",
    /no older tree is whole; the log alone: entry 1 is not in the log; the log has entries 3606 to 3774$/,
  ],
  ["the log is gone, too", "root-both+wal-none", /; the log is gone$/],
])("%s (%s): refused with what is missing, and nothing is written", async (_, form, why) => {
  using box = sandbox();
  writeDamaged(`${box.dir}/disk`, form, { seed: 2, source: purgedEtcd(PURGED) });
  const refused = await failOf(() => memberDataIn("/disk"));
  expect(refused?.message).toMatch(/^etcd's data in "[^"]*\/disk" is damaged: /);
  expect(refused?.message).toMatch(why);
  expect(refused?.exitCode).toBe(3);
  expect(refused?.hint).toContain("--from DIR,DIR");
});

test("a db of zeros, a snapshot of before, and the log from there on: all keys come back", async () => {
  using box = sandbox();
  const source = purgedEtcd(2900);
  writeDamaged(`${box.dir}/whole`, "none", { seed: 1, source });
  writeDamaged(`${box.dir}/disk`, "db-zero", { seed: 1, source });
  const snapshot = Buffer.concat([source.old, new Bun.CryptoHasher("sha256").update(source.old).digest()]);
  writeFileSync(`${box.dir}/night.db`, snapshot);
  expect((await failOf(() => memberDataIn("/disk")))?.message).toContain("no older tree is whole");
  const found = memberDataIn("/disk", "/night.db");
  expect(wayInWords(found, { snapshot: `${box.dir}/night.db` })).toMatch(
    /^exact: the snapshot, of entry \d+, and the log has all keys up to entry 3774, the last one on this disk; /,
  );
  await writeAlone(found, { dir: DIR, peerUrl: NEW });
  using truth = readEtcdData(`${box.dir}/whole`);
  using data = readEtcdData(`${box.dir}${DIR}`);
  expect(contentOf(data)).toEqual(contentOf(truth));
  const { clusterId, memberId, revision } = truth;
  expect(data).toMatchObject({ clusterId, memberId, revision, warnings: [], members: [{ peerURLs: [NEW] }] });
  expect(readFileSync(`${box.dir}/night.db`).equals(snapshot)).toBe(true);
});

/** At a revision that the truth still has. */
function otherThan(truth: EtcdData, data: EtcdData): string[] {
  return [...new Set([...truth.keys(""), ...data.keys("")])].filter((key) => {
    const then = truth.history(key).find(({ modRevision }) => modRevision <= data.revision);
    return (then?.deleted ? undefined : then?.modRevision) !== data.get(key)?.modRevision;
  });
}

test.each([
  ["ten leaves are zeros, and the log is whole up to there", "leaf-10", busyEtcd(), 3700, undefined],
  ["the newest root page is zeros", "root", purgedEtcd(PURGED), 3700, undefined],
  ["the db is whole, and the log is cut off behind it", "none", purgedEtcd(PURGED), 3760, undefined],
  ["the db is zeros, and there is a snapshot", "db-zero", purgedEtcd(2900), 3700, "/night.db"],
])(
  "an entry of the log is damaged (%s): as of the one before, and the revision is raised",
  async (_, form, source, entry, snapshot) => {
    using box = sandbox();
    writeDamaged(`${box.dir}/whole`, "none", { seed: 1, source });
    writeDamaged(`${box.dir}/disk`, form, { seed: 1, source });
    flipEntry(`${box.dir}/disk/member/wal`, entry);
    writeFileSync(`${box.dir}/night.db`, source.old);
    const found = memberDataIn("/disk", snapshot);
    expect(found.last).toMatchObject({ index: entry - 1, isCut: true });
    expect(wayInWords(found)).toContain(`entry ${entry - 1}: what was acknowledged after that is lost`);
    await writeAlone(found, { dir: DIR, peerUrl: NEW, bump: REVISION_BUMP });
    using truth = readEtcdData(`${box.dir}/whole`);
    using read = found.open();
    using data = readEtcdData(`${box.dir}${DIR}`);
    expect(otherThan(truth, read)).toEqual([]);
    expect(contentOf(data)).toEqual(contentOf(read));
    expect(read.revision).toBeLessThan(truth.revision);
    expect(data).toMatchObject({
      revision: read.revision + REVISION_BUMP,
      compactedRevision: read.revision + REVISION_BUMP,
    });
  },
);

test.each([
  ["its own db is older, and damaged", "root"],
  ["its own db is older, and whole", "none"],
])("a snapshot leads further than the disk alone (%s): it is taken", (_, form) => {
  using box = sandbox();
  const source = purgedEtcd(2800);
  const [member, night] = [`${box.dir}/disk/member`, `${box.dir}/night.db`];
  // the disk has lost what its db was written since the snapshot
  writeDamaged(`${box.dir}/disk`, form, { seed: 1, source: { ...source, db: source.old } });
  flipEntry(`${member}/wal`, 3300);
  expect(memberDataIn("/disk")).toMatchObject({ last: { index: 3299, isCut: true } });
  writeFileSync(night, source.db);
  expect(memberDataIn("/disk", "/night.db")).toMatchObject({
    last: { index: 3774, isCut: false },
    root: { path: night },
  });
});

test.each([
  ["no older tree is by the log", purgedEtcd(PURGED)],
  ["an older tree and the log end before it", purgedEtcd(2900)],
])(
  "the log ends before the whole db (%s): the db is taken, which is later, and both are said",
  async (_, source) => {
    using box = sandbox();
    writeDamaged(`${box.dir}/whole`, "none", { seed: 1, source });
    writeDamaged(`${box.dir}/disk`, "none", { seed: 1, source });
    rewriteLog(`${box.dir}/disk/member/wal`, ({ index }) => index < 3700);
    const found = memberDataIn("/disk");
    expect(found).toMatchObject({ isAlone: true, last: { index: 3718, isCut: true } });
    expect(wayInWords(found)).toStartWith(
      "as of an unknown time, entry 3718, by the database alone, whose log ends before it: what was acknowledged after that is lost; ",
    );
    await writeAlone(found, { dir: DIR, peerUrl: NEW, bump: REVISION_BUMP });
    using truth = readEtcdData(`${box.dir}/whole`);
    using read = found.open();
    using data = readEtcdData(`${box.dir}${DIR}`);
    expect(otherThan(truth, read)).toEqual([]);
    expect(contentOf(data)).toEqual(contentOf(read));
    expect(data.members).toMatchObject([{ name: "default", peerURLs: [NEW] }]);
  },
);

test("a log that goes on from the db's entry, behind a gap, is read: the entry that is said is the last one of both", () => {
  using box = sandbox();
  writeDamaged(`${box.dir}/disk`, "none", { seed: 1, source: purgedEtcd(PURGED) });
  flipEntry(`${box.dir}/disk/member/wal`, 3650);
  using data = readEtcdData(`${box.dir}/disk`, undefined, databaseAlone());
  // the db itself ends at entry 3718, revision 3351
  expect([data.end.index, data.revision, data.end.isEndSeen]).toEqual([3774, 3401, false]);
});

test.each<[string, (member: string) => unknown]>([
  ["its log is gone", (member) => rmSync(`${member}/wal`, { recursive: true })],
  [
    "its log has no bytes",
    (member) => readdirSync(`${member}/wal`).map((name) => truncateSync(`${member}/wal/${name}`, 0)),
  ],
])("the db is whole, and %s: the refusal names the line that takes the db alone", async (_, damage) => {
  using box = sandbox();
  writeDamaged(`${box.dir}/disk`, "none", { seed: 1, source: purgedEtcd(PURGED) });
  damage(`${box.dir}/disk/member`);
  const refused = await failOf(() => memberDataIn("/disk"));
  expect(refused?.hint).toMatch(
    /^take the database alone, which is whole, of revision 3351: .* --skip-hash-check \/disk\/member\/snap\/db\. Or /,
  );
});

test("a snapshot that is newer than the log is refused beside it", async () => {
  using box = sandbox();
  const { old, files, ...source } = busyEtcd();
  writeDamaged(`${box.dir}/disk`, "none", { seed: 1, source: { ...source, old, files, db: old } });
  rewriteLog(`${box.dir}/disk/member/wal`, ({ index }) => index < 3500);
  writeFileSync(`${box.dir}/night.db`, source.db);
  expect(memberDataIn("/disk")).toMatchObject({ last: { index: 3499, isCut: true } });
  const refused = await failOf(() => memberDataIn("/disk", "/night.db"));
  expect(refused?.message).toContain("the log ends at entry 3499, before the db's 3718");
  expect(refused?.exitCode).toBe(3);
});

test.each([
  ["the log begins after it", purgedEtcd(3606), (db: Buffer) => db, /newest: .*entry|does not tell/],
  [
    "it is of another cluster, or was changed",
    purgedEtcd(2900),
    other,
    /does not tell which entry has made|two contents|not what the log or the snapshot has|others than the log or the snapshot has/,
  ],
])("a snapshot that the log does not lead from (%s) is refused", async (_, source, change, why) => {
  using box = sandbox();
  writeDamaged(`${box.dir}/disk`, "db-zero", { seed: 1, source });
  writeFileSync(`${box.dir}/night.db`, change(Buffer.from(source.old)));
  expect((await failOf(() => memberDataIn("/disk", "/night.db")))?.message).toMatch(why);
});

/** The log, or the db, is of a member that was cut off from the others: its last entries were never theirs. */
test.each([
  [
    "an older one",
    1,
    /is damaged: the db and the log are of two members: the db's last entry, 3718, is of term 2\. The log has an entry of term 1 there/,
  ],
  [
    "a newer one, and its own db is damaged",
    3,
    /log are of two members: .* is of term 2\. The log has an entry of term 3 there/,
  ],
])(
  "another member's db beside this member's log, where the entry's term is %s: refused",
  async (_, term, why) => {
    using box = sandbox();
    writeDamaged(`${box.dir}/disk`, term > 2 ? "root" : "none", { seed: 1, source: purgedEtcd(PURGED) });
    otherTerms(`${box.dir}/disk/member/wal`, term);
    const refused = await failOf(() => memberDataIn("/disk"));
    expect(refused?.message).toMatch(why);
    expect(refused?.exitCode).toBe(3);
  },
);

test("where the log continues what another member of the cluster has applied, both are one", async () => {
  using box = sandbox();
  writeDamaged(`${box.dir}/disk`, "none", { seed: 1, source: purgedEtcd(PURGED) });
  otherTerms(`${box.dir}/disk/member/wal`, 3, 3720);
  expect(memberDataIn("/disk")).toMatchObject({ last: { index: 3774, term: 3, isCut: false } });
});

/** The same log, whose entries from this one on are of another term. */
function otherTerms(folder: string, term: number, from = 0) {
  rewriteLog(folder, (entry) => ({ ...entry, term: entry.index >= from ? term : entry.term }));
}

/** The same log with other entries, or fewer. */
function rewriteLog(folder: string, change: (entry: Entry) => Entry | boolean) {
  const { entries, before: _, ...wal } = readWal(folder, { after: 0, isWanted: () => true });
  const ids = { memberId: BigInt(`0x${wal.memberId}`), clusterId: BigInt(`0x${wal.clusterId}`) };
  const log = new LogRecords().begin().add(RECORD.metadata, metadataOf(ids));
  for (const entry of entries.values()) {
    const changed = change(entry);
    const written = changed === true ? entry : changed;
    if (written) log.add(RECORD.entry, entryOf(written, written.data));
  }
  for (const name of readdirSync(folder)) {
    writeFileSync(`${folder}/${name}`, log.bytes());
    makeRoom(`${folder}/${name}`);
  }
}

/** Its values have other letters. */
function other(db: Buffer): Buffer {
  for (let at = db.indexOf(" of write "); at >= 0; at = db.indexOf(" of write ", at + 1)) db.write(" OF", at);
  return db;
}

test("where the log's end is lost, it is said as of when", () => {
  const last = { index: 88120, isCut: true };
  const until = new Date("2026-11-30T14:02:11Z");
  expect(wayInWords({ last }, { until })).toBe(
    "as of 14:02:11 UTC, entry 88120: what was acknowledged after that is lost",
  );
});

test("of two disks whose logs end alike, the one that is not damaged is taken", () => {
  using box = sandbox();
  writeDamaged(`${box.dir}/whole`, "none", { seed: 1, source: busyEtcd() });
  writeDamaged(`${box.dir}/damaged`, "root", { seed: 1, source: busyEtcd() });
  const [damaged, whole] = [memberDataIn("/damaged"), memberDataIn("/whole")];
  const other = { ...damaged, own: { ...damaged.own, id: "b2", name: "cp2" } };
  expect(chooseData([other, whole]).chosen).toBe(whole);
  const longer = { ...other, last: { ...other.last, index: other.last.index + 1 } };
  expect(chooseData([longer, whole]).chosen).toBe(longer);
});
