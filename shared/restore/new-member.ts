/**
 * The only member of a new cluster, and the files by which etcd knows it: its log and its snapshot, as
 * `etcdutl snapshot restore` writes them. Sources: etcd etcdutl/snapshot/v3_snapshot.go,
 * server/etcdserver/api/membership (member.go, cluster.go), api/v2store (node_extern.go), api/snap
 * (snapshotter.go); raftpb/raft.proto. The log's records: server/storage/wal (encoder.go, wal.go),
 * walpb/record.proto; etcd-data/wal.ts reads them, and protobuf.ts their wire format.
 *
 * The snapshot is required. Without it raft's log begins with entry 1, and a member that joins gets these few
 * entries instead of the database: it looks healthy, and is almost empty.
 */
import { createHash } from "node:crypto";
import type { Member } from "../etcd-data/members.ts";
import { crc32c } from "../etcd-data/raft-files.ts";

export interface OnlyMember {
  name: string;
  peerUrl: string;
  /** It makes the ids of clusters with the same URL differ. */
  token: string;
}

/** Its first and only entry. Ids are the SHA-1 of a member's URLs and the token, and of all members' ids: eight bytes. */
export function onlyMember({ name, peerUrl, token }: OnlyMember): LoneMember {
  const sum = (of: string | Buffer) => createHash("sha1").update(of).digest().subarray(0, 8);
  const member = sum(peerUrl + token);
  const own = { id: member.readBigUInt64BE(0), name, peerURLs: [peerUrl], isLearner: false };
  return {
    ...{ own, members: [own], clusterId: sum(member).readBigUInt64BE(0) },
    ...{ last: { term: 1, index: 1 }, alarms: [] },
  };
}

/** As etcd writes a member to JSON; its id may be too large for JSON.stringify. */
export function memberJson({ id, ...attributes }: SnapMember): string {
  return JSON.stringify(attributes).replace("{", `{"id":${id},`);
}

/** raftpb.ConfState { 1 voters, 2 learners, 5 auto_leave }. */
function confStateOf(members: readonly SnapMember[]): Buffer {
  const ids = members.map(({ id, isLearner }) => intField(isLearner ? 2 : 1, id));
  return Buffer.concat([...ids, intField(5, 0)]);
}

/** The same as JSON, as the bucket `meta` has it. */
export function confStateJson(members: readonly SnapMember[]): string {
  const ids = (learners: boolean) => members.filter((one) => one.isLearner === learners).map(({ id }) => id);
  return `{"voters":[${ids(false)}],"learners":[${ids(true)}],"auto_leave":false}`;
}

/** A member as it was, and what the cluster knew of its members. */
export interface LoneMember {
  own: SnapMember;
  members: readonly SnapMember[];
  clusterId: bigint;
  last: RaftPlace;
  alarms: Iterable<string>;
}

interface RaftPlace {
  term: number;
  index: number;
}

type SnapMember = Omit<Member, "id" | "clientURLs"> & { id: bigint; clientURLs?: string[] };

export function logName(index: number): string {
  return `${hex16(0)}-${hex16(index)}.wal`;
}

export function snapName({ term, index }: RaftPlace): string {
  return `${hex16(term)}-${hex16(index)}.snap`;
}

/** walpb.Snapshot { 1 index, 2 term, 3 confState }: the log says that there is this .snap. */
export function snapRecordOf({ term, index }: RaftPlace, members: readonly SnapMember[]): Buffer {
  return Buffer.concat([intField(1, index), intField(2, term), bytesField(3, confStateOf(members))]);
}

/**
 * snappb.Snapshot { 1 crc, 2 data }, data = raftpb.Snapshot { 1 store, 2 { 1 confState, 2 index, 3 term } }.
 */
export function snapBytes({ term, index }: RaftPlace, members: readonly SnapMember[]): Buffer {
  const metadata = [bytesField(1, confStateOf(members)), intField(2, index), intField(3, term)];
  const data = Buffer.concat([
    bytesField(1, JSON.stringify(storeOf(members))),
    bytesField(2, Buffer.concat(metadata)),
  ]);
  return Buffer.concat([intField(1, crc32c(data, 0)), bytesField(2, data)]);
}

/** etcd's v2 store, from which etcd 3.5 reads its members. */
function storeOf(members: readonly SnapMember[]) {
  const storedMembers = members.map(({ id, name, peerURLs, clientURLs, isLearner }) => {
    const path = `/0/members/${id.toString(16)}`;
    const raft = { peerURLs, ...(isLearner && { isLearner }) };
    const member = entry(path, "", {
      attributes: entry(`${path}/attributes`, JSON.stringify({ name, clientURLs })),
      raftAttributes: entry(`${path}/raftAttributes`, JSON.stringify(raft)),
    });
    return [id.toString(16), member] as const;
  });
  const all = entry("/0/members", "", Object.fromEntries(storedMembers));
  const root = entry("/", "", { "0": entry("/0", "", { members: all }), "1": entry("/1", "", {}) });
  return { Root: root, CurrentIndex: 1, CurrentVersion: 2 };
}

function entry(path: string, value: string, children: object | null = null) {
  const times = { CreatedIndex: 1, ModifiedIndex: 1, ExpireTime: "0001-01-01T00:00:00Z" };
  return { Path: path, ...times, Value: value, Children: children };
}

function hex16(number: number): string {
  return number.toString(16).padStart(16, "0");
}

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

  begin(): this {
    this.#frame(Buffer.concat([intField(1, RECORD.crc), intField(2, this.crc)]));
    return this;
  }

  add(type: number, data: Uint8Array): this {
    this.crc = crc32c(data, this.crc);
    this.#frame(Buffer.concat([intField(1, type), intField(2, this.crc), bytesField(3, data)]));
    return this;
  }

  get size(): number {
    return this.#frames.reduce((sum, { length }) => sum + length, 0);
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
export function membershipChange(type: number, memberId: bigint, context = ""): Buffer {
  return Buffer.concat([
    intField(2, type),
    intField(3, memberId),
    ...(context ? [bytesField(4, context)] : []),
  ]);
}

/** A varint field; a negative number is none of etcd's. */
export function intField(number: number, value: number | bigint): Buffer {
  return Buffer.concat([varint(BigInt(number << 3)), varint(BigInt.asUintN(64, BigInt(value)))]);
}

export function bytesField(number: number, content: string | Uint8Array): Buffer {
  const bytes = Buffer.from(content);
  return Buffer.concat([varint(BigInt((number << 3) | 2)), varint(BigInt(bytes.length)), bytes]);
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7n) {
    if (rest < 128n) return Buffer.from([...bytes, Number(rest)]);
    bytes.push(Number(rest & 127n) | 128);
  }
}
