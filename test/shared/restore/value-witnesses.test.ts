/** Values of a lost member: who else has them, and what is put in the place of one that is damaged. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { Bbolt } from "../../../shared/etcd-data/bbolt.ts";
import { type EtcdData, readEtcdData } from "../../../shared/etcd-data/data.ts";
import { consistentIndex } from "../../../shared/etcd-data/directory.ts";
import { firstEntryIn } from "../../../shared/etcd-data/wal.ts";
import { failOf } from "../../../shared/fail.ts";
import {
  chooseData,
  memberDataIn,
  wayInWords,
  writeAlone,
} from "../../../shared/restore/lost-members-data.ts";
import { bytesField, intField } from "../../../shared/restore/new-member.ts";
import { membersDataIn } from "../../../shared/restore/several-members.ts";
import { proofWords } from "../../../shared/restore/value-witnesses.ts";
import { proveByWholeLog } from "../../../shared/restore/whole-log.ts";
import { REVISION_BUMP } from "../../../shared/restore/write-data.ts";
import { busyEtcd, purgedEtcd } from "../../pretend/busy-etcd.ts";
import { writeDamaged } from "../../pretend/damaged-etcd.ts";
import { writeRestored } from "../../pretend/restored.ts";
import { type Sandbox, sandbox } from "../../pretend/sandbox.ts";
import { snapshotOf } from "../../pretend/write-db.ts";
import { flipEntry, makeRoom, purgeLog } from "../../pretend/write-wal.ts";

setDefaultTimeout(300_000);

const DIR = "/var/lib/etcd";
const NEW = "https://10.9.9.9:2380";
const DB = "/disk/member/snap/db";

const contentOf = (data: EtcdData) =>
  new Map(
    data
      .list("")
      .map(({ key, value, ...numbers }) => [
        key,
        `${Bun.inspect(numbers)} ${Buffer.from(value).toString("latin1")}`,
      ]),
  );

/** The fixture's values, with the revision that wrote each. */
const revisionsOf = (data: EtcdData) =>
  data
    .list("")
    .toArray()
    .sort((a, b) => a.modRevision - b.modRevision);

/** The member, with another letter in the value of its db that this text begins. */
function letterIn(box: Sandbox, text: string, at = text.length) {
  const db = readFileSync(`${box.dir}${DB}`);
  let place = db.indexOf(text);
  expect(place).toBeGreaterThan(0);
  for (; place >= 0; place = db.indexOf(text, place + 1)) db[place + at]! ^= 1;
  writeFileSync(`${box.dir}${DB}`, db);
}

/** What comes back is the truth. */
async function expectAll(box: Sandbox, snapshot?: string) {
  const found = memberDataIn("/disk", snapshot);
  await writeAlone(found, { dir: DIR, peerUrl: NEW });
  using truth = readEtcdData(`${box.dir}/whole`);
  using data = readEtcdData(`${box.dir}${DIR}`);
  expect(contentOf(data)).toEqual(contentOf(truth));
  expect(data.keys("")).toEqual(truth.keys(""));
  return found;
}

function busy(box: Sandbox, source = busyEtcd()) {
  for (const folder of ["whole", "disk"]) writeDamaged(`${box.dir}/${folder}`, "none", { seed: 1, source });
  using data = readEtcdData(`${box.dir}/whole`);
  return revisionsOf(data).map(
    ({ value }) => /\/registry.* of write \d+ /.exec(Buffer.from(value).toString())![0],
  );
}

test.each([
  ["in its value", (text: string) => text.length],
  ["in its key, which is then another key", (text: string) => text.indexOf("object-") + 7],
])("one letter of a value that the log has is another (%s): the log's is put in its place", async (_, at) => {
  using box = sandbox();
  const texts = busy(box, purgedEtcd(3000));
  const text = texts.find((one) => Number(/ (\d+) $/.exec(one)![1]) > 3100)!;
  const key = text.slice(0, text.indexOf(" of write"));
  // the key is in the row twice: by itself, and at the value's beginning
  if (at(text) === text.length) letterIn(box, text);
  else changeKey(box, text, key);
  const { proof } = await expectAll(box);
  expect(proof.mended).toHaveLength(1);
  expect(proofWords(proof)).toMatch(
    / have no second witness, .*\. Damaged values that were put right: \/registry.*, by the log$/,
  );
});

