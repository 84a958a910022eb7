/**
 * An EncryptionConfiguration in free blocks: without it nothing opens what is encrypted in etcd, and nobody can
 * rebuild it. A file begins at a block's border, and ends with the zeros that fill its last block, or at a mark
 * between documents. Only etcd's data says which of the found ones is the lost one.
 */
import { budgetOf } from "../../budget.ts";
import type { EtcdData } from "../../etcd-data/data.ts";
import type { LostFile } from "../../facts/lost-file.ts";
import { namesPlugin, opened, type Sealed, sealedIn, sealOf, writesCleartext } from "../../objects/stored.ts";
import { orUndefined } from "../../pki/certificate.ts";
import { isMapping, readYaml } from "../../yaml.ts";
import type { Disk } from "./disk.ts";
import { BLOCK, type ConfigFind } from "./pem-block.ts";

/** The word to search a disk for, and the line that has to be around it. */
export const KIND = "EncryptionConfig";
const KIND_LINE = /^kind:[ \t]*["']?EncryptionConfig(?:uration)?["']?[ \t]*(?:#.*)?\r?$/m;
const FIELDS = ["apiVersion", "kind", "resources"];

/** Bytes that are read before the word (comments, resources) and behind it. */
const [BEFORE, AFTER] = [16 * BLOCK, 64 * BLOCK];

/**
 * The file does not begin before `after`; undefined where there is none, its end was not found, or the time is over:
 * a block may be full of what is dear to parse, so `isOver` is asked before each text.
 */
export function configAt(disk: Disk, word: number, after: number, isOver: () => boolean = () => false) {
  const from = Math.max(0, Math.floor(word / BLOCK) * BLOCK - BEFORE);
  const bytes = disk.read(from, word - from + AFTER);
  const [first, end] = [textStart(bytes, word - from), textEnd(bytes, word - from)];
  if (end === undefined) return undefined;
  // before the file, the block may be full of another one's text
  for (let start = first; start < word - from; start = (Math.floor(start / BLOCK) + 1) * BLOCK) {
    if (isOver()) return undefined;
    const text = from + start < after ? "" : bytes.toString("utf8", start, end);
    if (isConfig(text)) return { offset: from + start, text };
  }
  return undefined;
}

/** The first place before `at` at which a file may begin: a mark, or a border behind bytes that are no text. */
function textStart(bytes: Buffer, at: number): number {
  const strange = bytes.subarray(0, at).findLastIndex((byte) => !isText(byte));
  const mark = bytes.lastIndexOf("\n---", at);
  return mark > strange ? mark + 1 : Math.ceil((strange + 1) / BLOCK) * BLOCK;
}

/** The place behind the file's last byte; undefined if the text continues, or something else follows at once. */
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

/** Whether it has these fields, and no other file's. Never throws: a disk may hold anything. */
function isConfig(text: string): boolean {
  if (!KIND_LINE.test(text) || text.includes("\ufffd")) return false;
  const config = orUndefined(() => readYaml(text));
  return (
    isMapping(config) &&
    Array.isArray(config.resources) &&
    Object.keys(config).every((field) => FIELDS.includes(field))
  );
}

const BY_COPY = "give the folder with your copy of the configuration: --backup DIR";

export type LostConfig = Pick<LostFile, "path" | "namedBy">;

export function lostConfigs(files: readonly LostFile[]): LostConfig[] {
  return files.filter(({ namedBy }) => namedBy === "--encryption-provider-config");
}

/**
 * The content that is proved, or all that was found, which proves nothing: everybody can lay out such a file.
 * It is proved by what it opens: a value of each key that encrypted etcd's data; nobody else has these keys.
 * A configuration of a KMS plugin only names the plugin; that alone proves nothing. `rivals`: a disk's blocks keep
 * earlier versions as well, which open it, too. Nothing tells which one is in use, so a person has to: a wrong one
 * writes with a retired key, or in clear. Errors: Spent where there are too many.
 */
export function chooseConfig(
  finds: readonly ConfigFind[],
  data: EtcdData | undefined,
  budget = budgetOf("the encryption configurations that the disk has", BY_COPY),
) {
  const versions = [...new Map(finds.map((find) => [find.text.trim(), find])).values()];
  const samples = data !== undefined && versions.length > 0 ? samplesIn(data) : [];
  // parsing never fails here: configAt has parsed the text before
  const opening = versions.filter(({ text }) => {
    budget.ask();
    return samples.some(isTried) && opensAll(readYaml(text), samples);
  });
  const meant = [...Map.groupBy(opening, ({ text }) => JSON.stringify(readYaml(text))).values()].map(
    ([first]) => first!,
  );
  if (meant.length === 0) return { proved: undefined, rivals: [], unproved: versions };
  const [only] = meant;
  return meant.length === 1 && !writesCleartext(readYaml(only!.text))
    ? { proved: only!.text, rivals: [], unproved: [] }
    : { proved: undefined, rivals: meant, unproved: [] };
}

/**
 * Whether an encryption configuration, of whatever origin, does not open what etcd's data holds. Errors:
 * none; no YAML opens nothing.
 */
export function opensNothing(text: string, data: EtcdData | undefined): boolean {
  const samples = data === undefined ? [] : samplesIn(data);
  const config = orUndefined(() => readYaml(text));
  return !opensAll(config, samples);
}

function opensAll(config: unknown, samples: readonly Sealed[]): boolean {
  return samples.every((sealed) =>
    isTried(sealed) ? opened(config, sealed) !== undefined : namesPlugin(config, sealed),
  );
}

/** Whether it can be opened here: a KMS plugin keeps its key. */
function isTried({ provider }: Sealed): boolean {
  return provider !== "kms";
}

/** One value of each provider and key, without those that a configuration on this node opens already. */
function samplesIn(data: EtcdData): Sealed[] {
  const samples = new Map<string, Sealed | undefined>();
  for (const etcdKey of data.keys("/")) {
    const seal = sealOf(data.valueHead(etcdKey, 300) ?? new Uint8Array());
    if (seal !== undefined && !samples.has(seal))
      samples.set(seal, sealedIn(etcdKey, data.get(etcdKey)!.value));
  }
  return [...samples.values()].filter((sealed) => sealed !== undefined);
}
