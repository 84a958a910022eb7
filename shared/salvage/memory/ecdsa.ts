/** Finds ECDSA keys in memory. A scalar has no mark, so each candidate's public key is computed (20 µs and more) and compared. */
import { createECDH, createPrivateKey, type KeyObject } from "node:crypto";
import { orUndefined, spkiHash } from "../../pki/certificate.ts";
import { randomStretches } from "./limbs.ts";

export type Curve = "P-256" | "P-384";

/** kubeadm's kinds: bytes of a scalar, the curve's name in OpenSSL, and what a SubjectPublicKeyInfo has before its point (RFC 5480). */
const CURVES: Record<Curve, { size: number; openssl: string; spki: Buffer }> = {
  "P-256": {
    size: 32,
    openssl: "prime256v1",
    spki: Buffer.from("3059301306072a8648ce3d020106082a8648ce3d030107034200", "hex"),
  },
  "P-384": { size: 48, openssl: "secp384r1", spki: Buffer.from("3076301006072a8648ce3d020106052b81040022036200", "hex") },
};

/** Go's math/big gives a fresh number four words more than it needs (nat.make), and ecdsa.PrivateKey holds its scalar as such a number. */
const SPARE = 4 * 8;

/** Go's and the C library's allocators align everything longer than 16 bytes like this. */
const ALIGNED = 16;

/** Wanted keys of this curve whose scalar is in these bytes as a big.Int of Go: random words, then the spare ones, zero. */
export function* scalarsIn(bytes: Uint8Array, curve: Curve, wanted: ReadonlySet<string>): Generator<KeyObject> {
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
export function keyFromScalar(curve: Curve, scalar: Uint8Array, wanted: ReadonlySet<string>): KeyObject | undefined {
  const { size, openssl, spki } = CURVES[curve];
  const ecdh = createECDH(openssl);
  // a number that is zero, or above the curve's order, is no scalar
  const point = orUndefined(() => {
    ecdh.setPrivateKey(scalar);
    return ecdh.getPublicKey();
  });
  if (!point || !wanted.has(spkiHash(Buffer.concat([spki, point])))) return undefined;
  const url = (from: number) => point.subarray(from, from + size).toString("base64url");
  const key = { kty: "EC", crv: curve, x: url(1), y: url(1 + size), d: Buffer.from(scalar).toString("base64url") };
  return createPrivateKey({ key, format: "jwk" });
}

/** Text has no byte above 127; of random bytes about half are, and about half of all bits are set (within eight standard deviations). */
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
