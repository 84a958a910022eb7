/**
 * The private keys that the searches have found so far, each proved by a public key that the cluster knows.
 * Those that are not in their places yet are in a folder of /dev/shm: that is memory, so nothing of the disk is
 * overwritten. A run that is cut off loses nothing: the next one takes the keys from there.
 */
import type { KeyObject } from "node:crypto";
import { lstatSync, mkdirSync, rmSync, statfsSync } from "node:fs";
import { attempt, Fail } from "../fail.ts";
import { hostEntry, hostPath, list, readText, stat, writeFile } from "../files/files.ts";
import { gone } from "../files/untrusted-file.ts";
import { STASH } from "../node/rescue-folder.ts";
import { privateKeyOf, publicKeyHash, publicPem } from "../pki/certificate.ts";
import type { PkiPlace } from "../pki/certs.ts";
import { signs } from "../pki/keys.ts";
import { tokenVerifier } from "../pki/sa-keys.ts";
import { mode, say } from "../run.ts";
import {
  type Generation,
  generation,
  keyInPlace,
  kidOf,
  labelOf,
  type Target,
  type WantedKey,
} from "./wanted-keys.ts";

const IN_PLACE = "its place";

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

  /** `stash: false`: nothing is written anywhere, as a report only looks. */
  constructor(wanted: readonly WantedKey[], options: { stash?: boolean } = {}) {
    this.wanted = wanted;
    this.#stashes = options.stash ?? true;
  }

  /** All that was found of a key, those that can be the one in use first. */
  foundOf({ generations }: WantedKey): FoundKey[] {
    return generations.flatMap(({ hash }) => this.#found.get(hash) ?? []);
  }

  /** The place in which the key in use was found; undefined as long as it is missing. */
  placeOf(wanted: WantedKey): string | undefined {
    return this.#candidatesOf(wanted)[0]?.from;
  }

  /** Targets of a search: every generation of each key whose generation in use is not found. */
  targets(): Target[] {
    return this.missing().flatMap(({ generations }) =>
      generations.filter(({ hash }) => !this.#found.has(hash)),
    );
  }

  missing(): WantedKey[] {
    return this.wanted.filter((wanted) => this.#candidatesOf(wanted).length === 0);
  }

  /** Several found keys of which each can be the one in use: a person decides. */
  rivals(): FoundKey[][] {
    return this.#candidates().filter(({ length }) => length > 1);
  }

  #candidates(): FoundKey[][] {
    return this.wanted.map((wanted) => this.#candidatesOf(wanted));
  }

  #candidatesOf(wanted: WantedKey): FoundKey[] {
    return this.foundOf({ ...wanted, generations: wanted.generations.slice(0, wanted.candidates) });
  }

  /** Earlier ones where the one in use is missing, and those among which a person has to choose. */
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
      say(`${wanted.keyFile}: tokens name a key that is in ${from}, but it verifies none of them: not taken`);
      return false;
    }
    this.#found.set(hash, { wanted, generation: one, key, from });
    const isInUse = index < wanted.candidates;
    say(
      `${wanted.keyFile}: found in ${from}, proved by ${proof}${isInUse ? "" : "; the cluster uses a later one"}`,
    );
    if (this.#stashes && from !== STASH && from !== IN_PLACE)
      stashKey(`${wanted.name.replace("/", "-")}${index === 0 ? "" : `-${index}`}.key`, keyPem(key));
    return true;
  }

  /**
   * Learns a CA of which nothing else is known: a certificate proves the key beside it. Only from a place
   * that is proved itself.
   */
  learn(name: string, certPem: string, from: string) {
    const wanted = this.wanted.find((one) => one.name === name);
    const learned = wanted?.generations.length === 0 ? attempt(() => generation(certPem, [from])) : undefined;
    if (!learned || learned instanceof Fail) return;
    wanted!.generations.push(learned);
    wanted!.candidates = 1;
  }

  /** Keys that are in their places already, and what an earlier run left in the stash. */
  takeWhatIsHere(place: PkiPlace) {
    for (const wanted of this.wanted) {
      const key = keyInPlace(wanted, place);
      if (key) this.accept(key, IN_PLACE);
    }
    for (const key of stashedKeys()) this.accept(key, STASH);
  }

  /** Their names below pki/, of each wanted key whose one generation in use is found. */
  files(): Map<string, Uint8Array> {
    const chosen = this.#candidates().filter(({ length }) => length === 1);
    return new Map(
      chosen.flat().flatMap((found) => pairOf(found).map(([name, text]) => [name, Buffer.from(text)])),
    );
  }
}

