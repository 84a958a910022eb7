/**
 * The lost public key of service-account tokens, computed from tokens that its private key signed. With it beside the new
 * one, the API server accepts old tokens as well. Nothing can be signed with it.
 *
 * Anyone who may write Secrets in a namespace can put tokens there that their own key signed. So only tokens of
 * kube-system decide which key is looked for. A key is accepted only if these tokens name it (kid),
 * or if it has signed all of them.
 */

import { createHash, createPublicKey } from "node:crypto";
import { p256, p384, p521 } from "@noble/curves/nist.js";
import { Fail } from "../fail.ts";
import { refuseNoMemory } from "../files/file-system.ts";
import { publicKeysIn } from "../pki/certificate.ts";
import type { Jwt } from "../pki/jwt.ts";
import { JWS } from "../pki/keys.ts";
import { base64url, numberOf, serviceAccountKeyId, tokenVerifier } from "../pki/sa-keys.ts";
import { bitLength, gcd, type OnBitsDone } from "./half-gcd.ts";
import type { OldTokens } from "./tokens-of-one-key.ts";

export interface OldKey {
  pem: string;
  kid: string;
  proof: string;
}

/** The needs of a token's algorithm: the number of tokens, and the keys that may have signed them. */
interface Recovery {
  tokens: number;
  keys: (tokens: readonly Jwt[], options: RsaOptions) => string[];
  /** Errors: Fail if there is too little memory for these tokens. */
  refuse?: (tokens: readonly Jwt[], options: RsaOptions) => void;
}

const EC: Recovery = { tokens: 1, keys: ([token]) => ecKeys(token!) };
const RECOVERIES: Record<string, Recovery> = {
  RS256: { tokens: 2, keys: ([one, other], options) => rsaKey(one!, other!, options), refuse: refuseRsa },
  ES256: EC,
  ES384: EC,
  ES512: EC,
};

function refuseRsa(tokens: readonly Jwt[], options: RsaOptions) {
  const bytes = Math.min(...tokens.map(({ signature }) => signature.length));
  refuseNoMemory(`compute a key of RSA-${bytes * 8}`, {
    need: rsaMemory(bytes, options),
    orElse:
      "Or run it on another control plane node that has more: --token-file takes this node's tokens along. " +
      "Or continue without: part 4 then renews the tokens, and restarts their pods",
  });
}

/**
 * Tokens to try, by how many are needed: a token that is damaged, or planted under the old kid, costs a
 * minute, not the key.
 */
const CHOICES: Record<number, number[][]> = {
  1: [[0], [1], [2]],
  2: [
    [0, 1],
    [0, 2],
    [1, 2],
  ],
};

const MORE =
  "look for more on other nodes (/var/lib/kubelet/pods/*/volumes/kubernetes.io~projected/*/token) and name the file: --token-file";

export function copyOfKey(old: OldTokens, pems: readonly string[]): OldKey | undefined {
  return prove(old, pems.flatMap(publicKeysIn))[0];
}

/** Computes the key. Errors: Fail if there are too few tokens, or if no key fits all of them. */
export function computeKey(old: OldTokens, options: RsaOptions = {}): OldKey {
  const { kid, alg, tokens } = old;
  const recovery = Object.hasOwn(RECOVERIES, alg) ? RECOVERIES[alg] : undefined;
  if (!recovery)
    throw new Fail(`Cannot compute a key from ${alg || "no"} tokens`, {
      hint: `check --kid; known: ${Object.keys(RECOVERIES).join(", ")}`,
    });
  if (tokens.length < recovery.tokens)
    throw new Fail(`There is only one ${alg} token of the key ${kid || "(no kid)"}, and two are needed`, {
      hint: MORE,
    });
  for (const choice of CHOICES[recovery.tokens]!.filter((places) =>
    places.every((place) => place < tokens.length),
  )) {
    const chosen = choice.map((place) => tokens[place]!);
    recovery.refuse?.(chosen, options);
    const proved = prove(old, recovery.keys(chosen, options));
    if (proved.length === 1) return proved[0]!;
    if (proved.length > 1)
      throw new Fail(`Two keys fit this one ${alg} token, and the token names none (no kid)`, {
        hint: `bring a second token, which shows which key it is: ${MORE}`,
      });
  }
  throw new Fail(
    `No single key has signed the ${tokens.length} tokens ${kid ? `that name the key ${kid}` : "without a kid"}`,
    {
      hint: "continue without sa-old.pub: different keys signed them, or some are damaged; old pods then have to restart (RUNBOOK part 4)",
    },
  );
}

