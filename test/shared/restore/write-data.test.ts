/** A snapshot becomes the data of one member. Beside etcdutl, on real etcd: test/lab/checks/restore.ts. */
import { describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { Bbolt } from "../../../shared/etcd-data/bbolt.ts";
import { readEtcdData, readSnapshotData } from "../../../shared/etcd-data/data.ts";
import { Damaged } from "../../../shared/etcd-data/protobuf.ts";
import { type Fail, failOf } from "../../../shared/fail.ts";
import { bytesField, intField } from "../../../shared/restore/new-member.ts";
import { checkSnapshotFile, refuseState } from "../../../shared/restore/snapshot-file.ts";
import { makeMember, REVISION_BUMP, refuseNotEmpty } from "../../../shared/restore/write-data.ts";
import { writeRestored } from "../../pretend/restored.ts";
import { type Sandbox, sandbox } from "../../pretend/sandbox.ts";
import { type Content, dbFile } from "../../pretend/write-db.ts";

const FIXTURES = `${import.meta.dirname}/../../fixtures/etcd`;
const RELEASES = ["3.5.21", "3.6.13"];
const MEMBER = { name: "cp1", peerUrl: "https://10.0.0.11:2380", token: "a day" };
const PATH = "/root/snapshot.db";
const DIR = "/var/lib/etcd";

const dbOf = (release: string) => gunzipSync(readFileSync(`${FIXTURES}/${release}/snap_db.gz`));

/** As etcd gives it. */
function withSum(db: Uint8Array): Buffer {
  return Buffer.concat([db, createHash("sha256").update(db).digest()]);
}

function put(box: Sandbox, bytes: Uint8Array) {
  mkdirSync(`${box.dir}/root`, { recursive: true });
  writeFileSync(`${box.dir}${PATH}`, bytes);
}

/** With this change of a bucket. */
function changed(box: Sandbox, bucket: string, key: string, value: string) {
  put(box, dbOf("3.6.13"));
  using db = new Bbolt(`${box.dir}${PATH}`);
  const itemsOf = (name: string) =>
    db.stable((tree) => [...tree.items(name)].map((row) => [row.key.toString("latin1"), row.value] as const));
  const content: Content = Object.fromEntries(
    ["alarm", "auth", "key", "lease", "members", "meta"].map((name) => [
      name,
      Object.fromEntries(itemsOf(name)),
    ]),
  );
  content[bucket] = Object.fromEntries(
    Object.entries({ ...content[bucket], [key]: value }).sort(([a], [b]) => (a < b ? -1 : 1)),
  );
  put(box, withSum(dbFile({ pageSize: 4096, perLeaf: 20, txid: 8n }, content)));
}

describe.each(RELEASES)("a snapshot of etcd %s", (release) => {
  test("is restored with one member, all keys, and a revision that nobody has seen", async () => {
    using box = sandbox();
    put(box, withSum(dbOf(release)));
    using before = readSnapshotData(`${box.dir}${PATH}`);
    await writeRestored(PATH, DIR, MEMBER);
    using after = readEtcdData(`${box.dir}${DIR}`);
    const values = ({ list }: typeof before) =>
      [...list("")].map(({ key, value, lease }) => ({ key, value, lease }));
    expect(values(after)).toEqual(values(before));
    expect(after.keyCount).toBeGreaterThan(50);
    expect(after.revision).toBe(before.revision + REVISION_BUMP);
    expect(after.compactedRevision).toBe(after.revision);
    const { memberId, members, clusterId, warnings } = after;
    expect(warnings).toEqual([]);
    expect(members).toEqual([
      { id: memberId, name: "cp1", peerURLs: [MEMBER.peerUrl], clientURLs: [], isLearner: false },
    ]);
    expect(clusterId).not.toBe(memberId);
  });

  test("is not changed itself, nothing half is left, and nobody else may look", async () => {
    using box = sandbox();
    const bytes = withSum(dbOf(release));
    put(box, bytes);
    await writeRestored(PATH, DIR, MEMBER);
    expect(readFileSync(`${box.dir}${PATH}`).equals(bytes)).toBe(true);
    expect(readdirSync(`${box.dir}${DIR}`)).toEqual(["member"]);
    const mode = (path: string) => statSync(`${box.dir}${DIR}${path}`).mode & 0o777;
    expect(["", "/member", "/member/snap", "/member/wal"].map(mode)).toEqual([0o700, 0o700, 0o700, 0o700]);
    expect(mode("/member/snap/db")).toBe(0o600);
  });
});

test("the same member of another restore has other ids: the two clusters never talk to each other", async () => {
  using box = sandbox();
  put(box, withSum(dbOf("3.6.13")));
  const ids = async (token: string) => {
    await writeRestored(PATH, `/var/${token}`, { ...MEMBER, token });
    using data = readEtcdData(`${box.dir}/var/${token}`);
    return [data.clusterId, data.memberId];
  };
  const [one, other] = [await ids("monday"), await ids("tuesday")];
  expect(one[0]).not.toBe(other[0]!);
  expect(one[1]).not.toBe(other[1]!);
});

test("a member's folder gets its name when all of it is there, and nobody else may look", async () => {
  using box = sandbox();
  put(box, Buffer.alloc(1));
  let grew = "";
  await makeMember({ dir: DIR, from: PATH }, async (folder) => {
    grew = folder;
    mkdirSync(box.dir + folder, { mode: 0o755 });
    writeFileSync(`${box.dir}${folder}/db`, "all");
    expect(existsSync(`${box.dir}${DIR}/member`)).toBe(false);
  });
  expect(grew).toStartWith(`${DIR}/.member.`);
  expect(readdirSync(`${box.dir}${DIR}`)).toEqual(["member"]);
  expect(readFileSync(`${box.dir}${DIR}/member/db`, "utf8")).toBe("all");
  expect([DIR, `${DIR}/member`].map((path) => statSync(box.dir + path).mode & 0o777)).toEqual([0o700, 0o700]);
});

test.each<[string, () => Error, string]>([
  [
    "by the disk",
    () => Object.assign(new Error("ENOSPC"), { code: "ENOSPC" }),
    `Cannot restore ${PATH} to ${DIR}`,
  ],
  ["by what is read", () => new Damaged("no root"), `etcd's data in "${PATH}" is damaged: no root`],
])("cut off %s, nothing of a member's folder is left, and it says why", async (_, cause, said) => {
  using box = sandbox();
  put(box, Buffer.alloc(1));
  const fail = await failOf(() =>
    makeMember({ dir: DIR, from: PATH }, async (folder) => {
      mkdirSync(`${box.dir}${folder}/snap`, { recursive: true });
      throw cause();
    }),
  );
  expect(fail?.message).toContain(said);
  expect(readdirSync(`${box.dir}${DIR}`)).toEqual([]);
});

test("where the data is damaged, nothing is left", async () => {
  using box = sandbox();
  put(box, withSum(Buffer.alloc(16 * 4096, 7)));
  const fail = await failOf(() => writeRestored(PATH, DIR, MEMBER));
  expect(fail?.message).toContain(`etcd's data in "${box.dir}${PATH}" is damaged`);
  expect(existsSync(`${box.dir}${DIR}`)).toBe(false);
});

test("data that is there already is not touched, but a disk's own folder is nothing", async () => {
  using box = sandbox();
  mkdirSync(`${box.dir}${DIR}/lost+found`, { recursive: true });
  refuseNotEmpty(DIR);
  mkdirSync(`${box.dir}${DIR}/member`);
  put(box, withSum(dbOf("3.6.13")));
  const fail = await failOf(() => writeRestored(PATH, DIR, MEMBER));
  expect(fail).toMatchObject({ message: `There is something in "${DIR}": member` });
  expect(fail?.hint).toContain(`mv ${DIR} ${DIR}.before`);
  expect(existsSync(`${box.dir}${DIR}/member/snap`)).toBe(false);
});

test.each<[string, (bytes: Buffer) => Uint8Array | undefined, string]>([
  ["is not there", () => undefined, `There is no snapshot "${PATH}"`],
  ["is cut off", (bytes) => withSum(bytes).subarray(0, -100), "is no snapshot of etcd, or not all of it"],
  ["has one byte that is another", (bytes) => other(withSum(bytes), 5000), "it is damaged"],
  ["has another sum", (bytes) => other(withSum(bytes), bytes.length + 3), "it is damaged"],
  ["has no sum", (bytes) => bytes, "it is a copy of etcd's member/snap/db"],
])("a file that %s is refused", async (_, change, said) => {
  using box = sandbox();
  const bytes = change(dbOf("3.6.13"));
  if (bytes) put(box, bytes);
  const fail = (await failOf(() => checkSnapshotFile(PATH))) as Fail;
  expect(fail.message).toContain(said);
  expect(fail.exitCode).toBe(bytes ? 3 : 1);
});

function other(bytes: Buffer, at: number): Buffer {
  bytes[at]! ^= 1;
  return bytes;
}

test("a copy of the database is taken where the operator says so, and one with a wrong sum never", async () => {
  using box = sandbox();
  put(box, dbOf("3.6.13"));
  expect(await checkSnapshotFile(PATH, { skipHashCheck: true })).toBe(false);
  put(box, other(withSum(dbOf("3.6.13")), 5000));
  expect((await failOf(() => checkSnapshotFile(PATH, { skipHashCheck: true })))?.message).toContain(
    "damaged",
  );
});

test("what a database has beside its keys", async () => {
  using box = sandbox();
  for (const [release, storageVersion] of [
    ["3.5.21", undefined],
    ["3.6.13", "3.6.0"],
  ] as const) {
    put(box, withSum(dbOf(release)));
    expect(stateOf(box, PATH)).toEqual({ storageVersion, alarms: [], hasUsers: false });
  }
});

function stateOf({ dir }: Sandbox, path: string) {
  using data = readSnapshotData(dir + path);
  const { alarms, hasUsers } = data.stored();
  return { storageVersion: data.storageVersion, alarms: [...alarms], hasUsers };
}

const alarm = (kind: number) => Buffer.concat([intField(1, 77), intField(2, kind)]).toString("latin1");

test.each<[string, string, [key: string, value: string], string]>([
  ["with the alarm NOSPACE", "alarm", [alarm(1), ""], "has the alarm NOSPACE"],
  ["with the alarm CORRUPT", "alarm", [alarm(2), ""], "has the alarm CORRUPT"],
  ["with users", "auth", ["authEnabled", "\x01"], "is of an etcd with users"],
])("a snapshot %s is refused", async (_, bucket, [key, value], said) => {
  using box = sandbox();
  changed(box, bucket, key, value);
  const fail = (await failOf(() =>
    refuseState(readSnapshotData(`${box.dir}${PATH}`), { path: PATH }),
  )) as Fail;
  expect(fail.message).toContain(said);
  expect(fail.exitCode).toBe(3);
});

test("an alarm goes where the operator says so", async () => {
  using box = sandbox();
  changed(box, "alarm", alarm(1), "");
  refuseState(readSnapshotData(`${box.dir}${PATH}`), { path: PATH, disarm: true });
  await writeRestored(PATH, DIR, MEMBER);
  expect(stateOf(box, `${DIR}/member/snap/db`).alarms).toEqual([]);
  using data = readEtcdData(`${box.dir}${DIR}`);
  expect(data.isFull).toBe(false);
});

test("fields are written as etcd reads them", () => {
  expect(intField(1, 300).toString("hex")).toBe("08ac02");
  expect(intField(3, 2n ** 64n - 1n).toString("hex")).toBe("18ffffffffffffffffff01");
  expect(bytesField(1301, "ab").toString("hex")).toBe("aa51026162");
});
