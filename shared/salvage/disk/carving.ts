/** What a word that was met on a disk belongs to: the work of carve.ts, which says what it is for. */
import type { Disk } from "./disk.ts";
import { type Find, type PemFind, pemFind } from "./finds.ts";
import { BEGIN, BLOCK, type CutPem, END, LABELS, LONGEST, type PemBlock, pemAt } from "./pem-block.ts";
import { LOOKS, type Looks, Share } from "./share.ts";
import { joinPems, joinYaml, provedJoins, tailAt, type YamlHead } from "./stitch.ts";
import { isKubeconfigHead, type Judgement, judge, kindIn } from "./yaml-document.ts";
import { AFTER, BEFORE, type YamlText, yamlTexts } from "./yaml-text.ts";

const API_VERSION = "apiVersion:";

/** What to search a disk for. */
export const WORDS = [BEGIN, END, API_VERSION] as const;

type PemHead = CutPem & { offset: number };

/** Cut keys and ends of keys that are kept in mind. */
const MOST_PIECES = 20_000;

/** One search of a disk: what was met so far, and what is still in pieces. */
export class Carving {
  found = 0;
  readonly #disk: Disk;
  /** Of every content, to give each once. */
  readonly #seen = new Set<number | bigint>();
  /** Of every text that was looked at, whatever it was, and of all that are cut. */
  readonly #seenTexts = new Set<number | bigint>();
  readonly #seenHeads = new Set<number | bigint>();
  #pemEnd = 0;
  #yamlEnd = 0;
  #tailEnd = 0;
  readonly #pemHeads: PemHead[] = [];
  /** Certificates of authorities that were found whole. */
  readonly #authorities: string[] = [];
  /** END lines without their beginning: label, and offset within a block → where they lie. */
  readonly #ends = new Map<string, number[]>();
  #yamlHeads: YamlHead[] = [];
  #cut: Find[] = [];
  readonly #texts: Share;
  readonly #pieces: Share;

  constructor(disk: Disk, looks: Partial<Looks> = {}) {
    this.#disk = disk;
    this.#texts = new Share(looks.texts ?? LOOKS.texts);
    this.#pieces = new Share(looks.pieces ?? LOOKS.pieces);
  }

  /** What was passed over as too much time would have gone into it, a sentence each. */
  skipped(): string[] {
    const { skipped: texts, failed } = this.#texts;
    const { skipped: pieces } = this.#pieces;
    return [
      ...(failed === undefined ? [] : [`a text could not be looked at: ${failed}`]),
      ...(texts > 0
        ? [`${texts} places with YAML were not looked at: there is more of it than can be. Keys were looked for everywhere`]
        : []),
      ...(pieces > 0 ? [`${pieces} keys that are cut off were not tried with every second piece: there are more than can be`] : []),
    ];
  }

  /** What a word that was met belongs to. */
  *look(needle: string, offset: number): Generator<Find> {
    if (needle === BEGIN) yield* this.#begin(offset);
    else if (needle === END) this.#end(offset);
    else yield* this.#texts.take(() => [...this.#yaml(offset)]);
  }

