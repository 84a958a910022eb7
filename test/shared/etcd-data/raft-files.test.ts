/** Of etcd's snapshots the newest intact one counts; a log ends at damage in its last file, and is refused with damage before. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, openSync, utimesSync, writeFileSync, writeSync } from "node:fs";
import { laterThan } from "../../../shared/etcd-data/log-end.ts";
import { crc32c, isZeroFrom, LogFile, readNewestSnapshot } from "../../../shared/etcd-data/raft-files.ts";
import { readWal, type Wal } from "../../../shared/etcd-data/wal.ts";
import { entryOf, hardStateOf, LogRecords, metadataOf, RECORD } from "../../../shared/restore/new-member.ts";
import { write } from "../../pretend/cluster.ts";
import { sandbox } from "../../pretend/sandbox.ts";
import { makeRoom } from "../../pretend/write-wal.ts";

setDefaultTimeout(300_000);

const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];
const bytes = (field: number, content: readonly number[]) => [
  (field << 3) | 2,
  ...varint(content.length),
  ...content,
];
const number = (field: number, value: number) => [field << 3, ...varint(value)];

/** A snapshot of this index, whose sum is off by `wrong`. */
function snapshot(index: number, wrong = 0): Uint8Array {
  const data = Uint8Array.from([
    ...bytes(1, [index, 7]),
    ...bytes(2, [...number(2, index), ...number(3, 5)]),
  ]);
  return Uint8Array.from([...number(1, crc32c(data, 0) + wrong), ...bytes(2, [...data])]);
}

const nameOf = (index: number) => `0000000000000005-${index.toString(16).padStart(16, "0")}.snap`;

test.each<[string, Record<string, Uint8Array>, number | undefined]>([
  ["there is none", {}, undefined],
  ["the newest of two", { [nameOf(9)]: snapshot(9), [nameOf(16)]: snapshot(16) }, 16],
  ["the newest has a wrong sum", { [nameOf(9)]: snapshot(9), [nameOf(16)]: snapshot(16, 1) }, 9],
  ["the newest is cut off", { [nameOf(9)]: snapshot(9), [nameOf(16)]: snapshot(16).subarray(0, 9) }, 9],
  ["the newest is empty", { [nameOf(9)]: snapshot(9), [nameOf(16)]: new Uint8Array() }, 9],
  [
    "another file, as etcd writes it beside",
    { [nameOf(9)]: snapshot(9), [`${nameOf(16)}.broken`]: snapshot(16), "db.snap": snapshot(16) },
    9,
  ],
])("of etcd's snapshots: %s", (_, files, index) => {
  using box = sandbox();
  write(`${box.dir}/snap/db`, "");
  for (const [name, content] of Object.entries(files)) write(`${box.dir}/snap/${name}`, content);
  const found = readNewestSnapshot(`${box.dir}/snap`);
  expect(found && { ...found, store: [...found.store] }).toEqual(
    index === undefined ? undefined : { index, term: 5, store: [index, 7] },
  );
});

const MB = 2 ** 20;

/** A log of one file with one entry of so many bytes, and so much room behind it. */
function logOf(bytes: number, room: number): Wal {
  using box = sandbox();
  const log = new LogRecords().begin();
  log.add(RECORD.metadata, metadataOf({ memberId: 1n, clusterId: 2n }));
  log.add(RECORD.entry, entryOf({ type: 1, term: 1, index: 1 }, new Uint8Array(bytes).fill(1)));
  log.add(RECORD.state, hardStateOf({ term: 1, vote: 1n, commit: 1 }));
  write(
    `${box.dir}/${"0".repeat(16)}-${"0".repeat(16)}.wal`,
    Buffer.concat([log.bytes(), Buffer.alloc(room)]),
  );
  return readWal(box.dir, { after: 0, isWanted: () => false });
}

test.each([
  ["full, and there is none behind it", 64 * MB, 0, true],
  ["of this size, and has room: it is the last", MB, 64 * MB, false],
  ["written by a restore, without room", MB, 0, false],
])("a log whose last file is %s", (_, bytes, room, isCut) => {
  const { last, warnings, ...wal } = logOf(bytes, room);
  expect([wal.isCut, last.index, warnings.length]).toEqual([isCut, 1, isCut ? 1 : 0]);
});

