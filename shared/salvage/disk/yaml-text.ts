/**
 * Finds the first and the last byte of a YAML file in free blocks. YAML has no end mark: the zeros that fill
 * its last block show where a file ends. Text that runs up to a block's end may continue elsewhere, or
 * another file may follow; then the longest piece that reads as a whole is taken.
 */
import type { Disk } from "./disk.ts";
import { BLOCK } from "./pem-block.ts";
import { kindIn } from "./yaml-document.ts";

/**
 * Bytes that are read before the line `apiVersion:` (comments, a mark) and after it: a kubeconfig with a
 * bundle of CAs has some ten KB.
 */
export const BEFORE = 16 * 1024;
export const AFTER = 128 * 1024;

export interface YamlText {
  /** Bytes from the line `apiVersion:` back to the file's first, and on to its last. */
  before: number;
  after: number;
  text: string;
  /**
   * The file's end was seen: zeros up to a block's end, or a mark. If not, the text may continue elsewhere.
   */
  ended: boolean;
}

/** A text without an end is tried at so many borders of blocks. */
const MOST_CUTS = 64;

/** A line of YAML at the left edge: a key, an item, a comment, a mark, the end of a flow. */
const EDGE = /^(?:[A-Za-z][\w.-]*:(?:\s|$)|-(?:\s|$)|#|[\]}]|["'][^"']+["']:|\s|$)/;
/** The same, but not the beginning of another document. */
const EDGE_BEFORE = new RegExp(`^(?!apiVersion:|---)${EDGE.source.slice(1)}`);
const PREAMBLE = /^(?:\s*#.*|\s*|---\s*|kind:.*|%YAML.*)$/;

/**
 * The texts that may be the file around `at`, where a line `apiVersion:` begins, the most likely first. None
 * where it is no such line. `offset` is where `bytes` lie on the disk.
 */
export function* yamlTexts(bytes: Buffer, at: number, offset: number): Generator<YamlText> {
  // the second: written by hand, with other fields first
  const start = firstLine(PREAMBLE, bytes, at, offset) ?? firstLine(EDGE_BEFORE, bytes, at, offset);
  if (start === undefined) return;
  const { end, ended } = endOf(bytes, at, offset);
  const text = (to: number): YamlText => ({
    before: at - start,
    after: to - at,
    text: bytes.toString("utf8", start, to),
    ended: false,
  });
  if (ended) yield { ...text(end), ended: true };
  for (const cut of boundaries(bytes, at, { end, offset })) yield text(cut);
}

/**
 * A cheap look at a line `apiVersion:`, which rejects most of those in programs, their sources, and manifests
 * of all other kinds.
 */
export function mayBeOurs(disk: Disk, offset: number): boolean {
  const before = offset % BLOCK === 0 ? 0 : disk.read(offset - 1, 1)[0]!;
  if (before !== 0 && before !== 0x0a && before !== 0xbf) return false; // the last is the end of UTF-8's mark
  const next = /^.*\n(kind:.*)/.exec(disk.read(offset, 160).toString("latin1"))?.[1];
  return next === undefined || kindIn(next) !== undefined;
}

/**
 * Of the lines up to `at` that are all of this kind, the first one where a file may begin; undefined where
 * the line at `at` is in the middle of something else.
 */
function firstLine(kind: RegExp, bytes: Buffer, at: number, offset: number): number | undefined {
  const isOne = (from: number, to: number) =>
    strangeByte(bytes, from, to - 1) === to - 1 && kind.test(bytes.toString("utf8", from, to - 1));
  const isZero = (place: number) => bytes[place - 1] === 0;
  let begin = mayBegin(bytes, at, offset) || isZero(at) ? at : undefined;
  for (let start = at; bytes[start - 1] === 0x0a; ) {
    const from =
      start < 2 ? 0 : Math.max(bytes.lastIndexOf(0x0a, start - 2), bytes.lastIndexOf(0, start - 2)) + 1;
    // the block before may be full of another file's text: then this file's first line begins at the border
    const border = Math.floor((offset + start - 1) / BLOCK) * BLOCK - offset;
    if (border > from && isOne(border, start)) begin = border;
    if (!isOne(from, start)) break;
    start = from;
    if (mayBegin(bytes, start, offset)) begin = start;
    else if (isZero(start)) begin ??= start;
  }
  return begin;
}

/**
 * A file begins at a block's border, after a mark, or as a later document of a file; after zeros only if none
 * of these is found.
 */
function mayBegin(bytes: Buffer, start: number, offset: number): boolean {
  const isFurther = bytes.toString("latin1", start, start + 3) === "---";
  // UTF-8's byte order mark, before the first line
  const isMarked = start >= 3 && bytes.readUIntBE(start - 3, 3) === 0xefbbbf;
  return start === 0 || (offset + start) % BLOCK === 0 || isMarked || isFurther;
}

/** Where the text that can be this file's ends, and whether the file ends there. */
function endOf(bytes: Buffer, at: number, offset: number): { end: number; ended: boolean } {
  const seen = new Set<string>();
  for (let line = at; line < bytes.length; ) {
    const newline = bytes.indexOf(0x0a, line);
    const to = newline < 0 ? bytes.length : newline;
    const strange = strangeByte(bytes, line, to);
    if (strange < to) return { end: strange, ended: isPadding(bytes, strange, offset) };
    const text = bytes.toString("utf8", line, to);
    if (/^(?:---|\.\.\.)(?:\s|$)/.test(text)) return { end: line, ended: true };
    const key = /^([A-Za-z][\w.-]*):/.exec(text)?.[1];
    if (!EDGE.test(text) || (key && seen.has(key))) return { end: to, ended: false };
    if (key) seen.add(key);
    line = to + 1;
  }
  return { end: bytes.length, ended: false };
}

/** The first byte that no text file has. Bytes above ASCII are checked when the text is decoded. */
function strangeByte(bytes: Buffer, from: number, to: number): number {
  let at = from;
  while (at < to && (bytes[at]! >= 0x20 ? bytes[at] !== 0x7f : bytes[at] === 0x09 || bytes[at] === 0x0d))
    at++;
  return at;
}

/** Zeros up to a block's end, and at least one. */
function isPadding(bytes: Buffer, from: number, offset: number): boolean {
  const border = Math.ceil((offset + from) / BLOCK) * BLOCK - offset;
  return border > from && bytes.subarray(from, border).every((byte) => byte === 0);
}

/**
 * Each block's border from `end` back to `at`, but for those behind which only blanks follow up to the one before: such
 * a text says the same, unless it ends a line and the longer one does not.
 */
function* boundaries(
  bytes: Buffer,
  at: number,
  { end, offset }: { end: number; offset: number },
): Generator<number> {
  const last = Math.floor((offset + end) / BLOCK) * BLOCK - offset;
  const endsLine = (to: number) => bytes[to - 1] === 0x0a;
  let tried = last;
  for (let [border, cuts] = [last, 0]; border > at && cuts < MOST_CUTS; border -= BLOCK) {
    const isSame = border < last && bytes.subarray(border, border + BLOCK).every(isBlank);
    if (isSame && (endsLine(tried) || !endsLine(border))) continue;
    yield border;
    [tried, cuts] = [border, cuts + 1];
  }
}

function isBlank(byte: number): boolean {
  return byte === 0x0a || byte === 0x20 || byte === 0x09 || byte === 0x0d;
}