/** The keys that the tokens' kid names, or, if they have none, that signed every one of them. */
function prove({ kid, tokens }: OldTokens, pems: readonly string[]): OldKey[] {
  return pems.flatMap((pem) => {
    const [id, verifies] = [serviceAccountKeyId(pem), tokenVerifier(pem)];
    const signed = tokens.filter(({ text }) => verifies(text)).length;
    const fits = kid === "" ? signed === tokens.length : id === kid;
    const proof = `${kid === "" ? "" : "the tokens' kid names it, and "}${signed} of ${tokens.length} tokens verify`;
    return fits && signed > 0 ? [{ pem, kid: id, proof }] : [];
  });
}

/*
 * The ECDSA public keys that one token can have been signed with: always two, one for each point whose x is r (SEC 1 §4.1.6). Both verify
 * that token, so only the kid or another token shows which. (x = r + n is possible, too, once in 2^128 signatures.)
 */

const CURVES = { "P-256": p256, "P-384": p384, "P-521": p521 };

/** In PEM; none if the signature cannot be one of the algorithm. */
export function ecKeys({ alg, signed, signature }: Jwt): string[] {
  const crv = JWS.get(alg)?.crv;
  const curve = crv && CURVES[crv];
  if (!curve || signature.length !== curve.lengths.signature) return [];
  return [0, 1].flatMap((parity) => {
    try {
      const key = curve.recoverPublicKey(Buffer.concat([Buffer.of(parity), signature]), Buffer.from(signed));
      return [publicKey(crv, Buffer.from(curve.Point.fromBytes(key).toBytes(false).subarray(1)))];
    } catch (err) {
      // a number that is zero or too large, or an x that no point has
      if (err instanceof Error && /^(invalid (signature|field element|recovery)|bad point)/.test(err.message))
        return [];
      throw err;
    }
  });
}

/** `point`: x and y. */
function publicKey(crv: string, point: Buffer): string {
  const [x, y] = [point.subarray(0, point.length / 2), point.subarray(point.length / 2)].map((half) =>
    half.toString("base64url"),
  );
  return String(
    createPublicKey({ key: { kty: "EC", crv, x: x!, y: y! }, format: "jwk" }).export({
      type: "spki",
      format: "pem",
    }),
  );
}

/*
 * RSA: N divides s^e - m for each token, where s is the signature and m the padded hash (RFC 8017 §9.2), and two
 * such numbers have hardly anything else in common. For RSA-2048 they have 134 million bits each. No shorter way
 * is known: e times the key's length is about the smallest multiple of N that can be written down.
 */

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
 * Bytes of memory for each byte of one of the two numbers. Measured in cgroups, with all of Bun: 194 MB for RSA-1024,
 * 323 MB for RSA-2048, 552 MB for RSA-4096. That is 16 for each byte, and half as much in reserve.
 */
const MEMORY = 24;

/** Bytes of memory needed to compute a key whose signatures have so many bytes. */
function rsaMemory(signature: number, { exponent = EXPONENT }: RsaOptions = {}): number {
  return signature <= LONGEST ? signature * exponent * MEMORY : 0;
}

interface RsaOptions {
  /** Tests set a small one to save time. */
  exponent?: number;
  progress?: (done: number, total: number) => void;
}

/**
 * The key that signed both RS256 tokens, in PEM; none if no key fits both. Takes a minute for
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
  const report: OnBitsDone = (bits) => progress(Math.min(bits, total), total);
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
