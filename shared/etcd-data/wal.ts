/**
 * Reads etcd's write-ahead log, member/wal. Sources: etcd server/storage/wal (decoder.go, wal.go, repair.go),
 * walpb/record.proto, raftpb/raft.proto. A file has 64 MB and more, and is read in blocks; only what is
 * wanted of it is kept.
 *
 *   file    <sequence>-<first index>.wal, both 16 hex digits; preallocated with zeros
 *   frame   | length u64: low 56 bits the record's length, top byte 0x80 + padding | record | padding to 8 bytes |   length 0: the end
 *   record  walpb.Record { 1 type, 2 crc, 3 data }; crc is CRC-32C over the data of all records so far, a crc record begins each file
 */
import { existsSync, readdirSync } from "node:fs";
import { Damaged, fieldsOf, hexId, NOTHING, Reader, unlessDamaged } from "./protobuf.ts";
import { crc32c, hasZeroSector, isZero, isZeroFrom, LogFile, noteRead, OF_A_ROW } from "./raft-files.ts";

const FRAME_HEADER_SIZE = 8;
const METADATA_TYPE = 1;
const ENTRY_TYPE = 2;
const STATE_TYPE = 3;
const CRC_TYPE = 4;
const SNAPSHOT_TYPE = 5;

/** raftpb.Entry. `type` 0 is a request, 1 and 2 change the membership. */
export interface Entry {
  type: number;
  term: number;
  index: number;
  data: Uint8Array;
}

export interface Wal {
  clusterId: string;
  memberId: string;
  /**
   * The wanted entries by index, without those that a later entry of the same or a lower index replaced. If the wish
   * reads on, the data of those behind the first 8 MB is read on demand: it may be the whole log.
   */
  entries: Map<number, Entry>;
  /**
   * The last entries up to `wish.applied`, without a gap, oldest first: as far as `KEPT` goes. Empty
   * if the log has not that entry itself.
   */
  before: Entry[];
  /**
   * A snapshot comes before the first request, as restores write it: the db had keys before this log's first
   * entry.
   */
  isOfRestore: boolean;
  /** Index and term of the last entry, or of a snapshot that is newer than all entries. */
  last: { index: number; term: number };
  /** raftpb.HardState.commit: the last index this member knew a quorum had. */
  commit: number;
  /** Entries behind the last one were there, and are lost: not those of a write that a power loss cut off. */
  isCut: boolean;
  /** Behind the last record is nothing but the room that etcd has made: no entry was there. */
  isEndSeen: boolean;
  /** No power cut leaves it so: etcd refuses it, or starts without what is lost. */
  isDamaged: boolean;
  /** Warnings for the operator: damage, lost entries. */
  warnings: string[];
}

/** Entries, and bytes of them: more than a disk loses of its last writes, and less than a program notices. */
const KEPT = { entries: 4096, bytes: 8 * 1024 * 1024 };

/** Entries after index `after` that `isWanted`, whose `data` is a view that is valid until the next call. */
export interface Wish {
  after: number;
  /** The db has the writes of the entries up to this one; 0 if nobody asks. */
  applied?: number;
  isWanted: (entry: Entry) => boolean;
  /** Continues behind damage, up to the first missing entry after `applied`. */
  readsOn?: boolean;
}

/**
 * Reads the files that hold the wanted entries. Damage in the last file's tail is a warning, anywhere else
 * `Damaged`.
 */
export function readWal(folder: string, wish: Wish): Wal {
  const files = neededFiles(readdirSync(folder), wish);
  if (files.length === 0) throw new Damaged(`${folder} holds no .wal file`);
  const wal: Wal = {
    clusterId: "",
    memberId: "",
    ...{ entries: new Map(), before: [], isOfRestore: false },
    last: { index: 0, term: 0 },
    commit: 0,
    ...{ isCut: false, isEndSeen: false, isDamaged: false },
    warnings: [],
  };
  const reading: Reading = {
    isLast: false,
    crc: undefined,
    isBegun: false,
    hasHead: false,
    latest: { index: 0, term: 0 },
    terms: [],
    hasRequest: false,
    ...{ keptBytes: 0, heldBytes: 0 },
    wal,
    wish,
  };
  for (const file of files)
    readFile(`${folder}/${file}`, Object.assign(reading, { isLast: file === files.at(-1), hasHead: false }));
  if (wal.before.at(-1)?.index !== wish.applied) wal.before = [];
  if (wish.readsOn) endAtGap(wal, wish);
  if (!wal.clusterId)
    throw new Damaged(`${folder}/${files[0]} does not begin with the ids of cluster and member`);
  noteLost(wal, reading.latest);
  return wal;
}

