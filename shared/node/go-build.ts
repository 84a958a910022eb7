/**
 * Go's build information in a program: of which modules it was built. As debug/buildinfo reads it (Go's src/debug/buildinfo/buildinfo.go): an
 * ELF section ".go.buildinfo", or the beginning of the first writable segment, holds a header of 32 bytes, "\xff Go buildinf:" first, and
 * since Go 1.18 two strings behind it, each with its length as a varint. The second one is the module list (runtime/debug/mod.go) between two
 * marks of 16 bytes. The file is a stranger's: it is never executed, all reads are bounded, and what it says is only repeated.
 */

export interface GoBuild {
  /** "go1.24.4" */
  go: string;
  /** Module path → version, replacements applied; the main module is one of them. */
  modules: Map<string, string>;
}

/** At most `length` bytes of the file from `offset`; fewer at its end. */
export type ReadAt = (offset: number, length: number) => Buffer;

const MAGIC = Buffer.from("\xff Go buildinf:", "latin1");
const [HEADER, ALIGN, INLINE] = [32, 16, 0x2];

/** Bytes. The linker puts the header near the beginning; the module list of the largest programs has about 100 kB. */
const [SEARCHED, LARGEST] = [1 << 20, 1 << 20];

const SECTION = ".go.buildinfo\0";

/** ELF: at most so many headers, and so many bytes of section names. */
const [HEADERS, NAMES] = [4096, 1 << 16];

/** Undefined where it is no 64-bit little-endian ELF program of Go 1.18 or later. */
export function readGoBuild(readAt: ReadAt): GoBuild | undefined {
  const file = readAt(0, 64);
  if (file.length < 64 || file.toString("latin1", 0, 6) !== "\x7fELF\x02\x01") return undefined;
  const place = sectionOf(readAt, file) ?? dataSegment(readAt, file);
  if (place === undefined) return undefined;
  const data = readAt(place, SEARCHED + LARGEST);
  for (let at = data.indexOf(MAGIC); at >= 0 && at < SEARCHED; at = data.indexOf(MAGIC, at + 1))
    if (at % ALIGN === 0 && ((data[at + 15] ?? 0) & INLINE) !== 0) return built(data, at + HEADER);
  return undefined;
}

function built(data: Buffer, at: number): GoBuild | undefined {
  const go = textAt(data, at);
  const modules = go && textAt(data, go.end);
  return go && modules && { go: go.text, modules: modulesIn(modules.text) };
}

function textAt(data: Buffer, at: number): { text: string; end: number } | undefined {
  let [length, shift, next] = [0, 0, at];
  for (; ; next++, shift += 7) {
    const byte = data[next];
    if (byte === undefined || shift > 28) return undefined;
    length += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) break;
  }
  const [start, end] = [next + 1, next + 1 + length];
  return length > LARGEST || end > data.length ? undefined : { text: data.toString("utf8", start, end), end };
}

/** Lines of "mod" and "dep": path and version behind tabs; "=>" replaces the one before. A mark stands before the first line. */
function modulesIn(text: string): Map<string, string> {
  const modules = new Map<string, string>();
  let last = "";
  for (const line of text.split("\n")) {
    const [word, path = "", version = ""] = line.split("\t");
    if (word === "mod" || word === "dep") last = path;
    else if (word !== "=>") continue;
    if (version !== "") modules.set(last, version);
  }
  return modules;
}

/** Where in the file the section ".go.buildinfo" begins: Elf64_Ehdr and Elf64_Shdr, elf(5). */
function sectionOf(readAt: ReadAt, file: Buffer): number | undefined {
  const [size, count, names] = [0x3a, 0x3c, 0x3e].map((at) => file.readUInt16LE(at)) as [number, number, number];
  if (size !== 64 || count > HEADERS || names >= count) return undefined;
  const headers = readAt(numberAt(file, 0x28), size * count);
  if (headers.length < size * count) return undefined;
  const table = readAt(numberAt(headers, names * size + 0x18), NAMES);
  for (let at = 0; at < headers.length; at += size) {
    const name = headers.readUInt32LE(at);
    if (table.toString("latin1", name, name + SECTION.length) === SECTION) return numberAt(headers, at + 0x18);
  }
  return undefined;
}

/** The first segment that is loaded, can be written, and not executed: Elf64_Phdr. */
function dataSegment(readAt: ReadAt, file: Buffer): number | undefined {
  const [size, count] = [0x36, 0x38].map((at) => file.readUInt16LE(at)) as [number, number];
  if (size !== 56 || count > HEADERS) return undefined;
  const headers = readAt(numberAt(file, 0x20), size * count);
  for (let at = 0; at + size <= headers.length; at += size)
    if (headers.readUInt32LE(at) === 1 && (headers.readUInt32LE(at + 4) & 3) === 2) return numberAt(headers, at + 8);
  return undefined;
}

/** A file has fewer than 2^53 bytes; a number that is larger is behind its end. */
function numberAt(bytes: Buffer, at: number): number {
  return Math.min(Number(bytes.readBigUInt64LE(at)), Number.MAX_SAFE_INTEGER);
}
