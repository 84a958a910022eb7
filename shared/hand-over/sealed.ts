/**
 * One encrypted file in the age format (age-encryption.org/v1): Debian's `age` can open it, and we can open
 * files of `age`. All of it is decrypted and authenticated in memory before a byte of it is used.
 *
 * age proves that a file is complete and unchanged, not who made it: everybody who knows a recipient can
 * encrypt to it.
 */
import { armor, Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from "age-encryption";
import { Fail } from "../fail.ts";

/** The lock of a file: one passphrase, or any number of X25519 recipients (`age1…`). */
export type Lock = { passphrase: string } | { recipients: readonly string[] };

export type LockKind = "passphrase" | "recipients";

/** The key to a file: the passphrase, or the text of an identity file. */
export type Key = { passphrase: string } | { identityFile: string };

const ARMOR = "-----BEGIN AGE ENCRYPTED FILE-----";
const VERSION = "age-encryption.org/v1\n";

/** age's default work factor for passphrases: 2^18, about a second (C2SP age.md). */
const SCRYPT_LOG_N = 18;

export async function seal(
  content: Uint8Array,
  lock: Lock,
  options: { scryptLogN?: number | undefined } = {},
): Promise<Uint8Array> {
  return await encrypterFor(lock, options.scryptLogN).encrypt(content);
}

/**
 * The same for data that does not fit into memory. Errors: as `seal`, and those of `pieces`, while it is
 * read.
 */
export async function sealPieces(
  pieces: AsyncIterable<Uint8Array>,
  lock: Lock,
): Promise<AsyncIterable<Uint8Array>> {
  return await encrypterFor(lock).encrypt(streamOf(pieces));
}

function encrypterFor(lock: Lock, scryptLogN = SCRYPT_LOG_N): Encrypter {
  const encrypter = new Encrypter();
  if ("recipients" in lock) for (const recipient of lock.recipients) addRecipient(encrypter, recipient);
  else {
    encrypter.setScryptWorkFactor(scryptLogN);
    encrypter.setPassphrase(lock.passphrase);
  }
  return encrypter;
}

/** Errors: Fail if the key does not fit, or if the file is cut off, changed, or not in the age format. */
export async function open(file: Uint8Array, key: Key): Promise<Uint8Array> {
  const { raw, lockedWith } = readHeader(file);
  const decrypter = decrypterFor(key);
  try {
    return await decrypter.decrypt(raw);
  } catch (err) {
    throw whyNot(err, lockedWith);
  }
}

/**
 * The same for data that does not fit into memory: each piece is authenticated, and only the last one proves
 * that it is whole. `lockedWith`: `lockOf` its head. Errors: as `open`, also while it is read.
 */
export async function* openPieces(
  file: ReadableStream<Uint8Array>,
  key: Key,
  lockedWith: LockKind,
): AsyncGenerator<Uint8Array> {
  const decrypter = decrypterFor(key);
  try {
    yield* await decrypter.decrypt(file);
  } catch (err) {
    throw whyNot(err, lockedWith);
  }
}

function decrypterFor(key: Key): Decrypter {
  const decrypter = new Decrypter();
  if ("passphrase" in key) decrypter.addPassphrase(key.passphrase);
  else for (const identity of identitiesIn(key.identityFile)) addIdentity(decrypter, identity);
  return decrypter;
}

function streamOf(pieces: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  const iterator = pieces[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      const { value, done } = await iterator.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
}

/** Its header tells. Errors: Fail if it is not in the age format, or ends inside its header. */
export function lockOf(file: Uint8Array): LockKind {
  return readHeader(file).lockedWith;
}

/** Errors: Fail unless all of them are X25519 recipients. The message never repeats a secret key. */
export function recipientsIn(texts: readonly string[]): string[] {
  const recipients = texts.flatMap((text) => text.split(",")).filter(Boolean);
  for (const recipient of recipients) addRecipient(new Encrypter(), recipient);
  return recipients;
}

/** The text of a new identity file. It holds a secret key. */
export async function newIdentity(): Promise<string> {
  return `${await generateX25519Identity()}\n`;
}

/** Errors: Fail if it is not an identity file. */
export async function recipientsOf(identityFile: string): Promise<string[]> {
  const identities = identitiesIn(identityFile);
  for (const identity of identities.length > 0 ? identities : [""]) addIdentity(new Decrypter(), identity);
  return await Promise.all(identities.map((identity) => identityToRecipient(identity)));
}

function addRecipient(encrypter: Encrypter, recipient: string) {
  const hint = "print the recipient, which begins with age1: age-keygen -y IDENTITY-FILE";
  if (/^AGE-SECRET-KEY/i.test(recipient))
    throw new Fail("A secret key was given where a recipient belongs", { hint });
  // X25519 only: not every age tool can use the other kinds (age1pq1…, age1tag1…, plugins)
  if (!/^age1[02-9ac-hj-np-z]{58}$/.test(recipient))
    throw new Fail(`"${recipient}" is not an age recipient (X25519)`, { hint });
  try {
    encrypter.addRecipient(recipient);
  } catch (err) {
    throw new Fail(`"${recipient}" is not an age recipient: a letter in it is wrong`, { hint, cause: err });
  }
}

/** The secret keys of an identity file as `age-keygen` writes it; lines with # are comments. */
function identitiesIn(text: string): string[] {
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  return lines.filter((line) => line !== "" && !line.startsWith("#"));
}

/** The message never repeats the line: it is a secret. */
function addIdentity(decrypter: Decrypter, identity: string) {
  try {
    decrypter.addIdentity(identity);
  } catch (err) {
    throw new Fail("The identity file holds something other than age secret keys", {
      hint: "use a file that age-keygen wrote; for SSH keys and encrypted identities use age itself: age -d -i FILE",
      cause: err,
    });
  }
}

function readHeader(file: Uint8Array): { raw: Uint8Array; lockedWith: LockKind } {
  const raw = unarmored(file);
  const text = Buffer.from(raw).toString("latin1");
  if (!text.startsWith(VERSION)) {
    throw new Fail("This is no file in the age format", {
      hint: "take the file that pack wrote: its first line is age-encryption.org/v1",
    });
  }
  const stanzas = [...text.split(/^--- /m, 1)[0]!.matchAll(/^-> (\S+)/gm)].map((match) => match[1]);
  if (!/^--- /m.test(text) || stanzas.length === 0) throw damaged();
  return { raw, lockedWith: stanzas.includes("scrypt") ? "passphrase" : "recipients" };
}

function unarmored(file: Uint8Array): Uint8Array {
  const text = Buffer.from(file).toString("latin1");
  if (!text.trimStart().startsWith(ARMOR)) return file;
  try {
    return armor.decode(text);
  } catch (err) {
    throw damaged(err);
  }
}

/** The messages are age-encryption's own; the tests check them with the pinned version. */
function whyNot(err: unknown, lockedWith: LockKind): Fail {
  const message = err instanceof Error ? err.message : String(err);
  if (message.startsWith("no identity matched")) return wrongKey(lockedWith, err);
  if (!message.includes("work factor")) return damaged(err);
  return new Fail("The passphrase of this file would take too long to try: its work factor is above 2^20", {
    hint: "open the file with age itself, if somebody you know has made it: age -d FILE",
    cause: err,
  });
}

function wrongKey(lockedWith: LockKind, cause: unknown): Fail {
  if (lockedWith === "passphrase") {
    return new Fail("The passphrase does not open this file", {
      hint: "type the passphrase again. If the passphrase is certainly right, the file's beginning is damaged: compare the file's sha256sum with the original's",
      cause,
    });
  }
  return new Fail("None of these identities opens this file: it was packed for other recipients", {
    hint: "see which recipient it was packed for; age-keygen -y IDENTITY-FILE prints the recipient of an identity",
    cause,
  });
}

function damaged(cause?: unknown): Fail {
  return new Fail("The file is damaged: it was cut off or changed while it was copied", {
    hint: "compare the file's sha256sum with the original's, and copy the file again; nothing was unpacked",
    cause,
  });
}