/** `latest`: of all entries with a right checksum. One that is later than the end was read, and has no place there. */
function noteLost(wal: Wal, latest: Place) {
  const lost =
    wal.commit > wal.last.index
      ? `The log says that entry ${wal.commit} is committed, but ends at ${wal.last.index}: what is between them is lost`
      : isLater(latest, wal.last) &&
        `The log has entry ${latest.index} of term ${latest.term} in another place, but ends at ${wal.last.index}: what is between them is lost`;
  if (!lost) return;
  [wal.isCut, wal.isDamaged] = [true, true];
  wal.warnings.push(lost);
}

type Place = Pick<Entry, "index" | "term">;

/** Raft's election compares logs so: the term, then the index. */
export function isLater(one: Place, other: Place): boolean {
  return one.term > other.term || (one.term === other.term && one.index > other.index);
}

/** Entries behind a missing one may depend on it. */
function endAtGap(wal: Wal, { applied = 0 }: Wish) {
  const { index: last, term } = wal.last;
  let end = Math.min(applied, last);
  while (wal.entries.has(end + 1)) end++;
  for (const index of wal.entries.keys()) if (index > end) wal.entries.delete(index);
  wal.isCut ||= end < last;
  wal.last = {
    index: end,
    term: end === last ? term : ((wal.entries.get(end) ?? wal.before.at(-1))?.term ?? 0),
  };
}

/** The log's first entry, by the name of its first file: cheap. Undefined if there is no log. */
export function firstEntryIn(folder: string): number | undefined {
  const [first] = existsSync(folder) ? logNames(readdirSync(folder)) : [];
  return first === undefined ? undefined : Math.max(1, Number.parseInt(first.slice(17, 33), 16));
}

function logNames(names: string[]): string[] {
  return names.filter((name) => WAL_NAME.test(name)).sort();
}

const WAL_NAME = /^([0-9a-f]{16})-([0-9a-f]{16})\.wal$/;

/**
 * Starts with the file of the entry before the needed ones: etcd may have stopped before the next file's first entry.
 */
function neededFiles(names: string[], { after, readsOn = false }: Wish): string[] {
  const files = logNames(names);
  const start = files.findLastIndex((name) => Number.parseInt(name.slice(17, 33), 16) <= after);
  const needed = files.slice(Math.max(start, 0));
  for (const [i, name] of needed.entries()) {
    const sequence = Number.parseInt(name.slice(0, 16), 16);
    const expected = Number.parseInt(needed[0]!.slice(0, 16), 16) + i;
    if (sequence !== expected && !readsOn) throw new Damaged(`a .wal file is missing before ${name}`);
  }
  return needed;
}

interface Reading {
  file?: LogFile;
  isLast: boolean;
  /** The checksum so far; undefined before the first crc record. */
  crc: number | undefined;
  /** Whether an entry was read, and whether one was a request. */
  isBegun: boolean;
  hasRequest: boolean;
  /** Whether this file has told the ids, as etcd gives a file its name when it has; or is damaged there. */
  hasHead: boolean;
  /** The latest entry whose checksum is right, wherever it is. */
  latest: Place;
  /** The same where the log was damaged: what lies behind that may be copies of what came before. */
  atDamage?: Place;
  /** The first entry of each term, oldest first, without those in whose place another one came. */
  terms: Place[];
  keptBytes: number;
  /** Bytes of those wanted entries that are in memory, where the wish reads on. */
  heldBytes: number;
  wal: Wal;
  wish: Wish;
}

function readFile(path: string, reading: Reading) {
  using file = new LogFile(path);
  reading.file = file;
  for (let from: number | undefined = 0; from !== undefined; ) from = readRecords(file, from, reading);
}

