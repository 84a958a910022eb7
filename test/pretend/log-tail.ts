/**
 * The end of a member's log, and records to append. The log must be closed. Sources: etcd server/storage/wal
 * (wal.go: ReadAll, cut), etcdserver/bootstrap.go (--force-new-cluster).
 */
import * as fs from "node:fs";
import { Damaged, fieldsOf } from "../../shared/etcd-data/protobuf.ts";
import { crc32c, LogFile } from "../../shared/etcd-data/raft-files.ts";
import { parseRecord, readFrame, readWal } from "../../shared/etcd-data/wal.ts";
import { writeAt } from "../../shared/files/files.ts";
import { type LogRecords, RECORD } from "../../shared/restore/new-member.ts";

interface LogTail {
  /** The last file. */
  path: string;
  /** The position of the next record; a power loss has cut off the bytes behind it. */
  position: number;
  crc: number;
  term: number;
  vote: bigint;
  last: { index: number; term: number };
}

/** Errors: Damaged if etcd would not read this log either. */
export function logTail(folder: string): LogTail {
  const names = fs.readdirSync(folder).filter((name) => name.endsWith(".wal"));
  const name = names.sort().at(-1);
  if (!name) throw new Damaged(`${folder} holds no .wal file`);
  // starts with the file before it: etcd may have begun the last one, and stopped before its first entry
  const after = Number.parseInt(name.slice(17, 33), 16) - 1;
  const { last, warnings } = readWal(folder, { after, isWanted: () => false });
  const refused = warnings.find((warning) => warning.includes("etcd refuses this log"));
  if (refused) throw new Damaged(refused);
  return { ...endOf(`${folder}/${name}`), last };
}

function endOf(path: string): Omit<LogTail, "last"> {
  using file = new LogFile(path);
  const tail = { path, position: 0, crc: 0, term: 0, vote: 0n };
  while (tail.position + 8 <= file.size) {
    const frame = readFrame(file.slice(tail.position, tail.position + 8), tail.position);
    if (!frame || frame.end > file.size) break;
    const record = parseRecord(file.slice(frame.start, frame.start + frame.length));
    const crc = record?.type === RECORD.crc ? record.crc : crc32c(record?.data ?? new Uint8Array(), tail.crc);
    if (!record || crc !== record.crc) break;
    if (record.type === RECORD.state) {
      const fields = fieldsOf(record.data);
      Object.assign(tail, { term: fields.number(1), vote: BigInt.asUintN(64, fields.int(2)) });
    }
    Object.assign(tail, { crc, position: frame.end });
  }
  return tail;
}

/** Fills the rest of the file with zeros, as etcd has made room there. */
export function appendTo({ path, position }: LogTail, records: LogRecords) {
  const bytes = records.bytes();
  const file = fs.openSync(path, "r+");
  try {
    const { size } = fs.fstatSync(file);
    fs.ftruncateSync(file, position);
    fs.ftruncateSync(file, Math.max(size, position + bytes.length));
    writeAt(file, bytes, position);
    fs.fsyncSync(file);
  } finally {
    fs.closeSync(file);
  }
}