/** The key in the row of this value: the value begins with "k8s\0", some bytes, and the key, too. */
function changeKey(box: Sandbox, text: string, key: string) {
  const db = readFileSync(`${box.dir}${DB}`);
  for (let value = db.indexOf(text); value >= 0; value = db.indexOf(text, value + 1)) {
    const place = db.lastIndexOf(key, value - 1);
    expect(value - place).toBeLessThan(key.length + 40);
    db[place + key.length - 1]! ^= 1;
  }
  writeFileSync(`${box.dir}${DB}`, db);
}

/** Etcd 3.5.21's, whose log has more entries than there are revisions; or another of the small fixtures. */
function small(box: Sandbox, fixture = "3.5.21") {
  const fixtures = `${import.meta.dirname}/../../fixtures/etcd/${fixture}`;
  for (const dir of [`${box.dir}/whole`, `${box.dir}/disk`]) {
    for (const folder of ["snap", "wal"]) mkdirSync(`${dir}/member/${folder}`, { recursive: true });
    for (const name of readdirSync(fixtures).filter((one) => one.endsWith(".gz"))) {
      const path = `${dir}/member/${name.replace("_", "/").replace(/\.gz$/, "")}`;
      writeFileSync(path, gunzipSync(readFileSync(`${fixtures}/${name}`)));
      if (path.endsWith(".wal")) makeRoom(path);
    }
  }
}

test("a key that the log has not, though it has more entries than there are revisions, is the log's again", async () => {
  using box = sandbox();
  small(box);
  letterIn(box, "/registry/configmaps/default/cm-42", "/registry/configmaps".length);
  const { proof } = await expectAll(box);
  expect(proof.mended).toEqual(["/registry/configmaps.default/cm-42 (revision 50), by the log"]);
});

/** Of these fixtures it is no whole object. */
const NO_OBJECT = "/registry/namespaces/kube-system";

test.each(["3.6.5-restored", "3.5.16-restored-alone", "3.5.16-restored-alone-started"])(
  "%s: its log begins anew with entry 1, and its database has rows of before: they stay, and are counted",
  (fixture) => {
    using box = sandbox();
    small(box, fixture);
    using data = readEtcdData(`${box.dir}/disk`);
    expect(firstEntryIn(`${box.dir}/disk/member/wal`)).toBe(1);
    expect(proveByWholeLog(`${box.dir}/disk`, data)).toBeUndefined();
    const { proof, root, isAlone, open } = memberDataIn("/disk", undefined, { without: [NO_OBJECT] });
    expect([root, isAlone]).toEqual([undefined, undefined]);
    expect(proof).toMatchObject({ hasNumbers: false, mended: [], leftOut: [NO_OBJECT] });
    expect(proof.alone).toBeGreaterThan(50);
    using back = open();
    const rest = contentOf(data);
    rest.delete(NO_OBJECT);
    expect(contentOf(back)).toEqual(rest);
  },
);

/** The same with a log that begins with this entry. */
function smallPurged(box: Sandbox, from: number) {
  small(box);
  for (const dir of ["/whole", "/disk"]) purgeLog(`${box.dir}${dir}/member/wal`, from);
}

/** In each page of the disk's db, be it in use or not. */
function eachPlace(box: Sandbox, text: string | Buffer, change: (db: Buffer, at: number) => unknown) {
  const db = readFileSync(`${box.dir}${DB}`);
  const places: number[] = [];
  for (let at = db.indexOf(text); at >= 0; at = db.indexOf(text, at + 1)) places.push(at);
  expect(places.length).toBeGreaterThan(0);
  for (const at of places) change(db, at);
  writeFileSync(`${box.dir}${DB}`, db);
}