/** Returns the position behind damage at which records continue, if they do and the wish allows it. */
function readRecords(file: LogFile, from: number, reading: Reading): number | undefined {
  let position = from;
  while (position + FRAME_HEADER_SIZE <= file.size) {
    const frame = readFrame(file.slice(position, position + FRAME_HEADER_SIZE), position);
    if (frame === undefined) break;
    const record =
      frame.end <= file.size ? parseRecord(file.slice(frame.start, frame.start + frame.length)) : undefined;
    if (!record || !follows(record, reading) || !addRecord(reading, record))
      return stopAtDamage(file, { ...frame, position }, reading);
    position = frame.end;
  }
  if (!isZeroFrom(file, position))
    return stopAtDamage(file, { start: position, end: file.size, position }, reading);
  if (reading.isLast) lookAtEnd(file, position, reading);
  return undefined;
}

/**
 * Bytes of a file for which etcd makes room (wal.go, SegmentSizeBytes; test/lab/checks/etcd-source.ts compares it). A file
 * with records up to there ends behind the last one, and there is a next file (wal.go, cut).
 */
export const SEGMENT_SIZE = 64_000_000;

/** Nothing but zeros follows the last record of the last file, at `position`. */
function lookAtEnd({ path, size }: LogFile, position: number, { wal, hasHead, latest, atDamage }: Reading) {
  wal.isEndSeen = hasHead && size >= SEGMENT_SIZE && position < SEGMENT_SIZE;
  if (atDamage && !isLater(latest, atDamage)) {
    wal.isCut = true;
    wal.warnings.push(`${path} is damaged behind entry ${atDamage.index}, and has no later one behind that`);
  }
  if (hasHead && position < SEGMENT_SIZE) return;
  wal.isCut = true;
  wal.isDamaged ||= !hasHead;
  wal.warnings.push(
    hasHead
      ? `${path} is full, and the next file is lost, with all entries after ${wal.last.index}`
      : `${path} has no record, and etcd makes no such file: all entries after ${wal.last.index} are lost`,
  );
}

/** Each record begins with its type (walpb/record.pb.go, MarshalTo). */
const TYPE_TAG = 0x08;

/** Bytes that are skipped at once if they are zeros: etcd makes room for 64 MB. */
const ROOM = 4096;

/**
 * Where the log continues behind damage: a record that follows another one. Returns it with the sum before it.
 */
export function nextChain(file: LogFile, from: number) {
  const recordAt = (position: number) => {
    if (position + FRAME_HEADER_SIZE > file.size) return undefined;
    const frame = readFrame(file.slice(position, position + FRAME_HEADER_SIZE), position);
    if (!frame || frame.end > file.size || frame.end % 8 !== 0) return undefined;
    if (file.slice(frame.start, frame.start + 1)[0] !== TYPE_TAG) return undefined;
    const record = parseRecord(file.slice(frame.start, frame.start + frame.length));
    return record && record.type >= METADATA_TYPE && record.type <= SNAPSHOT_TYPE
      ? { ...record, data: new Uint8Array(record.data), end: frame.end }
      : undefined;
  };
  let room = from;
  for (let at = from; at < file.room && at + FRAME_HEADER_SIZE <= file.size; at += 8) {
    if (at % ROOM === 0 && isZero(file.slice(at, Math.min(at + ROOM, file.size)))) {
      at += ROOM - 8;
      continue;
    }
    room = at + 8;
    const one = recordAt(at);
    const next = one && recordAt(one.end);
    if (next?.data.length && next.type !== CRC_TYPE && crc32c(next.data, one!.crc) === next.crc)
      return { position: one!.end, crc: one!.crc };
  }
  if (room < file.room) file.noteRoom(room);
  return undefined;
}

/** Undefined if the log ends. */
export function readFrame(header: Buffer, position: number) {
  const low = header.readUInt32LE(0);
  const high = header.readUInt32LE(4);
  if (low === 0 && high === 0) return undefined;
  const length = (high & 0x00ffffff) * 2 ** 32 + low;
  const padding = high >>> 31 ? (high >>> 24) & 7 : 0;
  const start = position + FRAME_HEADER_SIZE;
  return { start, length, end: start + length + padding };
}

