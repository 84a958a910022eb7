/**
 * Writes a bbolt file of any form, and a snapshot of etcd of any content. Format: the heads of
 * shared/etcd-data/db-file.ts and db-file.ts.
 */
import { createHash } from "node:crypto";
import { DB_MAGIC, DB_VERSION, fnv64a } from "../../shared/etcd-data/db-file.ts";
import { bucketKey } from "../../shared/etcd-data/revisions.ts";
import { type DbNode, inlineBytes, pageBytes } from "../../shared/restore/new-db.ts";
import { bytesField, intField } from "../../shared/restore/new-member.ts";
import type { WrittenMember } from "./write-wal.ts";

export interface Form {
  pageSize: number;
  /** Keys of a leaf; more of them make a branch. */
  perLeaf: number;
  txid: bigint;
}

/** Buckets, each with its keys; a small one is inline. */
export type Content = Record<string, Record<string, string | Uint8Array>>;

/** Writes a file of this form, with a freelist that is kept on the disk. */
export function dbFile({ pageSize, perLeaf, txid }: Form, content: Content): Buffer {
  const pages: Buffer[] = [];
  let end = 3;
  const write = (node: DbNode): number => {
    const bytes = pageBytes(node, end, pageSize);
    pages.push(bytes);
    end += bytes.length / pageSize;
    return end - bytes.length / pageSize;
  };
  const tree = (items: { key: Buffer; value: Buffer; isBucket: boolean }[]): DbNode => {
    if (items.length <= perLeaf) return { isLeaf: true, items };
    const leaves = Array.from({ length: Math.ceil(items.length / perLeaf) }, (_, i) =>
      items.slice(i * perLeaf, (i + 1) * perLeaf),
    );
    return { isLeaf: false, items: leaves.map((leaf) => ({ key: leaf[0]!.key, child: write(tree(leaf)) })) };
  };
  const bucket = (keys: Content[string]) => {
    const items = Object.entries(keys).map(([key, value]) => ({
      ...{ key: Buffer.from(key, "latin1"), value: Buffer.from(value), isBucket: false },
    }));
    const header = Buffer.alloc(16);
    const node = tree(items);
    const inline = inlineBytes(node);
    if (node.isLeaf && inline.length <= pageSize / 4) return Buffer.concat([header, inline]);
    header.writeBigUInt64LE(BigInt(write(node)), 0);
    return header;
  };
  const buckets = Object.entries(content).map(([name, keys]) => ({
    ...{ key: Buffer.from(name), value: bucket(keys), isBucket: true },
  }));
  const root = write(tree(buckets));
  const meta = (slot: number, of: bigint) => {
    const page = Buffer.alloc(pageSize);
    page.writeBigUInt64LE(BigInt(slot), 0);
    page.writeUInt16LE(4, 8);
    for (const [i, number] of [DB_MAGIC, DB_VERSION, pageSize].entries())
      page.writeUInt32LE(number, 16 + 4 * i);
    for (const [i, number] of [BigInt(root), 0n, 2n, BigInt(end), of].entries())
      page.writeBigUInt64LE(number, 32 + 8 * i);
    page.writeBigUInt64LE(fnv64a(page.subarray(16, 72)), 72);
    return page;
  };
  const freelist = Buffer.alloc(pageSize);
  freelist.writeBigUInt64LE(2n, 0);
  freelist.writeUInt16LE(0x10, 8);
  // as WriteTo: the first page has the transaction, the second the one before
  return Buffer.concat([meta(0, txid), meta(1, txid - 1n), freelist, ...pages]);
}

export interface WrittenSnapshot {
  members: WrittenMember[];
  /** Keys and values, one revision each. */
  puts: readonly (readonly [key: string, value: string | Uint8Array])[];
  /** More of other buckets. */
  buckets?: Content;
}

/** As etcd gives it, with its sum. The last revision is the number of puts + 1. */
export function snapshotOf({ members, puts, buckets = {} }: WrittenSnapshot): Buffer {
  const revisions = puts.map(([key, value], i) => {
    const main = i + 2;
    const numbers = [intField(2, main), intField(3, main), intField(4, 1)];
    const stored = Buffer.concat([bytesField(1, key), ...numbers, bytesField(5, value)]);
    return [bucketKey({ main, sub: 0, isTombstone: false }).toString("latin1"), stored] as const;
  });
  const written = members.map(({ id, name, peerURLs }) => [id, JSON.stringify({ name, peerURLs })] as const);
  const content: Content = {
    ...{ alarm: {}, auth: {}, lease: {}, members_removed: {} },
    key: Object.fromEntries(revisions),
    members: Object.fromEntries([...written].sort(([a], [b]) => (a < b ? -1 : 1))),
    meta: {
      consistent_index: Buffer.from("0000000000000009", "hex"),
      term: Buffer.from("0000000000000002", "hex"),
    },
    ...buckets,
  };
  const sorted = Object.fromEntries(Object.entries(content).sort(([a], [b]) => (a < b ? -1 : 1)));
  const db = dbFile({ pageSize: 4096, perLeaf: 20, txid: 8n }, sorted);
  return Buffer.concat([db, createHash("sha256").update(db).digest()]);
}

/** A snapshot in pieces, as etcd's gateway sends it. */
export function streamed(bytes: Uint8Array): string {
  const pieces = Array.from({ length: Math.ceil(bytes.length / 32_768) }, (_, i) =>
    bytes.subarray(i * 32_768, (i + 1) * 32_768),
  );
  const line = (piece: Uint8Array) =>
    JSON.stringify({ result: { blob: Buffer.from(piece).toString("base64") } });
  return pieces.map((piece) => `${line(piece)}\n`).join("");
}
