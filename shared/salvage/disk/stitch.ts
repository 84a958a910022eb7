/**
 * Joins keys and certificates in two pieces: the first was found where it begins, and the second is searched
 * among all that could be one.
 */
import { orUndefined, signedBy } from "../../pki/certificate.ts";
import type { Disk } from "./disk.ts";
import type { PemFind } from "./finds.ts";
import { BLOCK, type CutPem, type PemBlock, wholePem } from "./pem-block.ts";

/**
 * So many END lines are tried for a cut block: a file's pieces are near each other, and a stranger may lay
 * out any number of ends.
 */
const MOST_ENDS = 64;

/**
 * The ways in which a cut block and an END line make a whole one, the nearest first; `joined` is where the
 * second piece begins.
 */
export function joinPems(
  disk: Disk,
  head: CutPem & { offset: number },
  ends: readonly number[],
): { block: PemBlock; joined: number }[] {
  const first = disk.read(head.offset, head.sound).toString("latin1");
  const tailOf = (end: number, border: number) => end - (head.offset + head.reach - border);
  const nearest = ends.length > MOST_ENDS ? nearestTo(head.offset, ends) : ends;
  const pairs = nearest.flatMap((end) =>
    bordersIn(head.offset, head.offset + head.sound).map((border) => ({ end, border })),
  );
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
 * The joined blocks that are proved. A key proves itself. The halves of two certificates would read as one,
 * so a certificate has to be signed by itself or by a CA that was found. Joined public keys are not worth a
 * proof.
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

/** All borders of blocks after `from`, up to `to`. */
function bordersIn(from: number, to: number): number[] {
  const first = (Math.floor(from / BLOCK) + 1) * BLOCK;
  return first > to
    ? []
    : Array.from({ length: Math.floor((to - first) / BLOCK) + 1 }, (_, i) => first + i * BLOCK);
}
