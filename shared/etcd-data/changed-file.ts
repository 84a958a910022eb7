/**
 * A database that a program has changed as a whole on its way: compressed, locked, written as text, or with other ends
 * of lines. It is not damaged, and one line brings it back; or the original is needed. Sources: RFC 1952, RFC 8878,
 * tukaani.org/xz/xz-file-format.txt, bzip.org, POSIX ustar, c2sp.org/age.
 */
import { closeSync, fstatSync, readSync } from "node:fs";
import { shell } from "../shell-line.ts";
import { Damaged } from "./protobuf.ts";
import { openRegular } from "./raft-files.ts";

/** A change that was made to a file, and the line that brings it back. */
export class ChangedFile extends Damaged {
  /** Writes it to another file as it was; undefined where only the original has all of it. */
  readonly lineTo: ((to: string) => string) | undefined;

  constructor(words: string, lineTo?: (to: string) => string) {
    super(words);
    this.lineTo = lineTo;
  }

  /** `to`: the file that then has it; `before`: a line that has to come first. */
  hint(to: string, before = ""): string {
    return this.lineTo
      ? `write it as it was, and name that: ${before}${this.lineTo(to)}`
      : "copy the original here once more, byte by byte (scp, rsync)";
  }
}

type Mend = (from: string, to: string) => string;

/** Magic numbers of what a file may be, in hex, at a place. */
const KINDS: readonly { magic: string; at?: number; is: string; mend?: Mend }[] = [
  { magic: "1f8b08", is: "is compressed (gzip)", mend: (from, to) => shell`gunzip < ${from} > ${to}` },
  { magic: "28b52ffd", is: "is compressed (zstd)", mend: (from, to) => shell`zstd -d < ${from} > ${to}` },
  { magic: "fd377a585a00", is: "is compressed (xz)", mend: (from, to) => shell`xz -d < ${from} > ${to}` },
  { magic: "425a68", is: "is compressed (bzip2)", mend: (from, to) => shell`bunzip2 < ${from} > ${to}` },
  { magic: "504b0304", is: "is in a ZIP archive", mend: (from, to) => shell`unzip -p ${from} > ${to}` },
  {
    magic: "7573746172",
    at: 257,
    is: "is in a tar archive",
    mend: (from, to) => shell`tar -xOf ${from} > ${to}`,
  },
  // 0xed0cdaed, bbolt's own number, as it is in the first page, and what text programs make of it
  { magic: "efbfbdefbfbd0cefbfbd", at: 16, is: "was changed as text is (UTF-8)" },
];

/** Bytes that are looked at: ends of lines are everywhere. */
const LOOKED_AT = 1024 * 1024;
/** So many ends of lines are in no database by chance alike. */
const MANY_LINES = 64;

/** `shown`: the path for the operator. Undefined where nothing shows that a program has changed it. Errors: the system's. */
export function changeOfFile(path: string, shown = path): ChangedFile | undefined {
  const head = headOf(path);
  const changed = (is: string, mend?: Mend) =>
    new ChangedFile(`"${shown}" ${is}`, mend && ((to) => mend(shown, to)));
  const kind = KINDS.find(({ magic, at = 0 }) => head.toString("hex", at, at + magic.length / 2) === magic);
  if (kind) return changed(kind.is, kind.mend);
  if (/^[A-Za-z0-9+/\r\n]{1000}/.test(head.toString("latin1", 0, 1000)))
    return changed("is in base64", (from, to) => shell`base64 -d < ${from} > ${to}`);
  return hasOtherLines(head)
    ? changed("has other ends of lines (CRLF), as a copy that was made as text", (from, to) => {
        return shell`LC_ALL=C sed 's/\\r$//' < ${from} > ${to}`;
      })
    : undefined;
}

/** Whether each LF is behind a CR. */
function hasOtherLines(head: Buffer): boolean {
  let lines = 0;
  for (let at = head.indexOf(10); at >= 0; at = head.indexOf(10, at + 1)) {
    if (head[at - 1] !== 13) return false;
    lines++;
  }
  return lines >= MANY_LINES;
}

function headOf(path: string): Buffer {
  const file = openRegular(path);
  try {
    const bytes = Buffer.alloc(Math.min(LOOKED_AT, fstatSync(file).size));
    return bytes.subarray(0, readSync(file, bytes, 0, bytes.length, 0));
  } finally {
    closeSync(file);
  }
}