const OLDEST = "/registry/namespaces/kube-system\x10";
/** Of revision 72, which is compacted: created at 12, version 2. */
const NUMBERS = Buffer.from("/registry/configmaps/default/cm-4\x10\x0c\x18\x48\x20\x02");

test("a letter in the key of the oldest row: a log from its first entry on has each, and the log's is taken", async () => {
  using box = sandbox();
  small(box);
  eachPlace(box, OLDEST, (db, at) => (db[at + OLDEST.length - 2]! ^= 0x80));
  const { proof } = await expectAll(box);
  expect(proof.mended).toHaveLength(1);
  expect(proof.mended[0]).toEndWith(" (revision 2), by the log");
  expect(proof.alone).toBe(0);
});

/** One letter of the log's value is another, in its first file. */
function damageLog(box: Sandbox, text: string) {
  const folder = `${box.dir}/disk/member/wal`;
  const path = `${folder}/${readdirSync(folder).sort()[0]}`;
  const bytes = readFileSync(path);
  bytes[bytes.lastIndexOf(text) + text.length]! ^= 1;
  writeFileSync(path, bytes);
}

test("a record of the log is damaged, and the database is taken: the entries before it are witnesses, too", async () => {
  using box = sandbox();
  small(box);
  damageLog(box, "/registry/configmaps/default/large");
  eachPlace(box, NUMBERS, (db, at) => (db[at + "/registry/config".length]! ^= 1));
  const found = await expectAll(box);
  const { isAlone, goesOn, proof } = found;
  expect([isAlone, goesOn]).toEqual([true, true]);
  expect(wayInWords(found)).toContain(", by the database and its log behind a gap: ");
  expect(proof.mended).toEqual(["/registry/configlaps/default/cm-4 (revision 72), by the log"]);
  // that of the lost entry, and those of kubeadm's before it
  expect(proof.alone).toBeLessThan(5);
  expect(proofWords(proof)).toContain(
    `${proof.alone} of ${proof.values} values and their keys have no second witness, `,
  );
});

/** Field 5 of revision 89, its value; version 1 had none. */
const VALUE = Buffer.from("/registry/configmaps/default/cm-21\x10\x1d\x18\x59\x20\x02\x2a");

test("a value has become what the key had before a gap of the log: the entry behind the gap is its witness", async () => {
  using box = sandbox();
  small(box);
  flipEntry(`${box.dir}/disk/member/wal`, 38);
  eachPlace(box, VALUE, (db, at) => (db[at + VALUE.length - 1]! ^= 0x40));
  const { goesOn, proof } = await expectAll(box);
  expect(goesOn).toBe(true);
  expect(proof.mended).toEqual(["/registry/configmaps/default/cm-21 (revision 89), by the log"]);
});

test("another lease of a key than the log has is damage: the key would live on, or go with another's", async () => {
  using box = sandbox();
  small(box);
  using truth = readEtcdData(`${box.dir}/whole`);
  const leased = revisionsOf(truth).find(({ lease }) => lease !== 0n)!;
  smallPurged(box, 3);
  eachPlace(box, Buffer.from(intField(6, leased.lease)), (db, at) => (db[at + 1]! ^= 1));
  using read = readEtcdData(`${box.dir}/disk`);
  expect(read.leaseOf(leased.key)).not.toBe(leased.lease);
  // keys of the same length have the same value, so it is not known which of them is meant
  expect((await failOf(() => memberDataIn("/disk")))?.message).toContain(
    `${leased.key} (revision ${leased.modRevision}`,
  );
});

test("another version of a key than the log has made: the log's is taken", async () => {
  using box = sandbox();
  small(box);
  eachPlace(box, NUMBERS, (db, at) => (db[at + NUMBERS.length - 1] = 9));
  const { proof } = await expectAll(box);
  expect(proof.mended).toEqual(["/registry/configmaps/default/cm-4 (revision 72), by the log"]);
});

