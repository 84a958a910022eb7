/**
 * Kinds of keys, and new key pairs, in kubeadm's formats: PKCS#1 for RSA, SEC1 for ECDSA. And DER, their
 * encoding.
 */
import { createPublicKey, generateKeyPair, type KeyObject, sign, verify } from "node:crypto";
import { availableParallelism } from "node:os";
import { promisify } from "node:util";
import { Fail } from "../fail.ts";
import { mode } from "../run.ts";
import type { KeyAlgorithm } from "./certs.ts";

/** A fresh key: the private one in PEM, the public one as SPKI, in PEM. */
export interface KeyPair {
  key: string;
  pub: string;
}

interface Curve {
  /** The name of the curve in JWKs and WebCrypto. */
  crv: "P-256" | "P-384" | "P-521";
  /** Its JWS algorithm (RFC 7518 §3.1), and the hash used with it, there and in Go's certificates. */
  alg: string;
  hash: string;
}

/** The curves that Kubernetes can load, as OpenSSL calls them. */
const CURVES: Record<string, Curve> = {
  prime256v1: { crv: "P-256", alg: "ES256", hash: "SHA-256" },
  secp384r1: { crv: "P-384", alg: "ES384", hash: "SHA-384" },
  secp521r1: { crv: "P-521", alg: "ES512", hash: "SHA-512" },
};

/** The JWS algorithms of Kubernetes' tokens; RSA if there is no curve. */
export const JWS = new Map<string, { hash: string; crv?: Curve["crv"] }>([
  ["RS256", { hash: "SHA-256" }],
  ...Object.values(CURVES).map((curve) => [curve.alg, curve] as const),
]);

export function curveOf(key: KeyObject): Curve | undefined {
  return CURVES[key.asymmetricKeyDetails?.namedCurve ?? ""];
}

/** Imports it into WebCrypto. Errors: Fail if it is neither RSA nor of a curve that Kubernetes can load. */
export async function signingKey(key: KeyObject) {
  const { crv, alg, hash } = curveOf(key) ?? { alg: "RS256", hash: "SHA-256" };
  if (key.asymmetricKeyType !== "rsa" && !crv)
    throw new Fail(`Cannot sign with a key of the kind "${key.asymmetricKeyType}"`, {
      hint: "kubeadm knows RSA and ECDSA keys only; see what it is with: openssl pkey -noout -text_pub -in FILE",
    });
  const algorithm = crv ? { name: "ECDSA", namedCurve: crv } : { name: "RSASSA-PKCS1-v1_5", hash };
  const der = key.export({ type: "pkcs8", format: "der" });
  return {
    key: await crypto.subtle.importKey("pkcs8", der, algorithm, false, ["sign"]),
    name: algorithm.name,
    hash,
    alg,
  };
}

const generate = promisify(generateKeyPair);

let ahead: { algorithm: KeyAlgorithm; left: number; take: () => Promise<KeyPair> } | undefined;

/**
 * Makes `count` keys while the caller waits for programs and servers; later requests for this kind of key take one of
 * them.
 */
export function makeKeysAhead(algorithm: KeyAlgorithm, count: number) {
  ahead = { algorithm, left: count, take: keyStock(algorithm, count, freshPair) };
}

/** A rehearsal's keys are forgotten, so it makes quick ones, and takes none of those that were made ahead. */
export async function keyPair(algorithm: KeyAlgorithm): Promise<KeyPair> {
  if (mode.foretells) return freshPair("ECDSA-P256");
  if (ahead?.algorithm !== algorithm || ahead.left === 0) return freshPair(algorithm);
  ahead.left--;
  return ahead.take();
}

/** Made on a thread of its own, so that several at once use all cores. */
async function freshPair(algorithm: KeyAlgorithm): Promise<KeyPair> {
  const [family, size = ""] = algorithm.split("-");
  const format = "pem" as const;
  const publicKeyEncoding = { type: "spki" as const, format };
  const { privateKey, publicKey } = await (family === "RSA"
    ? generate("rsa", {
        modulusLength: Number(size),
        publicKeyEncoding,
        privateKeyEncoding: { type: "pkcs1", format },
      })
    : generate("ec", {
        namedCurve: `P-${size.slice(1)}`,
        publicKeyEncoding,
        privateKeyEncoding: { type: "sec1", format },
      }));
  return { key: privateKey, pub: publicKey };
}

/**
 * Makes `count` keys, one more at a time than there are cores (none is idle while this thread writes), and returns
 * the first that is ready; more than `count` on request.
 */
export function keyStock(
  algorithm: KeyAlgorithm,
  count: number,
  make: (algorithm: KeyAlgorithm) => Promise<KeyPair> = keyPair,
): () => Promise<KeyPair> {
  const ready: Promise<KeyPair>[] = [];
  const waiting: ((pair: Promise<KeyPair>) => void)[] = [];
  let begun = 0;
  const makeNext = () => {
    if (begun++ >= count) return;
    const pair = make(algorithm);
    const hand = () => {
      const taker = waiting.shift();
      taker ? taker(pair) : ready.push(pair);
      makeNext();
    };
    pair.then(hand, hand);
  };
  for (let core = 0; core < availableParallelism() + 1; core++) makeNext();
  let promised = 0;
  return () => {
    if (promised++ >= count) return make(algorithm);
    return ready.shift() ?? new Promise((resolve) => waiting.push(resolve));
  };
}

/** Whether the public half verifies what the private half signs. */
export function signs(key: KeyObject, publicKey = createPublicKey(key)): boolean {
  const hash = ["rsa", "ec"].includes(String(key.asymmetricKeyType)) ? "sha256" : null;
  const proof = Buffer.from("kube-pki-repair");
  return verify(hash, proof, publicKey, sign(hash, proof, key));
}

/** Distinguished Encoding Rules: tag, length in as few bytes as possible, content (ITU-T X.690 §10.1). */
export function der(tag: number, ...content: Uint8Array[]): Buffer {
  const length = content.reduce((sum, part) => sum + part.length, 0);
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...size]), ...content]);
}

/** The elements of a DER value, each with its head. Errors: Fail if they do not fill it. */
export function insideOf(whole: Buffer): Buffer[] {
  const pieces: Buffer[] = [];
  for (let rest = contentOf(whole); rest.length > 0; rest = rest.subarray(pieces.at(-1)!.length)) {
    const [head, length] = sizeOf(rest);
    if (rest.length < head + length)
      throw new Fail("A certificate's encoding is cut off", {
        hint: "see what it is with: openssl asn1parse -in FILE",
      });
    pieces.push(rest.subarray(0, head + length));
  }
  return pieces;
}

export function contentOf(whole: Buffer): Buffer {
  return whole.subarray(sizeOf(whole)[0]);
}

/** RFC 7468 §2. */
export function pemOf(label: string, bytes: Buffer): string {
  return `-----BEGIN ${label}-----\n${bytes.toString("base64").replace(/.{1,64}/g, "$&\n")}-----END ${label}-----\n`;
}

function sizeOf(bytes: Buffer): [head: number, content: number] {
  const first = bytes[1]!;
  const more = first < 0x80 ? 0 : first & 0x7f;
  return [2 + more, more === 0 ? first : bytes.readUIntBE(2, more)];
}
