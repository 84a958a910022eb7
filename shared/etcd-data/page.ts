/**
 * One page of a bbolt file. Source: go.etcd.io/bbolt internal/common page.go, inode.go.
 *
 *   page    | id u64 | flags u16 | count u16 | overflow u32 |  then: elements, keys and values; the page spans overflow + 1 pages
 *   branch  | pos u32 | ksize u32 | pgid u64 |              one per child, with its first key; pos counts from the element itself
 *   leaf    | flags u32 | pos u32 | ksize u32 | vsize u32 |  one per key; flag 1: the value is a bucket { root pgid, sequence }
 */
import { PAGE_HEADER_SIZE, pageId } from "./db-file.ts";
import { Damaged } from "./protobuf.ts";

const BRANCH_PAGE_FLAG = 0x01;
const LEAF_PAGE_FLAG = 0x02;
const ELEMENT_SIZE = 16;
const BUCKET_LEAF_FLAG = 0x01;

/**
 * A page's first bytes: at least its header and elements. The rest is read when it is asked for: large values
 * lie behind them.
 */
export class Page {
  readonly count: number;
  readonly isLeaf: boolean;
  readonly what: string;
  protected readonly head: Buffer;
  private readonly size: number;
  private readonly rest: (start: number, length: number) => Buffer;

  constructor(
    what: string,
    bytes: { head: Buffer; size: number; rest: (start: number, length: number) => Buffer },
  ) {
    [this.what, this.head, this.size, this.rest] = [what, bytes.head, bytes.size, bytes.rest];
    const flags = this.head.readUInt16LE(8);
    this.count = this.head.readUInt16LE(10);
    this.isLeaf = (flags & LEAF_PAGE_FLAG) !== 0;
    if (!this.isLeaf && !(flags & BRANCH_PAGE_FLAG))
      throw new Damaged(`${what} is neither branch nor leaf: flags ${flags}`);
  }

  /** How many pages of the file it takes. */
  get span(): number {
    return this.head.readUInt32LE(12) + 1;
  }

  key(i: number): Buffer {
    const element = this.element(i) + (this.isLeaf ? 4 : 0);
    return this.bytes(this.element(i) + this.head.readUInt32LE(element), this.head.readUInt32LE(element + 4));
  }

  /** Only on a branch. */
  child(i: number): number {
    return pageId(this.head, this.element(i) + 8);
  }

  /** Only on a leaf. */
  isBucket(i: number): boolean {
    return (this.head.readUInt32LE(this.element(i)) & BUCKET_LEAF_FLAG) !== 0;
  }

  valueSize(i: number): number {
    return this.head.readUInt32LE(this.element(i) + 12);
  }

  /**
   * A part of a leaf's value, by default all of it. A view that holds until the next key or value is read.
   */
  value(i: number, start = 0, length = this.valueSize(i)): Buffer {
    const element = this.element(i);
    return this.bytes(
      element + this.head.readUInt32LE(element + 4) + this.head.readUInt32LE(element + 8) + start,
      length,
    );
  }

  /** How many keys are below `key`. */
  lowerBound(key: Buffer): number {
    let [low, high] = [0, this.count];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.key(middle).compare(key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private element(i: number): number {
    return PAGE_HEADER_SIZE + i * ELEMENT_SIZE;
  }

  private bytes(start: number, length: number): Buffer {
    if (start + length > this.size)
      throw new Damaged(`${this.what}: a key or value ends at byte ${start + length} of ${this.size}`);
    return start + length <= this.head.length
      ? this.head.subarray(start, start + length)
      : this.rest(start, length);
  }
}

export type Leaf = Pick<Page, "count" | "key" | "isBucket" | "value" | "valueSize">;

/** Bytes of a page's header and elements; `header` holds at least the former. */
export function elementsEnd(header: Buffer): number {
  return PAGE_HEADER_SIZE + header.readUInt16LE(10) * ELEMENT_SIZE;
}
