/**
 * Rung 3 of the ladder: deleted files lie in free blocks until they are overwritten. Everything that an /etc/kubernetes is made of is looked
 * for, and what can be proved is: keys by signing, kubeconfigs by their key and certificate. Writes nothing, and reads the disk once; a second
 * time only where files were found that go on in another place.
 */
import { Progress } from "../../progress.ts";
import { say } from "../../run.ts";
import type { Budget } from "../budget.ts";
import { Carving, WORDS } from "./carving.ts";
import type { Disk } from "./disk.ts";
import type { Find } from "./finds.ts";
import { search } from "./needles.ts";
import type { Looks } from "./share.ts";
import { TAIL_NEEDLES } from "./stitch.ts";

/** How far the search is, in bytes. `pass` "pieces": the disk is read again, for the second pieces of files. */
interface CarveProgress {
  pass: "search" | "pieces";
  done: number;
  total: number;
  found: number;
}

interface CarveOptions {
  /** False: files that are cut are told at once; the disk is not read a second time for their second pieces. */
  pieces?: boolean;
  onProgress?: (progress: CarveProgress) => void;
  /** How long it may take in all. */
  budget?: Budget;
  /** Seconds for texts, and for pieces of keys. Default: LOOKS. */
  looks?: Partial<Looks>;
}

/** Shows on a progress line how far the search is: `carve(disk, { onProgress: diskProgress(disk) })`. */
export function diskProgress(disk: Disk): (progress: CarveProgress) => void {
  const megabytes = (bytes: number) => Math.floor(bytes / 1e6);
  const lines = new Map<string, Progress>();
  return ({ pass, done, total, found }) => {
    const what = pass === "search" ? `reading ${disk.path}` : `reading ${disk.path} again, for files in two pieces`;
    const line = lines.get(pass) ?? new Progress(what, megabytes(total), process.stderr.isTTY, "MB");
    lines.set(pass, line);
    line.show(megabytes(done), `${found} found`);
    if (done === total) line.clear();
  };
}

/**
 * Finds come as they are met; each content once, however often it lies there. What is cut off comes at the end. Errors: Fail where the budget is
 * spent.
 */
export async function* carve(disk: Disk, options: CarveOptions = {}): AsyncGenerator<Find> {
  const carving = new Carving(disk, options.looks);
  let read = 0;
  const spend = (done: number) => {
    options.budget?.spend(Math.max(0, done - read));
    read = done;
  };
  const tell = (pass: CarveProgress["pass"], done: number) => options.onProgress?.({ pass, done, total: disk.size, found: carving.found });
  for await (const { hits, done } of search(disk, WORDS)) {
    for (const { needle, offset } of hits) for (const find of carving.look(needle, offset)) yield find;
    tell("search", done);
    spend(done);
  }
  yield* carving.joinedPems();
  read = 0;
  if (options.pieces !== false && carving.needsPieces()) {
    for await (const { hits, done } of search(disk, TAIL_NEEDLES)) {
      for (const { offset } of hits) yield* carving.joinedYaml(offset);
      tell("pieces", done);
      spend(done);
    }
  }
  for (const line of carving.skipped()) say(`warning: ${line}`);
  yield* carving.leftovers();
}