/** Entries 1 and 2, each in a file of its own. One bit of the value of entry `damaged` is wrong. */
function logOfTwoFiles(damaged?: number) {
  const box = sandbox();
  const ids = metadataOf({ memberId: 1n, clusterId: 2n });
  let log = new LogRecords();
  for (const index of [1, 2]) {
    log = new LogRecords(log.crc).begin().add(RECORD.metadata, ids);
    log.add(RECORD.entry, entryOf({ type: 0, term: 1, index }, Buffer.from("a value")));
    log.add(RECORD.state, hardStateOf({ term: 1, vote: 1n, commit: index }));
    const bytes = log.bytes();
    if (index === damaged) bytes[bytes.indexOf("a value")]! ^= 1;
    const [file, first] = [index - 1, index - 1 && index].map((n) => n.toString(16).padStart(16, "0"));
    write(`${box.dir}/${file}-${first}.wal`, Buffer.concat([bytes, Buffer.alloc(64)]));
  }
  return box;
}

test("a log with a wrong bit before its last file is refused: later writes are known to be there; in its last file it ends there", () => {
  const read = (damaged?: number) => {
    using box = logOfTwoFiles(damaged);
    return readWal(box.dir, { after: 0, isWanted: () => true });
  };
  expect(read()).toMatchObject({ last: { index: 2 }, isDamaged: false, isCut: false, warnings: [] });
  expect(() => read(1)).toThrow(
    /^checksum mismatch in \S+\/0{16}-0{16}\.wal at byte \d+, with more files after it$/,
  );
  expect(read(2)).toMatchObject({
    ...{ last: { index: 1 }, isDamaged: true, isCut: true },
    warnings: [expect.stringContaining("etcd refuses this log")],
  });
});

test("a copy of earlier records lies over the last one: the log's end is lost, though the copy is whole", () => {
  using box = sandbox();
  const log = new LogRecords().begin().add(RECORD.metadata, metadataOf({ memberId: 1n, clusterId: 2n }));
  const places = [1, 2, 3].map((index) => {
    const from = log.size;
    log.add(RECORD.entry, entryOf({ type: 0, term: 1, index }, Buffer.from("a value")));
    return from;
  });
  const whole = log.bytes();
  const path = `${box.dir}/${"0".repeat(16)}-${"0".repeat(16)}.wal`;
  const copy = whole.subarray(places[0]!, places[2]!);
  write(path, Buffer.concat([whole.subarray(0, places[2]! + 8), Buffer.alloc(8, 0xff), copy]));
  makeRoom(path);
  const wal = readWal(box.dir, { after: 0, isWanted: () => true, readsOn: true });
  expect(wal).toMatchObject({ last: { index: 2 }, isDamaged: true, isCut: true });
  expect(wal.warnings.join()).toContain("is damaged behind entry 2, and has no later one behind that");
});

type At = { index: number; term: number };

/** A log with these entries in this order, in these files; behind them is all the room that etcd makes. */
function writeLog(dir: string, files: readonly (readonly At[])[], isOneChain = true) {
  const name = (sequence: number, first: number) =>
    [sequence, first].map((one) => one.toString(16).padStart(16, "0")).join("-");
  let log = new LogRecords();
  for (const [sequence, entries] of files.entries()) {
    log = new LogRecords(isOneChain ? log.crc : 0).begin();
    log.add(RECORD.metadata, metadataOf({ memberId: 1n, clusterId: 2n }));
    for (const { index, term } of entries)
      log.add(RECORD.entry, entryOf({ type: 0, term, index }, Buffer.from(`of term ${term}`)));
    const path = `${dir}/${name(sequence, sequence && files[sequence - 1]!.at(-1)!.index + 1)}.wal`;
    write(path, log.bytes());
    if (sequence === files.length - 1) makeRoom(path);
  }
}

function logWith(...files: readonly (readonly At[])[]): Wal {
  using box = sandbox();
  writeLog(box.dir, files);
  const wal = readWal(box.dir, { after: 0, isWanted: () => true });
  const later = laterThan(wal.last, { wal: box.dir, snap: box.dir });
  return { ...wal, warnings: [...wal.warnings, ...(later ? [later] : [])] };
}

