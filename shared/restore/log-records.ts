/**
 * Writes records of etcd's write-ahead log; etcd-data/wal.ts has the format, and reads them. Sources: etcd
 * server/storage/wal (encoder.go, wal.go), walpb/record.proto; raftpb/raft.proto.
 */
import { crc32c } from "../etcd-data/raft-files.ts";
import { bytesField, intField } from "./protobuf-fields.ts";

export const RECORD = { metadata: 1, entry: 2, state: 3, crc: 4, snapshot: 5 } as const;

/** raftpb.ConfChangeType. */
export const CHANGE = { addNode: 0, removeNode: 1, updateNode: 2 } as const;

/** Records in frames, with a chain of checksums. */
export class LogRecords {
  readonly #frames: Uint8Array[] = [];

  /** CRC-32C over the data of all records so far. */
  crc: number;

  /** Continues the checksum of earlier records. */
  constructor(crc = 0) {
    this.crc = crc;
  }

  /** The first record of a file. */
  begin(): this {
    this.#frame(Buffer.concat([intField(1, RECORD.crc), intField(2, this.crc)]));
    return this;
  }

  add(type: number, data: Uint8Array): this {
    this.crc = crc32c(data, this.crc);
    this.#frame(Buffer.concat([intField(1, type), intField(2, this.crc), bytesField(3, data)]));
    return this;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#frames);
  }

  #frame(record: Uint8Array) {
    const padding = (8 - (record.length % 8)) % 8;
    const header = Buffer.alloc(8);
    header.writeUInt32LE(record.length, 0);
    if (padding > 0) header[7] = 0x80 | padding;
    this.#frames.push(header, record, Buffer.alloc(padding));
  }
}

/** etcdserverpb.Metadata { 1 nodeID, 2 clusterID }. */
export function metadataOf({ memberId, clusterId }: { memberId: bigint; clusterId: bigint }): Buffer {
  return Buffer.concat([intField(1, memberId), intField(2, clusterId)]);
}

/** raftpb.HardState { 1 term, 2 vote, 3 commit }. */
export function hardStateOf({ term, vote, commit }: { term: number; vote: bigint; commit: number }): Buffer {
  return Buffer.concat([intField(1, term), intField(2, vote), intField(3, commit)]);
}

/** raftpb.Entry { 1 type, 2 term, 3 index, 4 data }. `type`: 0 a request, 1 a change of the membership. */
export function entryOf(at: { type: number; term: number; index: number }, data: Uint8Array): Buffer {
  return Buffer.concat([
    intField(1, at.type),
    intField(2, at.term),
    intField(3, at.index),
    bytesField(4, data),
  ]);
}

/** raftpb.ConfChange { 2 type, 3 node_id, 4 context: the member as JSON }. */
export function changeOf(type: number, memberId: bigint, context = ""): Buffer {
  return Buffer.concat([
    intField(2, type),
    intField(3, memberId),
    ...(context ? [bytesField(4, context)] : []),
  ]);
}
