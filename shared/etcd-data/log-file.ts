/** A file of etcd's log, read in blocks from its beginning to its end. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { Damaged } from "./protobuf.ts";

/** Bytes of a block; a longer record gets a block of its own length. */
export const LOG_BLOCK = 1024 * 1024;

/** `using file = new LogFile(path)` closes it. */
export class LogFile {
  readonly path: string;
  readonly size: number;
  private readonly file: number;
  private buffer = Buffer.alloc(0);
  private start = 0;
  private length = 0;

  constructor(path: string) {
    this.path = path;
    this.file = openSync(path, "r");
    this.size = fstatSync(this.file).size;
  }

  [Symbol.dispose]() {
    closeSync(this.file);
  }

  /** A view that holds until the next call. */
  slice(from: number, to: number): Buffer {
    if (from < this.start || to > this.start + this.length) this.readBlock(from, to - from);
    return this.buffer.subarray(from - this.start, to - this.start);
  }

  private readBlock(from: number, atLeast: number) {
    const length = Math.min(Math.max(atLeast, LOG_BLOCK), this.size - from);
    if (length > this.buffer.length) this.buffer = Buffer.allocUnsafeSlow(length);
    [this.start, this.length] = [from, 0];
    while (this.length < length) {
      const count = readSync(this.file, this.buffer, this.length, length - this.length, from + this.length);
      if (count === 0) throw new Damaged(`${this.path} ended at byte ${from + this.length} while it was read`);
      this.length += count;
    }
  }
}