test("the newest row of a key is gone, and a wrong number of the last compaction hides that: the log has it", () => {
  using box = sandbox();
  small(box);
  const key = "/registry/pods/kube-system/etcd-m1.example";
  const read = readEtcdData(`${box.dir}/disk`);
  const rows = (name: string) =>
    read.history(name).filter(({ modRevision }) => name !== key || modRevision !== 111);
  expect(rows(key)).toHaveLength(read.history(key).length - 1);
  const less: EtcdData = { ...read, history: rows, compactedRevision: read.revision };
  const found = proveByWholeLog(`${box.dir}/disk`, less)!;
  expect(found.mended).toEqual([`${key} (revision 111), by the log`]);
  expect(found.data.get(key)?.modRevision).toBe(111);
});

test("a compaction beyond the newest revision that the log has not is damage: all later revisions would be others", async () => {
  using box = sandbox();
  smallPurged(box, 120);
  const scheduled = Buffer.concat([
    Buffer.from("scheduledCompactRev"),
    Buffer.from([0, 0, 0, 0, 0, 0, 0, 100]),
  ]);
  eachPlace(box, scheduled, (db, at) => (db[at + scheduled.length - 1] = 254));
  const refused = await failOf(() => memberDataIn("/disk"));
  expect(refused?.message).toMatch(
    /revisions up to 254 are compacted, but the newest one is \d+, and the log has no such compaction/,
  );
});

test("the database is zeros, and etcd has purged its log: the night's snapshot and the log are exact", async () => {
  using box = sandbox();
  busy(box);
  writeFileSync(`${box.dir}/night.db`, busyEtcd().old);
  using night = new Bbolt(`${box.dir}/night.db`);
  purgeLog(`${box.dir}/disk/member/wal`, night.stable(consistentIndex) - 200);
  writeFileSync(`${box.dir}${DB}`, Buffer.alloc(busyEtcd().db.length));
  const found = await expectAll(box, "/night.db");
  expect(wayInWords(found, { snapshot: `${box.dir}/night.db` })).toStartWith(
    `exact: the snapshot, of entry ${night.stable(consistentIndex)}, and the log has all keys up to entry `,
  );
});

test("a letter in the key of a deletion is seen: else what was deleted would be back", async () => {
  using box = sandbox();
  smallPurged(box, 120);
  const db = readFileSync(`${box.dir}${DB}`);
  // a deletion's row has the key alone, and its value ends with it
  const deletion = Buffer.concat([
    Buffer.from([0x0a, 0x2e]),
    Buffer.from("/registry/pods/kube-system/kube-vip-m1.example"),
  ]);
  let hits = 0;
  for (let at = db.indexOf(deletion); at >= 0; at = db.indexOf(deletion, at + 1)) {
    if (db[at + deletion.length] === 0x10) continue;
    db[at + deletion.length - 2]! ^= 2;
    hits++;
  }
  expect(hits).toBeGreaterThan(0);
  writeFileSync(`${box.dir}${DB}`, db);
  const refused = await failOf(() => memberDataIn("/disk"));
  expect(refused?.message).toContain(
    'revision 110 deletes "/registry/pods/kube-system/kube-vip-m1.exampne", which was not there',
  );
});

test("a log from its first entry on has all values; of a purged one the older ones are counted", () => {
  using box = sandbox();
  busy(box);
  expect(proofWords(memberDataIn("/disk").proof)).toMatch(
    /^each of \d+ values and its key has a second witness$/,
  );
  busy(box, purgedEtcd(3606));
  const { proof } = memberDataIn("/disk");
  expect(proof).toMatchObject({ since: 3606, mended: [] });
  expect(proof.alone).toBeGreaterThan(100);
  expect(proof.alone).toBeLessThan(proof.values);
  expect(proofWords(proof)).toBe(
    `${proof.alone} of ${proof.values} values older than entry 3606 and their keys have no second witness, and each of them is whole; only the database has each key's createRevision and version`,
  );
});

