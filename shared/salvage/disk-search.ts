/**
 * Rung 3: searches a disk's blocks for the lost keys, and all else that may be of a deleted /etc/kubernetes: deleted
 * files lie in free blocks until they are overwritten. A key is proved by signing. One in two pieces is joined; an
 * encryption configuration has to be whole. Writes nothing to the disk, and reads it once. Whoever has a volume on that
 * disk can have laid out the finds: see evidence/sources.ts.
 */

import { Budget } from "../budget.ts";
import { privateKeyOf } from "../pki/certificate.ts";
import { CERTS } from "../pki/certs.ts";
import { formatNumber, Progress } from "../progress.ts";
import { say } from "../run.ts";
import { Assembler, WORDS } from "./disk/assembler.ts";
import { Disk, deviceOf } from "./disk/disk.ts";
import type { CertificateFind, ConfigFind, Find, PrivateKeyFind } from "./disk/pem-block.ts";
import type { FoundKeys } from "./found-keys.ts";

/**
 * The device that /etc/kubernetes was on. Warns of what makes a find less likely. Errors: Fail if there is none to
 * read.
 */
export async function ownDevice(): Promise<string> {
  const { path, warnings } = await deviceOf("/etc/kubernetes");
  for (const warning of warnings) say(`warning: ${warning}`);
  return path;
}

/** Finds of a search beside the keys that were taken. Nothing proves them. */
export interface DiskFound {
  path: string;
  /** CAs of which the cluster knows nothing, each with a key that belongs to it. */
  pairs: { name: string; cert: CertificateFind; key: PrivateKeyFind }[];
  configs: ConfigFind[];
}

/** Default of `minutes`; and the maximum of bytes that are read of a disk. */
export const DISK_MINUTES = 240;
const MOST_BYTES = 64e12;

/**
 * The most that is kept of what a stranger can lay out in any number: bytes of configurations, and a number
 * of keys and of certificates.
 */
const MOST_TEXT = 64e6;
const MOST_PEMS = 10_000;

/**
 * Each key goes to `foundKeys` as soon as it is met, so none is lost, whatever ends the search. Errors: Fail where
 * the disk cannot be read, or the search ended early.
 */
export async function searchDisk(
  path: string,
  foundKeys: FoundKeys,
  found: DiskFound,
  { minutes = DISK_MINUTES, stop }: { minutes?: number | undefined; stop?: AbortSignal | undefined } = {},
) {
  using disk = new Disk(path);
  found.path = path;
  const hint =
    "give it more time with --minutes, or read an image of the disk on another machine: --image FILE";
  const budget = new Budget({ what: path, seconds: minutes * 60, bytes: MOST_BYTES, stop, hint });
  const keep = new Keep(found, foundKeys);
  const began = performance.now();
  say(`${path}: ${Math.round(disk.size / 1e6)} MB to read, for ${minutes} min at most`);
  try {
    for await (const find of carve(disk, { onProgress: progressOf(disk), budget })) {
      if (find.kind === "private key") foundKeys.accept(privateKeyOf(find.pem), `blocks of ${path}`);
      keep.add(find);
    }
  } finally {
    found.pairs = keep.pairs();
    say(`${path}: read for ${((performance.now() - began) / 1000).toFixed(1)} s, ${keep.counted()}`);
    if (disk.unreadable > 0) say(`warning: ${disk.unreadable} bytes of ${path} cannot be read`);
    if (keep.dropped > 0)
      say(
        `warning: ${formatNumber(keep.dropped)} more encryption configurations of ${path} are not saved: somebody may have filled the disk with them`,
      );
  }
}

export function nothingFound(): DiskFound {
  return { path: "", pairs: [], configs: [] };
}

class Keep {
  readonly #found: DiskFound;
  readonly #counts = new Map<string, number>();
  readonly #keys = new Map<string, PrivateKeyFind>();
  readonly #cas: CertificateFind[] = [];
  /** Subjects, as kubeadm names them, of CAs of which the cluster knows nothing. */
  readonly #unknown: { name: string; cn: string }[];
  #text = 0;
  /** Number of further configurations that were found, and not kept. */
  dropped = 0;

