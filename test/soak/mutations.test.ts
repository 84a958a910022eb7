/**
 * One to three changes of any bytes of a small member's log and database, seeded: none leads to an exact answer that is
 * not all, or to another key. `MUTATIONS=2000` takes fewer, `SEED=3501` begins there, `WHICH=3.5.21` takes one release.
 */
import { afterAll, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { LogFile } from "../../shared/etcd-data/raft-files.ts";
import { random } from "../pretend/damage.ts";
import { sandbox } from "../pretend/sandbox.ts";
import { makeRoom } from "../pretend/write-wal.ts";
import { Judge, WRONG } from "./judge.ts";
import { IS_SAMPLE } from "./sample.ts";

setDefaultTimeout(3_600_000);

const MUTATIONS = Number(process.env.MUTATIONS || (IS_SAMPLE ? 40 : 100_000));
const FIRST = Number(process.env.SEED || 1);
/** The room behind the log is read once in so many. */
const ROOM_READ = 100;
const RELEASES = ["3.5.21", "3.6.13"];
const FIXTURES = `${import.meta.dirname}/../fixtures/etcd`;

const box = sandbox();
afterAll(() => box[Symbol.dispose]());

/** "snap/db", "wal/NAME.wal". */
type Files = Map<string, Buffer>;

function filesOf(release: string): Files {
  const names = readdirSync(`${FIXTURES}/${release}`).filter((name) => name.endsWith(".gz"));
  return new Map(
    names.map((name) => [
      name.replace("_", "/").replace(/\.gz$/, ""),
      gunzipSync(readFileSync(`${FIXTURES}/${release}/${name}`)),
    ]),
  );
}

function write(dir: string, files: Files, isRoomRead = true) {
  for (const folder of ["snap", "wal"]) mkdirSync(`${dir}/member/${folder}`, { recursive: true });
  for (const [name, bytes] of files) writeOver(`${dir}/member/${name}`, bytes, isRoomRead);
}

/**
 * Changes keep the length: the room behind a log of this release stays as it is. The reader knows of it what it would have
 * seen: to look through 64 MB of zeros takes longer than all the rest.
 */
function writeOver(path: string, bytes: Buffer, isRoomRead: boolean) {
  const isNew = !existsSync(path);
  const file = openSync(path, isNew ? "w" : "r+");
  writeSync(file, bytes, 0, bytes.length, 0);
  closeSync(file);
  if (!path.endsWith(".wal")) return;
  if (isNew) makeRoom(path);
  using log = new LogFile(path);
  if (!isRoomRead) log.noteRoom(bytes.length);
}

type Change = (bytes: Buffer, pick: (n: number) => number) => unknown;

const from = (bytes: Buffer, pick: (n: number) => number, of = 512) => pick(bytes.length) & -of;
const CHANGES: Record<string, Change> = {
  bit(bytes, pick) {
    const at = pick(bytes.length);
    bytes[at]! ^= 1 << pick(8);
    return bytes;
  },
  byte(bytes, pick) {
    bytes[pick(bytes.length)] = pick(256);
    return bytes;
  },
  zeros(bytes, pick) {
    const at = from(bytes, pick);
    return bytes.fill(0, at, Math.min(at + 512 * (1 + pick(16)), bytes.length));
  },
  copied(bytes, pick) {
    const at = from(bytes, pick);
    return bytes.copyWithin(from(bytes, pick), at, at + 512 * (1 + pick(16)));
  },
  noise(bytes, pick) {
    const at = from(bytes, pick);
    for (let i = at; i < Math.min(at + 512, bytes.length); i++) bytes[i] = pick(256);
    return bytes;
  },
};

/** Files with one to three changes, and which they are. */
function changed(files: Files, pick: (n: number) => number) {
  const now = new Map([...files].map(([name, bytes]) => [name, Buffer.from(bytes)]));
  const names = [...now.keys()].filter((name) => !name.endsWith(".snap"));
  const made: string[] = [];
  for (let count = 1 + pick(3); count > 0; count--) {
    const [name, kind] = [names[pick(names.length)]!, Object.keys(CHANGES)[pick(5)]!];
    CHANGES[kind]!(now.get(name)!, pick);
    made.push(`${kind} in ${name.slice(0, 4)}`);
  }
  return { now, made };
}

const inLine = (outcomes: object) => Bun.inspect(outcomes, { compact: true });

for (const release of RELEASES.filter((one) => (process.env.WHICH ?? one) === one))
  test(`etcd ${release}: wrong, 0 of ${MUTATIONS / RELEASES.length} changes`, async () => {
    const files = filesOf(release);
    write(`${box.dir}/${release}`, files);
    const judge = new Judge(`${box.dir}/all-${release}`, `${box.dir}/${release}/member/wal`);
    const outcomes: Record<string, number> = {};
    const wrong: string[] = [];
    for (let seed = FIRST; seed < FIRST + MUTATIONS / RELEASES.length; seed++) {
      const { now, made } = changed(files, random(seed));
      write(`${box.dir}/disk-${release}`, now, seed % ROOM_READ === 0);
      const outcome = await judge.outcomeOf(`/disk-${release}`);
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      if (outcome.startsWith(WRONG)) {
        wrong.push(`seed ${seed}, ${made.join(", ")}: ${outcome}`);
        console.log(`etcd ${release}, ${wrong.at(-1)}`);
      }
      if (seed % 1000 === 0) console.log(`etcd ${release}, to seed ${seed}: ${inLine(outcomes)}`);
    }
    expect(wrong).toEqual([]);
    console.log(`etcd ${release}: ${inLine(outcomes)}`);
  });
