/**
 * What a search has brought so far: private keys, each proved by a public key that the cluster is known by. Until all of it goes into its place,
 * the keys lie in memory, and in a folder of /dev/shm (memory as well), so that a lost connection does not lose them: the next run takes
 * them from there.
 */
import { type KeyObject, sign, verify } from "node:crypto";
import { lstatSync, rmSync, statfsSync } from "node:fs";
import { Fail } from "../fail.ts";
import { hostEntry, hostPath, list, readText, stat, writeFile } from "../files/files.ts";
import { privateKeyOf, publicKeyHash, publicPem } from "../pki/certificate.ts";
import { attempt } from "../pki/verdicts.ts";
import { say } from "../run.ts";
import type { Target } from "./memory/memory.ts";
import { generation, keyInPlace, type Wanted } from "./wanted.ts";

/** Keys on their way; 0700, its files 0600. */
export const STASH = "/dev/shm/kube-pki-repair-salvage";

const IN_PLACE = "its place";

/** TMPFS_MAGIC, statfs(2). */
const TMPFS = 0x01021994;

export class Haul {
  readonly #found = new Map<string, KeyObject>();

  readonly #from = new Map<string, string>();

  readonly wanted: readonly Wanted[];
  readonly #stashes: boolean;

  /** `stash: false`: nothing is written anywhere; whoever only looks loses nothing that is not found again. */
  constructor(wanted: readonly Wanted[], options: { stash?: boolean } = {}) {
    this.wanted = wanted;
    this.#stashes = options.stash ?? true;
  }

  /** Where the key in use was found; undefined as long as it is missing. */
  placeOf({ generations }: Wanted): string | undefined {
    return generations[0] && this.#from.get(generations[0].hash);
  }

  /** What is still to be searched for: every generation of each key whose generation in use is not found. */
  targets(): Target[] {
    return this.missing().flatMap(({ generations }) => generations.filter(({ hash }) => !this.#found.has(hash)));
  }

  /** Keys of which the one in use is not found. */
  missing(): Wanted[] {
    return this.wanted.filter(({ generations }) => !generations[0] || !this.#found.has(generations[0].hash));
  }

  /** Takes a key if it is one of the wanted, and says so; returns whether it is. */
  accept(key: KeyObject, from: string): boolean {
    const hash = publicKeyHash(key);
    const wanted = this.wanted.find(({ generations }) => generations.some((one) => one.hash === hash));
    if (!wanted || this.#found.has(hash) || !signs(key)) return false;
    this.#found.set(hash, key);
    this.#from.set(hash, from);
    const index = wanted.generations.findIndex((one) => one.hash === hash);
    const proof = `proved by ${wanted.generations[index]!.from.join(", ")}`;
    say(`${wanted.keyFile}: found in ${from}, ${proof}${index === 0 ? "" : "; the cluster uses a later one"}`);
    if (this.#stashes && from !== STASH && from !== IN_PLACE)
      stash(`${wanted.name.replace("/", "-")}${index === 0 ? "" : `-earlier-${index}`}.key`, key);
    return true;
  }

  /** A certificate that came with its key, for an authority of which nothing else is known. */
  learn(name: string, certPem: string, from: string) {
    const wanted = this.wanted.find((one) => one.name === name);
    const learned = wanted?.generations.length === 0 ? attempt(() => generation(certPem, [from])) : undefined;
    if (learned && !(learned instanceof Fail)) wanted!.generations.push(learned);
  }

  /** Keys that are in their places already, and what an earlier run left in the stash. */
  takeWhatIsHere(certificatesDir: string) {
    for (const wanted of this.wanted) {
      const key = keyInPlace(wanted, certificatesDir);
      if (key) this.accept(key, IN_PLACE);
    }
    for (const name of list(STASH)) {
      const key = attempt(() => privateKeyOf(readText(`${STASH}/${name}`) ?? ""));
      if (!(key instanceof Fail)) this.accept(key, STASH);
    }
  }

  /** Of each wanted key whose generation in use is found: the files, by their names below pki/. */
  files(): Map<string, Uint8Array> {
    const files = new Map<string, Uint8Array>();
    for (const { generations, keyFile, publicFile } of this.wanted) {
      const key = generations[0] && this.#found.get(generations[0].hash);
      if (!key) continue;
      const pem = keyPem(key);
      files.set(keyFile, Buffer.from(pem));
      files.set(publicFile, Buffer.from(generations[0]!.text ?? publicPem(pem)));
    }
    return files;
  }
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
  rmSync(hostEntry(STASH), { recursive: true, force: true });
}

/** Not where /dev/shm is on a disk, or where somebody else has put something of that name there: everybody may. */
function stash(name: string, key: KeyObject) {
  if (!stat("/dev/shm") || statfsSync(hostPath("/dev/shm")).type !== TMPFS) return;
  const there = lstatSync(hostEntry(STASH), { throwIfNoEntry: false });
  if (there && !(there.isDirectory() && there.uid === process.getuid?.())) return say(`${STASH} is somebody else's: not used`);
  writeFile(`${STASH}/${name}`, keyPem(key), {
    mode: 0o600,
    folderMode: 0o700,
    note: "in memory, until all that is found goes into its place",
  });
}