  constructor(found: DiskFound, foundKeys: FoundKeys) {
    this.#found = found;
    const names = new Set(
      foundKeys.wanted.flatMap(({ name, generations }) => (generations.length === 0 ? [name] : [])),
    );
    this.#unknown = CERTS.flatMap(({ file, shared, cn }) =>
      shared && names.has(file) ? [{ name: file, cn: String(cn) }] : [],
    );
  }

  add(find: Find) {
    this.#counts.set(find.kind, (this.#counts.get(find.kind) ?? 0) + 1);
    if (find.kind === "private key" && this.#unknown.length > 0 && this.#keys.size < MOST_PEMS)
      this.#keys.set(find.publicKeyHash, find);
    if (find.kind === "certificate" && find.info.isCa && this.#cas.length < MOST_PEMS) this.#cas.push(find);
    if (find.kind !== "config") return;
    this.#text += find.text.length;
    if (this.#text <= MOST_TEXT) this.#found.configs.push(find);
    else this.dropped++;
  }

  pairs(): DiskFound["pairs"] {
    return this.#unknown.flatMap(({ name, cn }) =>
      this.#cas.flatMap((cert) => {
        const key = cert.info.cn === cn ? this.#keys.get(cert.info.publicKeyHash) : undefined;
        return key ? [{ name, cert, key }] : [];
      }),
    );
  }

  /** "11 private keys, 9 certificates, 4 manifests" */
  counted(): string {
    const kinds = [...this.#counts].map(([kind, n]) => {
      const word = kind === "config" ? "configuration" : kind;
      return `${formatNumber(n)} ${kind === "cut" ? "cut off" : n === 1 ? word : `${word}s`}`;
    });
    return kinds.join(", ") || "nothing found";
  }
}

/** How far the search is, in bytes, and how much it has found. */
type OnProgress = (done: number, found: number) => void;

function progressOf(disk: Disk): OnProgress {
  const megabytes = (bytes: number) => Math.floor(bytes / 1e6);
  const line = new Progress(`reading ${disk.path}`, megabytes(disk.size), process.stderr.isTTY, "MB");
  return (done, found) => {
    line.show(megabytes(done), `${found} found`);
    if (done === disk.size) line.clear();
  };
}

/** The most words that are still looked at, in what was read when the time ends. */
const MOST_LATE = 256;

/** Yields the finds in the order of the disk, each content once, and incomplete files at the end. Errors: Fail when the time is over. */
export async function* carve(
  disk: Disk,
  { onProgress, budget }: { onProgress?: OnProgress; budget?: Budget } = {},
): AsyncGenerator<Find> {
  const files = new Assembler(disk, budget);
  let [read, late] = [0, 0];
  for await (const { hits, done } of search(disk, WORDS)) {
    for (const { needle, offset } of hits) {
      // a stranger may have filled all that was read
      if (budget?.over() && late++ === MOST_LATE) budget.ask();
      yield* files.look(needle, offset);
    }
    onProgress?.(done, files.found);
    budget?.spend(done - read);
    read = done;
  }
  yield* files.joinedPems();
  for (const line of files.skipped()) say(`warning: ${line}`);
  yield* files.leftovers();
}

/**
 * Where some words (ASCII) are on a disk: the hits of one part after the other, in order, and how far the
 * disk is searched. Every byte is searched: a file is found whatever lies before it, and wherever it begins.
 * While the hits of a part are looked at, `disk.read` has it and what surrounds it in memory.
 */
export async function* search(disk: Disk, needles: readonly string[]) {
  const overlap = Math.max(...needles.map((needle) => needle.length)) - 1;
  let done = 0;
  for await (const { offset, bytes } of disk.parts(overlap)) {
    const hits: { needle: string; offset: number }[] = [];
    for (const needle of needles) {
      const first = Math.max(0, done - offset - needle.length + 1);
      for (let at = bytes.indexOf(needle, first); at >= 0; at = bytes.indexOf(needle, at + 1))
        hits.push({ needle, offset: offset + at });
    }
    done = offset + bytes.length;
    yield { hits: hits.sort((a, b) => a.offset - b.offset), done };
  }
}
