/**
 * Turns the words that a search (disk-search.ts) meets on a disk into whole files: reads around each word, and joins what is
 * in two pieces.
 */
import type { Budget } from "../../budget.ts";
import { orUndefined, signedBy } from "../../pki/certificate.ts";
import type { Disk } from "./disk.ts";
import { configAt, KIND } from "./encryption-config.ts";
import {
  BEGIN,
  BLOCK,
  type CutPem,
  END,
  type Find,
  joinPems,
  LABELS,
  LONGEST,
  type PemBlock,
  type PemFind,
  pemAt,
  pemFind,
} from "./pem-block.ts";

export const WORDS = [BEGIN, END, KIND] as const;

type PemHead = CutPem & { offset: number };

/** The most cut keys, and ends of keys, that are kept in memory. */
const MOST_PIECES = 20_000;

/** How long configurations, and joins of keys in pieces, may take in all. */
const TEXT_SECONDS = 600;
const PIECE_SECONDS = 120;

/** Finds of one search of a disk so far, and those that are still in pieces. */
export class Assembler {
  found = 0;
  readonly #disk: Disk;
  readonly #budget: Budget | undefined;
  /** Hashes of every content, to yield each once. */
  readonly #seen = new Set<number | bigint>();
  readonly #seenHeads = new Set<number | bigint>();
  #pemEnd = 0;
  /** The last word of a configuration: each place before it was tried as a beginning. */
  #configTried = 0;
  readonly #pemHeads: PemHead[] = [];
  readonly #cas: string[] = [];
  /** END lines without their beginning: label, and offset within a block → where they lie. */
  readonly #ends = new Map<string, number[]>();
  readonly #cut: Find[] = [];
  /** Whole keys and certificates are not limited. */
  readonly #texts = new TimeShare(TEXT_SECONDS);
  readonly #pieces = new TimeShare(PIECE_SECONDS);

  /** Once the `budget` is spent no configuration is tried, and no second piece; keys are looked at in what was read. */
  constructor(disk: Disk, budget?: Budget) {
    this.#disk = disk;
    this.#budget = budget;
  }

  /** Parts that were left out because they would take too much time, a sentence each. */
  skipped(): string[] {
    const { skipped: texts, failed } = this.#texts;
    const { skipped: pieces } = this.#pieces;
    return [
      ...(failed === undefined ? [] : [`a text cannot be read: ${failed}`]),
      ...(texts > 0
        ? [
            `${texts} places with encryption configurations were skipped: the disk has too many. Keys were searched everywhere`,
          ]
        : []),
      ...(pieces > 0
        ? [
            "cut keys and certificates were not tried with every possible second piece: the disk has too many, or the search has no time left",
          ]
        : []),
    ];
  }

  *look(needle: string, offset: number): Generator<Find> {
    if (needle === BEGIN) yield* this.#begin(offset);
    else if (needle === END) this.#end(offset);
    else yield* this.#texts.take(() => this.#config(offset));
  }

