/**
 * The only member of a new cluster, and the files by which etcd knows it: its log and its snapshot, as
 * `etcdutl snapshot restore` writes them. Sources: etcd etcdutl/snapshot/v3_snapshot.go,
 * server/etcdserver/api/membership (member.go, cluster.go), api/v2store (node_extern.go), api/snap
 * (snapshotter.go); raftpb/raft.proto.
 *
 * The snapshot is required. Without it raft's log begins with entry 1, and a member that joins gets these few
 * entries instead of the database: it looks healthy, and is almost empty.
 */
import { createHash } from "node:crypto";
import type { Member } from "../etcd-data/members.ts";
import { crc32c } from "../etcd-data/raft-files.ts";
import { bytesField, intField } from "./protobuf-fields.ts";

export interface OnlyMember {
  name: string;
  peerUrl: string;
  /** It makes the ids of clusters with the same URL differ. */
  token: string;
}

/** Its first and only entry. Ids are the SHA-1 of a member's URLs and the token, and of all members' ids: eight bytes. */
export function onlyMember({ name, peerUrl, token }: OnlyMember): Known {
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
export interface Known {
  own: SnapMember;
  members: readonly SnapMember[];
  clusterId: bigint;
  /** The last entry that the data has. */
  last: RaftPlace;
  alarms: Iterable<string>;
}

/** A raft index and its term. */
export interface RaftPlace {
  term: number;
  index: number;
}

export type SnapMember = Omit<Member, "id" | "clientURLs"> & { id: bigint; clientURLs?: string[] };

/** The name of a log with one file, behind this entry. */
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
  const known = members.map(({ id, name, peerURLs, clientURLs, isLearner }) => {
    const path = `/0/members/${id.toString(16)}`;
    const raft = { peerURLs, ...(isLearner && { isLearner }) };
    const member = entry(path, "", {
      attributes: entry(`${path}/attributes`, JSON.stringify({ name, clientURLs })),
      raftAttributes: entry(`${path}/raftAttributes`, JSON.stringify(raft)),
    });
    return [id.toString(16), member] as const;
  });
  const all = entry("/0/members", "", Object.fromEntries(known));
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
