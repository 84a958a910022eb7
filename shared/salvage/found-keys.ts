/**
 * What a search has brought so far: private keys, each proved by a public key that the cluster is known by. Until all of it goes into its place,
 * the keys lie in memory, and in a folder of /dev/shm (memory as well), so that a lost connection does not lose them: the next run takes
 * them from there.
 */
import { type KeyObject, sign, verify } from "node:crypto";
import { lstatSync, mkdirSync, rmSync, statfsSync } from "node:fs";
import { attempt, Fail } from "../fail.ts";
import { hostEntry, hostPath, list, readText, stat, writeFile } from "../files/files.ts";
import { gone } from "../files/host-file.ts";
import { privateKeyOf, publicKeyHash, publicPem } from "../pki/certificate.ts";
import { tokenVerifier } from "../pki/tokens.ts";
import { mode, say } from "../run.ts";
import type { Target } from "./memory/memory.ts";
import { type Generation, generation, keyInPlace, type WantedKey } from "./wanted-keys.ts";

/** Keys on their way; 0700, its files 0600. */
export const STASH = "/dev/shm/kube-pki-repair-salvage";

const IN_PLACE = "its place";

/** TMPFS_MAGIC, statfs(2). */
const TMPFS = 0x01021994;

/** A generation whose private key was found. */
export interface FoundKey {
  wanted: WantedKey;
  generation: Generation;
  key: KeyObject;
  from: string;
}

export class FoundKeys {
  readonly #found = new Map<string, FoundKey>();

  readonly wanted: readonly WantedKey[];
  readonly #stashes: boolean;

  /** `stash: false`: nothing is written anywhere; whoever only looks loses nothing that is not found again. */
  constructor(wanted: readonly WantedKey[], options: { stash?: boolean } = {}) {
    this.wanted = wanted;
    this.#stashes = options.stash ?? true;
  }