  /**
   * Keys and certificates in two pieces: the first says where in its block the END line of the second must
   * be.
   */
  *joinedPems(): Generator<Find> {
    const joined = this.#pemHeads.flatMap((head) => {
      const ends = this.#ends.get(`${head.label} ${(head.offset + head.reach) % BLOCK}`) ?? [];
      const pieces = this.#inTime(() => joinPems(this.#disk, head, ends));
      return pieces.flatMap(({ block, joined }) =>
        this.#inTime(() => {
          const find = pemFind(block.label, block.pem, { offset: head.offset, joined });
          return find ? [{ head, find }] : [];
        }),
      );
    });
    const proved = this.#provedJoins(joined);
    for (const { find } of proved) if (this.#isNew(find.pem)) yield this.#counted(find);
    for (const head of this.#pemHeads)
      if (!proved.some((one) => one.head === head)) this.#noteCut(head.label, head.offset);
  }

  /** Returns no find once the time for joins, or the time of the search, is over. */
  #inTime<T>(look: () => T[]): T[] {
    return this.#pieces.take(look, this.#isOver());
  }

  /**
   * A key proves itself. The halves of two certificates would read as one, so a certificate has to be signed by itself
   * or by a CA that was found. Joined public keys are not worth a proof.
   */
  #provedJoins<T extends { find: PemFind }>(joined: readonly T[]): T[] {
    const certificates = joined.filter(({ find }) => find.kind === "certificate");
    const isSignedBy = (pem: string, ca: string) =>
      this.#inTime(() => [orUndefined(() => signedBy(pem, ca)) === true])[0] === true;
    const roots = certificates.map(({ find }) => find.pem).filter((pem) => isSignedBy(pem, pem));
    const cas = [...this.#cas, ...roots];
    const signed = new Set(certificates.filter(({ find }) => cas.some((ca) => isSignedBy(find.pem, ca))));
    return joined.filter((one) => one.find.kind === "private key" || signed.has(one));
  }

  *leftovers(): Generator<Find> {
    yield* this.#cut;
  }

  *#begin(offset: number): Generator<Find> {
    const block = pemAt(this.#disk.read(offset, LONGEST));
    if (!block) return;
    if ("pem" in block) {
      this.#pemEnd = offset + block.length;
      const find = this.#fromPem(block, { offset });
      if (!find) this.#noteCut(block.label, offset);
      else if (find !== "known") yield find;
    } else if (this.#isNew(this.#disk.read(offset, block.sound), this.#seenHeads)) {
      if (this.#pemHeads.length < MOST_PIECES) this.#pemHeads.push({ ...block, offset });
      else this.#pieces.skipped++;
    }
  }

  #end(offset: number) {
    if (offset < this.#pemEnd) return;
    const label = /^-----END ([A-Z ]+)-----/.exec(this.#disk.read(offset, 40).toString("latin1"))?.[1] ?? "";
    if (!Object.hasOwn(LABELS, label)) return;
    const place = `${label} ${offset % BLOCK}`;
    const others = this.#ends.get(place) ?? [];
    if (others.length < MOST_PIECES) others.push(offset);
    this.#ends.set(place, others);
  }

  #config(word: number): Find[] {
    if (this.#isOver()) return [];
    const found = configAt(this.#disk, word, this.#configTried, () => this.#isOver());
    this.#configTried = word;
    return found && this.#isNew(found.text) ? [this.#counted({ kind: "config", ...found })] : [];
  }

  #isOver(): boolean {
    return this.#budget?.over() !== undefined;
  }

  /** The find; "known" where its content was met before, undefined where it is not what its label says. */
  #fromPem({ label, pem }: PemBlock, place: { offset: number }): PemFind | "known" | undefined {
    if (!this.#isNew(pem)) return "known";
    const find = pemFind(label, pem, place);
    if (find?.kind === "certificate" && find.info.isCa) this.#cas.push(pem);
    return find && this.#counted(find);
  }

  #counted<T extends Find>(find: T): T {
    this.found++;
    return find;
  }

  #noteCut(what: string, offset: number) {
    if (Object.hasOwn(LABELS, what) && LABELS[what] !== "private key") return;
    if (this.#cut.length < MOST_PIECES) this.#cut.push({ kind: "cut", what, offset });
  }

  #isNew(content: string | Uint8Array, seen = this.#seen): boolean {
    const hash = Bun.hash(content);
    if (seen.has(hash)) return false;
    seen.add(hash);
    return true;
  }
}

/**
 * Limits the time for one kind of look at what a stranger can lay out in any number, so that keys are
 * searched everywhere all the same.
 */
class TimeShare {
  skipped = 0;
  /** Why the first look failed, where one did. */
  failed: string | undefined;
  readonly #milliseconds: number;
  #spent = 0;

  constructor(seconds: number) {
    this.#milliseconds = seconds * 1000;
  }

  /** Returns an empty list if the time for joins is over, or the time of the search (`isOver`). A text on which a parser fails must not hide the keys that follow. */
  take<T>(look: () => T[], isOver = false): T[] {
    if (isOver || this.#spent >= this.#milliseconds) {
      this.skipped++;
      return [];
    }
    const began = performance.now();
    try {
      return look();
    } catch (err) {
      if (!(err instanceof Error)) throw err;
      this.failed ??= err.message;
      return [];
    } finally {
      this.#spent += performance.now() - began;
    }
  }
}
