/**
 * The finds in free blocks, and how a PEM block is read there. Its first line says how long it has to be
 * (the length of a DER SEQUENCE). So a block that is cut off, or continues elsewhere, is recognised, and the
 * place of its END line is known to the byte. The second piece of a block is searched among all that could be one.
 */
import { createPrivateKey, createPublicKey } from "node:crypto";
import { type CertInfo, certInfo, orUndefined, publicKeyHash } from "../../pki/certificate.ts";
import { signs } from "../../pki/keys.ts";
import type { Disk } from "./disk.ts";

export const BEGIN = "-----BEGIN ";
export const END = "-----END ";

/** Nobody makes longer ones: RSA-16384 is 13 KB. */
export const LONGEST = 16 * 1024;

/** Bytes: two pieces of a file may meet at each multiple, as the smallest block of any file system has this size. */
export const BLOCK = 512;

/** Label → what it is. */
export const LABELS: Record<string, "private key" | "certificate" | "public key"> = {
  "RSA PRIVATE KEY": "private key",
  "EC PRIVATE KEY": "private key",
  "PRIVATE KEY": "private key",
  CERTIFICATE: "certificate",
  "PUBLIC KEY": "public key",
  "RSA PUBLIC KEY": "public key",
};

export interface PemBlock {
  label: string;
  /** From BEGIN to END, with a line's end. */
  pem: string;
  length: number;
}

/** A block whose END line is not where it has to be. */
export interface CutPem {
  label: string;
  /** From BEGIN to where its END line has to begin. */
  reach: number;
  /** Number of bytes that still look like it. */
  sound: number;
}

const HEAD = /^-----BEGIN ([A-Z ]{10,16})-----(\r?\n)([A-Za-z0-9+/]{8,}={0,2})(\r?\n)/;
const LINE = /^[A-Za-z0-9+/]+={0,2}\r?\n$/;

/** The block that begins here, whole or cut; undefined if it is none of ours. */
export function pemAt(bytes: Buffer): PemBlock | CutPem | undefined {
  const [all, label = "", newline = "", line = "", lineEnd] =
    HEAD.exec(bytes.toString("latin1", 0, 256)) ?? [];
  if (!all || !Object.hasOwn(LABELS, label) || newline !== lineEnd) return undefined;
  const size = derSize(line);
  if (size === undefined) return undefined;
  const start = all.length - line.length - newline.length;
  const chars = 4 * Math.ceil(size / 3);
  const reach = start + chars + Math.ceil(chars / line.length) * newline.length;
  if (reach > LONGEST) return undefined;
  const text = bytes.toString("latin1", 0, reach + END.length + label.length + 5);
  return (
    wholePem(text, label, reach) ?? {
      label,
      reach,
      sound: soundLength(text, { start, reach, line: line.length + newline.length }),
    }
  );
}

/** A block from a text that begins with it, when its END line lies at `reach`. */
function wholePem(text: string, label: string, reach: number): PemBlock | undefined {
  const end = `${END}${label}-----`;
  if (!text.startsWith(end, reach)) return undefined;
  const pem = `${text.slice(0, reach + end.length).replaceAll("\r", "")}\n`;
  if (!/^[A-Za-z0-9+/=\n]*$/.test(pem.slice(`${BEGIN}${label}-----`.length, -end.length - 1)))
    return undefined;
  return { label, pem, length: reach + end.length };
}

/**
 * A private key that is whole. A partly overwritten one may still be readable, and even sign. Every number of an RSA
 * key follows from the others (RFC 8017, 3.2), and the library that reads it checks them all (BoringSSL, RSA_check_key).
 */
export function provenKey(pem: string) {
  const key = orUndefined(() => createPrivateKey(pem));
  if (!key) return undefined;
  const publicKey = createPublicKey(key);
  const proved = key.asymmetricKeyType === "rsa" || orUndefined(() => signs(key, publicKey));
  return proved ? { key, publicKey } : undefined;
}

/** How many bytes a DER SEQUENCE takes, its own head included. */
function derSize(line: string): number | undefined {
  const der = Buffer.from(line.slice(0, 8), "base64");
  if (der[0] !== 0x30) return undefined;
  const first = der[1]!;
  if (first < 0x80) return 2 + first;
  const count = first & 0x7f;
  return count >= 1 && count <= 3 ? 2 + count + der.readUIntBE(2, count) : undefined;
}

/** The first wrong line included: the cut may be in its middle. */
function soundLength(
  text: string,
  { start, reach, line }: { start: number; reach: number; line: number },
): number {
  let at = start;
  while (at < reach && LINE.test(text.slice(at, Math.min(at + line, reach)))) at += line;
  return Math.min(reach, at + line);
}

/**
 * So many END lines are tried for a cut block: a file's pieces are near each other, and a stranger may lay
 * out any number of ends.
 */
const MOST_ENDS = 64;

/** The nearest first; `joined` is where the second piece begins. */
export function joinPems(disk: Disk, head: CutPem & { offset: number }, ends: readonly number[]) {
  const first = disk.read(head.offset, head.sound).toString("latin1");
  const tailOf = (end: number, border: number) => end - (head.offset + head.reach - border);
  const distance = (end: number) => Math.abs(end - head.offset);
  const isMany = ends.length > MOST_ENDS;
  // `ends` are in the order of the disk
  const nearest = isMany ? ends.toSorted((a, b) => distance(a) - distance(b)).slice(0, MOST_ENDS) : ends;
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

/** All borders of blocks after `from`, up to `to`. */
function bordersIn(from: number, to: number): number[] {
  const borders: number[] = [];
  for (let at = (Math.floor(from / BLOCK) + 1) * BLOCK; at <= to; at += BLOCK) borders.push(at);
  return borders;
}

/** Offsets are bytes from the beginning of the disk. */
interface Place {
  offset: number;
  /** The place of the second piece of a key or a certificate in two pieces. */
  joined?: number;
}

/** `publicKeyHash` is "sha256:<hex of the SPKI's DER>", as in CertInfo. */
interface KeyFind<Kind> extends Place {
  kind: Kind;
  pem: string;
  publicKeyHash: string;
}

/** Proved: its public half verifies what it signs. */
export type PrivateKeyFind = KeyFind<"private key">;
type PublicKeyFind = KeyFind<"public key">;

export interface CertificateFind extends Place {
  kind: "certificate";
  pem: string;
  info: CertInfo;
}

/** An EncryptionConfiguration, whole. Nothing proves it but what it opens. */
export interface ConfigFind extends Place {
  kind: "config";
  text: string;
}

/** Overwritten, or its second piece was not found. `what` is its PEM label. */
export interface CutFind extends Place {
  kind: "cut";
  what: string;
}

export type Find = PrivateKeyFind | PublicKeyFind | CertificateFind | ConfigFind | CutFind;
export type PemFind = PrivateKeyFind | PublicKeyFind | CertificateFind;

/** The find in a whole block of PEM; undefined if it is not what its label says. */
export function pemFind(label: string, pem: string, place: Place): PemFind | undefined {
  const kind = LABELS[label]!;
  if (kind === "certificate") {
    const info = orUndefined(() => certInfo(pem));
    return info && { kind, pem, info, ...place };
  }
  const key = kind === "private key" ? provenKey(pem)?.publicKey : orUndefined(() => createPublicKey(pem));
  return key && { kind, pem, publicKeyHash: publicKeyHash(key), ...place };
}
