/**
 * Reads a disk and yields all that may be of a deleted /etc/kubernetes: deleted files lie in free blocks
 * until they are overwritten. A key is proved by signing. One in two pieces is joined; an encryption
 * configuration has to be whole. Writes nothing. Reads the disk once.
 */
import { Progress } from "../../progress.ts";
import { say } from "../../run.ts";
import type { Budget } from "../budget.ts";
import { Assembler, WORDS } from "./assembler.ts";
import type { Disk } from "./disk.ts";
import type { Find } from "./finds.ts";

/** How far the search is, in bytes. */
interface CarveProgress {
  done: number;
  total: number;
  found: number;
}

/** Draws a progress line: `carve(disk, { onProgress: diskProgress(disk) })`. */
export function diskProgress(disk: Disk): (progress: CarveProgress) => void {
  const megabytes = (bytes: number) => Math.floor(bytes / 1e6);
  const line = new Progress(`reading ${disk.path}`, megabytes(disk.size), process.stderr.isTTY, "MB");
  return ({ done, total, found }) => {
    line.show(megabytes(done), `${found} found`);
    if (done === total) line.clear();
  };
}

/**
 * Yields finds as they are met, each content once. Cut files come at the end. Errors: Fail where the budget
 * is spent.
 */
export async function* carve(
  disk: Disk,
  options: { onProgress?: (progress: CarveProgress) => void; budget?: Budget } = {},
): AsyncGenerator<Find> {
  const { budget } = options;
  const files = new Assembler(disk, budget);
  let read = 0;
  for await (const { hits, done } of search(disk, WORDS)) {
    for (const { needle, offset } of hits) yield* files.look(needle, offset);
    options.onProgress?.({ done, total: disk.size, found: files.found });
    budget?.spend(done - read);
    read = done;
  }
  yield* files.joinedPems();
  for (const line of files.skipped()) say(`warning: ${line}`);
  yield* files.leftovers();
}

/**
 * Where some words (ASCII) are on a disk: the hits of one part after the other, in order, and how far the
 * disk is searched. Every byte is searched: a file is found whatever lies before it, and wherever it begins.
 * While the hits of a part are looked at, `disk.read` has it and what surrounds it in memory.
 */
export async function* search(disk: Disk, needles: readonly string[]) {
  const overlap = Math.max(...needles.map((needle) => needle.length)) - 1;
  let done = 0;
  for await (const { offset, bytes } of disk.parts(overlap)) {
    const hits: { needle: string; offset: number }[] = [];
    for (const needle of needles) {
      const first = Math.max(0, done - offset - needle.length + 1);
      for (let at = bytes.indexOf(needle, first); at >= 0; at = bytes.indexOf(needle, at + 1))
        hits.push({ needle, offset: offset + at });
    }
    done = offset + bytes.length;
    yield { hits: hits.sort((a, b) => a.offset - b.offset), done };
  }
}
