/**
 * Puts a page of a bbolt file together; etcd-data/page.ts has the format. Source: go.etcd.io/bbolt node.go,
 * internal/common page.go and inode.go.
 */
import { PAGE_HEADER_SIZE } from "../etcd-data/db-file.ts";

const BRANCH_PAGE = 0x01;
const LEAF_PAGE = 0x02;
const BUCKET = 0x01;
const ELEMENT_SIZE = 16;

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

/** As many whole pages as it needs. */
export function pageBytes(node: DbNode, id: number, pageSize: number): Buffer {
  const pages = Math.ceil(sizeOf(node) / pageSize);
  return bytesOfNode(node, { id, pages, size: pages * pageSize });
}

/** Bytes that it takes of a page. */
export function sizeOfItem({ key, value }: Item): number {
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
  bytes.writeUInt16LE(isLeaf ? LEAF_PAGE : BRANCH_PAGE, 8);
  bytes.writeUInt16LE(items.length, 10);
  bytes.writeUInt32LE(pages - 1, 12);
  let end = PAGE_HEADER_SIZE + items.length * ELEMENT_SIZE;
  for (const [i, { key, value, isBucket, child }] of items.entries()) {
    const at = PAGE_HEADER_SIZE + i * ELEMENT_SIZE;
    const numbers = isLeaf
      ? [isBucket ? BUCKET : 0, end - at, key.length, value?.length ?? 0]
      : [end - at, key.length];
    for (const [k, number] of numbers.entries()) bytes.writeUInt32LE(number, at + 4 * k);
    if (!isLeaf) bytes.writeBigUInt64LE(BigInt(child ?? 0), at + 8);
    end += key.copy(bytes, end);
    end += value?.copy(bytes, end) ?? 0;
  }
  return bytes;
}
