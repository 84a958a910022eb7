/**
 * The values in the bucket `key` of etcd's db file. Sources: etcd server/storage/mvcc revision.go;
 * api/mvccpb/kv.proto.
 *
 *   bucket key   main u64 BE | "_" | sub u64 BE [ | "t" tombstone ]  →  mvccpb.KeyValue; a tombstone's holds only the key
 */

import type { Leaf } from "./db-file.ts";
import { Damaged, NOTHING, Reader, unlessDamaged } from "./protobuf.ts";
import { noteRead, OF_A_ROW } from "./raft-files.ts";
import type { RevisionKey, StoredRevision } from "./revision-index.ts";

/**
 * `key` is text, revisions are etcd's (`modRevision` is Kubernetes' resourceVersion), `lease` is 0n if
 * there is none.
 */
export interface KeyValue {
  key: string;
  value: Uint8Array;
  createRevision: number;
  modRevision: number;
  version: number;
  lease: bigint;
}

const TOMBSTONE_LENGTH = 18;
const REVISION_LENGTH = 17;
const SEPARATOR = 0x5f;
const TOMBSTONE = 0x74;
/** Bytes in which a key and its numbers nearly always fit. The value follows, up to 1.5 MB. */
const HEAD = 1024;

/** A revision without its value, of which as little as possible is read. */
export function readRevision(leaf: Leaf, i: number): StoredRevision {
  noteRead(OF_A_ROW);
  const revision = parseRevision(leaf.key(i));
  if (leaf.valueSize(i) === 0 && !revision.isTombstone) return { ...revision, key: "", lease: 0n };
  const { key, modRevision, lease } = readHead(leaf, i);
  if (!revision.isTombstone && modRevision !== revision.main)
    throw new Damaged(`revision ${revision.main} holds a value of ${modRevision}`);
  return { ...revision, key, lease };
}

/** The value in a value of the bucket: a view that holds until the next one. */
export function valueIn(leaf: Leaf, i: number): Uint8Array {
  return parseKeyValue(leaf.value(i)).value;
}

/** A whole value of the bucket, a copy. */
export function readKeyValue(leaf: Leaf, i: number): KeyValue {
  const keyValue = parseKeyValue(leaf.value(i));
  return { ...keyValue, value: new Uint8Array(keyValue.value) };
}

/** The first bytes of the value in a value of the bucket, a copy. */
export function readValueHead(leaf: Leaf, i: number, length: number): Uint8Array {
  const { valueStart, valueLength } = readHead(leaf, i);
  return new Uint8Array(leaf.value(i, valueStart, Math.min(length, valueLength)));
}

/** All but the value. */
function readHead(leaf: Leaf, i: number) {
  const size = leaf.valueSize(i);
  if (size <= HEAD) return parseHead(leaf.value(i), { size });
  const tail = (start: number) => leaf.value(i, start, size - start);
  const head = unlessDamaged(() => parseHead(leaf.value(i, 0, HEAD), { size, tail }));
  return head ?? parseHead(leaf.value(i), { size }); // a key so long that its numbers are not in the first bytes
}

function parseHead(message: Buffer, { size, tail }: { size: number; tail?: (start: number) => Buffer }) {
  const head = { key: "", modRevision: 0, lease: 0n, valueStart: size, valueLength: 0 };
  let reader = new Reader(message);
  for (let start = 0; !reader.done; ) {
    const tag = reader.tag();
    if (tag === 0x0a) head.key = latin1(reader.bytes());
    else if (tag === 0x18) head.modRevision = reader.number();
    else if (tag === 0x30) head.lease = reader.int64();
    else if (tag === 0x2a && tail && start === 0) {
      head.valueLength = reader.number();
      head.valueStart = reader.at;
      start = head.valueStart + head.valueLength;
      if (start > size) throw new Damaged("protobuf: message ends inside a field");
      reader = new Reader(start < size ? tail(start) : NOTHING);
    } else if (tag === 0x2a) {
      head.valueLength = reader.bytes().length;
      head.valueStart = reader.at - head.valueLength;
    } else reader.skip(tag);
  }
  if (head.key === "") throw new Damaged("a revision has no key");
  return head;
}

function parseRevision(key: Buffer): RevisionKey {
  const isTombstone = key.length === TOMBSTONE_LENGTH && key[REVISION_LENGTH] === TOMBSTONE;
  const isRevision = (key.length === REVISION_LENGTH || isTombstone) && key[8] === SEPARATOR;
  if (!isRevision) throw new Damaged(`"${key.toString("hex")}" is no revision`);
  return { main: u64(key), sub: u64(key.subarray(9)), isTombstone };
}

/** The revision's key in the bucket. */
export function bucketKey({ main, sub, isTombstone }: RevisionKey): Buffer {
  const key = Buffer.alloc(isTombstone ? TOMBSTONE_LENGTH : REVISION_LENGTH, TOMBSTONE);
  key.writeBigUInt64BE(BigInt(main), 0);
  key[8] = SEPARATOR;
  key.writeBigUInt64BE(BigInt(sub), 9);
  return key;
}

/**
 * mvccpb.KeyValue { 1 key, 2 create_revision, 3 mod_revision, 4 version, 5 value, 6 lease }, with the key as
 * latin1.
 */
function parseKeyValue(message: Uint8Array): KeyValue {
  const keyValue: KeyValue = {
    key: "",
    value: NOTHING,
    createRevision: 0,
    modRevision: 0,
    version: 0,
    lease: 0n,
  };
  const reader = new Reader(message);
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === 0x0a) keyValue.key = latin1(reader.bytes());
    else if (tag === 0x10) keyValue.createRevision = reader.number();
    else if (tag === 0x18) keyValue.modRevision = reader.number();
    else if (tag === 0x20) keyValue.version = reader.number();
    else if (tag === 0x2a) keyValue.value = reader.bytes();
    else if (tag === 0x30) keyValue.lease = reader.int64();
    else reader.skip(tag);
  }
  return keyValue;
}

/** Bytes as text, one character a byte. */
export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");
}

/** The leading big-endian u64 of a revision or an index. */
export function u64(bytes: Buffer): number {
  return Number(u64Exact(bytes));
}

/** The same for an id, which needs all 64 bits. */
export function u64Exact(bytes: Buffer): bigint {
  if (bytes.length < 8) throw new Damaged(`a number of ${bytes.length} bytes, 8 are needed`);
  return bytes.readBigUInt64BE(0);
}
