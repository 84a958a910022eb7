/**
 * Joins files in two pieces: the first was found where it begins, and the second is searched among all that could be one. Only a join that
 * proves itself counts; a manifest has no proof but its form, so a joined one is marked as joined.
 */
import { orUndefined, signedBy } from "../../pki/certificate.ts";
import type { Disk } from "./disk.ts";
import type { PemFind } from "./finds.ts";
import { BLOCK, type CutPem, type PemBlock, wholePem } from "./pem-block.ts";
import { embeddedIsWhole, isComplete, type Judgement, judge } from "./yaml-document.ts";

/** The beginning of a YAML file that is cut at some border of a block. */
export interface YamlHead {
  what: string;
  offset: number;
  bytes: Buffer;
}

/** The end of a YAML file: `bytes` begin at `start`, a border, and the piece at this or a later border. */
interface YamlTail {
  start: number;
  end: number;
  bytes: Buffer;
}

/** A second piece is not longer than this. */
const LONGEST_TAIL = 12 * 1024;

/** What stands near the end of a kubeconfig (base64 of "-----END ", however it falls), and at the end of kubeadm's manifests. */
export const TAIL_NEEDLES = [...base64Forms("-----END "), "\nstatus: {}\n"];

/** So many END lines are tried for a cut block: a file's pieces are near each other, and a stranger may lay out any number of ends. */
const MOST_ENDS = 64;

/** The ways in which a cut block and an END line make a whole one, the nearest first; `joined` is where the second piece begins. */
export function joinPems(disk: Disk, head: CutPem & { offset: number }, ends: readonly number[]): { block: PemBlock; joined: number }[] {
  const first = disk.read(head.offset, head.sound).toString("latin1");
  const tailOf = (end: number, border: number) => end - (head.offset + head.reach - border);
  const nearest = ends.length > MOST_ENDS ? nearestTo(head.offset, ends) : ends;
  const pairs = nearest.flatMap((end) => bordersIn(head.offset, head.offset + head.sound).map((border) => ({ end, border })));
  return pairs.flatMap(({ end, border }) => {
    const joined = tailOf(end, border);
    if (joined < 0 || joined === border) return [];
    const second = disk.read(joined, end - joined + 40).toString("latin1");
    const block = wholePem(first.slice(0, border - head.offset) + second, head.label, head.reach);
    return block ? [{ block, joined }] : [];
  });
}

/** `ends` are in the order of the disk. */
function nearestTo(offset: number, ends: readonly number[]): number[] {
  const distance = (end: number) => Math.abs(end - offset);
  return [...ends].sort((a, b) => distance(a) - distance(b)).slice(0, MOST_ENDS);
}

/**
 * The joined blocks that are proved. A key proves itself. The halves of two certificates would read as one, so a certificate has to be
 * signed by itself or by a CA that was found. Joined public keys are not worth a proof.
 */
export function provedJoins<T extends { find: PemFind }>(joined: readonly T[], cas: readonly string[]): T[] {
  const isSignedBy = (pem: string, ca: string) => orUndefined(() => signedBy(pem, ca)) === true;
  const roots = joined.map(({ find }) => find.pem).filter((pem) => isSignedBy(pem, pem));
  const isProved = { "private key": () => true, "public key": () => false, certificate: isSigned };
  return joined.filter(({ find }) => isProved[find.kind](find));

  function isSigned({ pem }: PemFind): boolean {
    return [...cas, ...roots].some((ca) => isSignedBy(pem, ca));
  }
}

/** The piece in which one of TAIL_NEEDLES was met; undefined where it is not the end of a file. */
export function tailAt(disk: Disk, offset: number): YamlTail | undefined {
  const from = Math.max(0, Math.floor((offset - LONGEST_TAIL) / BLOCK) * BLOCK);
  const bytes = disk.read(from, 2 * LONGEST_TAIL);
  const zero = bytes.indexOf(0, offset - from);
  if (zero < 0 || bytes[zero - 1] !== 0x0a || (from + zero) % BLOCK === 0) return undefined;
  const start = Math.ceil((from + lastStrange(bytes, zero) + 1) / BLOCK) * BLOCK;
  const end = from + zero;
  return start < offset ? { start, end, bytes: Buffer.from(bytes.subarray(start - from, zero)) } : undefined;
}

/** The first whole file that head and tail make, the longest heads first. */
export function joinYaml(head: YamlHead, tail: YamlTail): { text: string; judgement: Judgement; joined: number } | undefined {
  for (const cut of bordersIn(head.offset, head.offset + head.bytes.length).reverse()) {
    const first = head.bytes.toString("utf8", 0, cut - head.offset);
    for (const joined of [tail.start, ...bordersIn(tail.start, tail.end)]) {
      const text = first + tail.bytes.toString("utf8", joined - tail.start);
      if (!crossesWell(first, text) || !embeddedIsWhole(text)) continue;
      const judgement = judge(text, true);
      if (isComplete(judgement)) return { text, judgement, joined };
    }
  }
  return undefined;
}

/** The line where the pieces meet has to be YAML. */
function crossesWell(first: string, text: string): boolean {
  const line = text.slice(first.lastIndexOf("\n") + 1).split("\n", 1)[0]!;
  return /^\s*(?:- )?[\w.@/-]+:(?: \S.*)?$|^\s*- \S.*$|^$/.test(line);
}

/** All borders of blocks after `from`, up to `to`. */
function bordersIn(from: number, to: number): number[] {
  const first = (Math.floor(from / BLOCK) + 1) * BLOCK;
  return first > to ? [] : Array.from({ length: Math.floor((to - first) / BLOCK) + 1 }, (_, i) => first + i * BLOCK);
}

/** The last byte before `end` that no text has. */
function lastStrange(bytes: Buffer, end: number): number {
  let at = end - 1;
  while (at >= 0 && (bytes[at]! >= 0x20 || bytes[at] === 0x0a || bytes[at] === 0x09)) at--;
  return at;
}

/** The part of a text's base64 that does not depend on what is around the text: three forms. */
function base64Forms(text: string): string[] {
  return [0, 1, 2].map((shift) => {
    const all = Buffer.from(" ".repeat(shift) + text).toString("base64");
    return all.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + text.length) * 8) / 6));
  });
}
