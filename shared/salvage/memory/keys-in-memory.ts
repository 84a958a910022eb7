/**
 * Finds keys among the big numbers in memory. Programs hold these as 8-byte words ("limbs"), aligned, the
 * lowest first (Go's math/big and crypto/internal/fips140, OpenSSL's BIGNUM). Numbers of a key look random,
 * most of memory does not: only stretches of random-looking words are searched.
 *
 * RSA: the modulus shows whether a number is one of its primes, and one prime gives the whole key. ECDSA: a
 * scalar has no mark, so each candidate's public key is computed (20 µs and more) and compared.
 */

import { createECDH, createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { orUndefined, spkiHash } from "../../pki/certificate.ts";
import { der } from "../../pki/keys.ts";
import { base64url, numberOf } from "../../pki/sa-keys.ts";

/**
 * Primes of these public keys in these bytes. Both primes of a key have half its length and begin with √½ at
 * least (FIPS 186-5 §A.1.1), so a candidate is odd, and its highest byte is 0xb5 or more. `wanted` may shrink
 * meanwhile: memory has a prime many times.
 */
export function* primesIn(
  bytes: Uint8Array,
  wanted: Iterable<PublicKey>,
): Generator<{ key: PublicKey; prime: bigint }> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const [size, keys] of Map.groupBy(wanted, ({ bytes }) => bytes)) {
    for (const at of numbers(bytes, size / 2, 0xb5)) {
      if (hasSmallFactor(view, at, size / 2)) continue;
      const prime = numberOf(bytes.slice(at, at + size / 2).reverse());
      const key = keys.find(({ modulus }) => modulus % prime === 0n);
      if (key) yield { key, prime };
    }
  }
}

/** Two of three odd numbers have one: they need no division of a modulus, which costs ten times as much. */
const SMALL = [3, 5, 7, 11, 13, 17];
const PRODUCT = SMALL.reduce((product, factor) => product * factor);

