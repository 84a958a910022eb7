/**
 * Puts a page of a bbolt file together; etcd-data/page.ts has the format. Source: go.etcd.io/bbolt node.go,
 * internal/common page.go and inode.go.
 */
import { PAGE_HEADER_SIZE } from "../etcd-data/db-file.ts";

const BRANCH_PAGE = 0x01;
const LEAF_PAGE = 0x02;
const BUCKET = 0x01;
export const ELEMENT_SIZE = 16;

interface Item {
  key: Buffer;
  value: Buffer;
  isBucket: boolean;
}

interface Child {
  key: Buffer;
  id: number;
}

export type DbNode = { isLeaf: true; items: Item[] } | { isLeaf: false; children: Child[] };

/** The form of an inline bucket: page 0, shorter than a page. */
export function inlineBytes(node: DbNode): Buffer {
  return bytesOfNode(node, { id: 0, pages: 1, size: sizeOf(node) });
}

/** As many whole pages as it needs. */
export function pageBytes(node: DbNode, id: number, pageSize: number): Buffer {
  const pages = Math.ceil(sizeOf(node) / pageSize);
  return bytesOfNode(node, { id, pages, size: pages * pageSize });
}

function elementsOf(node: DbNode): { flags: number; key: Buffer; value: Buffer; child: number }[] {
  return node.isLeaf
    ? node.items.map((item) => ({
        flags: item.isBucket ? BUCKET : 0,
        key: item.key,
        value: item.value,
        child: 0,
      }))
    : node.children.map(({ key, id }) => ({ flags: 0, key, value: Buffer.alloc(0), child: id }));
}

function sizeOf(node: DbNode): number {
  return elementsOf(node).reduce(
    (size, { key, value }) => size + ELEMENT_SIZE + key.length + value.length,
    PAGE_HEADER_SIZE,
  );
}

function bytesOfNode(node: DbNode, { id, pages, size }: { id: number; pages: number; size: number }): Buffer {
  const elements = elementsOf(node);
  const bytes = Buffer.alloc(size);
  bytes.writeBigUInt64LE(BigInt(id), 0);
  bytes.writeUInt16LE(node.isLeaf ? LEAF_PAGE : BRANCH_PAGE, 8);
  bytes.writeUInt16LE(elements.length, 10);
  bytes.writeUInt32LE(pages - 1, 12);
  let end = PAGE_HEADER_SIZE + elements.length * ELEMENT_SIZE;
  for (const [i, { flags, key, value, child }] of elements.entries()) {
    const at = PAGE_HEADER_SIZE + i * ELEMENT_SIZE;
    if (node.isLeaf) {
      for (const [k, number] of [flags, end - at, key.length, value.length].entries())
        bytes.writeUInt32LE(number, at + 4 * k);
    } else {
      bytes.writeUInt32LE(end - at, at);
      bytes.writeUInt32LE(key.length, at + 4);
      bytes.writeBigUInt64LE(BigInt(child), at + 8);
    }
    end += key.copy(bytes, end);
    end += value.copy(bytes, end);
  }
  return bytes;
}
