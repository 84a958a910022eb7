/** Finds RSA keys in memory: the modulus shows whether a number is one of its primes, and one prime gives the whole key. */
import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { spkiHash } from "../../pki/certificate.ts";
import { base64url, numberOf } from "../../pki/tokens.ts";
import { randomStretches } from "./limbs.ts";

/**
 * Primes of these public keys in these bytes. Both primes of a key have half its length and begin with √½ at least (FIPS 186-5 §A.1.1), so
 * a candidate is odd, and its highest byte is 0xb5 or more. `wanted` may shrink meanwhile: memory has a prime many times.
 */
export function* primesIn(bytes: Uint8Array, wanted: Iterable<PublicKey>): Generator<{ key: PublicKey; prime: bigint }> {
  for (const [size, keys] of Map.groupBy(wanted, ({ bytes }) => bytes)) {
    for (const at of numbers(bytes, size / 2, 0xb5)) {
      const prime = numberOf(bytes.slice(at, at + size / 2).reverse());
      const key = keys.find(({ modulus }) => modulus % prime === 0n);
      if (key) yield { key, prime };
    }
  }
}

export type PublicKey = ReturnType<typeof rsaPublicKey>;

/** `bytes`: the length of the modulus. */
export function rsaPublicKey(publicKey: KeyObject) {
  const modulus = Buffer.from((publicKey.export({ format: "jwk" }) as { n: string }).n, "base64url");
  return { publicKey, modulus: numberOf(modulus), bytes: modulus.length };
}

/** RSA moduli are this long, in bytes: kubeadm's RSA-2048, RSA-3072 and RSA-4096. */
const MODULUS_SIZES = [256, 384, 512] as const;

/**
 * Public keys in these bytes whose SubjectPublicKeyInfo has a wanted hash: a token names the key that signed it by this hash only.
 * A modulus is in memory as limbs wherever its private key is.
 */
export function* publicKeysByHash(bytes: Uint8Array, wanted: ReadonlySet<string>): Generator<KeyObject> {
  for (const size of MODULUS_SIZES) {
    for (const at of numbers(bytes, size, 0x80)) {
      const spki = spkiOf(Buffer.from(bytes.subarray(at, at + size)).reverse());
      if (wanted.has(spkiHash(spki))) yield createPublicKey({ key: spki, format: "der", type: "spki" });
    }
  }
}

/** The private key of a public one, from one of its primes. */
export function keyFromPrime({ publicKey, modulus, bytes }: PublicKey, p: bigint): KeyObject {
  const { n, e } = publicKey.export({ format: "jwk" }) as { n: string; e: string };
  const q = modulus / p;
  const d = inverse(numberOf(Buffer.from(e, "base64url")), (p - 1n) * (q - 1n));
  const half = bytes / 2;
  const jwk = {
    kty: "RSA",
    n,
    e,
    d: base64url(d, bytes),
    p: base64url(p, half),
    q: base64url(q, half),
    dp: base64url(d % (p - 1n), half),
    dq: base64url(d % (q - 1n), half),
    qi: base64url(inverse(q, p), half),
  };
  return createPrivateKey({ key: jwk, format: "jwk" });
}

/** Where numbers of `size` bytes may begin: odd, of full length, aligned as limbs are. */
function* numbers(bytes: Uint8Array, size: number, highest: number): Generator<number> {
  for (const { from, to } of randomStretches(bytes, size)) {
    for (let at = from; at + size <= to; at += 8) if (bytes[at]! & 1 && bytes[at + size - 1]! >= highest) yield at;
  }
}

/** SubjectPublicKeyInfo of a modulus with the exponent 65537, as Go's x509.MarshalPKIXPublicKey writes it (RFC 3279 §2.3.1). */
function spkiOf(modulus: Uint8Array): Buffer {
  const key = der(0x30, der(0x02, Buffer.from([0]), modulus), Buffer.from([0x02, 0x03, 0x01, 0x00, 0x01]));
  return der(0x30, RSA_ENCRYPTION, der(0x03, Buffer.from([0]), key));
}

const RSA_ENCRYPTION = Buffer.from("300d06092a864886f70d0101010500", "hex");

/** Tag, length in as few bytes as possible, content (X.690 §10.1). */
function der(tag: number, ...content: Uint8Array[]): Buffer {
  const length = content.reduce((sum, part) => sum + part.length, 0);
  const head = length < 128 ? [tag, length] : length < 256 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), ...content]);
}

function inverse(a: bigint, modulus: bigint): bigint {
  let [r, next, s, t] = [modulus, a % modulus, 0n, 1n];
  while (next > 0n) {
    const quotient = r / next;
    [r, next] = [next, r - quotient * next];
    [s, t] = [t, s - quotient * t];
  }
  return ((s % modulus) + modulus) % modulus;
}