  /** Keys and certificates in two pieces: the first tells where in its block the END line of the second must lie. */
  *joinedPems(): Generator<Find> {
    const joined = this.#pemHeads.flatMap((head) => {
      const ends = this.#ends.get(`${head.label} ${(head.offset + head.reach) % BLOCK}`) ?? [];
      const all = this.#pieces.take(() => joinPems(this.#disk, head, ends));
      return all.flatMap(({ block, joined }) => {
        const find = pemFind(block.label, block.pem, { offset: head.offset, joined });
        return find ? [{ head, find }] : [];
      });
    });
    const proved = provedJoins(joined, this.#authorities);
    for (const { find } of proved) if (this.#isNew(find.pem)) yield this.#counted(find);
    for (const head of this.#pemHeads) if (!proved.some((one) => one.head === head)) this.#noteCut(head.label, head.offset);
  }

  /** Whether a second look at the disk could complete a file. */
  needsPieces(): boolean {
    return this.#yamlHeads.length > 0;
  }

  /** Tries a word that stands near the end of a file as the second piece of those that are cut. */
  *joinedYaml(offset: number): Generator<Find> {
    if (offset < this.#tailEnd) return;
    const tail = tailAt(this.#disk, offset);
    if (!tail) return;
    this.#tailEnd = tail.end;
    for (const head of this.#yamlHeads) {
      const [whole] = this.#texts.take(() => [joinYaml(head, tail)]);
      if (!whole) continue;
      this.#yamlHeads = this.#yamlHeads.filter((other) => other !== head);
      yield* this.#fromYaml(whole.text, whole.judgement, { offset: head.offset, joined: whole.joined });
    }
  }

  *leftovers(): Generator<Find> {
    for (const { what, offset } of this.#yamlHeads) this.#noteCut(what, offset);
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

  *#yaml(offset: number): Generator<Find> {
    if (offset < this.#yamlEnd || !mayBeOurs(this.#disk, offset)) return;
    const from = Math.max(0, offset - BEFORE);
    const bytes = this.#disk.read(from, offset - from + AFTER);
    let partly: [YamlText, Judgement] | undefined;
    let longest: YamlText | undefined;
    for (const candidate of yamlTexts(bytes, offset - from, from)) {
      if (!longest && !this.#isNew(`${candidate.ended} ${candidate.text}`, this.#seenTexts)) return;
      longest ??= candidate;
      if (!kindIn(candidate.text) && !isKubeconfigHead(candidate.text)) return;
      const judgement = judge(candidate.text, candidate.ended);
      if (isComplete(judgement)) {
        this.#yamlEnd = offset + candidate.after;
        return yield* this.#fromYaml(candidate.text, judgement, { offset: offset - candidate.before });
      }
      if (judgement && (!partly || partly[1] === "cut")) partly = [candidate, judgement];
    }
    if (longest && isKubeconfigHead(longest.text)) partly ??= [longest, "cut"];
    if (partly) yield* this.#partly(partly, longest!, offset);
  }

  /** A text whose end was not found: a piece of it may lie elsewhere. */
  *#partly([candidate, judgement]: [YamlText, Judgement], longest: YamlText, offset: number): Generator<Find> {
    const start = offset - candidate.before;
    this.#yamlEnd = offset + candidate.after;
    if (judgement !== "cut") yield* this.#fromYaml(candidate.text, judgement, { offset: start });
    const head = {
      what: kindIn(candidate.text) ?? "Config",
      offset: start,
      bytes: Buffer.from(this.#disk.read(start, longest.before + longest.after)),
    };
    if (!this.#isNew(head.bytes, this.#seenHeads) || this.#yamlHeads.length >= MOST_PIECES) return;
    if (/certificate-authority-data: LS0t|^ {2}namespace: kube-system\s*$/m.test(candidate.text)) this.#yamlHeads.push(head);
    else if (judgement === "cut") this.#noteCut(head.what, start);
  }

  /** The find, "known" where its content was met before, undefined where it is not what it says. */
  #fromPem({ label, pem }: PemBlock, place: { offset: number }): PemFind | "known" | undefined {
    if (!this.#isNew(pem)) return "known";
    const find = pemFind(label, pem, place);
    if (find?.kind === "certificate" && find.info.isCa) this.#authorities.push(pem);
    return find && this.#counted(find);
  }

  #counted<T extends Find>(find: T): T {
    this.found++;
    return find;
  }

  *#fromYaml(text: string, judgement: Judgement, place: { offset: number; joined?: number }): Generator<Find> {
    if (!judgement || judgement === "cut" || !this.#isNew(`${isComplete(judgement)} ${text}`)) return;
    yield this.#counted({ ...judgement, text, ...place });
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

/** A look that throws out most of what is met in programs, their sources, and manifests of all the other kinds. */
function mayBeOurs(disk: Disk, offset: number): boolean {
  const before = offset % BLOCK === 0 ? 0 : disk.read(offset - 1, 1)[0]!;
  if (before !== 0 && before !== 0x0a && before !== 0xbf) return false; // the last is the end of UTF-8's mark
  const next = /^.*\n(kind:.*)/.exec(disk.read(offset, 160).toString("latin1"))?.[1];
  return next === undefined || kindIn(next) !== undefined;
}

function isComplete(judgement: Judgement): boolean {
  return judgement !== undefined && judgement !== "cut" && (judgement.kind === "kubeconfig" || judgement.complete);
}
