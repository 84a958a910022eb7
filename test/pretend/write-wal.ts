/**
 * Writes an etcd data directory that is only a log: of a member that was killed before its first db. Our
 * reader accepts it (the log begins with entry 1), so each test can choose the cluster's content. Format: the
 * head of shared/etcd-data/wal.ts.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { crc32c } from "../../shared/etcd-data/raft-files.ts";

export interface WrittenMember {
  /** Hex. */
  id: string;
  name: string;
  peerURLs: string[];
  /** Added by `kubeadm join`, and not promoted: it has no vote. */
  isLearner?: boolean;
}

export interface Written {
  clusterId: string;
  /** The first is the owner of the directory. */
  members: WrittenMember[];
  /** Puts in this order, one revision each. The value undefined deletes the key. */
  puts: [key: string, value: string | Uint8Array | undefined][];
  /** etcd has just begun the next file (server/storage/wal/wal.go, cut): it has no entry yet. */
  cut?: boolean;
  /** The first member's database is full: it has raised the alarm NOSPACE. */
  isFull?: boolean | undefined;
}

/** Fills `dir`/member. The log's last revision is the number of puts + 1. */
export function writeEtcdData(dir: string, { clusterId, members, puts, cut, isFull }: Written) {
  const joins = members.map((member) => entry(1, addition(member)));
  const names = members.map(({ id, name }) => entry(0, field(1301, attributes(id, name))));
  const changes = puts.map(([key, value]) =>
    entry(0, value === undefined ? field(5, field(1, key)) : field(4, put(key, value))),
  );
  // AlarmRequest { 1 action (1: activate), 2 memberID, 3 alarm (1: NOSPACE) }
  const alarm = Buffer.concat([int(1, 1n), int(2, BigInt(`0x${members[0]!.id}`)), int(3, 1n)]);
  const entries = [...joins, ...names, ...changes, ...(isFull ? [entry(0, field(10, alarm))] : [])];
  const metadata = [int(1, BigInt(`0x${members[0]!.id}`)), int(2, BigInt(`0x${clusterId}`))];
  const log = new Log();
  log.add(METADATA, Buffer.concat(metadata));
  for (const [i, make] of entries.entries()) log.add(ENTRY, make(i + 1));
  log.add(STATE, Buffer.concat([int(1, 2n), int(3, BigInt(entries.length))]));
  for (const folder of ["snap", "wal"])
    mkdirSync(`${dir}/member/${folder}`, { recursive: true, mode: 0o700 });
  const file = (sequence: number, first: number) =>
    `${dir}/member/wal/${[sequence, first].map((number) => number.toString(16).padStart(16, "0")).join("-")}.wal`;
  writeFileSync(file(0, 0), log.bytes(), { mode: 0o600 });
  if (!cut) return;
  const next = new Log(log.crc);
  next.add(METADATA, Buffer.concat(metadata));
  next.add(STATE, Buffer.concat([int(1, 2n), int(3, BigInt(entries.length))]));
  writeFileSync(file(1, entries.length + 1), next.bytes(), { mode: 0o600 });
}

const [METADATA, ENTRY, STATE, CRC] = [1n, 2n, 3n, 4n];

/** Records in frames, with a chain of checksums. */
class Log {
  readonly #frames: Uint8Array[] = [];

  crc: number;

  /** Continues the sum of the file before. */
  constructor(crc = 0) {
    this.crc = crc;
    this.#frame(Buffer.concat([int(1, CRC), int(2, BigInt(crc))]));
  }

  add(type: bigint, data: Uint8Array) {
    this.crc = crc32c(data, this.crc);
    this.#frame(Buffer.concat([int(1, type), int(2, BigInt(this.crc)), field(3, data)]));
  }

  bytes() {
    return Buffer.concat([...this.#frames, Buffer.alloc(64)]);
  }

  #frame(record: Uint8Array) {
    const padding = (8 - (record.length % 8)) % 8;
    const header = Buffer.alloc(8);
    header.writeUInt32LE(record.length, 0);
    if (padding > 0) header[7] = 0x80 | padding;
    this.#frames.push(header, record, Buffer.alloc(padding));
  }
}

/** raftpb.Entry { 1 type, 2 term, 3 index, 4 data }. */
function entry(type: number, data: Uint8Array): (index: number) => Uint8Array {
  return (index) => Buffer.concat([int(1, BigInt(type)), int(2, 2n), int(3, BigInt(index)), field(4, data)]);
}

/** raftpb.ConfChange { 2 type (0: a voter is added, 3: a learner), 3 node_id, 4 context }. */
export function addition(
  { id, peerURLs, isLearner }: Omit<WrittenMember, "name">,
  more: object = {},
): Uint8Array {
  const context = JSON.stringify({ peerURLs, ...(isLearner ? { isLearner } : {}), ...more });
  return Buffer.concat([int(2, isLearner ? 3n : 0n), int(3, BigInt(`0x${id}`)), field(4, context)]);
}

/** ClusterMemberAttrSetRequest { 1 member_ID, 2 { 1 name, 2 client_urls } }. */
function attributes(id: string, name: string): Uint8Array {
  return Buffer.concat([
    int(1, BigInt(`0x${id}`)),
    field(2, Buffer.concat([field(1, name), field(2, "https://127.0.0.1:2379")])),
  ]);
}

function put(key: string, value: string | Uint8Array): Uint8Array {
  return Buffer.concat([field(1, key), field(2, value)]);
}

function field(number: number, content: string | Uint8Array): Uint8Array {
  const bytes = Buffer.from(content);
  return Buffer.concat([varint(BigInt((number << 3) | 2)), varint(BigInt(bytes.length)), bytes]);
}

function int(number: number, value: bigint): Uint8Array {
  return Buffer.concat([varint(BigInt(number << 3)), varint(value)]);
}

function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>= 7n) {
    if (rest < 128n) return Buffer.from([...bytes, Number(rest)]);
    bytes.push(Number(rest & 127n) | 128);
  }
}
