/**
 * Rung 3 of the ladder: deleted files lie in free blocks until they are overwritten. Everything that an /etc/kubernetes is made of is looked
 * for, and what can be proved is: keys by signing, kubeconfigs by their key and certificate. Writes nothing, and reads the disk once; a second
 * time only where files were found that go on in another place.
 */
import { createHash, createPublicKey, type KeyObject } from "node:crypto";
import { certInfo } from "../pki/certificate.ts";
import type { Disk } from "./disk.ts";
import type { Find } from "./finds.ts";
import { joinPems, joinYaml, TAIL_NEEDLES, tailAt, type YamlHead } from "./join.ts";
import { search } from "./needles.ts";
import { BEGIN, BLOCK, type CutPem, END, LABELS, LONGEST, orUndefined, type PemBlock, pemAt, provenKey } from "./pem-block.ts";
import { type Judgement, judge, kindIn } from "./yaml-document.ts";
import { AFTER, BEFORE, type YamlText, yamlTexts } from "./yaml-text.ts";

const API_VERSION = "apiVersion:";

/** How far the search is, in bytes. `pass` "pieces": the disk is read again, for the second pieces of files. */
export interface CarveProgress {
  pass: "search" | "pieces";
  done: number;
  total: number;
  found: number;
}

export interface CarveOptions {
  onProgress?: (progress: CarveProgress) => void;
}

/** Finds come as they are met; each content once, however often it lies there. What is cut off comes at the end. */
export async function* carve(disk: Disk, options: CarveOptions = {}): AsyncGenerator<Find> {
  const carving = new Carving(disk);
  const tell = (pass: CarveProgress["pass"], done: number) => options.onProgress?.({ pass, done, total: disk.size, found: carving.found });
  for await (const { hits, done } of search(disk, [BEGIN, END, API_VERSION])) {
    for (const { needle, offset } of hits) yield* carving.look(needle, offset);
    tell("search", done);
  }
  yield* carving.joinedPems();
  if (carving.needsPieces()) {
    for await (const { hits, done } of search(disk, TAIL_NEEDLES)) {
      for (const { offset } of hits) yield* carving.joinedYaml(offset);
      tell("pieces", done);
    }
  }
  yield* carving.leftovers();
}

type PemHead = CutPem & { offset: number };

class Carving {
  found = 0;
  readonly #disk: Disk;
  /** Of every content, to give each once. */
  readonly #seen = new Set<number | bigint>();
  #pemEnd = 0;
  #yamlEnd = 0;
  #tailEnd = 0;
  readonly #pemHeads: PemHead[] = [];
  /** END lines without their beginning: label, and offset within a block → where they lie. */
  readonly #ends = new Map<string, number[]>();
  #yamlHeads: YamlHead[] = [];
  #cut: Find[] = [];

  constructor(disk: Disk) {
    this.#disk = disk;
  }

  /** What a word that was met belongs to. */
  *look(needle: string, offset: number): Generator<Find> {
    if (needle === BEGIN) yield* this.#begin(offset);
    else if (needle === END) this.#end(offset);
    else yield* this.#yaml(offset);
  }

