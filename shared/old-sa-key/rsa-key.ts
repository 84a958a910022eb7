/**
 * An RSA public key from two tokens that its private key signed: N divides s^e - m for each, where s is the
 * signature and m the padded hash (RFC 8017 §9.2), and two such numbers have hardly anything else in common.
 * e is 65537, as in every key that kubeadm makes; of RSA-2048 the numbers have 134 million bits each. No
 * shorter way is known: e times the key's length is about the smallest multiple of N that can be written
 * down.
 */
import { createHash, createPublicKey } from "node:crypto";
import { base64url, type Jwt, numberOf } from "../pki/sa-keys.ts";
import { bitLength, type Gone, gcd } from "./half-gcd.ts";

/** Go's and openssl's default, and kubeadm's. */
const EXPONENT = 65537;

/** ASN.1 in front of a SHA-256 hash (RFC 8017 §9.2, note 1). */
const SHA256_INFO = "3031300d060960864801650304020105000420";

/**
 * Two such numbers share a small factor now and then, above all 2. Factors below this are taken out (a larger
 * one: once in a million).
 */
const SMALL = 1_000_000n;

/**
 * Bytes of a signature: a SHA-256 hash needs 62, and beyond RSA-4096 the numbers no longer fit a control
 * plane node's memory.
 */
const [SHORTEST, LONGEST] = [64, 512];

/**
 * Bytes of memory for each byte of one of the two numbers. Measured in cgroups, with all of Bun: 194 MB for
 * RSA-1024, 323 MB for RSA-2048, 552 MB for RSA-4096. That is 16 for each byte, and half as much again as a
 * reserve.
 */
const MEMORY = 24;

/** Bytes of memory needed to compute a key whose signatures have so many bytes. */
export function rsaMemory(signature: number, { exponent = EXPONENT }: RsaOptions = {}): number {
  return signature <= LONGEST ? signature * exponent * MEMORY : 0;
}

export interface RsaOptions {
  /** Tests set a small one to save time. */
  exponent?: number;
  /** Called with the bits done and their total. */
  progress?: (done: number, total: number) => void;
}

/**
 * The key that signed both RS256 tokens, in PEM; none if no key can have signed both. Takes a minute for
 * RSA-2048, and memory as `rsaMemory`.
 */
export function rsaKey(
  one: Jwt,
  other: Jwt,
  { exponent = EXPONENT, progress = () => {} }: RsaOptions = {},
): string[] {
  const bytes = one.signature.length;
  if (other.signature.length !== bytes || bytes < SHORTEST || bytes > LONGEST) return [];
  const keyBits = bytes * 8;
  const total = keyBits * exponent;
  const report: Gone = (bits) => progress(Math.min(bits, total), total);
  const common = withoutSmallFactors(
    gcd(multipleOfN(one, exponent), multipleOfN(other, exponent), report),
    keyBits,
  );
  progress(total, total);
  if (bitLength(common, keyBits * 2) !== keyBits) return [];
  const jwk = { kty: "RSA", n: base64url(common), e: base64url(BigInt(exponent)) };
  return [String(createPublicKey({ key: jwk, format: "jwk" }).export({ type: "spki", format: "pem" }))];
}

function multipleOfN({ signed, signature }: Jwt, exponent: number): bigint {
  const power = numberOf(signature) ** BigInt(exponent);
  const difference = power - numberOf(padded(signed, signature.length));
  return difference < 0n ? -difference : difference;
}

/** EMSA-PKCS1-v1_5 with SHA-256: 00 01 FF … FF 00, then the hash and what it is. */
function padded(signed: string, length: number): Buffer {
  const end = Buffer.concat([Buffer.from(SHA256_INFO, "hex"), createHash("sha256").update(signed).digest()]);
  return Buffer.concat([
    Buffer.from([0, 1]),
    Buffer.alloc(length - end.length - 3, 0xff),
    Buffer.from([0]),
    end,
  ]);
}

/** N has exactly as many bits as its signatures: whatever is longer has factors besides it. */
function withoutSmallFactors(number: bigint, keyBits: number): bigint {
  const longer = () => number >> BigInt(keyBits) !== 0n;
  for (let factor = 2n; factor < SMALL && longer(); factor++)
    while (longer() && number % factor === 0n) number /= factor;
  return number;
}
