/**
 * An EncryptionConfiguration in free blocks: without it nothing opens what is encrypted in etcd. A file begins
 * at a block's border, and ends with the zeros that fill its last block, or at a mark between documents. Whether
 * it is the cluster's only etcd's data says.
 */
import { orUndefined } from "../../pki/certificate.ts";
import { isMapping, readYaml } from "../../yaml.ts";
import type { Disk } from "./disk.ts";
import { BLOCK } from "./pem-block.ts";

/** What to search a disk for, and the line that has to be around it. */
export const KIND = "EncryptionConfig";
const KIND_LINE = /^kind:[ \t]*["']?EncryptionConfig(?:uration)?["']?[ \t]*(?:#.*)?\r?$/m;
const FIELDS = ["apiVersion", "kind", "resources"];

/** Bytes that are read before the word (comments, resources) and behind it. */
const [BEFORE, AFTER] = [16 * BLOCK, 64 * BLOCK];

/**
 * The whole file around this word, not begun before `after`; undefined where there is none, or its end was not
 * found.
 */
export function configAt(disk: Disk, word: number, after: number) {
  const from = Math.max(0, Math.floor(word / BLOCK) * BLOCK - BEFORE);
  const bytes = disk.read(from, word - from + AFTER);
  const [first, end] = [textStart(bytes, word - from), textEnd(bytes, word - from)];
  if (end === undefined) return undefined;
  // before the file, the block may be full of another one's text
  for (let start = first; start < word - from; start = (Math.floor(start / BLOCK) + 1) * BLOCK) {
    const text = from + start < after ? "" : bytes.toString("utf8", start, end);
    if (isConfig(text)) return { offset: from + start, text };
  }
  return undefined;
}

/** The first place before `at` where a file may begin: a mark, or a border behind what is no text. */
function textStart(bytes: Buffer, at: number): number {
  const strange = bytes.subarray(0, at).findLastIndex((byte) => !isText(byte));
  const mark = bytes.lastIndexOf("\n---", at);
  return mark > strange ? mark + 1 : Math.ceil((strange + 1) / BLOCK) * BLOCK;
}

/** Behind the file's last byte; undefined where the text goes on, or something else follows at once. */
function textEnd(bytes: Buffer, at: number): number | undefined {
  const strange = bytes.subarray(at).findIndex((byte) => !isText(byte));
  const end = strange < 0 ? bytes.length : at + strange;
  const mark = bytes.subarray(0, end).indexOf("\n---", at);
  if (mark >= 0) return mark + 1;
  const padding = bytes.subarray(end, Math.ceil(end / BLOCK) * BLOCK);
  return padding.length > 0 && padding.every((byte) => byte === 0) ? end : undefined;
}

function isText(byte: number): boolean {
  return (byte >= 0x20 && byte !== 0x7f) || [0x09, 0x0a, 0x0d].includes(byte);
}

/** Its fields, and no other file's. Never throws: a disk may hold anything. */
function isConfig(text: string): boolean {
  if (!KIND_LINE.test(text) || text.includes("\ufffd")) return false;
  const config = orUndefined(() => readYaml(text));
  return (
    isMapping(config) &&
    Array.isArray(config.resources) &&
    Object.keys(config).every((field) => FIELDS.includes(field))
  );
}