  /** Keys and certificates in two pieces: the first tells where in its block the END line of the second must lie. */
  *joinedPems(): Generator<Find> {
    for (const head of this.#pemHeads) {
      const ends = this.#ends.get(`${head.label} ${(head.offset + head.reach) % BLOCK}`) ?? [];
      const found = joinPems(this.#disk, head, ends).flatMap(({ block, joined }) => this.#fromPem(block, { offset: head.offset, joined }));
      yield* found.filter((find) => find.kind !== "cut");
      if (found.every((find) => find.kind === "cut")) this.#noteCut(head.label, head.offset);
    }
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
      const whole = joinYaml(head, tail);
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
      yield* this.#fromPem(block, { offset });
    } else if (this.#isNew(this.#disk.read(offset, block.sound))) this.#pemHeads.push({ ...block, offset });
  }

  #end(offset: number) {
    if (offset < this.#pemEnd) return;
    const label = /^-----END ([A-Z ]+)-----/.exec(this.#disk.read(offset, 40).toString("latin1"))?.[1] ?? "";
    if (!LABELS[label]) return;
    const place = `${label} ${offset % BLOCK}`;
    const others = this.#ends.get(place);
    others ? others.push(offset) : this.#ends.set(place, [offset]);
  }

  *#yaml(offset: number): Generator<Find> {
    if (offset < this.#yamlEnd) return;
    const from = Math.max(0, offset - BEFORE);
    const bytes = this.#disk.read(from, offset - from + AFTER);
    let partly: [YamlText, Judgement] | undefined;
    let longest: YamlText | undefined;
    for (const candidate of yamlTexts(bytes, offset - from, from)) {
      longest ??= candidate;
      if (!kindIn(candidate.text)) break;
      const judgement = judge(candidate.text, candidate.ended);
      if (isComplete(judgement)) {
        this.#yamlEnd = offset + candidate.after;
        return yield* this.#fromYaml(candidate.text, judgement, { offset: offset - candidate.before });
      }
      if (judgement && (!partly || partly[1] === "cut")) partly = [candidate, judgement];
    }
    if (partly) yield* this.#partly(partly, longest!, offset);
  }

  /** A text whose end was not found: a piece of it may lie elsewhere. */
  *#partly([candidate, judgement]: [YamlText, Judgement], longest: YamlText, offset: number): Generator<Find> {
    const start = offset - candidate.before;
    this.#yamlEnd = offset + candidate.after;
    if (judgement !== "cut") yield* this.#fromYaml(candidate.text, judgement, { offset: start });
    const head = {
      what: kindIn(candidate.text)!,
      offset: start,
      bytes: Buffer.from(this.#disk.read(start, longest.before + longest.after)),
    };
    if (!this.#isNew(head.bytes)) return;
    if (/certificate-authority-data: LS0t|^ {2}namespace: kube-system\s*$/m.test(candidate.text)) this.#yamlHeads.push(head);
    else if (judgement === "cut") this.#noteCut(head.what, start);
  }

  #fromPem({ label, pem }: PemBlock, place: { offset: number; joined?: number }): Find[] {
    if (!this.#isNew(pem)) return [];
    const find = pemFind(label, pem, place);
    if (find) this.found++;
    else if (LABELS[label] === "private key") this.#noteCut(label, place.offset);
    return find ? [find] : [];
  }

  *#fromYaml(text: string, judgement: Judgement, place: { offset: number; joined?: number }): Generator<Find> {
    if (!judgement || judgement === "cut" || !this.#isNew(text)) return;
    this.found++;
    yield { ...judgement, text, ...place };
  }

  #noteCut(what: string, offset: number) {
    if (LABELS[what] !== "certificate" && LABELS[what] !== "public key") this.#cut.push({ kind: "cut", what, offset });
  }

  #isNew(content: string | Uint8Array): boolean {
    const hash = Bun.hash(content);
    if (this.#seen.has(hash)) return false;
    this.#seen.add(hash);
    return true;
  }
}

function pemFind(label: string, pem: string, place: { offset: number; joined?: number }): Find | undefined {
  const kind = LABELS[label]!;
  if (kind === "certificate") {
    const info = orUndefined(() => certInfo(pem));
    return info && { kind, pem, info, ...place };
  }
  const key = kind === "private key" ? provenKey(pem)?.publicKey : orUndefined(() => createPublicKey(pem));
  return key && { kind, pem, publicKeyHash: hashOf(key), ...place };
}

function hashOf(key: KeyObject): string {
  return `sha256:${createHash("sha256")
    .update(key.export({ type: "spki", format: "der" }))
    .digest("hex")}`;
}

function isComplete(judgement: Judgement): boolean {
  return judgement !== undefined && judgement !== "cut" && (judgement.kind === "kubeconfig" || judgement.complete);
}