/** A found key and its public half, by their names below pki/. */
export function pairOf({ wanted, generation: { text, whole }, key }: FoundKey): [string, string][] {
  const pem = keyPem(key);
  return [
    [wanted.keyFile, pem],
    [wanted.publicFile, whole ?? text ?? publicPem(pem)],
  ];
}

/**
 * The sources that name this key, and how many tokens it verifies, in words. Undefined: tokens name it, and it verifies
 * none of them.
 */
function proofOf({ from, tokens }: Generation, key: KeyObject): string | undefined {
  const names = from.join(", ");
  if (tokens.length === 0) return names;
  const verifies = tokenVerifier(publicPem(keyPem(key)));
  const signed = tokens.filter(verifies).length;
  return signed === 0 ? undefined : `${names}: it verifies ${signed} of ${tokens.length} tokens`;
}

/** The PEM that kubeadm writes: PKCS#1 for RSA, SEC1 for ECDSA. */
function keyPem(key: KeyObject): string {
  return String(key.export({ format: "pem", type: key.asymmetricKeyType === "rsa" ? "pkcs1" : "sec1" }));
}

/** Says how, where only an earlier one was found. Errors: Fail where several can be the one in use. */
export function refuseCompetingKeys(foundKeys: FoundKeys) {
  const [rivals = []] = foundKeys.rivals();
  const earlier = foundKeys.missing().flatMap((wanted) => foundKeys.foundOf(wanted));
  for (const one of earlier)
    say(`only an earlier ${one.wanted.keyFile} was found; if it is the one in use: ${howToTake(one)}`);
  if (rivals.length > 0)
    throw new Fail(
      `${rivals[0]!.wanted.keyFile}: ${rivals.length} were found, and each can be the one in use`,
      {
        hint: `choose one: ${rivals.map(howToTake).join(". Or ")}`,
      },
    );
}

/**
 * The operator's word is enough for the cluster CA and sa.key; any other key is taken from the rescue folder.
 * A kid may begin with "-".
 */
function howToTake({ wanted: { name }, generation }: FoundKey): string {
  const option = { sa: `--kid=${kidOf(generation.hash)}`, ca: `--from ${generation.hash}` }[name];
  return `${option ? `the same command with ${option}` : "its install lines above"} (${labelOf(generation)})`;
}

/** TMPFS_MAGIC, statfs(2). */
const TMPFS = 0x01021994;

export function stashedKeys(): KeyObject[] {
  const names = isOurs() ? list(STASH) : [];
  return names.flatMap((name) => attempt(() => [privateKeyOf(readText(`${STASH}/${name}`) ?? "")], []));
}

/** Writes nothing where /dev/shm is on a disk. */
function stashKey(file: string, pem: string) {
  if (!stat("/dev/shm") || statfsSync(hostPath("/dev/shm")).type !== TMPFS) return;
  // made in one step, so that nobody comes between the look and the making; what is there already has to be
  // ours
  if (!mode.dryRun) gone(() => mkdirSync(hostEntry(STASH), { mode: 0o700 }), ["EEXIST"]);
  if (!isOurs()) return say(`${STASH} belongs to another user: not used`);
  writeFile(`${STASH}/${file}`, pem, {
    mode: 0o600,
    folderMode: 0o700,
    note: "in memory, until all found keys are put back",
  });
}

/** After the keys are in their places, or the operator has stopped the search. */
export function dropStash() {
  if (isOurs()) rmSync(hostEntry(STASH), { recursive: true, force: true });
}

/** Whether the stash is a folder of our own, or can be made: everybody may make one of that name there. */
function isOurs(): boolean {
  const entry = lstatSync(hostEntry(STASH), { throwIfNoEntry: false });
  return !entry || (entry.isDirectory() && entry.uid === process.getuid?.() && (entry.mode & 0o077) === 0);
}