test("a snapshot is a witness of what is older than the log, and has what is put in its place", async () => {
  using box = sandbox();
  const texts = busy(box, purgedEtcd(3606));
  writeFileSync(`${box.dir}/night.db`, busyEtcd().old);
  const without = memberDataIn("/disk").proof;
  const withIt = memberDataIn("/disk", "/night.db").proof;
  expect(withIt.alone).toBeLessThan(without.alone / 2);
  const old = busyEtcd().old;
  letterIn(box, texts.find((text) => old.includes(text))!);
  const { proof } = await expectAll(box, "/night.db");
  expect(proof.mended.join()).toMatch(/^\/registry\/.* \(revision \d+\), by the snapshot$/);
});

/** Kubernetes' own values, and others' keys, all older than the log. */
const PUTS: [key: string, value: string | Buffer][] = [
  ...["a", "b", "c"].map((name): [string, Buffer] => [
    `/registry/configmaps/default/${name}`,
    stored(
      "v1",
      "ConfigMap",
      named(name, "default"),
      bytesField(2, Buffer.concat([bytesField(1, "k"), bytesField(2, "x".repeat(3000))])),
    ),
  ]),
  ...["a", "b", "c"].map((name): [string, string] => [
    `/registry/example.com/widgets/default/${name}`,
    JSON.stringify({
      apiVersion: "example.com/v1",
      kind: "Widget",
      metadata: { name, namespace: "default" },
      spec: "y".repeat(3000),
    }),
  ]),
  ["/registry/masterleases/10.0.0.1", stored("v1", "Endpoints", named("", ""))],
  ["/registry/ranges/serviceips", stored("v1", "RangeAllocation", named("", ""))],
  ["/registry/namespaces/kube-system", stored("v1", "Namespace", named("kube-system", ""))],
  ["/coreos.com/network/config", "{{ of another program"],
  ["/traefik/http/routers/a/rule", "Host(`a`)"],
  ["compact_rev_key", "1234"],
  ["/registry/k/0", "\0\0\0"],
];

function stored(apiVersion: string, kind: string, ...raw: Buffer[]) {
  const type = Buffer.concat([bytesField(1, apiVersion), bytesField(2, kind)]);
  const fields = [
    bytesField(1, type),
    bytesField(2, Buffer.concat(raw)),
    bytesField(3, ""),
    bytesField(4, ""),
  ];
  return Buffer.concat([Buffer.from("k8s\0"), ...fields]);
}
function named(name: string, namespace: string) {
  return bytesField(1, Buffer.concat([bytesField(1, name), bytesField(3, namespace)]));
}

const BEFORE = {
  consistent_index: Buffer.alloc(8, "\0\0\0\0\0\0\0\x01"),
  term: Buffer.alloc(8, "\0\0\0\0\0\0\0\x01"),
};

/** A member that was restored from a snapshot: its log has none of the values. */
async function restored(box: Sandbox) {
  const snapshot = snapshotOf({
    members: [{ id: "a1", name: "cp1", peerURLs: [NEW] }],
    puts: PUTS,
    buckets: { meta: BEFORE },
  });
  writeFileSync(`${box.dir}/night.db`, snapshot);
  for (const dir of ["/whole", "/disk"]) {
    mkdirSync(`${box.dir}${dir}`);
    await writeRestored("/night.db", dir, { name: "cp1", token: "t", peerUrl: NEW }, 0);
  }
}

test("values of Kubernetes and of other programs, older than the log: none is damaged", async () => {
  using box = sandbox();
  await restored(box);
  const { proof } = await expectAll(box);
  expect(proof).toMatchObject({ values: PUTS.length, alone: PUTS.length, mended: [] });
});

