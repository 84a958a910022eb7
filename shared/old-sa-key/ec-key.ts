/**
 * The ECDSA public keys that one token can have been signed with: always two, Q = (s·R - z·G) / r for both points R whose x is r (SEC 1 §4.1.6).
 * Both verify that token, so only the kid or another token tells which. (x = r + n is possible, too, once in 2^128 signatures.)
 */
import { createECDH, createHash, createPublicKey, ECDH } from "node:crypto";
import { base64url, type Jwt, numberOf } from "../pki/tokens.ts";

interface Curve {
  /** As node:crypto and as JWKs call it, and bytes of a number. */
  name: string;
  crv: string;
  bytes: number;
  hash: string;
  /** The field's prime and the group's order (SEC 2). */
  p: bigint;
  n: bigint;
}

// biome-ignore format: a table
const CURVES: Record<string, Curve> = {
  ES256: { name: "prime256v1", crv: "P-256", bytes: 32, hash: "sha256", p: 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n,
    n: 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n },
  ES384: { name: "secp384r1",  crv: "P-384", bytes: 48, hash: "sha384", p: 2n ** 384n - 2n ** 128n - 2n ** 96n + 2n ** 32n - 1n,
    n: 0xffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973n },
  ES512: { name: "secp521r1",  crv: "P-521", bytes: 66, hash: "sha512", p: 2n ** 521n - 1n,
    n: 0x1fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409n },
};

interface Point {
  x: bigint;
  y: bigint;
}

/** In PEM; none where the signature cannot be one of the algorithm. */
export function ecKeys({ alg, signed, signature }: Jwt): string[] {
  const curve = CURVES[alg];
  if (!curve || signature.length !== curve.bytes * 2) return [];
  const [r, s] = [numberOf(signature.subarray(0, curve.bytes)), numberOf(signature.subarray(curve.bytes))];
  // No hash is longer than its order here, so none is cut.
  const z = numberOf(createHash(curve.hash).update(signed).digest());
  if (r === 0n || s === 0n || r >= curve.n || s >= curve.n) return [];
  const inverse = invert(r, curve.n);
  const base = timesBase(mod(-z * inverse, curve.n), curve);
  return ["02", "03"].flatMap((parity) => {
    const point = decompress(parity, r, curve);
    return point ? [publicKey(add(times(mod(s * inverse, curve.n), point, curve), base, curve), curve)] : [];
  });
}

function publicKey({ x, y }: Point, { crv, bytes }: Curve): string {
  const key = { kty: "EC", crv, x: base64url(x, bytes), y: base64url(y, bytes) };
  return String(createPublicKey({ key, format: "jwk" }).export({ type: "spki", format: "pem" }));
}

function timesBase(factor: bigint, { name, bytes }: Curve): Point {
  const key = createECDH(name);
  key.setPrivateKey(hex(factor, bytes), "hex");
  return uncompressed(key.getPublicKey("hex"), bytes);
}

/** The point with this x, by the parity of its y; undefined where there is none. */
function decompress(parity: string, x: bigint, { name, bytes }: Curve): Point | undefined {
  try {
    return uncompressed(String(ECDH.convertKey(parity + hex(x, bytes), name, "hex", "hex", "uncompressed")), bytes);
  } catch (err) {
    if (err instanceof Error && "code" in err && err.code === "ERR_CRYPTO_OPERATION_FAILED") return undefined;
    throw err;
  }
}

function uncompressed(point: string, bytes: number): Point {
  return { x: BigInt(`0x${point.slice(2, 2 + bytes * 2)}`), y: BigInt(`0x${point.slice(2 + bytes * 2)}`) };
}

function times(factor: bigint, point: Point, curve: Curve): Point {
  let sum: Point | undefined;
  for (const bit of factor.toString(2)) {
    sum = sum && add(sum, sum, curve);
    if (bit === "1") sum = sum ? add(sum, point, curve) : point;
  }
  return sum ?? point;
}

/** y² = x³ - 3x + b on all three curves. That two points cancel out does not happen with numbers of this size. */
function add(one: Point, other: Point, { p }: Curve): Point {
  const slope =
    one.x === other.x ? (3n * one.x * one.x - 3n) * invert(2n * one.y, p) : (other.y - one.y) * invert(mod(other.x - one.x, p), p);
  const x = mod(slope * slope - one.x - other.x, p);
  return { x, y: mod(slope * (one.x - x) - one.y, p) };
}

/** By Euclid's extended algorithm. */
function invert(number: bigint, modulus: bigint): bigint {
  let [a, b, x, y] = [modulus, mod(number, modulus), 0n, 1n];
  while (b !== 0n) [a, b, x, y] = [b, a % b, y, x - (a / b) * y];
  return mod(x, modulus);
}

function mod(number: bigint, modulus: bigint): bigint {
  const rest = number % modulus;
  return rest < 0n ? rest + modulus : rest;
}

function hex(number: bigint, bytes: number): string {
  return number.toString(16).padStart(bytes * 2, "0");
}