  /** All that was found of a key, those that can be the one in use first. */
  foundOf({ generations }: WantedKey): FoundKey[] {
    return generations.flatMap(({ hash }) => this.#found.get(hash) ?? []);
  }

  /** Where the key in use was found; undefined as long as it is missing. */
  placeOf(wanted: WantedKey): string | undefined {
    return this.#candidatesOf(wanted)[0]?.from;
  }

  /** What is still to be searched for: every generation of each key whose generation in use is not found. */
  targets(): Target[] {
    return this.missing().flatMap(({ generations }) => generations.filter(({ hash }) => !this.#found.has(hash)));
  }

  /** Keys of which the one in use is not found. */
  missing(): WantedKey[] {
    return this.wanted.filter((wanted) => this.#candidatesOf(wanted).length === 0);
  }

  /** Keys of which several were found that can be the one in use: a person decides. */
  rivals(): FoundKey[][] {
    return this.wanted.map((wanted) => this.#candidatesOf(wanted)).filter(({ length }) => length > 1);
  }

  #candidatesOf(wanted: WantedKey): FoundKey[] {
    return this.foundOf({ ...wanted, generations: wanted.generations.slice(0, wanted.candidates) });
  }

  /** Found keys that are not put into their place: earlier ones where the one in use is missing, and those of which a person has to choose. */
  unchosen(): FoundKey[] {
    return [...this.missing().flatMap((wanted) => this.foundOf(wanted)), ...this.rivals().flat()];
  }

  /** Takes a key if it is one of the wanted, and says so; returns whether it is. */
  accept(key: KeyObject, from: string): boolean {
    const hash = publicKeyHash(key);
    const wanted = this.wanted.find(({ generations }) => generations.some((one) => one.hash === hash));
    if (!wanted || this.#found.has(hash) || !signs(key)) return false;
    const index = wanted.generations.findIndex((one) => one.hash === hash);
    const one = wanted.generations[index]!;
    const proof = proofOf(one, key);
    if (proof === undefined) {
      say(`${wanted.keyFile}: a key in ${from} has the name that tokens give, and verifies none of them: not taken`);
      return false;
    }
    this.#found.set(hash, { wanted, generation: one, key, from });
    const isInUse = index < wanted.candidates;
    say(`${wanted.keyFile}: found in ${from}, proved by ${proof}${isInUse ? "" : "; the cluster uses a later one"}`);
    if (this.#stashes && from !== STASH && from !== IN_PLACE)
      stash(`${wanted.name.replace("/", "-")}${index === 0 ? "" : `-${index}`}.key`, key);
    return true;
  }

  /** A certificate that came with its key out of a proved place, for a CA of which nothing else is known. */
  learn(name: string, certPem: string, from: string) {
    const wanted = this.wanted.find((one) => one.name === name);
    const learned = wanted?.generations.length === 0 ? attempt(() => generation(certPem, [from])) : undefined;
    if (!learned || learned instanceof Fail) return;
    wanted!.generations.push(learned);
    wanted!.candidates = 1;
  }

  /** Keys that are in their places already, and what an earlier run left in the stash. */
  takeWhatIsHere(certificatesDir: string) {
    for (const wanted of this.wanted) {
      const key = keyInPlace(wanted, certificatesDir);
      if (key) this.accept(key, IN_PLACE);
    }
    for (const name of isOurs() ? list(STASH) : []) {
      const key = attempt(() => privateKeyOf(readText(`${STASH}/${name}`) ?? ""));
      if (!(key instanceof Fail)) this.accept(key, STASH);
    }
  }

  /** Of each wanted key whose one generation in use is found: the files, by their names below pki/. */
  files(): Map<string, Uint8Array> {
    const files = new Map<string, Uint8Array>();
    for (const wanted of this.wanted) {
      const [found, ...others] = this.#candidatesOf(wanted);
      if (!found || others.length > 0) continue;
      for (const [name, text] of pairOf(found)) files.set(name, Buffer.from(text));
    }
    return files;
  }
}

/** A found key and its public half, by their names below pki/. */
export function pairOf({ wanted, generation: { text }, key }: FoundKey): [string, string][] {
  const pem = keyPem(key);
  return [
    [wanted.keyFile, pem],
    [wanted.publicFile, text ?? publicPem(pem)],
  ];
}

/** For the operator: who names this key, and how many of their tokens it verifies. Undefined: it verifies none of those that name it. */
function proofOf({ from, tokens }: Generation, key: KeyObject): string | undefined {
  const names = from.join(", ");
  if (tokens.length === 0) return names;
  const verifies = tokenVerifier(publicPem(keyPem(key)));
  const signed = tokens.filter(verifies).length;
  return signed === 0 ? undefined : `${names}: it verifies ${signed} of ${tokens.length} tokens`;
}

/** As kubeadm writes it: PKCS#1 for RSA, SEC1 for ECDSA. */
function keyPem(key: KeyObject): string {
  return String(key.export({ format: "pem", type: key.asymmetricKeyType === "rsa" ? "pkcs1" : "sec1" }));
}

/** Whether the private half does what the public half undoes. */
function signs(key: KeyObject): boolean {
  const text = Buffer.from("kube-pki-repair");
  return verify("sha256", text, publicPem(keyPem(key)), sign("sha256", text, key));
}

/** Removes the stash: its keys are in their places, or the operator has stopped the search. */
export function dropStash() {
  if (isOurs()) rmSync(hostEntry(STASH), { recursive: true, force: true });
}

/** Whether the stash is a folder of our own, or can be made: everybody may make one of that name there. */
function isOurs(): boolean {
  const there = lstatSync(hostEntry(STASH), { throwIfNoEntry: false });
  return !there || (there.isDirectory() && there.uid === process.getuid?.() && (there.mode & 0o077) === 0);
}

/** Not where /dev/shm is on a disk. */
function stash(name: string, key: KeyObject) {
  if (!stat("/dev/shm") || statfsSync(hostPath("/dev/shm")).type !== TMPFS) return;
  // made in one step, so that nobody comes between the look and the making; what is there already has to be ours
  if (!mode.dryRun) gone(() => mkdirSync(hostEntry(STASH), { mode: 0o700 }), ["EEXIST"]);
  if (!isOurs()) return say(`${STASH} is somebody else's: not used`);
  writeFile(`${STASH}/${name}`, keyPem(key), {
    mode: 0o600,
    folderMode: 0o700,
    note: "in memory, until all that is found goes into its place",
  });
}
