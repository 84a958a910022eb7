/** Where some words lie on a disk. Every byte is searched: a file is found whatever lies before it, and wherever it begins. */
import type { Disk } from "./disk.ts";

interface Hit {
  needle: string;
  offset: number;
}

/** The hits of one part of the disk, in order, and how far the disk is searched. */
interface Searched {
  hits: Hit[];
  done: number;
}

/** While the hits of a part are looked at, `disk.read` has it and what surrounds it in memory. The words are ASCII. */
export async function* search(disk: Disk, needles: readonly string[]): AsyncGenerator<Searched> {
  const overlap = Math.max(...needles.map((needle) => needle.length)) - 1;
  let done = 0;
  for await (const { offset, bytes } of disk.parts(overlap)) {
    const hits: Hit[] = [];
    for (const needle of needles) {
      const first = Math.max(0, done - offset - needle.length + 1);
      for (let at = bytes.indexOf(needle, first); at >= 0; at = bytes.indexOf(needle, at + 1)) hits.push({ needle, offset: offset + at });
    }
    done = offset + bytes.length;
    yield { hits: hits.sort((a, b) => a.offset - b.offset), done };
  }
}
