/** Where some words lie on a disk: all of it is searched, so a file is found whatever lies before it. */
import type { Disk } from "./disk.ts";

export interface Hit {
  needle: string;
  offset: number;
}

/** The hits of one part of the disk, in order, and how far the disk is searched. */
export interface Searched {
  hits: Hit[];
  done: number;
}

/** While the hits of a part are looked at, `disk.read` has it and what surrounds it in memory. */
export async function* search(disk: Disk, needles: readonly string[]): AsyncGenerator<Searched> {
  const patterns = needles.map((needle) => ({ needle, bytes: Buffer.from(needle) }));
  const overlap = Math.max(...patterns.map(({ bytes }) => bytes.length)) - 1;
  let done = 0;
  for await (const { offset, bytes } of disk.parts(overlap)) {
    const hits: Hit[] = [];
    for (const pattern of patterns) {
      const first = Math.max(0, done - offset - pattern.bytes.length + 1);
      for (let at = bytes.indexOf(pattern.bytes, first); at >= 0; at = bytes.indexOf(pattern.bytes, at + 1))
        hits.push({ needle: pattern.needle, offset: offset + at });
    }
    done = offset + bytes.length;
    yield { hits: hits.sort((a, b) => a.offset - b.offset), done };
  }
}
