/**
 * A member that is the only one of a new cluster, and the files by which etcd knows it: its log and its
 * snapshot, as `etcdutl snapshot restore` writes them. Sources: etcd etcdutl/snapshot/v3_snapshot.go,
 * server/etcdserver/api/membership (member.go, cluster.go), api/v2store (node_extern.go), api/snap
 * (snapshotter.go); raftpb/raft.proto.
 *
 * The snapshot is not optional. Without it raft's log begins with entry 1, and a member that joins gets these
 * few entries in place of the database: it looks well, and is almost empty.
 */
import { createHash } from "node:crypto";
import { crc32c } from "../etcd-data/raft-files.ts";
import { CHANGE, changeOf, entryOf, hardStateOf, LogRecords, metadataOf, RECORD } from "./log-records.ts";
import { bytesField, intField } from "./protobuf-fields.ts";

export interface OnlyMember {
  name: string;
  peerUrl: string;
  /** Other clusters with the same URL have another one, and so other ids. */
  token: string;
}

/** The new log's last entry: it adds the member. */
export const LAST = { term: 1, index: 1 } as const;

/** SHA-1 of a member's URLs and the token, and of the ids of all members; of each the first eight bytes. */
export function idsOf({ peerUrl, token }: OnlyMember): { memberId: bigint; clusterId: bigint } {
  const member = createHash("sha1")
    .update(peerUrl + token)
    .digest()
    .subarray(0, 8);
  const cluster = createHash("sha1").update(member).digest();
  return { memberId: member.readBigUInt64BE(0), clusterId: cluster.readBigUInt64BE(0) };
}

/** As etcd writes a member to JSON; its id may be too large for JSON.stringify. */
export function memberJson(id: bigint, { name, peerUrl }: Pick<OnlyMember, "name" | "peerUrl">): string {
  return `{"id":${id},"peerURLs":${JSON.stringify([peerUrl])},"name":${JSON.stringify(name)}}`;
}

/** raftpb.ConfState { 1 voters, 5 auto_leave }. */
function confStateOf(voter: bigint): Buffer {
  return Buffer.concat([intField(1, voter), intField(5, 0)]);
}

/** The same as JSON, as the bucket `meta` has it. */
export function confStateJson(voter: bigint): string {
  return `{"voters":[${voter}],"auto_leave":false}`;
}

export const LOG_NAME = `${hex16(0)}-${hex16(0)}.wal`;
export const SNAP_NAME = `${hex16(LAST.term)}-${hex16(LAST.index)}.snap`;

/** The whole log: it adds the member, says that this is committed, and that a snapshot has it. */
export function logBytes(member: OnlyMember): Buffer {
  const ids = idsOf(member);
  const { term, index } = LAST;
  const addition = changeOf(CHANGE.addNode, ids.memberId, memberJson(ids.memberId, member));
  return new LogRecords()
    .begin()
    .add(RECORD.metadata, metadataOf(ids))
    .add(RECORD.snapshot, Buffer.concat([intField(1, 0), intField(2, 0)]))
    .add(RECORD.entry, entryOf({ type: 1, term, index }, addition))
    .add(RECORD.state, hardStateOf({ term, vote: ids.memberId, commit: index }))
    .add(
      RECORD.snapshot,
      Buffer.concat([intField(1, index), intField(2, term), bytesField(3, confStateOf(ids.memberId))]),
    )
    .bytes();
}

/**
 * snappb.Snapshot { 1 crc, 2 data }, data = raftpb.Snapshot { 1 store, 2 { 1 confState, 2 index, 3 term } }.
 */
export function snapBytes(member: OnlyMember): Buffer {
  const { memberId } = idsOf(member);
  const metadata = [bytesField(1, confStateOf(memberId)), intField(2, LAST.index), intField(3, LAST.term)];
  const data = Buffer.concat([
    bytesField(1, JSON.stringify(storeOf(memberId, member))),
    bytesField(2, Buffer.concat(metadata)),
  ]);
  return Buffer.concat([intField(1, crc32c(data, 0)), bytesField(2, data)]);
}

/** etcd's v2 store, in which etcd 3.5 looks for its members. */
function storeOf(memberId: bigint, { name, peerUrl }: OnlyMember) {
  const path = `/0/members/${memberId.toString(16)}`;
  const member = entry(path, "", {
    attributes: entry(`${path}/attributes`, JSON.stringify({ name })),
    raftAttributes: entry(`${path}/raftAttributes`, JSON.stringify({ peerURLs: [peerUrl] })),
  });
  const members = entry("/0/members", "", { [memberId.toString(16)]: member });
  const root = entry("/", "", { "0": entry("/0", "", { members }), "1": entry("/1", "", {}) });
  return { Root: root, CurrentIndex: 1, CurrentVersion: 2 };
}

function entry(path: string, value: string, children: object | null = null) {
  const times = { CreatedIndex: 1, ModifiedIndex: 1, ExpireTime: "0001-01-01T00:00:00Z" };
  return { Path: path, ...times, Value: value, Children: children };
}

function hex16(number: number): string {
  return number.toString(16).padStart(16, "0");
}