export interface WalRecord {
  type: number;
  crc: number;
  data: Uint8Array;
}

export function parseRecord(message: Uint8Array): WalRecord | undefined {
  // stopAtDamage reports it, with its place
  return unlessDamaged(() => {
    const record: WalRecord = { type: 0, crc: 0, data: NOTHING };
    const reader = new Reader(message);
    while (!reader.done) {
      const tag = reader.tag();
      if (tag === TYPE_TAG) record.type = reader.number();
      else if (tag === 0x10) record.crc = reader.number() % 2 ** 32;
      else if (tag === 0x1a) record.data = reader.bytes();
      else reader.skip(tag);
    }
    return record;
  });
}

/** Whether the record continues the chain of checksums. A crc record carries it from file to file. */
function follows(record: WalRecord, reading: Reading): boolean {
  if (record.type !== CRC_TYPE) {
    if (reading.crc === undefined) return false;
    reading.crc = crc32c(record.data, reading.crc);
    return reading.crc === record.crc;
  }
  // A file's chain starts with the sum of the file before; the very first file starts with 0, and so may a
  // file we begin at.
  if (reading.crc !== undefined && reading.crc !== record.crc) return false;
  reading.crc = record.crc;
  return true;
}

/**
 * As etcd does: a record with a sector of zeros was cut by a power loss and is dropped. Other damage etcd
 * refuses; here it is a warning. Returns where the log goes on, if it may.
 */
function stopAtDamage(
  file: LogFile,
  frame: { start: number; end: number; position: number },
  reading: Reading,
): number | undefined {
  const { wal, wish, isLast } = reading;
  const place = `${file.path} at byte ${frame.position}`;
  if (!isLast && !wish.readsOn) throw new Damaged(`checksum mismatch in ${place}, with more files after it`);
  const torn = frame.end > file.size || hasZeroSector(file, frame);
  const next = isZeroFrom(file, frame.position) ? undefined : nextChain(file, frame.position);
  const isTornEnd = isLast && torn && !next;
  const isCutOff = frame.end > file.size;
  reading.crc = undefined;
  if (wish.readsOn && !isTornEnd) {
    [wal.isDamaged, reading.crc, reading.isBegun, reading.hasHead] = [true, next?.crc, false, true];
    reading.atDamage = reading.latest;
    wal.isCut ||= isLast && !next;
    return next?.position;
  }
  wal.isCut ||= !isTornEnd;
  wal.isDamaged ||= !isTornEnd || isCutOff;
  wal.warnings.push(
    torn
      ? isCutOff
        ? `The log's file ends inside a record, as where a copy broke off or a disk was full: ${place}. What came after it is not there`
        : `The log's last write was cut off, as by a power loss, and is left out: ${place}`
      : `Checksum mismatch in ${place}: etcd refuses this log, and what was written after it (entry ${wal.last.index}) is left out`,
  );
  return undefined;
}

/**
 * False if the record makes no sense here. The checksum does not cover its type, so a damaged type shows
 * only in this way.
 */
function addRecord(reading: Reading, record: WalRecord): boolean {
  const { wal } = reading;
  if (record.type === METADATA_TYPE) return readMetadata(reading, record.data);
  if (record.type === ENTRY_TYPE) return addEntry(reading, readEntry(record.data));
  if (record.type === STATE_TYPE) wal.commit = fieldsOf(record.data).number(3);
  else if (record.type === SNAPSHOT_TYPE) {
    const fields = fieldsOf(record.data);
    const snapshot = { index: fields.number(1), term: fields.number(2) };
    if (snapshot.index > wal.last.index) {
      noteTerm(reading, snapshot);
      wal.last = snapshot;
    }
    if (snapshot.index > 0 && !reading.hasRequest) wal.isOfRestore = true;
  } else return record.type === CRC_TYPE;
  return true;
}

/** etcdserverpb.Metadata { 1 nodeID, 2 clusterID }, at the head of each file. */
function readMetadata(reading: Reading, message: Uint8Array): boolean {
  const { wal } = reading;
  const fields = fieldsOf(message);
  const [memberId, clusterId] = [1, 2].map((number) =>
    fields.int(number) === 0n ? "" : hexId(fields.int(number)),
  );
  if (wal.clusterId && (wal.clusterId !== clusterId || wal.memberId !== memberId)) return false;
  Object.assign(wal, { memberId, clusterId });
  reading.hasHead = true;
  return true;
}