const at = (index: number, term: number) => ({ index, term });

/**
 * Raft paper, figure 8: a leader of term 3 has written entry 2 on its own disk alone. The leader of term 4 has an entry 2
 * of term 2, and sends it, since the places differ. Its first own entry, of term 4, may come in a later message.
 */
test.each([
  ["and the new leader's entry behind it", [[at(2, 2), at(3, 4)]], at(3, 4)],
  ["and the new leader's entry is not here yet", [[at(2, 2)]], at(2, 2)],
  ["and is in the next file", [[], [at(2, 2)]], at(2, 2)],
  ["and is in the next file, with the new leader's entry", [[], [at(2, 2), at(3, 4)]], at(3, 4)],
])("an entry of an older term in the place of one that no quorum had is no damage: %s", (_, more, last) => {
  const [first, ...next] = more as [At[], ...At[][]];
  const { entries, ...wal } = logWith([at(1, 2), at(2, 3), ...first], ...next);
  expect(wal).toMatchObject({ last, warnings: [], isCut: false, isDamaged: false, isEndSeen: true });
  expect([...entries.values()].map(({ index, term }) => at(index, term))).toEqual([at(1, 2), ...more.flat()]);
});

test("an entry of an older term in another log's file takes nobody's place", () => {
  using box = sandbox();
  writeLog(box.dir, [[at(1, 2), at(2, 3)], [at(2, 2)]], false);
  expect(laterThan(at(2, 2), { wal: box.dir, snap: box.dir })).toEndWith("has entry 2 of term 3");
});

test("entries behind the first 8 MB of a log are read from it again, each its own", () => {
  using box = sandbox();
  const log = new LogRecords().begin().add(RECORD.metadata, metadataOf({ memberId: 1n, clusterId: 2n }));
  const contentOf = (index: number) => Buffer.alloc(MB, index);
  const all = Array.from({ length: 12 }, (_, i) => i + 1);
  for (const index of all) log.add(RECORD.entry, entryOf({ type: 0, term: 1, index }, contentOf(index)));
  const path = `${box.dir}/${"0".repeat(16)}-${"0".repeat(16)}.wal`;
  write(path, log.bytes());
  const { entries } = readWal(box.dir, { after: 0, isWanted: () => true, readsOn: true });
  for (const index of all)
    expect(Buffer.compare(Buffer.from(entries.get(index)!.data), contentOf(index))).toBe(0);
  writeFileSync(path, "");
  expect(entries.get(8)!.data.length).toBe(MB);
  expect(() => entries.get(9)!.data).toThrow(/was cut off$/);
});

test.each([
  ["than the one before it", [at(1, 2), at(2, 1)]],
  ["than the one before it, in the place of another", [at(1, 2), at(2, 3), at(3, 3), at(2, 1)]],
  ["than the one before it, which was put in another's place", [at(1, 2), at(2, 3), at(2, 2), at(3, 1)]],
])("an entry of an older term %s is damage: no leader has such a log", (_, entries) => {
  expect(logWith(entries)).toMatchObject({ isDamaged: true, isCut: true });
});

test("the room behind a log is read once, and again when somebody has written to the file", () => {
  using box = sandbox();
  const path = `${box.dir}/a.wal`;
  const roomAfter = (position: number) => {
    using file = new LogFile(path);
    return { isRoom: isZeroFrom(file, position), room: file.room };
  };
  writeFileSync(path, Buffer.concat([Buffer.alloc(4096, 1), Buffer.alloc(4 * MB)]));
  expect(roomAfter(0)).toEqual({ isRoom: false, room: 4096 + 4 * MB });
  expect(roomAfter(4096)).toEqual({ isRoom: true, room: 4096 });
  expect(roomAfter(8192)).toEqual({ isRoom: true, room: 4096 });
  expect(roomAfter(0)).toEqual({ isRoom: false, room: 4096 });
  const file = openSync(path, "r+");
  writeSync(file, Buffer.of(1), 0, 1, 3 * MB);
  closeSync(file);
  utimesSync(path, new Date(), new Date(1));
  expect(roomAfter(4096)).toEqual({ isRoom: false, room: 4096 + 4 * MB });
});
