import { afterAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { gunzipSync } from "node:zlib";
import { type EtcdData, readEtcdData } from "../../../shared/etcd-data/data.ts";
import { Fail } from "../../../shared/fail.ts";
import { compareWithEtcd, type EtcdAnswers } from "../../lab/checks/etcd-equal.ts";

const FIXTURES = `${import.meta.dirname}/../../fixtures/etcd`;
const VERSIONS = ["3.5.21", "3.6.13"];
const work = mkdtempSync(`${tmpdir()}/etcd-test-`);
afterAll(() => rmSync(work, { recursive: true }));

/**
 * Unpacks a killed member's data directory, made by fixtures/etcd/make.ts; `change` may alter or drop
 * (undefined) a file.
 */
function dataDir(
  version: string,
  change: (file: string, bytes: Buffer) => Uint8Array | undefined = (_, bytes) => bytes,
): string {
  const dir = mkdtempSync(`${work}/${version}-`);
  for (const folder of ["snap", "wal"]) mkdirSync(`${dir}/member/${folder}`, { recursive: true });
  for (const name of readdirSync(`${FIXTURES}/${version}`).filter((name) => name.endsWith(".gz"))) {
    const file = name.replace("_", "/").replace(/\.gz$/, "");
    const bytes = change(file, gunzipSync(readFileSync(`${FIXTURES}/${version}/${name}`)));
    if (bytes) writeFileSync(`${dir}/member/${file}`, bytes);
  }
  return dir;
}

/** What etcd answered when it was started on the same directory. */
function listing(version: string): EtcdAnswers {
  const [head, ...lines] = readFileSync(`${FIXTURES}/${version}/listing.txt`, "utf8").trim().split("\n");
  const [, revision, , clusterId, , memberId] = head!.split(" ") as string[];
  const keys = lines.map((line): [string, string] => {
    const [key, rest] = [line.slice(0, line.indexOf(" ")), line.slice(line.indexOf(" ") + 1)];
    return [Buffer.from(key).toString("latin1"), rest];
  });
  return { revision: Number(revision), clusterId: clusterId!, memberId: memberId!, keys: new Map(keys) };
}

const RESTORED = "3.6.5-restored";
const [ALONE, STARTED] = ["3.5.16-restored-alone", "3.5.16-restored-alone-started"];
const ANSWERS = new Map(
  [...VERSIONS, RESTORED, ALONE, STARTED].map((version) => [version, listing(version)]),
);

function differences(version: string, data: EtcdData) {
  return compareWithEtcd("", ANSWERS.get(version)!, data);
}

/** Bytes of the db, changed at one place. */
function withByte(bytes: Buffer, offset: number, mask = 0xff): Buffer {
  const changed = Buffer.from(bytes);
  changed[offset]! ^= mask;
  return changed;
}

/** The answer, or the Fail; anything else that is thrown is a bug. */
function attempt(dir: string): EtcdData | Fail {
  try {
    return readEtcdData(dir);
  } catch (err) {
    if (!(err instanceof Fail)) throw err;
    expect(err.hint).not.toBe("");
    return err;
  }
}

function failure(dir: string): Fail {
  const result = attempt(dir);
  if (!(result instanceof Fail)) throw new Error(`It was read: ${result.keyCount} keys`);
  return result;
}

/**
 * Of the places where files are cut off or changed `npm run soak` tries all, and `npm run ok` every eighth.
 */
const FEWER = process.env.EVERY_PLACE === "1" ? 1 : 8;

describe.each(VERSIONS)("etcd %s, killed with everything since its start in the log only", (version) => {
  const dir = dataDir(version);
  const data = readEtcdData(dir);

  test("has the keys, revisions, leases and values that etcd itself answers", () => {
    expect(data.warnings).toEqual([]);
    expect(differences(version, data)).toEqual([]);
  });

  test("has the ids, the members and where clients find them", () => {
    expect(data.members).toEqual([
      {
        id: data.memberId,
        name: "m1",
        peerURLs: ["http://127.0.0.1:23180"],
        clientURLs: ["http://127.0.0.1:23179"],
        isLearner: false,
      },
    ]);
    expect({ committed: data.committed.revision, compacted: data.compactedRevision }).toEqual({
      committed: 119,
      compacted: 100,
    });
    expect(data.lastWrite.getTime()).toBeGreaterThan(Date.now() - 600_000);
  });

  test("lists by prefix in the order of the keys, and finds one key", () => {
    const keys = data.keys("/registry/pods/");
    expect(keys).toEqual(
      ["etcd", "kube-apiserver", "kube-controller-manager"].map(
        (name) => `/registry/pods/kube-system/${name}-m1.example`,
      ),
    );
    expect([...data.list("/registry/pods/")].map((keyValue) => keyValue.key)).toEqual(keys);
    expect(Buffer.from(data.get("/registry/clusterroles/grün")!.value).toString()).toBe(
      "a name beyond ASCII",
    );
    expect(data.get("/registry/clusterroles/gr")).toBeUndefined();
    expect(data.keys("/registry/zzz")).toEqual([]);
  });

  test("remembers a pod whose deletion is only in the log", () => {
    const history = data.history("/registry/pods/kube-system/kube-scheduler-m1.example");
    expect(history.map(({ deleted, modRevision }) => ({ deleted, modRevision }))).toEqual([
      { deleted: true, modRevision: 118 },
      { deleted: false, modRevision: 6 },
    ]);
    expect(history[0]!.value).toHaveLength(0);
    expect(Buffer.from(history[1]!.value)).toEqual(
      readFileSync(`${FIXTURES}/../mirror-pods/kube-scheduler.bin`),
    );
  });

  test("remembers the deleted keys, those of a revoked lease too", () => {
    expect(data.deletedKeys("/registry/events/")).toEqual(
      [0, 2, 4].map((i) => `/registry/events/default/e-${i}`),
    );
    expect(data.history("/registry/refused")).toEqual([]);
  });

  test("is read from the log alone when the db is gone and the log is complete", () => {
    const logOnly = readEtcdData(dataDir(version, (file, bytes) => (file === "snap/db" ? undefined : bytes)));
    expect(differences(version, logOnly)).toEqual([]);
    expect(logOnly.members).toEqual(data.members);
  });

  test("is read where its log has a folder of its own, as etcd's --wal-dir names it", () => {
    const [apart, wal] = [dataDir(version), mkdtempSync(`${work}/wal-`)];
    renameSync(`${apart}/member/wal`, wal);
    expect(failure(apart).message).toBe(`No etcd data in "${apart}": "${apart}/member/wal" does not exist`);
    const { keyCount, warnings, members, ...rest } = readEtcdData(apart, wal);
    expect({ keyCount, warnings, members }).toEqual({
      keyCount: data.keyCount,
      warnings: [],
      members: data.members,
    });
    expect(rest.history("/registry/pods/kube-system/kube-scheduler-m1.example")).toHaveLength(2);
    rmSync(wal, { recursive: true });
    expect(() => readEtcdData(apart, wal)).toThrow(`No etcd data in "${apart}": "${wal}" does not exist`);
  });

  test("is read with the older meta page when the newer one is damaged: the log makes up for it", () => {
    for (const page of [0, 1]) {
      const damaged = readEtcdData(
        dataDir(version, (file, bytes) => (file === "snap/db" ? withByte(bytes, page * 4096 + 40) : bytes)),
      );
      expect(differences(version, damaged)).toEqual([]);
    }
  });

  test("is refused when both meta pages are damaged", () => {
    const damage = (bytes: Buffer) => withByte(withByte(bytes, 20), 4096 + 72);
    expect(
      failure(dataDir(version, (file, bytes) => (file === "snap/db" ? damage(bytes) : bytes))).message,
    ).toContain("no valid meta page");
  });

  test("is refused, or read right, wherever the db is cut off", () => {
    const db = readFileSync(`${dir}/member/snap/db`);
    let refused = 0;
    for (let size = 0; size < db.length; size += 509 * FEWER) {
      writeFileSync(`${dir}/member/snap/db`, db.subarray(0, size));
      const result = attempt(dir);
      if (result instanceof Fail) refused++;
      else expect(differences(version, result)).toEqual([]);
    }
    writeFileSync(`${dir}/member/snap/db`, db);
    expect(refused).toBeGreaterThan(100 / FEWER);
  });

  test("never hangs and never shows a bug's error, wherever a byte of the db is flipped", () => {
    const db = readFileSync(`${dir}/member/snap/db`);
    for (let offset = 0; offset < db.length; offset += 331 * FEWER) {
      writeFileSync(`${dir}/member/snap/db`, withByte(db, offset));
      attempt(dir);
    }
    writeFileSync(`${dir}/member/snap/db`, db);
  });

  test("is refused, or read right, or read up to there with a warning, wherever a byte of the log is flipped", () => {
    const path = `${dir}/member/wal/${readdirSync(`${dir}/member/wal`)[0]}`;
    const log = readFileSync(path);
    const seen = { right: 0, warned: 0, refused: 0 };
    for (let offset = 0; offset < log.length; offset += 61 * FEWER) {
      writeFileSync(path, withByte(log, offset));
      seen[judge(version, attempt(dir), data)]++;
    }
    writeFileSync(path, log);
    expect(seen.refused).toBeGreaterThan(100 / FEWER);
    expect(seen.warned).toBeGreaterThan(10 / FEWER);
  });

  test("is read up to there with a warning, or refused, wherever the log is cut off", () => {
    const path = `${dir}/member/wal/${readdirSync(`${dir}/member/wal`)[0]}`;
    const log = readFileSync(path);
    for (let size = 0; size < log.length; size += 211 * FEWER) {
      writeFileSync(path, log.subarray(0, size));
      judge(version, attempt(dir), data);
    }
    writeFileSync(path, log);
  });

  test("is read in pieces above 64 MiB, also when etcd commits between two reads", () => {
    const large = dataDir(version);
    truncateSync(`${large}/member/snap/db`, 130 * 1024 * 1024);
    using pieces = readEtcdData(large);
    expect(differences(version, pieces)).toEqual([]);
    commit(`${large}/member/snap/db`);
    expect(differences(version, pieces)).toEqual([]);
  });

  test("is read again where a revision is gone when somebody asks for its value", () => {
    const large = dataDir(version);
    truncateSync(`${large}/member/snap/db`, 130 * 1024 * 1024);
    using pieces = readEtcdData(large);
    const { key, modRevision } = pieces.list("/registry/configmaps/").next().value!;
    const place = Buffer.alloc(17, "_");
    place.writeBigUInt64BE(BigInt(modRevision), 0);
    place.writeBigUInt64BE(0n, 9);
    const db = readFileSync(`${large}/member/snap/db`).subarray(0, 1024 * 1024);
    for (let at = db.indexOf(place); at >= 0; at = db.indexOf(place, at + 1)) db[at + 16] = 1;
    writeAtStart(`${large}/member/snap/db`, db);
    commit(`${large}/member/snap/db`);
    expect(pieces.get(key)?.modRevision).toBe(modRevision);
    expect(differences(version, pieces)).toEqual([]);
  });
});

/** The same tree under the next transaction's number. */
function commit(path: string) {
  const db = readFileSync(path).subarray(0, 8192);
  const [older, newer] = db.readBigUInt64LE(64) < db.readBigUInt64LE(4096 + 64) ? [0, 4096] : [4096, 0];
  db.copy(db, older + 16, newer + 16, newer + 80);
  db.writeBigUInt64LE(db.readBigUInt64LE(newer + 64) + 1n, older + 64);
  db.writeBigUInt64LE(fnv64a(db.subarray(older + 16, older + 72)), older + 72);
  writeAtStart(path, db);
}

/** Throws unless the result is right, refused, or a true earlier state that says it is one. */
function judge(version: string, result: EtcdData | Fail, whole: EtcdData): "right" | "warned" | "refused" {
  if (result instanceof Fail) return "refused";
  if (result.warnings.length === 0) {
    expect(differences(version, result)).toEqual([]);
    return "right";
  }
  expect(result.revision).toBeLessThanOrEqual(whole.revision);
  for (const keyValue of result.list("")) {
    const sameRevision = whole
      .history(keyValue.key)
      .find((revision) => revision.modRevision === keyValue.modRevision);
    expect(sameRevision).toEqual({ ...keyValue, deleted: false });
  }
  return "warned";
}

function writeAtStart(path: string, bytes: Uint8Array) {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, 0);
  closeSync(file);
}

