/**
 * Reads etcd's write-ahead log, member/wal, and the newest member/snap/*.snap. Sources: etcd server/storage/wal (decoder.go, wal.go,
 * repair.go), walpb/record.proto, raftpb/raft.proto, snap/snappb/snap.proto.
 *
 *   file    <sequence>-<first index>.wal, both 16 hex digits; preallocated with zeros
 *   frame   | length u64: low 56 bits the record's length, top byte 0x80 + padding | record | padding to 8 bytes |   length 0: the end
 *   record  walpb.Record { 1 type, 2 crc, 3 data }; crc is CRC-32C over the data of all records so far, a crc record begins each file
 */
import { readdirSync, readFileSync } from "node:fs";
import { Damaged, fieldsOf, hexId } from "./protobuf.ts";

const FRAME_HEADER_SIZE = 8;
const SECTOR = 512;
const METADATA_TYPE = 1;
const ENTRY_TYPE = 2;
const STATE_TYPE = 3;
const CRC_TYPE = 4;
const SNAPSHOT_TYPE = 5;

/** raftpb.Entry. `type` 0 is a request, 1 and 2 change the membership. `data` is a view into the file it was read from. */
export interface Entry {
  type: number;
  term: number;
  index: number;
  data: Uint8Array;
}

export interface Wal {
  clusterId: string;
  memberId: string;
  /** By index; what a later entry of the same or a lower index replaced is gone. */
  entries: Map<number, Entry>;
  /** Index and term of the last entry, or of a snapshot that is newer than all entries. */
  last: { index: number; term: number };
  /** raftpb.HardState.commit: the last index this member knew a quorum had. */
  commit: number;
  /** What an operator should know: damage, lost entries. */
  warnings: string[];
}

/** Reads the files that hold the entries after index `after`. Damage in the last file's tail is a warning, anywhere else `Damaged`. */
export function readWal(folder: string, after: number): Wal {
  const files = neededFiles(readdirSync(folder), after);
  if (files.length === 0) throw new Damaged(`${folder} holds no .wal file`);
  const wal: Wal = { clusterId: "", memberId: "", entries: new Map(), last: { index: 0, term: 0 }, commit: 0, warnings: [] };
  let crc: number | undefined;
  for (const file of files) crc = readFile({ path: `${folder}/${file}`, isLast: file === files.at(-1), crc, wal });
  if (!wal.clusterId) throw new Damaged(`${folder}/${files[0]} does not begin with the ids of cluster and member`);
  if (wal.commit > wal.last.index) {
    wal.warnings.push(`The log says that entry ${wal.commit} is committed, but ends at ${wal.last.index}: what is between them is lost`);
  }
  return wal;
}

const WAL_NAME = /^([0-9a-f]{16})-([0-9a-f]{16})\.wal$/;

/** From the last file whose first index is not above the first entry that is needed. */
function neededFiles(names: string[], after: number): string[] {
  const files = names.filter((name) => WAL_NAME.test(name)).sort();
  const start = files.findLastIndex((name) => Number.parseInt(name.slice(17, 33), 16) <= after + 1);
  const needed = files.slice(Math.max(start, 0));
  for (const [i, name] of needed.entries()) {
    const sequence = Number.parseInt(name.slice(0, 16), 16);
    const expected = Number.parseInt(needed[0]!.slice(0, 16), 16) + i;
    if (sequence !== expected) throw new Damaged(`a .wal file is missing before ${name}`);
  }
  return needed;
}

interface Reading {
  path: string;
  isLast: boolean;
  /** The checksum so far; undefined before the first crc record. */
  crc: number | undefined;
  wal: Wal;
}

/** Adds one file's records to the log and returns the checksum at its end. */
function readFile(reading: Reading): number | undefined {
  const bytes = readFileSync(reading.path);
  let position = 0;
  while (position + FRAME_HEADER_SIZE <= bytes.length) {
    const frame = readFrame(bytes, position);
    if (frame === undefined) break;
    const record = frame.end <= bytes.length ? parseRecord(bytes.subarray(frame.start, frame.start + frame.length)) : undefined;
    if (!record || !follows(record, reading) || !addRecord(reading.wal, record))
      return stopAtDamage(bytes, { ...frame, position }, reading);
    position = frame.end;
  }
  if (!isZero(bytes.subarray(position))) return stopAtDamage(bytes, { start: position, end: bytes.length, position }, reading);
  return reading.crc;
}

/** Undefined where the log ends. */
function readFrame(bytes: Buffer, position: number) {
  const low = bytes.readUInt32LE(position);
  const high = bytes.readUInt32LE(position + 4);
  if (low === 0 && high === 0) return undefined;
  const length = (high & 0x00ffffff) * 2 ** 32 + low;
  const padding = high >>> 31 ? (high >>> 24) & 7 : 0;
  const start = position + FRAME_HEADER_SIZE;
  return { start, length, end: start + length + padding };
}

interface WalRecord {
  type: number;
  crc: number;
  data: Uint8Array;
}

function parseRecord(message: Uint8Array): WalRecord | undefined {
  try {
    const fields = fieldsOf(message);
    return { type: fields.number(1), crc: Number(BigInt.asUintN(32, fields.int(2))), data: fields.bytes(3) };
  } catch (err) {
    if (err instanceof Damaged) return undefined; // stopAtDamage reports it, with its place
    throw err;
  }
}

