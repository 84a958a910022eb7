/**
 * Changes a few keys of a closed bbolt file in one transaction, as bbolt does: changed pages are written at
 * the end, and the other meta page then leads to them. So only about ten pages of gigabytes are written.
 * Sources: go.etcd.io/bbolt tx.go (Commit), bucket.go (inlineable), node.go (spill).
 *
 * The freelist is not written: etcd opens its file with NoFreelistSync, and finds free pages by itself
 * (server/storage/backend/config_linux.go). Unreferenced pages are then free.
 */
import { closeSync, fsyncSync, ftruncateSync, openSync } from "node:fs";
import { DB_MAGIC, DB_VERSION, DbFile, fnv64a, type Meta, PAGE_HEADER_SIZE } from "../etcd-data/db-file.ts";
import { Damaged } from "../etcd-data/protobuf.ts";
import { writeAt } from "../files/write-steps.ts";
import { type DbNode, dbNodeIn, inlineBytes, pageBytes } from "./db-nodes.ts";

const BUCKET_HEADER_SIZE = 16;
const META_SIZE = 80;
const NO_FREELIST = 2n ** 64n - 1n;
const META_PAGE = 0x04;
const MAX_DEPTH = 64;

/** A bucket in its parent: the root page 0 means the page that follows it. */
interface Bucket {
  root: number;
  sequence: bigint;
  inline: Buffer;
}

/** `using edit = new DbEdit(path)` closes it. Nothing is written before `commit`. */
export class DbEdit {
  readonly #path: string;
  readonly #file: DbFile;
  readonly #meta: Meta;
  #end: number;
  readonly #pages: { id: number; bytes: Buffer }[] = [];
  readonly #buckets = new Map<string, Buffer>();

  constructor(path: string) {
    this.#path = path;
    this.#file = new DbFile(path);
    this.#meta = this.#file.newestMeta();
    this.#end = this.#meta.highWater;
  }

  [Symbol.dispose]() {
    this.#file.close();
  }