function fnv64a(bytes: Uint8Array): bigint {
  return bytes.reduce(
    (hash, byte) => BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n),
    0xcbf29ce484222325n,
  );
}

test("what `etcdutl snapshot restore --bump-revision --mark-compacted` has made is read before its first start", () => {
  const data = readEtcdData(dataDir(RESTORED));
  expect(differences(RESTORED, data)).toEqual([]);
  expect(data.revision).toBeGreaterThan(1_000_000_000);
  expect(data).toMatchObject({
    warnings: [],
    compactedRevision: data.revision,
    committed: { revision: data.revision },
  });
  expect(data.members.map(({ name }) => name)).toEqual(["m1"]);
  expect([...data.keys("/registry/pods/"), ...data.deletedKeys("/registry/pods/")]).not.toContain("");
});

test.each([
  [ALONE, "default", []],
  [STARTED, "m1", ["http://127.0.0.1:23179"]],
])(
  "%s: a member that was restored alone is at localhost for good, whatever name it has run under since",
  (fixture, name, clientURLs) => {
    const data = readEtcdData(dataDir(fixture));
    expect(differences(fixture, data)).toEqual([]);
    expect(data.members).toEqual([
      { id: data.memberId, name, peerURLs: ["http://localhost:2380"], clientURLs, isLearner: false },
    ]);
  },
);

