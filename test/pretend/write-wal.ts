/**
 * Writes an etcd data directory that is only a log: of a member that was killed before its first db. Our
 * reader accepts it (the log begins with entry 1), so each test can choose the cluster's content. Format: the
 * head of shared/etcd-data/wal.ts.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { fieldsOf } from "../../shared/etcd-data/protobuf.ts";
import { type Entry, parseRecord, readFrame, readWal, SEGMENT_SIZE } from "../../shared/etcd-data/wal.ts";
import {
  bytesField,
  entryOf,
  hardStateOf,
  intField,
  LogRecords,
  metadataOf,
  RECORD,
} from "../../shared/restore/new-member.ts";

export interface WrittenMember {
  /** Hex. */
  id: string;
  name: string;
  peerURLs: string[];
  /** Added by `kubeadm join`, and not promoted: it has no vote. */
  isLearner?: boolean;
}

export interface Written {
  clusterId: string;
  /** The first is the owner of the directory. */
  members: WrittenMember[];
  /** Puts in this order, one revision each. The value undefined deletes the key. */
  puts: [key: string, value: string | Uint8Array | undefined][];
  /** etcd has just begun the next file (server/storage/wal/wal.go, cut): it has no entry yet. */
  cut?: boolean;
  /** The first member's database is full: it has raised the alarm NOSPACE. */
  isFull?: boolean | undefined;
  /** The log's last file has all the room that etcd makes: it takes 10 ms to read. */
  hasRoom?: boolean;
  /** Bytes of a file, after which the next one begins; etcd's, if it is not said. */
  segment?: number;
}

/** Fills `dir`/member. The log's last revision is the number of puts + 1. */
export function writeEtcdData(
  dir: string,
  { clusterId, members, puts, cut, isFull, hasRoom = false, segment = SEGMENT_SIZE }: Written,
) {
  const joins = members.map((member) => entry(1, addition(member)));
  const names = members.map(({ id, name }) => entry(0, bytesField(1301, attributes(id, name))));
  const changes = puts.map(([key, value]) =>
    entry(0, value === undefined ? bytesField(5, bytesField(1, key)) : bytesField(4, put(key, value))),
  );
  // AlarmRequest { 1 action (1: activate), 2 memberID, 3 alarm (1: NOSPACE) }
  const alarm = Buffer.concat([intField(1, 1), intField(2, BigInt(`0x${members[0]!.id}`)), intField(3, 1n)]);
  const entries = [...joins, ...names, ...changes, ...(isFull ? [entry(0, bytesField(10, alarm))] : [])];
  const metadata = [intField(1, BigInt(`0x${members[0]!.id}`)), intField(2, BigInt(`0x${clusterId}`))];
  const state = (commit: number) => Buffer.concat([intField(1, 2n), intField(3, BigInt(commit))]);
  const begin = (crc: number) => new LogRecords(crc).begin().add(RECORD.metadata, Buffer.concat(metadata));
  for (const folder of ["snap", "wal"])
    mkdirSync(`${dir}/member/${folder}`, { recursive: true, mode: 0o700 });
  const file = (sequence: number, first: number) =>
    `${dir}/member/wal/${[sequence, first].map((number) => number.toString(16).padStart(16, "0")).join("-")}.wal`;
  let [log, sequence, first] = [begin(0), 0, 0];
  const next = (index: number) => {
    writeLog(file(sequence, first), log.bytes(), false);
    [log, sequence, first] = [begin(log.crc), sequence + 1, index];
    log.add(RECORD.state, state(index - 1));
  };
  for (const [i, make] of entries.entries()) {
    if (log.size >= segment) next(i + 1);
    log.add(RECORD.entry, make(i + 1));
  }
  log.add(RECORD.state, state(entries.length));
  if (cut) next(entries.length + 1);
  writeLog(file(sequence, first), log.bytes(), true);
  if (hasRoom) makeRoom(file(sequence, first));
}

/** A full file ends behind its last record. */
function writeLog(path: string, bytes: Uint8Array, hasZeros: boolean) {
  writeFileSync(path, Buffer.concat([bytes, Buffer.alloc(hasZeros ? 64 : 0)]), { mode: 0o600 });
}

/** As etcd does in a log's last file: zeros, which take no place on the disk. */
export function makeRoom(path: string) {
  truncateSync(path, SEGMENT_SIZE);
}

/** Of term 2. */
function entry(type: number, data: Uint8Array): (index: number) => Uint8Array {
  return (index) => entryOf({ type, term: 2, index }, data);
}