function hasSmallFactor(view: DataView, at: number, size: number): boolean {
  let rest = 0;
  for (let i = at + size - 4; i >= at; i -= 4) rest = (rest * 2 ** 32 + view.getUint32(i, true)) % PRODUCT;
  return SMALL.some((factor) => rest % factor === 0);
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
 * Public keys in these bytes whose SubjectPublicKeyInfo has a wanted hash: a token names the key that signed
 * it by this hash only. A modulus is in memory as limbs wherever its private key is.
 */
export function* publicKeysByHash(bytes: Uint8Array, wanted: ReadonlySet<string>): Generator<KeyObject> {
  for (const size of MODULUS_SIZES) {
    for (const at of numbers(bytes, size, 0x80)) {
      const spki = spkiOf(Buffer.from(bytes.subarray(at, at + size)).reverse());
      if (wanted.has(spkiHash(spki))) yield createPublicKey({ key: spki, format: "der", type: "spki" });
    }
  }
}

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

/** Offsets at which numbers of `size` bytes may begin: odd, of full length, aligned as limbs are. */
function* numbers(bytes: Uint8Array, size: number, highest: number): Generator<number> {
  for (const { from, to } of randomStretches(bytes, size)) {
    for (let at = from; at + size <= to; at += 8)
      if (bytes[at]! & 1 && bytes[at + size - 1]! >= highest) yield at;
  }
}

/**
 * SubjectPublicKeyInfo of a modulus with the exponent 65537, as Go's x509.MarshalPKIXPublicKey writes it (RFC
 * 3279 §2.3.1).
 */
function spkiOf(modulus: Uint8Array): Buffer {
  const key = der(0x30, der(0x02, Buffer.from([0]), modulus), Buffer.from([0x02, 0x03, 0x01, 0x00, 0x01]));
  return der(0x30, RSA_ENCRYPTION, der(0x03, Buffer.from([0]), key));
}

const RSA_ENCRYPTION = Buffer.from("300d06092a864886f70d0101010500", "hex");

function inverse(a: bigint, modulus: bigint): bigint {
  let [r, next, s, t] = [modulus, a % modulus, 0n, 1n];
  while (next > 0n) {
    const quotient = r / next;
    [r, next] = [next, r - quotient * next];
    [s, t] = [t, s - quotient * t];
  }
  return ((s % modulus) + modulus) % modulus;
}

export type Curve = "P-256" | "P-384";

/**
 * kubeadm's kinds: bytes of a scalar, the curve's name in OpenSSL, and what a SubjectPublicKeyInfo has before
 * its point (RFC 5480).
 */
const CURVES: Record<Curve, { size: number; openssl: string; spki: Buffer }> = {
  "P-256": {
    size: 32,
    openssl: "prime256v1",
    spki: Buffer.from("3059301306072a8648ce3d020106082a8648ce3d030107034200", "hex"),
  },
  "P-384": {
    size: 48,
    openssl: "secp384r1",
    spki: Buffer.from("3076301006072a8648ce3d020106052b81040022036200", "hex"),
  },
};

/**
 * Go's math/big gives a fresh number four words more than it needs (nat.make), and ecdsa.PrivateKey holds its
 * scalar as such a number.
 */
const SPARE = 4 * 8;

/** Go's and the C library's allocators align everything longer than 16 bytes like this. */
const ALIGNED = 16;

/**
 * Wanted keys of this curve whose scalar is in these bytes as a big.Int of Go: random words, then the spare
 * ones, zero.
 */
export function* scalarsIn(
  bytes: Uint8Array,
  curve: Curve,
  wanted: ReadonlySet<string>,
): Generator<KeyObject> {
  const { size } = CURVES[curve];
  for (const { from, to } of randomStretches(bytes, size)) {
    const begin = to - size;
    if (begin < from || begin % ALIGNED !== 0) continue;
    const spare = bytes.subarray(to, to + SPARE);
    if (spare.length < SPARE || spare.some((byte) => byte !== 0)) continue;
    const scalar = bytes.subarray(begin, to);
    const key = looksRandom(scalar) ? keyFromScalar(curve, Buffer.from(scalar).reverse(), wanted) : undefined;
    if (key) yield key;
  }
}

/** The key of a scalar, highest byte first, if its public key has a wanted hash. */
export function keyFromScalar(
  curve: Curve,
  scalar: Uint8Array,
  wanted: ReadonlySet<string>,
): KeyObject | undefined {
  const { size, openssl, spki } = CURVES[curve];
  const ecdh = createECDH(openssl);
  // a number that is zero, or above the curve's order, is no scalar
  const point = orUndefined(() => {
    ecdh.setPrivateKey(scalar);
    return ecdh.getPublicKey();
  });
  if (!point || !wanted.has(spkiHash(Buffer.concat([spki, point])))) return undefined;
  const url = (from: number) => point.subarray(from, from + size).toString("base64url");
  const key = {
    kty: "EC",
    crv: curve,
    x: url(1),
    y: url(1 + size),
    d: Buffer.from(scalar).toString("base64url"),
  };
  return createPrivateKey({ key, format: "jwk" });
}

/**
 * Text has no byte above 127; of random bytes about half are, and about half of all bits are set (within
 * eight standard deviations).
 */
function looksRandom(bytes: Uint8Array): boolean {
  let high = 0;
  let ones = 0;
  for (const byte of bytes) {
    high += byte >> 7;
    for (let bits = byte; bits > 0; bits &= bits - 1) ones++;
  }
  const half = 4 * Math.sqrt(bytes.length);
  const bit = 4 * Math.sqrt(bytes.length * 8);
  return Math.abs(high - bytes.length / 2) < half && Math.abs(ones - bytes.length * 4) < bit;
}

/**
 * Stretches of random-looking words, at least `atLeast` bytes long: where they begin and end, in bytes. A
 * word looks random when its lower half is not zero and its upper half is 256 or more: a random word misses
 * that once in 16 million times; counters, lengths and many pointers always do. No stretch fits between two
 * words that are not and have fewer between them: so of most memory only one word in so many is looked at.
 */
export function* randomStretches(
  bytes: Uint8Array,
  atLeast: number,
): Generator<{ from: number; to: number }> {
  const halves = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >> 2);
  const isRandom = (word: number) => halves[2 * word + 1]! >= 256 && halves[2 * word] !== 0;
  const [words, needed] = [halves.length >> 1, Math.max(1, atLeast >> 3)];
  // all before `begin` is looked at; a stretch that begins there covers `last`
  for (let begin = 0; begin + needed <= words; ) {
    const last = begin + needed - 1;
    let from = last + 1;
    while (from > begin && isRandom(from - 1)) from--;
    if (from > begin) begin = from;
    else {
      let to = last + 1;
      while (to < words && isRandom(to)) to++;
      yield { from: begin * 8, to: to * 8 };
      begin = to + 1;
    }
  }
}