const HIT: [string, (db: Buffer) => unknown, RegExp][] = [
  [
    "a sector in JSON is zeros",
    (db) => db.fill(0, db.indexOf("yyyy") + 700, db.indexOf("yyyy") + 1212),
    /1 value\(s\) are damaged, and nothing has them whole: \/registry\/example\.com\/widgets\/default\/a \(revision 5\) \(it is no whole JSON\)/,
  ],
  [
    "the head of an object is",
    (db) => db.fill(0, db.indexOf("v1\x12\x09ConfigMap"), db.indexOf("xxxx") - 20),
    /\/registry\/configmaps\/default\/. \(revision \d\) \(it does not end where its format says\)/,
  ],
  [
    "a key is another",
    (db) => db.write("widgets/default/d", db.indexOf("widgets/default/b")),
    /\/registry\/example\.com\/widgets\/default\/d \(revision 6\) \(the object inside is default\/b\)/,
  ],
];

test.each(HIT)(
  "%s, and nothing else has it: refused with its name; with a snapshot all is back",
  async (_, hit, why) => {
    using box = sandbox();
    await restored(box);
    const db = readFileSync(`${box.dir}${DB}`);
    hit(db);
    writeFileSync(`${box.dir}${DB}`, db);
    const refused = await failOf(() => memberDataIn("/disk"));
    expect(refused?.message).toMatch(why);
    expect(refused?.exitCode).toBe(3);
    const { proof } = await expectAll(box, "/night.db");
    expect(proof.mended).toHaveLength(1);
  },
);

test("numbers of a row that etcd does not give out are damage, where nothing else has the row", async () => {
  using box = sandbox();
  await restored(box);
  const row = "/registry/configmaps/default/b\x10";
  eachPlace(box, row, (db, at) => (db[at + row.length] = 0));
  const refused = await failOf(() => memberDataIn("/disk"));
  expect(refused?.message).toContain(
    'revision 3 of "/registry/configmaps/default/b" has numbers that etcd does not give out: created at 0, version 1',
  );
});

test.each(HIT.slice(0, 2))(
  "%s: the refusal has the line that gives up its key; the result is as of then, and says which",
  async (_, hit) => {
    using box = sandbox();
    await restored(box);
    const db = readFileSync(`${box.dir}${DB}`);
    hit(db);
    writeFileSync(`${box.dir}${DB}`, db);
    const refused = await failOf(() => membersDataIn(["/disk"]));
    const key = / give up these keys: .* --give-up (\S+)$/.exec(refused!.hint!)![1]!;
    expect(refused?.message).toContain(`nothing has them whole: ${key} (revision `);
    expect(refused?.hint).not.toContain("take the database alone");
    const all = membersDataIn(["/disk"], undefined, [key]);
    const choice = chooseData(all);
    expect(choice).toMatchObject({ here: 0, isQuorum: false });
    expect(wayInWords(choice.chosen)).toStartWith(
      `as of an unknown time, entry ${choice.chosen.last.index}, without 1 key(s) that are given up (${key}): `,
    );
    await writeAlone(choice.chosen, { dir: DIR, peerUrl: NEW, bump: REVISION_BUMP });
    using truth = readEtcdData(`${box.dir}/whole`);
    using data = readEtcdData(`${box.dir}${DIR}`);
    const rest = contentOf(truth);
    rest.delete(key);
    expect(contentOf(data)).toEqual(rest);
    expect(data.history(key)).toEqual([]);
    expect(data.revision).toBe(truth.revision + REVISION_BUMP);
  },
);

test("a key that is whole is not given up, nor one whose name is in doubt", async () => {
  using box = sandbox();
  await restored(box);
  const whole = "/registry/configmaps/default/a";
  expect((await failOf(() => membersDataIn(["/disk"], undefined, [whole])))?.message).toBe(
    `--give-up names what is not damaged in this data: ${whole}`,
  );
  const db = readFileSync(`${box.dir}${DB}`);
  HIT[2]![1](db);
  writeFileSync(`${box.dir}${DB}`, db);
  const refused = await failOf(() =>
    membersDataIn(["/disk"], undefined, ["/registry/example.com/widgets/default/d"]),
  );
  expect(refused?.message).toMatch(HIT[2]![2]);
  expect(refused?.hint).not.toContain("--give-up");
});
