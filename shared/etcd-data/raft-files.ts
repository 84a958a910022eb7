/**
 * etcd's files beside its database: the log's, read in blocks from beginning to end, with their zeros (space
 * not yet written, and sectors that a power loss has cut off); the newest member/snap/*.snap; and the
 * checksum of both. Sources: etcd server/etcdserver/api/snap (snapshotter.go), snappb/snap.proto;
 * raftpb/raft.proto.
 */
import { closeSync, constants, fstatSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { Damaged, fieldsOf, unlessDamaged } from "./protobuf.ts";

/**
 * Others may have made it: a pipe would block, and a device may act. Errors: Damaged if it is no regular file.
 */
export function openRegular(path: string): number {
  if (statSync(path).isFile()) {
    const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (fstatSync(file).isFile()) return file;
    closeSync(file);
  }
  throw new Damaged(`${path} is no regular file`);
}

/** Bytes that are read before the memory that this took is taken back: the engine waits until it is a multiple of what is kept. */
const PIECE = 8 * 2 ** 20;
let sinceTaken = 0;

/** So many bytes of a large file were read, or so much memory was needed for a moment. */
export function noteRead(bytes: number) {
  sinceTaken += bytes;
  if (sinceTaken < PIECE) return;
  sinceTaken = 0;
  Bun.gc(true);
}

/** Bytes that are needed for a moment to take a row or a record apart. */
export const OF_A_ROW = 1024;

/** Bytes of a block, and of a file's first one; a longer record gets a block of its own length. */
const LOG_BLOCK = 1024 * 1024;
const FIRST_BLOCK = LOG_BLOCK / 16;

/** The room at the end of each log file that was read, for as long as nobody writes to it: 64 MB that need no second reading. */
const rooms = new Map<string, { stamp: string; from: number }>();

/** `using file = new LogFile(path)` closes it. */
export class LogFile {
  readonly path: string;
  readonly size: number;
  private readonly file: number;
  private readonly stamp: string;
  private buffer = Buffer.alloc(0);
  private start = 0;
  private length = 0;

  constructor(path: string) {
    this.path = path;
    this.file = openRegular(path);
    const { ino, size, mtimeNs, ctimeNs } = fstatSync(this.file, { bigint: true });
    [this.size, this.stamp] = [Number(size), [ino, size, mtimeNs, ctimeNs].join(" ")];
  }

  /** From this byte on were zeros when it was read last; the file's size where that is not known. */
  get room(): number {
    const room = rooms.get(this.path);
    return room?.stamp === this.stamp ? room.from : this.size;
  }

  noteRoom(from: number) {
    if (this.size - from > LOG_BLOCK) rooms.set(this.path, { stamp: this.stamp, from });
  }

  [Symbol.dispose]() {
    closeSync(this.file);
  }

  /** Holds until the next call. */
  slice(from: number, to: number): Buffer {
    if (from < this.start || to > this.start + this.length) this.readBlock(from, to - from);
    return this.buffer.subarray(from - this.start, to - this.start);
  }

  /** Reads a part of the last slice again, when it is asked for. */
  again(part: Uint8Array): () => Buffer {
    const [{ path }, { length }] = [this, part];
    const from = this.start + part.byteOffset - this.buffer.byteOffset;
    return () => {
      const [file, bytes] = [openRegular(path), Buffer.allocUnsafeSlow(length)];
      try {
        if (readSync(file, bytes, 0, length, from) < length) throw new Damaged(`${path} was cut off`);
        return bytes;
      } finally {
        closeSync(file);
      }
    };
  }

  private readBlock(from: number, atLeast: number) {
    const block = Math.min(LOG_BLOCK, Math.max(FIRST_BLOCK, 2 * this.buffer.length));
    const length = Math.min(Math.max(atLeast, block), this.size - from);
    if (length > this.buffer.length) {
      noteRead(length);
      this.buffer = Buffer.allocUnsafeSlow(length);
    }
    [this.start, this.length] = [from, 0];
    while (this.length < length) {
      const count = readSync(this.file, this.buffer, this.length, length - this.length, from + this.length);
      if (count === 0)
        throw new Damaged(`${this.path} ended at byte ${from + this.length} while it was read`);
      this.length += count;
    }
  }
}

/** Bytes that a disk writes whole or not at all. */
const SECTOR = 512;

/** Whether a whole sector of this part of the file, or the part of it that is inside, is zeros. */
export function hasZeroSector(file: LogFile, frame: { start: number; end: number }): boolean {
  for (let sector = Math.floor(frame.start / SECTOR) * SECTOR; sector < frame.end; sector += SECTOR) {
    const part = file.slice(Math.max(sector, frame.start), Math.min(sector + SECTOR, frame.end));
    if (part.length > 0 && isZero(part)) return true;
  }
  return false;
}

/** Whether nothing but zeros follows. */
export function isZeroFrom(file: LogFile, position: number): boolean {
  for (let [at, end] = [position, file.room]; at < end; at += LOG_BLOCK)
    if (!isZero(file.slice(at, Math.min(at + LOG_BLOCK, end)))) return false;
  if (position < file.room) file.noteRoom(position);
  return true;
}

/** Compared as a whole: a log has up to 64 MB of zeros, and every script reads it. */
const ZEROS = Buffer.alloc(LOG_BLOCK);

export function isZero(bytes: Buffer): boolean {
  return bytes.equals(ZEROS.subarray(0, bytes.length));
}

/** The checksum of etcd's logs and snapshots. Source: RFC 3720, B.4; Go's hash/crc32, Castagnoli. */
const CRC32C_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

export function crc32c(bytes: Uint8Array, crc: number): number {
  let sum = ~crc;
  for (let i = 0; i < bytes.length; i++) sum = CRC32C_TABLE[(sum ^ bytes[i]!) & 255]! ^ (sum >>> 8);
  return ~sum >>> 0;
}

/** The newest .snap: etcd's v2 store as JSON, and the raft index it stands for. */
export interface Snapshot {
  index: number;
  term: number;
  store: Uint8Array;
}

/** Newest first. */
export function snapNames(folder: string): string[] {
  const names = readdirSync(folder).filter((name) => /^[0-9a-f]{16}-[0-9a-f]{16}\.snap$/.test(name));
  return names.sort().reverse();
}

/**
 * The newest intact one; like etcd, skips damaged ones and anything that is no file. Names are
 * <term>-<index>.snap in hex.
 */
export function readNewestSnapshot(folder: string): Snapshot | undefined {
  for (const name of snapNames(folder)) {
    const snapshot = parseSnapshot(`${folder}/${name}`);
    if (snapshot) return snapshot;
  }
  return undefined;
}

/**
 * snappb.Snapshot { 1 crc, 2 data }, data = raftpb.Snapshot { 1 data, 2 metadata { 1 confState, 2 index, 3
 * term } }.
 */
function parseSnapshot(path: string): Snapshot | undefined {
  // the next older one is valid, too: only member attributes are read from it
  return unlessDamaged(() => {
    using file = new LogFile(path);
    const outer = fieldsOf(file.slice(0, file.size));
    const data = outer.bytes(2);
    if (data.length === 0 || crc32c(data, 0) !== outer.number(1)) return undefined;
    const inner = fieldsOf(data);
    const metadata = fieldsOf(inner.bytes(2));
    return { index: metadata.number(2), term: metadata.number(3), store: inner.bytes(1) };
  });
}
