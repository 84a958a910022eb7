/**
 * Where some words lie on a disk. Some are searched for in every byte; others only in blocks that begin with text, as all blocks of a text
 * file do: on a disk that is mostly programs and databases this spares most of the work.
 */
import type { Disk } from "./disk.ts";
import { BLOCK } from "./pem-block.ts";

export interface Needles {
  anywhere: readonly string[];
  inText: readonly string[];
}

export interface Hit {
  needle: string;
  offset: number;
}

/** The hits of one part of the disk, in order, and how far the disk is searched. */
export interface Searched {
  hits: Hit[];
  done: number;
}

/** A block begins with text when so many bytes do: of noise, one block in a hundred. */
const TELLING = 40;

/** Bytes that stand in text: 9, 10, 13, and all from space on but DEL. Those above ASCII may be UTF-8. */
const IS_TEXT = Uint8Array.from({ length: 256 }, (_, byte) => Number([9, 10, 13].includes(byte) || (byte >= 0x20 && byte !== 0x7f)));

/** While the hits of a part are looked at, `disk.read` has it and what surrounds it in memory. */
export async function* search(disk: Disk, needles: Needles): AsyncGenerator<Searched> {
  const longest = Math.max(...[...needles.anywhere, ...needles.inText].map((needle) => Buffer.byteLength(needle)));
  let done = 0;
  for await (const { offset, bytes } of disk.parts(BLOCK + longest)) {
    const hits: Hit[] = [];
    const find = (needle: string, from: number, to: number) => {
      const length = Buffer.byteLength(needle);
      const place = bytes.subarray(0, Math.min(bytes.length, to + length - 1));
      const first = Math.max(from, done - offset - length + 1);
      for (let at = place.indexOf(needle, first); at >= 0; at = place.indexOf(needle, at + 1)) hits.push({ needle, offset: offset + at });
    };
    for (const needle of needles.anywhere) find(needle, 0, bytes.length);
    for (const { from, to } of textSpans(bytes, offset)) for (const needle of needles.inText) find(needle, from, to);
    done = offset + bytes.length;
    yield { hits: hits.sort((a, b) => a.offset - b.offset), done };
  }
}

/** Runs of blocks that begin with text. */
function* textSpans(bytes: Buffer, offset: number): Generator<{ from: number; to: number }> {
  const first = Math.ceil(offset / BLOCK) * BLOCK - offset;
  let from = -1;
  for (let block = first; block < bytes.length; block += BLOCK) {
    if (beginsWithText(bytes, block)) {
      if (from < 0) from = block;
    } else if (from >= 0) {
      yield { from, to: block };
      from = -1;
    }
  }
  if (from >= 0) yield { from, to: bytes.length };
}

function beginsWithText(bytes: Buffer, block: number): boolean {
  const end = Math.min(block + TELLING, bytes.length);
  let at = block;
  while (at < end && IS_TEXT[bytes[at]!] === 1) at++;
  return at === end;
}