function addEntry(reading: Reading, entry: Entry): boolean {
  noteRead(OF_A_ROW);
  const { wal, wish } = reading;
  const isNext = !reading.isBegun || entry.index <= wal.last.index + 1;
  const isPossible = isNext && entry.type <= 2 && Number.isSafeInteger(entry.term);
  const isPlaced = isPossible && entry.term >= leastTerm(reading, entry.index);
  if (isPlaced) noteTerm(reading, entry);
  if (isLater(entry, reading.latest)) reading.latest = placeOf(entry);
  if (!isPlaced) return false;
  for (let replaced = entry.index; replaced <= wal.last.index; replaced++) wal.entries.delete(replaced);
  const copy = (): Entry => ({ ...entry, data: new Uint8Array(entry.data) });
  const distance = (wish.applied ?? 0) - entry.index;
  if (distance >= 0 && distance < KEPT.entries) keepBefore(reading, copy());
  if (entry.index > wish.after && wish.isWanted(entry))
    wal.entries.set(
      entry.index,
      isHeld(reading, entry) ? copy() : later(entry, reading.file!.again(entry.data)),
    );
  wal.last = placeOf(entry);
  reading.isBegun = true;
  reading.hasRequest ||= entry.type === 0 && entry.data.length > 0;
  return true;
}

const placeOf = ({ index, term }: Place): Place => ({ index, term });

/**
 * In a log the term never falls from one entry to the next. But an entry may take the place of one of a later term: a
 * leader has written that on its own disk alone, and the next leader sends what it has of an older one (the Raft paper,
 * figure 8). Nothing compares the two: raft log.go (maybeAppend, findConflict) takes each that differs, and etcd's
 * wal.go (ReadAll) puts what comes later in the place of what was there. Behind damage it is not known what was between.
 */
function leastTerm({ isBegun, terms, wal }: Reading, index: number): number {
  return isBegun ? (terms.findLast((one) => one.index < index)?.term ?? 0) : wal.last.term;
}

/** An entry that another one has replaced is not the latest any more: no quorum had it. */
function noteTerm(reading: Reading, entry: Place) {
  const { terms, latest, isBegun, wal } = reading;
  const isReplaced = isBegun && entry.index <= wal.last.index;
  if (isReplaced && latest.index === wal.last.index && latest.term === wal.last.term)
    reading.latest = placeOf(entry);
  while (terms.length > 0 && terms.at(-1)!.index >= entry.index) terms.pop();
  if (terms.at(-1)?.term !== entry.term) terms.push(placeOf(entry));
}

/** The first wanted entries stay in memory: to open the file for each of a whole small log takes longer than to read it. */
function isHeld(reading: Reading, { data }: Entry): boolean {
  if (reading.wish.readsOn) reading.heldBytes += data.length;
  return reading.heldBytes <= KEPT.bytes;
}

function later({ type, term, index }: Entry, read: () => Uint8Array): Entry {
  return {
    ...{ type, term, index },
    get data() {
      return read();
    },
  };
}

/** A snapshot that another member has sent leaves a gap. */
function keepBefore(reading: Reading, entry: Entry) {
  const { before } = reading.wal;
  while (before.length > 0 && before.at(-1)!.index !== entry.index - 1)
    reading.keptBytes -= before.pop()!.data.length;
  before.push(entry);
  reading.keptBytes += entry.data.length;
  while (reading.keptBytes > KEPT.bytes) reading.keptBytes -= before.shift()!.data.length;
}

export function readEntry(message: Uint8Array): Entry {
  const entry: Entry = { type: 0, term: 0, index: 0, data: NOTHING };
  const reader = new Reader(message);
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x08) entry.type = Number(reader.int64());
    else if (tag === 0x10) entry.term = Number(reader.int64());
    else if (tag === 0x18) entry.index = Number(reader.int64());
    else if (tag === 0x22) entry.data = reader.bytes();
    else reader.skip(tag);
  }
  return entry;
}