/** Whether the record continues the chain of checksums. A crc record carries it from file to file. */
function follows(record: WalRecord, reading: Reading): boolean {
  if (record.type !== CRC_TYPE) {
    if (reading.crc === undefined) return false;
    reading.crc = crc32c(record.data, reading.crc);
    return reading.crc === record.crc;
  }
  // A file's chain starts with the sum of the file before; the very first file starts with 0, and so may a file we begin at.
  if (reading.crc !== undefined && reading.crc !== record.crc) return false;
  reading.crc = record.crc;
  return true;
}

/**
 * As etcd does: a record with a sector of zeros was cut by a power loss and is dropped. Other damage etcd refuses; here it is a warning.
 */
function stopAtDamage(bytes: Buffer, frame: { start: number; end: number; position: number }, reading: Reading): undefined {
  const place = `${reading.path} at byte ${frame.position}`;
  if (!reading.isLast) throw new Damaged(`checksum mismatch in ${place}, with more files after it`);
  const torn = frame.end > bytes.length || hasZeroSector(bytes, frame);
  reading.wal.warnings.push(
    torn
      ? `The log's last write was cut off, as by a power loss, and is left out: ${place}`
      : `Checksum mismatch in ${place}: etcd refuses this log, and what was written after it (entry ${reading.wal.last.index}) is left out`,
  );
  return undefined;
}

function hasZeroSector(bytes: Buffer, frame: { start: number; end: number }): boolean {
  for (let sector = Math.floor(frame.start / SECTOR) * SECTOR; sector < frame.end; sector += SECTOR) {
    const part = bytes.subarray(Math.max(sector, frame.start), Math.min(sector + SECTOR, frame.end));
    if (part.length > 0 && isZero(part)) return true;
  }
  return false;
}

function isZero(bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}

/** False where the record makes no sense here. The checksum does not cover its type, so a damaged type shows only in this way. */
function addRecord(wal: Wal, record: WalRecord): boolean {
  if (record.type === METADATA_TYPE) return readMetadata(wal, record.data);
  if (record.type === ENTRY_TYPE) return addEntry(wal, readEntry(record.data));
  if (record.type === STATE_TYPE) wal.commit = fieldsOf(record.data).number(3);
  else if (record.type === SNAPSHOT_TYPE) {
    const fields = fieldsOf(record.data);
    const snapshot = { index: fields.number(1), term: fields.number(2) };
    if (snapshot.index > wal.last.index) wal.last = snapshot;
  } else return record.type === CRC_TYPE;
  return true;
}

/** etcdserverpb.Metadata { 1 nodeID, 2 clusterID }, at the head of each file. */
function readMetadata(wal: Wal, message: Uint8Array): boolean {
  const fields = fieldsOf(message);
  const [memberId, clusterId] = [1, 2].map((number) => (fields.int(number) === 0n ? "" : hexId(fields.int(number))));
  if (wal.clusterId && (wal.clusterId !== clusterId || wal.memberId !== memberId)) return false;
  Object.assign(wal, { memberId, clusterId });
  return true;
}

function addEntry(wal: Wal, entry: Entry): boolean {
  const isNext = wal.entries.size === 0 || entry.index <= wal.last.index + 1;
  if (!isNext || entry.type > 2 || !Number.isSafeInteger(entry.term) || entry.term < wal.last.term) return false;
  for (let replaced = entry.index; replaced <= wal.last.index; replaced++) wal.entries.delete(replaced);
  wal.entries.set(entry.index, entry);
  wal.last = { index: entry.index, term: entry.term };
  return true;
}

function readEntry(message: Uint8Array): Entry {
  const fields = fieldsOf(message);
  return { type: fields.number(1), term: fields.number(2), index: fields.number(3), data: fields.bytes(4) };
}

/** The newest .snap: etcd's v2 store as JSON, and the raft index it stands for. */
export interface Snapshot {
  index: number;
  term: number;
  store: Uint8Array;
}

/** The newest intact one; a damaged one is passed over, as etcd does. Names are <term>-<index>.snap in hex. */
export function readNewestSnapshot(folder: string): Snapshot | undefined {
  const names = readdirSync(folder).filter((name) => /^[0-9a-f]{16}-[0-9a-f]{16}\.snap$/.test(name));
  for (const name of names.sort().reverse()) {
    const snapshot = parseSnapshot(readFileSync(`${folder}/${name}`));
    if (snapshot) return snapshot;
  }
  return undefined;
}

/** snappb.Snapshot { 1 crc, 2 data }, data = raftpb.Snapshot { 1 data, 2 metadata { 1 confState, 2 index, 3 term } }. */
function parseSnapshot(file: Uint8Array): Snapshot | undefined {
  try {
    const outer = fieldsOf(file);
    const data = outer.bytes(2);
    if (data.length === 0 || crc32c(data, 0) !== outer.number(1)) return undefined;
    const inner = fieldsOf(data);
    const metadata = fieldsOf(inner.bytes(2));
    return { index: metadata.number(2), term: metadata.number(3), store: inner.bytes(1) };
  } catch (err) {
    if (err instanceof Damaged) return undefined; // the next older one is good as well: only member attributes are read from it
    throw err;
  }
}

const CRC32C_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** CRC-32C (Castagnoli), continuing `crc`. */
export function crc32c(bytes: Uint8Array, crc: number): number {
  let sum = ~crc;
  for (let i = 0; i < bytes.length; i++) sum = CRC32C_TABLE[(sum ^ bytes[i]!) & 255]! ^ (sum >>> 8);
  return ~sum >>> 0;
}
