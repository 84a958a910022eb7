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
  let chain: Chain = {};
  const paths = readdirSync(folders.wal)
    .sort()
    .map((name) => `${folders.wal}/${name}`);
  for (const path of paths.filter((one) => statSync(one).isFile())) {
    const found = laterIn(path, end, chain);
    if (found.proved) return inWords(found.proved);
    chain = found.chain;
  }
  if (chain.later) return inWords(chain.later);
  const snapshot = readNewestSnapshot(folders.snap);
  return snapshot && isLater(snapshot, end) ? `there is a .snap of entry ${snapshot.index}` : undefined;
}

const inWords = ({ path, index, term }: Later) => `${path} has entry ${index} of term ${term}`;

interface Later extends Place {
  path: string;
}

/** Records of which each one follows the one before it, up to here. The log's next file goes on with it, by its sum. */
interface Chain {
  /** Sum of all data so far; undefined where a record of the checksum has to come. */
  crc?: number | undefined;
  /** The first entry that is later, unless another one takes its place further on in this chain. */
  later?: Later | undefined;
}

/** `proved`: a later entry whose chain has ended. `chain`: at the end of this file. */
function laterIn(path: string, end: Place, before: Chain): { proved?: Later; chain: Chain } {
  using file = new LogFile(path);
  let chain = before;
  for (let at: number | undefined = 0; at !== undefined; ) {
    const record = recordAt(file, at);
    if (record && follows(record, chain)) {
      chain = { crc: record.crc, later: laterOf(record, chain.later, { path, end }) };
      at = record.end;
      continue;
    }
    const next: { position: number; crc?: number } | undefined =
      record?.type === CRC ? { position: at } : nextChain(file, at);
    if (next && chain.later) return { proved: chain.later, chain };
    if (next) chain = { crc: next.crc };
    at = next?.position;
  }
  return { chain };
}

function laterOf(
  { type, data }: WalRecord,
  later: Later | undefined,
  { path, end }: { path: string; end: Place },
) {
  const found = type === ENTRY ? unlessDamaged(() => readEntry(data)) : undefined;
  if (!found) return later;
  const left = later && found.index <= later.index ? undefined : later;
  return left ?? (isLater(found, end) ? { path, index: found.index, term: found.term } : undefined);
}

/** A record of the checksum says what it was so far: that of another log, or of a file in another's place, is not this one. */
function follows({ type, crc, data }: WalRecord, { crc: so }: Chain): boolean {
  return type === CRC ? so === undefined || so === crc : so !== undefined && crc32c(data, so) === crc;
}

function recordAt(file: LogFile, position: number): (WalRecord & { end: number }) | undefined {
  if (position + HEADER_SIZE > file.size) return undefined;
  const frame = readFrame(file.slice(position, position + HEADER_SIZE), position);
  if (!frame || frame.end > file.size) return undefined;
  const record = parseRecord(file.slice(frame.start, frame.start + frame.length));
  return record && { ...record, end: frame.end };
}
