/** A file from one node to another, through this machine's memory: piece by piece, as fast as it is taken there. */
import type { FileSink } from "bun";
import { BehindMark, type Leash } from "./leash.ts";

/** The most bytes of one file: keys and tokens are small, and so are the transcripts of a node. */
const MOST_CARRIED = 64 * 2 ** 20;

interface From {
  leash: Leash;
  /** The node that sends. */
  name: string;
  mark: string | undefined;
}

export async function pump(
  source: ReadableStream<Uint8Array>,
  sink: FileSink,
  { leash, name, mark }: From,
): Promise<void> {
  const answer = new BehindMark(mark);
  let length = 0;
  await using _ = { [Symbol.asyncDispose]: async () => void (await sink.end()) };
  for await (const bytes of source) {
    length += bytes.length;
    if (length > MOST_CARRIED) {
      leash.end(`${name} has sent more than ${MOST_CARRIED / 2 ** 20} MB`);
      break;
    }
    if (!(await isTaken(sink, answer.of(bytes)))) break;
    leash.moved();
  }
}

/** False: nobody reads there any more, and the exit code says why. */
async function isTaken(sink: FileSink, bytes: Uint8Array): Promise<boolean> {
  try {
    sink.write(bytes);
    await sink.flush();
    return true;
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code !== "EPIPE") throw err;
    return false;
  }
}
