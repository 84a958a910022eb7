/**
 * Whether a log has entries later than the one at which it ends, in any file of its folder, whatever that file's name: of
 * files that were swapped or renamed, or put aside by hand. A record proves itself by the checksum that the record before
 * it carries on, so the two are looked for together. Slow: all files are read. Source: etcd server/storage/wal (encoder.go).
 */
import { readdirSync, statSync } from "node:fs";
import { unlessDamaged } from "./protobuf.ts";
import { crc32c, LogFile, readNewestSnapshot } from "./raft-files.ts";
import { type Entry, isLater, nextChain, parseRecord, readEntry, readFrame, type WalRecord } from "./wal.ts";

type Place = Pick<Entry, "index" | "term">;

const ENTRY = 2;
const CRC = 4;
const HEADER_SIZE = 8;

/** In words what is later than `end`; undefined if nothing is. `folders`: the log's, and the one of the .snap files. */
export function laterThan(end: Place, folders: { wal: string; snap: string }): string | undefined {
  for (const name of readdirSync(folders.wal)) {
    const path = `${folders.wal}/${name}`;
    const later = statSync(path).isFile() ? laterIn(path, end) : undefined;
    if (later) return `${path} has entry ${later.index} of term ${later.term}`;
  }
  const snapshot = readNewestSnapshot(folders.snap);
  return snapshot && isLater(snapshot, end) ? `there is a .snap of entry ${snapshot.index}` : undefined;
}

interface At {
  position: number;
  /** Sum of all data before it; undefined where a record of the checksum has to come. */
  crc: number | undefined;
}

/** The first entry with a right checksum that is later, unless another one takes its place in the same chain of records. */
function laterIn(path: string, end: Place): Place | undefined {
  using file = new LogFile(path);
  let later: Place | undefined;
  for (let at: At | undefined = { position: 0, crc: undefined }; at; ) {
    const record = recordAt(file, at.position);
    if (!record || !follows(record, at)) {
      if (later) return later;
      at = nextChain(file, at.position);
    } else {
      const found = record.type === ENTRY ? unlessDamaged(() => readEntry(record.data)) : undefined;
      if (found && later && found.index <= later.index) later = undefined;
      if (found && isLater(found, end)) later ??= found;
      at = { position: record.end, crc: record.crc };
    }
  }
  return later;
}

function follows({ type, crc, data }: WalRecord, at: At): boolean {
  return type === CRC || (at.crc !== undefined && crc32c(data, at.crc) === crc);
}

function recordAt(file: LogFile, position: number): (WalRecord & { end: number }) | undefined {
  if (position + HEADER_SIZE > file.size) return undefined;
  const frame = readFrame(file.slice(position, position + HEADER_SIZE), position);
  if (!frame || frame.end > file.size) return undefined;
  const record = parseRecord(file.slice(frame.start, frame.start + frame.length));
  return record && { ...record, end: frame.end };
}
