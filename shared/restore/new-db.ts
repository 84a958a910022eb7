/**
 * A new database of all keys of a snapshot, or of a lost member, with all their revisions. It is written from its first
 * page to its last: gigabytes pass, and one open page of each level is in memory. Sources: go.etcd.io/bbolt node.go (spill), internal/common page.go, inode.go; etcd
 * server/storage/schema, lease/leasepb/lease.proto, api/mvccpb/kv.proto.
 */

import { closeSync, fsyncSync, openSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import type { Row } from "../etcd-data/bbolt.ts";
import type { EtcdData } from "../etcd-data/data.ts";
import {
  BRANCH_PAGE_FLAG,
  BUCKET_LEAF_FLAG,
  DB_MAGIC,
  DB_VERSION,
  ELEMENT_SIZE,
  fnv64a,
  LEAF_PAGE_FLAG,
  PAGE_HEADER_SIZE,
} from "../etcd-data/db-file.ts";
import { noteRead } from "../etcd-data/raft-files.ts";
import { bucketKey } from "../etcd-data/revisions.ts";
import { writeAt } from "../files/files.ts";
import { Progress } from "../progress.ts";
import { checkSignal } from "../this-run.ts";
import { keyValueBytes } from "./key-value-bytes.ts";
import { bytesField, confStateJson, intField, type LoneMember, memberJson } from "./new-member.ts";

const PAGE_SIZE = 4096;
const META_SIZE = 80;
const META_PAGE = 0x04;
/** etcd opens its file with NoFreelistSync, and finds free pages by itself (server/storage/backend/config_linux.go). */
const NO_FREELIST = 2n ** 64n - 1n;
const BUCKETS = "alarm auth authRoles authUsers cluster key lease members members_removed meta".split(" ");
/** Bytes between two moments in which a signal is heard. */
const PIECE = 8 * 2 ** 20;

/** `bump`: where clients may have seen later revisions, how far the next one is from the last. Else 0. */
type Written = Pick<LoneMember, "members" | "alarms" | "last"> & { bump: number };

/** Errors: also Fail where a signal has come. */
export async function writeNewDb(path: string, data: EtcdData, written: Written) {
  const content = contentOf(data, written);
  const file = openSync(path, "wx", 0o600);
  const progress = new Progress("writes etcd's data", undefined, process.stderr.isTTY, "MB");
  try {
    const pages = new NewPages(file);
    const roots = new Map<string, number>();
    let heard = 0;
    for (const name of BUCKETS) {
      for (const { key, value } of content[name] ?? []) {
        pages.put(0, { key, value });
        if (pages.bytes < heard + PIECE) continue;
        heard = pages.bytes;
        progress.show(Math.ceil(heard / 1e6));
        await setImmediate();
        checkSignal();
      }
      roots.set(name, pages.endBucket());
    }
    pages.end(roots);
    fsyncSync(file);
  } finally {
    progress.clear();
    closeSync(file);
  }
}

class NewPages {
  readonly #file: number;
  #end = 2;
  /** The unwritten part of a leaf, and of a branch on each level above it. */
  readonly #levels: { items: Item[]; size: number }[] = [];

  constructor(file: number) {
    this.#file = file;
  }

  get bytes(): number {
    return this.#end * PAGE_SIZE;
  }

  put(level: number, item: Item) {
    const size = sizeOfItem(item);
    if ((this.#levels[level]?.size ?? 0) + size > PAGE_SIZE) this.#close(level);
    const open = this.#levels[level] ?? { items: [], size: PAGE_HEADER_SIZE };
    this.#levels[level] = open;
    open.items.push(item);
    open.size += size;
  }

  /** Returns its root page; 0 where it is empty. */
  endBucket(): number {
    for (let level = 0; level < this.#levels.length - 1; level++) this.#close(level);
    const top = this.#levels.at(-1);
    const root = top ? this.#write(this.#levels.length - 1, top.items) : 0;
    this.#levels.length = 0;
    return root;
  }

  end(roots: ReadonlyMap<string, number>) {
    const items = [...roots].map(([name, id]) => {
      const header = Buffer.alloc(16);
      header.writeBigUInt64LE(BigInt(id));
      const inline = id ? Buffer.alloc(0) : inlineBytes({ isLeaf: true, items: [] });
      return { key: Buffer.from(name), value: Buffer.concat([header, inline]), isBucket: true };
    });
    const root = this.#write(0, items);
    for (const slot of [0, 1])
      writeAt(this.#file, metaBytes(slot, { root, end: this.#end }), slot * PAGE_SIZE);
  }

  #close(level: number) {
    const items = this.#levels[level]?.items ?? [];
    delete this.#levels[level];
    const [first] = items;
    if (first) this.put(level + 1, { key: first.key, child: this.#write(level, items) });
  }

  #write(level: number, items: Item[]): number {
    const id = this.#end;
    const bytes = pageBytes({ isLeaf: level === 0, items }, id, PAGE_SIZE);
    writeAt(this.#file, bytes, id * PAGE_SIZE);
    noteRead(bytes.length);
    this.#end += bytes.length / PAGE_SIZE;
    return id;
  }
}

function metaBytes(slot: number, { root, end }: { root: number; end: number }): Buffer {
  const bytes = Buffer.alloc(META_SIZE);
  bytes.writeBigUInt64LE(BigInt(slot), 0);
  bytes.writeUInt16LE(META_PAGE, 8);
  for (const [i, number] of [DB_MAGIC, DB_VERSION, PAGE_SIZE].entries())
    bytes.writeUInt32LE(number, PAGE_HEADER_SIZE + 4 * i);
  const numbers = [BigInt(root), 0n, NO_FREELIST, BigInt(end), BigInt(slot + 2)];
  for (const [i, number] of numbers.entries()) bytes.writeBigUInt64LE(number, 32 + 8 * i);
  bytes.writeBigUInt64LE(fnv64a(bytes.subarray(PAGE_HEADER_SIZE, 72)), 72);
  return bytes;
}

/** The content of etcd's buckets once it has read the log up to this entry. */
function contentOf(data: EtcdData, { members, alarms, last, bump }: Written): Record<string, Iterable<Row>> {
  const { leases } = data.stored();
  const compacted = bump > 0 ? data.revision + bump : data.compactedRevision;
  const mark = bucketKey({ main: compacted, sub: 0, isTombstone: false });
  return {
    alarm: sorted([...alarms].map((alarm) => [alarmKey(alarm), ""])),
    key: revisionsOf(data, bump > 0 ? mark : undefined),
    lease: sorted(
      [...leases].map(([id, ttl]) => [u64Bytes(id), Buffer.concat([intField(1, id), intField(2, ttl)])]),
    ),
    members: sorted(members.map((one) => [one.id.toString(16), memberJson(one)])),
    meta: sorted([
      ["confState", confStateJson(members)],
      ["consistent_index", u64Bytes(last.index)],
      ["term", u64Bytes(last.term)],
      ...(compacted > 0 ? [["scheduledCompactRev", mark] as const] : []),
      ...(data.storageVersion ? [["storageVersion", data.storageVersion] as const] : []),
    ]),
  };
}

/** The rows of the existing database, then the rows that the log adds, then the row that raises the revision, which belongs to no key. */
function* revisionsOf(data: EtcdData, raised: Buffer | undefined): Generator<Row> {
  const { rows, changes } = data.stored();
  yield* rows;
  let [main, sub] = [0, 0];
  for (const change of changes) {
    sub = change.modRevision === main ? sub + 1 : 0;
    main = change.modRevision;
    yield {
      key: bucketKey({ main, sub, isTombstone: change.deleted }),
      value: change.deleted ? bytesField(1, Buffer.from(change.key, "latin1")) : keyValueBytes(change),
    };
  }
  if (raised) yield { key: raised, value: Buffer.alloc(0) };
}

/** AlarmMember { 1 memberID, 2 alarm }. */
function alarmKey(alarm: string): Buffer {
  const [member, type] = alarm.split("/") as [string, string];
  return Buffer.concat([intField(1, BigInt(member)), intField(2, BigInt(type))]);
}

function sorted(items: readonly (readonly [key: string | Buffer, value: string | Buffer])[]): Row[] {
  const rows = items.map(([key, value]) => ({ key: Buffer.from(key), value: Buffer.from(value) }));
  return rows.sort((a, b) => a.key.compare(b.key));
}

function u64Bytes(number: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt.asUintN(64, BigInt(number)));
  return bytes;
}

/** A leaf's key and value, which may be a bucket; or the first key of a branch's child page. */
export interface Item {
  key: Buffer;
  value?: Buffer;
  isBucket?: boolean;
  child?: number;
}

export interface DbNode {
  isLeaf: boolean;
  items: Item[];
}

/** The form of an inline bucket: page 0, shorter than a page. */
export function inlineBytes(node: DbNode): Buffer {
  return bytesOfNode(node, { id: 0, pages: 1, size: sizeOf(node) });
}

export function pageBytes(node: DbNode, id: number, pageSize: number): Buffer {
  const pages = Math.ceil(sizeOf(node) / pageSize);
  return bytesOfNode(node, { id, pages, size: pages * pageSize });
}

function sizeOfItem({ key, value }: Item): number {
  return ELEMENT_SIZE + key.length + (value?.length ?? 0);
}

function sizeOf({ items }: DbNode): number {
  return items.reduce((size, item) => size + sizeOfItem(item), PAGE_HEADER_SIZE);
}

function bytesOfNode(
  { isLeaf, items }: DbNode,
  { id, pages, size }: { id: number; pages: number; size: number },
): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.writeBigUInt64LE(BigInt(id), 0);
  bytes.writeUInt16LE(isLeaf ? LEAF_PAGE_FLAG : BRANCH_PAGE_FLAG, 8);
  bytes.writeUInt16LE(items.length, 10);
  bytes.writeUInt32LE(pages - 1, 12);
  let end = PAGE_HEADER_SIZE + items.length * ELEMENT_SIZE;
  for (const [i, { key, value, isBucket, child }] of items.entries()) {
    const at = PAGE_HEADER_SIZE + i * ELEMENT_SIZE;
    const numbers = isLeaf
      ? [isBucket ? BUCKET_LEAF_FLAG : 0, end - at, key.length, value?.length ?? 0]
      : [end - at, key.length];
    for (const [k, number] of numbers.entries()) bytes.writeUInt32LE(number, at + 4 * k);
    if (!isLeaf) bytes.writeBigUInt64LE(BigInt(child ?? 0), at + 8);
    end += key.copy(bytes, end);
    end += value?.copy(bytes, end) ?? 0;
  }
  return bytes;
}