test("a directory without etcd data is refused with the place to look", () => {
  const empty = mkdtempSync(`${work}/empty-`);
  expect(failure(empty).hint).toContain(`ls -la ${empty}/member`);
  expect(failure(`${empty}/nowhere`).message).toContain("does not exist");
});

test("a log that does not reach back to the db's last entry is refused", () => {
  const dir = dataDir("3.6.13", (file, bytes) =>
    file.startsWith("wal/") ? bytes.subarray(0, bytes.length >> 1) : bytes,
  );
  expect(failure(dir).message).toContain("before the db's");
});

test("a db without a log is refused", () => {
  expect(
    failure(dataDir("3.6.13", (file, bytes) => (file.startsWith("wal/") ? undefined : bytes))).message,
  ).toContain("no .wal file");
});

test("a last write whose sector never reached the disk is left out, with a warning", () => {
  const dir = dataDir("3.6.13", (file, bytes) => {
    if (!file.startsWith("wal/")) return bytes;
    const end = bytes.findLastIndex((byte) => byte !== 0);
    return Buffer.concat([bytes.subarray(0, Math.floor(end / 512) * 512), Buffer.alloc(1024)]);
  });
  const data = readEtcdData(dir);
  expect(data.revision).toBe(118);
  expect(data.warnings[0]).toContain("cut off, as by a power loss");
});
