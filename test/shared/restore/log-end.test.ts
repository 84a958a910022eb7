/** A log of a lost member whose end is not here: nothing says "exact" or "quorum" of it; on real etcd: test/lab/checks/damage-matrix.ts. */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import {
  copyFileSync,
  cpSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { readEtcdData } from "../../../shared/etcd-data/data.ts";
import {
  chooseData,
  memberDataIn,
  wayInWords,
  writeAlone,
} from "../../../shared/restore/lost-members-data.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { makeRoom, writeEtcdData } from "../../pretend/write-wal.ts";

setDefaultTimeout(300_000);

const OWNER = { id: "a1", name: "cp1", peerURLs: ["https://10.0.0.10:2380"] };
const WRITES = 60;
/** As etcd's, but for the size: the first two are full. */
const SMALL = 4000;

const box = sandbox();
afterAll(() => box[Symbol.dispose]());

/** A log of several files, `segment` bytes each before the next one begins, and room behind the last record. */
function member(name: string, segment: number, size: number): string {
  const puts = Array.from({ length: WRITES }, (_, i): [string, string] => [
    `/registry/k/${i}`,
    `${i} `.padEnd(size, "x"),
  ]);
  const dir = `${box.dir}/${name}`;
  writeEtcdData(dir, { clusterId: "77", members: [OWNER], puts, hasRoom: true, segment });
  return dir;
}

/** Files of 64 MB, as etcd has them: full ones, and the room in the last one. */
const REAL = member("real", 64_000_000, 1_500_000);
const SHORT = member("short", SMALL, 100);

const walOf = (dir: string) => `${dir}/member/wal`;
const filesOf = (dir: string) => readdirSync(walOf(dir)).map((name) => `${walOf(dir)}/${name}`);
const last = (dir: string) => filesOf(dir).sort().at(-1)!;

/** Bytes up to the end of the last record. */
function used(path: string): number {
  return readFileSync(path).findLastIndex((byte) => byte !== 0) + 1;
}

/** What restore says, and whether it counts as a quorum. */
function saidOf(dir: string) {
  const found = memberDataIn(dir.slice(box.dir.length));
  return {
    words: wayInWords({ root: found.root, last: found.last }).replace(/\d+/g, "N"),
    isQuorum: chooseData([found]).isQuorum,
    revision: found.revision,
  };
}

const EXACT = {
  words: "as it is: this data has all keys up to entry N, the last one on this disk",
};
const LOST = "as of an unknown time, entry N: what was acknowledged after that is lost";
const UNSEEN =
  "as of an unknown time, entry N: the log's end is not seen, so what was acknowledged after that, if anything was, is lost";

test("a whole log, of files as large as etcd's, and of small ones: exact, and a quorum", () => {
  for (const dir of [REAL, SHORT])
    expect(saidOf(dir)).toEqual({ ...EXACT, isQuorum: true, revision: WRITES + 1 });
  expect(filesOf(REAL).length).toBe(2);
});

test("what restore writes has a log whose end can be seen, too", async () => {
  const found = memberDataIn("/short");
  await writeAlone(found, { dir: "/written", peerUrl: "https://10.0.0.11:2380" });
  expect(chooseData([memberDataIn("/written")])).toMatchObject({ voters: 1, here: 1, isQuorum: true });
});

test("the last file of 64 MB is lost: every script is warned, and it is no quorum", () => {
  const dir = `${box.dir}/no-last`;
  cpSync(REAL, dir, { recursive: true });
  rmSync(last(dir));
  using data = readEtcdData(dir);
  expect(data.warnings).toEqual([expect.stringMatching(/\.wal is full, and the next file is lost/)]);
  expect(data.revision).toBeLessThan(WRITES);
  expect(saidOf(dir)).toMatchObject({ words: LOST, isQuorum: false });
});

test.each<[string, (dir: string) => unknown, string]>([
  ["is cut inside its last record", (dir) => truncateSync(last(dir), used(last(dir)) - 9), UNSEEN],
  [
    "is cut behind its last record",
    (dir) => truncateSync(last(dir), Math.ceil(used(last(dir)) / 8) * 8),
    UNSEEN,
  ],
  ["is cut in the room behind it", (dir) => truncateSync(last(dir), used(last(dir)) + 4096), UNSEEN],
  ["is empty", (dir) => truncateSync(last(dir), 0), LOST],
  [
    "is zeros",
    (dir) => {
      truncateSync(last(dir), 0);
      makeRoom(last(dir));
    },
    LOST,
  ],
  ["is gone", (dir) => rmSync(last(dir)), UNSEEN],
  ["has zeros over its last write", (dir) => zero(last(dir), used(last(dir)) - 40), LOST],
  ["has another name", (dir) => renameSync(last(dir), `${last(dir)}.bak`), LOST],
  [
    "has a name of before",
    (dir) => renameSync(last(dir), `${walOf(dir)}/${"0".repeat(16)}-${"f".repeat(16)}.wal`),
    LOST,
  ],
  ["was swapped with the one before it", swap, LOST],
])("the log's last file %s: as of the last entry that is here, and no quorum", (_, damage, words) => {
  const dir = `${box.dir}/damaged`;
  rmSync(dir, { recursive: true, force: true });
  cpSync(SHORT, dir, { recursive: true });
  damage(dir);
  expect(saidOf(dir)).toMatchObject({ words, isQuorum: false });
});

function zero(path: string, from: number) {
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.fill(0, from));
}

function swap(dir: string) {
  const [one, two] = filesOf(dir).sort().slice(-2) as [string, string];
  copyFileSync(one, `${dir}/one`);
  renameSync(two, one);
  renameSync(`${dir}/one`, two);
}