/** raftpb.ConfChange { 2 type (0: a voter is added, 3: a learner), 3 node_id, 4 context }. */
export function addition(
  { id, peerURLs, isLearner }: Omit<WrittenMember, "name">,
  more: object = {},
): Uint8Array {
  const context = JSON.stringify({ peerURLs, ...(isLearner ? { isLearner } : {}), ...more });
  return Buffer.concat([
    intField(2, isLearner ? 3n : 0n),
    intField(3, BigInt(`0x${id}`)),
    bytesField(4, context),
  ]);
}

/** ClusterMemberAttrSetRequest { 1 member_ID, 2 { 1 name, 2 client_urls } }. */
function attributes(id: string, name: string): Uint8Array {
  return Buffer.concat([
    intField(1, BigInt(`0x${id}`)),
    bytesField(2, Buffer.concat([bytesField(1, name), bytesField(2, "https://127.0.0.1:2379")])),
  ]);
}

function put(key: string, value: string | Uint8Array): Uint8Array {
  return Buffer.concat([bytesField(1, key), bytesField(2, value)]);
}

/** The same log in files of so many bytes each, and without the entries that are not wanted. */
export function splitLog(
  folder: string,
  segment: number,
  isWanted = (_: Entry) => true,
): Map<string, Buffer> {
  const { entries, last, ...wal } = readWal(folder, { after: 0, isWanted: () => true });
  const ids = { memberId: BigInt(`0x${wal.memberId}`), clusterId: BigInt(`0x${wal.clusterId}`) };
  const state = (commit: number) => hardStateOf({ term: last.term, vote: ids.memberId, commit });
  const begin = (crc: number) => new LogRecords(crc).begin().add(RECORD.metadata, metadataOf(ids));
  const hex = (number: number) => number.toString(16).padStart(16, "0");
  const made = new Map<string, Buffer>();
  let [log, first] = [begin(0), 0];
  const end = () => made.set(`${hex(made.size)}-${hex(first)}.wal`, log.bytes());
  for (const entry of entries.values()) {
    if (log.size >= segment) {
      end();
      [log, first] = [begin(log.crc).add(RECORD.state, state(entry.index - 1)), entry.index];
    }
    const kept = isWanted(entry) ? entry.data : new Uint8Array();
    log.add(RECORD.entry, entryOf(entry, kept));
    if (entry.index % 8 === 0) log.add(RECORD.state, state(entry.index - 1));
  }
  log.add(RECORD.state, state(last.index));
  end();
  return made;
}

/** One log file as etcd cuts and purges it: of the log in `folder`, what begins with this entry. `to`: its last one. */
export function laterLog(folder: string, from: number, to = Number.POSITIVE_INFINITY) {
  const { entries, last, ...wal } = readWal(folder, { after: 0, isWanted: () => true });
  const ids = { memberId: BigInt(`0x${wal.memberId}`), clusterId: BigInt(`0x${wal.clusterId}`) };
  const later = new LogRecords().begin().add(RECORD.metadata, metadataOf(ids));
  const state = { term: last.term, vote: ids.memberId, commit: Math.min(last.index, to) };
  later.add(RECORD.state, hardStateOf({ ...state, commit: from }));
  for (const entry of entries.values())
    if (entry.index >= from && entry.index <= to) later.add(RECORD.entry, entryOf(entry, entry.data));
  later.add(RECORD.state, hardStateOf(state));
  const hex = (number: number) => number.toString(16).padStart(16, "0");
  return { name: `${hex(1)}-${hex(from)}.wal`, bytes: Buffer.concat([later.bytes(), Buffer.alloc(4096)]) };
}

/** Leaves the log in `folder` as etcd cuts and purges it: one file, of this entry on, with its room behind it. */
export function purgeLog(folder: string, from: number) {
  const { name, bytes } = laterLog(folder, from);
  for (const old of readdirSync(folder)) rmSync(`${folder}/${old}`);
  writeFileSync(`${folder}/${name}`, bytes, { mode: 0o600 });
  makeRoom(`${folder}/${name}`);
}

/** One bit of an entry's record. */
export function flipEntry(folder: string, entry: number) {
  for (const path of readdirSync(folder).map((name) => `${folder}/${name}`)) {
    const bytes = readFileSync(path);
    for (let frame = readFrame(bytes, 0); frame; frame = readFrame(bytes.subarray(frame.end), frame.end)) {
      const record = parseRecord(bytes.subarray(frame.start, frame.start + frame.length))!;
      if (record.type !== RECORD.entry || fieldsOf(record.data).number(3) !== entry) continue;
      bytes[frame.start + frame.length - 1]! ^= 1;
      return writeFileSync(path, bytes);
    }
  }
}
