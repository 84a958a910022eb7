/**
 * A tar file of a few small files, written and read in memory: POSIX ustar, so that `tar -t` lists it and
 * `tar -x` unpacks it. The reader accepts plain files only. Links, folders, devices and extended headers are
 * refused: nothing that we pack needs them, and each can write outside of the folder where it is unpacked. So
 * can a name: one rule for names holds for reader and writer.
 *
 *     name 100 | mode 8 | uid 8 | gid 8 | size 12 | mtime 12 | checksum 8 | type 1 | link 100 | magic 6 | version 2 | uname 32 | gname 32 |
 *     devmajor 8 | devminor 8 | prefix 155 | zeros 12        numbers are octal text; content follows, padded to whole blocks of 512
 */
import { Fail } from "../fail.ts";
import { plainLine } from "../plain.ts";

export interface TarFile {
  name: string;
  /** Permission bits. */
  mode: number;
  bytes: Uint8Array;
}

const BLOCK = 512;
const FIELDS = {
  name: [0, 100],
  size: [124, 12],
  checksum: [148, 8],
  type: [156, 1],
  magic: [257, 6],
  prefix: [345, 155],
} as const;

/**
 * All files are root's and of one time. A name that ends in `/` is a folder's. The same files give the same
 * bytes. Errors: Error for a name that the reader refuses, or that no header holds: names are made by us, of
 * parts that are checked.
 */
export function writeTar(files: readonly TarFile[], modified: Date): Uint8Array {
  const parts = files.flatMap((file) => [
    header(file, modified),
    file.bytes,
    new Uint8Array(padding(file.bytes.length)),
  ]);
  return Buffer.concat([...parts, new Uint8Array(2 * BLOCK)]);
}

/**
 * Every file, in order. Errors: Fail if it is no tar, is cut off, or holds anything other than plain
 * files, with names of their own folder.
 */
export function readTar(tar: Uint8Array): TarFile[] {
  const bytes = Buffer.from(tar);
  const files: TarFile[] = [];
  for (let at = 0; ; ) {
    const head = bytes.subarray(at, at + BLOCK);
    if (head.length < BLOCK) throw bad("it ends too early");
    if (head.every((byte) => byte === 0)) return files;
    if (checksum(head) !== octalIn(head, "checksum")) throw bad("a checksum in it is wrong");
    const name = nameOf(head);
    if (!isName(name)) throw bad(wrongName(name));
    const type = text(head, "type");
    if (type !== "0" && type !== "") throw bad(`${JSON.stringify(name)} in it is not a plain file`);
    const size = octalIn(head, "size");
    const content = bytes.subarray(at + BLOCK, at + BLOCK + size);
    if (content.length < size) throw bad("it ends too early");
    files.push({ name, mode: Number.parseInt(head.toString("latin1", 100, 107), 8), bytes: content });
    at += BLOCK + size + padding(size);
  }
}

function header({ name, mode, bytes }: TarFile, modified: Date): Buffer {
  if (!isName(name)) throw new Error(wrongName(name));
  const [prefix, last] = splitName(name);
  const head = Buffer.alloc(BLOCK);
  const number = (value: number, at: number, length: number) =>
    head.write(value.toString(8).padStart(length - 1, "0"), at);
  head.write(last, 0);
  number(mode, 100, 8);
  number(0, 108, 8);
  number(0, 116, 8);
  number(bytes.length, 124, 12);
  number(Math.floor(modified.getTime() / 1000), 136, 12);
  head.write(name.endsWith("/") ? "5" : "0", FIELDS.type[0]);
  head.write("ustar\x0000", FIELDS.magic[0]);
  head.write("root", 265);
  head.write("root", 297);
  head.write(prefix, FIELDS.prefix[0]);
  head.write(`${checksum(head).toString(8).padStart(6, "0")}\0 `, FIELDS.checksum[0]);
  return head;
}

/**
 * A relative name inside its folder, and the same for every program and terminal. GNU tar begins names with
 * "./".
 */
function isName(name: string): boolean {
  const parts = name.replace(/^\.\//, "").replace(/\/$/, "").split("/");
  return (
    name === "./" ||
    (plainLine(name) === name &&
      parts.every((part) => !["", ".", ".."].includes(part) && !part.includes("\\")))
  );
}

function wrongName(name: string): string {
  return `${JSON.stringify(name)} is no name for a file of a tar`;
}

/** Splits at a slash if it is too long for one field. Errors: Error if there is no such slash. */
function splitName(name: string): [prefix: string, last: string] {
  const fits = (text: string, field: "name" | "prefix") => Buffer.byteLength(text) <= FIELDS[field][1];
  if (fits(name, "name")) return ["", name];
  const slashes = [...name.matchAll(/\/(?!$)/g)].map(({ index }) => index);
  const at = slashes.find((index) => fits(name.slice(index + 1), "name"));
  if (at === undefined || !fits(name.slice(0, at), "prefix"))
    throw new Error(`too long a name for this tar: ${name}`);
  return [name.slice(0, at), name.slice(at + 1)];
}

/** The sum of a header's bytes, its own field counted as spaces. */
function checksum(head: Uint8Array): number {
  const [from, length] = FIELDS.checksum;
  return head.reduce((sum, byte, at) => sum + (at >= from && at < from + length ? 0x20 : byte), 0);
}

/** GNU's own format ("ustar  ") has times in the place of POSIX' prefix. */
function nameOf(head: Buffer): string {
  const prefix = text(head, "magic") === "ustar" ? text(head, "prefix") : "";
  return prefix ? `${prefix}/${text(head, "name")}` : text(head, "name");
}

function text(head: Buffer, field: keyof typeof FIELDS): string {
  const [from, length] = FIELDS[field];
  return head.toString("utf8", from, from + length).replace(/\0[\s\S]*$/, "");
}

function octalIn(head: Buffer, field: keyof typeof FIELDS): number {
  const digits = text(head, field).trim();
  if (!/^[0-7]+$/.test(digits)) throw bad("a number in it cannot be read");
  return Number.parseInt(digits, 8);
}

function padding(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}

function bad(what: string) {
  return new Fail(`The bundle's content is not a tar file of plain files: ${what}`, {
    hint: "see what the bundle holds: age -d FILE | file - ; then pack a new bundle: ./bunw scripts/hand-over.ts pack",
  });
}