  /** Writes a whole small bucket to new pages. */
  replace(name: string, change: (items: Map<string, Buffer>) => void) {
    const bucket = this.#bucket(name);
    const items = new Map<string, Buffer>();
    for (const { key, value } of this.#items(this.#top(bucket))) items.set(key.toString("latin1"), value);
    change(items);
    const sorted = [...items]
      .map(([key, value]) => ({ key: Buffer.from(key, "latin1"), value, isBucket: false }))
      .sort((a, b) => a.key.compare(b.key));
    this.#buckets.set(name, this.#bucketBytes(bucket, { isLeaf: true, items: sorted }));
  }

  /** The greatest key of a bucket; undefined if it has none. */
  lastKey(name: string): Buffer | undefined {
    let node = this.#top(this.#bucket(name));
    for (let depth = 0; !node.isLeaf; depth++) node = this.#child(node, depth);
    return node.items.at(-1)?.key;
  }

  /** Adds a key behind all others of its bucket: the pages on its path are written again. */
  append(name: string, key: Buffer, value: Buffer) {
    const bucket = this.#bucket(name);
    const node = this.#appended(this.#top(bucket), { key, value, isBucket: false }, 0);
    this.#buckets.set(name, this.#bucketBytes(bucket, node));
  }

  commit() {
    const root = this.#write(this.#withBuckets(this.#page(this.#meta.root), 0));
    const file = openSync(this.#path, "r+");
    try {
      ftruncateSync(file, Math.max(this.#file.size, this.#end * this.#meta.pageSize));
      for (const { id, bytes } of this.#pages) writeAt(file, bytes, id * this.#meta.pageSize);
      fsyncSync(file);
      const txid = this.#meta.txid + 1n;
      const slot = Number(txid % 2n);
      writeAt(file, metaBytes(this.#meta, { slot, txid, root, end: this.#end }), slot * this.#meta.pageSize);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
  }

  #bucket(name: string): Bucket {
    let node = this.#page(this.#meta.root);
    for (let depth = 0; !node.isLeaf; depth++) node = this.#child(node, depth, Buffer.from(name));
    const item = node.items.find(({ key, isBucket }) => isBucket && key.toString() === name);
    if (!item || item.value.length < BUCKET_HEADER_SIZE) throw new Damaged(`there is no bucket "${name}"`);
    return {
      root: Number(item.value.readBigUInt64LE(0)),
      sequence: item.value.readBigUInt64LE(8),
      inline: item.value.subarray(BUCKET_HEADER_SIZE),
    };
  }

  #top({ root, inline }: Bucket): DbNode {
    return root === 0 ? dbNodeIn(inline, "an inline page") : this.#page(root);
  }

  *#items(node: DbNode, depth = 0): Generator<{ key: Buffer; value: Buffer }> {
    if (depth > MAX_DEPTH) throw new Damaged(`a bucket lies deeper than ${MAX_DEPTH} levels`);
    if (node.isLeaf) yield* node.items;
    else for (const { id } of node.children) yield* this.#items(this.#page(id), depth + 1);
  }

  /** The child that holds the key, or the last one. */
  #child(node: DbNode & { isLeaf: false }, depth: number, key?: Buffer): DbNode {
    if (depth > MAX_DEPTH) throw new Damaged(`a page lies deeper than ${MAX_DEPTH} levels`);
    const child = node.children[placeOf(node, key)];
    if (!child) throw new Damaged("a branch has no children");
    return this.#page(child.id);
  }

  #page(id: number): DbNode {
    const { pageSize, highWater } = this.#meta;
    if (id < 2 || id >= highWater) throw new Damaged(`page ${id} is outside the ${highWater} pages in use`);
    const header = Buffer.alloc(PAGE_HEADER_SIZE);
    this.#file.read(header, id * pageSize);
    const pages = header.readUInt32LE(12) + 1;
    if (id + pages > highWater) throw new Damaged(`page ${id} spans ${pages} pages, more than there are`);
    const bytes = Buffer.alloc(pages * pageSize);
    this.#file.read(bytes, id * pageSize);
    return dbNodeIn(bytes, `page ${id}`);
  }

  #appended(node: DbNode, item: { key: Buffer; value: Buffer; isBucket: false }, depth: number): DbNode {
    if (node.isLeaf) return { isLeaf: true, items: [...node.items, item] };
    const last = node.children.at(-1);
    if (!last) throw new Damaged("a branch has no children");
    const id = this.#write(this.#appended(this.#child(node, depth), item, depth + 1));
    return { isLeaf: false, children: [...node.children.slice(0, -1), { key: last.key, id }] };
  }

  /** The bucket of buckets with those that have changed. */
  #withBuckets(node: DbNode, depth: number): DbNode {
    if (node.isLeaf) {
      const items = node.items.map((item) => ({
        ...item,
        value: this.#buckets.get(item.key.toString()) ?? item.value,
      }));
      return { isLeaf: true, items };
    }
    const names = [...this.#buckets.keys()].map((name) => placeOf(node, Buffer.from(name)));
    const children = node.children.map(({ key, id }, i) => {
      if (!names.includes(i)) return { key, id };
      if (depth > MAX_DEPTH) throw new Damaged(`a page lies deeper than ${MAX_DEPTH} levels`);
      return { key, id: this.#write(this.#withBuckets(this.#page(id), depth + 1)) };
    });
    return { isLeaf: false, children };
  }

  /** Inline under bbolt's own rule: a leaf of at most a quarter of a page. */
  #bucketBytes({ sequence }: Bucket, node: DbNode): Buffer {
    const header = Buffer.alloc(BUCKET_HEADER_SIZE);
    header.writeBigUInt64LE(sequence, 8);
    const inline = inlineBytes(node);
    if (node.isLeaf && inline.length <= this.#meta.pageSize / 4) return Buffer.concat([header, inline]);
    header.writeBigUInt64LE(BigInt(this.#write(node)), 0);
    return header;
  }

  /** Returns the page's id. */
  #write(node: DbNode): number {
    const id = this.#end;
    const bytes = pageBytes(node, id, this.#meta.pageSize);
    this.#pages.push({ id, bytes });
    this.#end += bytes.length / this.#meta.pageSize;
    return id;
  }
}

/** The index of the child that has the key, or would have it; without a key the last. */
function placeOf({ children }: { children: { key: Buffer }[] }, key?: Buffer): number {
  if (!key) return children.length - 1;
  return Math.max(
    0,
    children.findLastIndex((child) => child.key.compare(key) <= 0),
  );
}

/** The bytes of the meta page at this slot, 0 or 1. */
export function metaBytes(
  { pageSize }: Pick<Meta, "pageSize">,
  { slot, txid, root, end }: { slot: number; txid: bigint; root: number; end: number },
): Buffer {
  const bytes = Buffer.alloc(META_SIZE);
  bytes.writeBigUInt64LE(BigInt(slot), 0);
  bytes.writeUInt16LE(META_PAGE, 8);
  bytes.writeUInt32LE(DB_MAGIC, 16);
  bytes.writeUInt32LE(DB_VERSION, 20);
  bytes.writeUInt32LE(pageSize, 24);
  bytes.writeBigUInt64LE(BigInt(root), 32);
  bytes.writeBigUInt64LE(NO_FREELIST, 48);
  bytes.writeBigUInt64LE(BigInt(end), 56);
  bytes.writeBigUInt64LE(txid, 64);
  bytes.writeBigUInt64LE(fnv64a(bytes.subarray(PAGE_HEADER_SIZE, 72)), 72);
  return bytes;
}
