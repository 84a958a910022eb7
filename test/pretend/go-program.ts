/** A program file as Go's linker lays it out, as far as its build information goes: Elf64_Ehdr, Elf64_Phdr, Elf64_Shdr (elf(5)). */

interface Layout {
  /** Without section headers (strip --strip-section-headers), the first writable segment leads there. */
  sections?: boolean;
  /** Bytes before the header, within the section. */
  before?: number;
}

const [EHDR, PHDR, SHDR, NAMES] = [64, 56, 64, "\0.shstrtab\0.go.buildinfo\0"];

/** `modules`: lines of runtime/debug's module list, without the marks around it. */
export function goProgram(modules: string, { sections = true, before = 0 }: Layout = {}): Buffer {
  const data = Buffer.concat([Buffer.alloc(before), buildInfo("go1.24.4", modules), Buffer.alloc(64)]);
  const place = EHDR + PHDR;
  const names = place + data.length;
  const file = Buffer.alloc(names + NAMES.length + (sections ? 3 * SHDR : 0));
  file.write("\x7fELF\x02\x01\x01", "latin1");
  file.writeBigUInt64LE(BigInt(EHDR), 0x20);
  file.writeBigUInt64LE(BigInt(names + NAMES.length), 0x28);
  for (const [at, value] of [
    [0x36, PHDR],
    [0x38, 1],
    [0x3a, SHDR],
    [0x3c, sections ? 3 : 0],
    [0x3e, sections ? 1 : 0],
  ] as const)
    file.writeUInt16LE(value, at);
  file.writeUInt32LE(1, EHDR);
  file.writeUInt32LE(6, EHDR + 4);
  file.writeBigUInt64LE(BigInt(place), EHDR + 8);
  data.copy(file, place);
  file.write(NAMES, names, "latin1");
  if (sections) {
    header(file, 1, { name: 1, offset: names });
    header(file, 2, { name: 11, offset: place });
  }
  return file;
}

function header(file: Buffer, index: number, { name, offset }: { name: number; offset: number }) {
  const at = file.length - (3 - index) * SHDR;
  file.writeUInt32LE(name, at);
  file.writeBigUInt64LE(BigInt(offset), at + 0x18);
}

function buildInfo(go: string, modules: string): Buffer {
  const head = Buffer.alloc(32);
  head.write("\xff Go buildinf:", "latin1");
  head.set([8, 2], 14);
  const mark = Buffer.alloc(16, 0x30);
  return Buffer.concat([head, text(Buffer.from(go)), text(Buffer.concat([mark, Buffer.from(`path\tcmd\n${modules}`), mark]))]);
}

function text(bytes: Buffer): Buffer {
  const length: number[] = [];
  for (let rest = bytes.length; ; rest >>>= 7) {
    length.push(rest > 0x7f ? (rest & 0x7f) | 0x80 : rest);
    if (rest <= 0x7f) return Buffer.concat([Buffer.from(length), bytes]);
  }
}
