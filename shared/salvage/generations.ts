/**
 * The generations of a key: the public keys by which the cluster knows it, the one in use first. There are
 * several where the key was changed before. Who names a generation (facts/evidence.ts) decides which one is
 * in use, never its age: for a CA kube-root-ca.crt, then what kube-system's pods have mounted; for the
 * service-account key the newest of kube-system's tokens. Where evidence of equal weight names several, each
 * is a candidate, and if more than one is found, a person decides.
 */
import { type ClusterEvidence, IN_PODS, type KnownToken } from "../facts/evidence.ts";
import { attempt, Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import {
  certificatesIn,
  keyKind,
  madeAt,
  publicKeyHash,
  publicKeyOf,
  publicKeysIn,
} from "../pki/certificate.ts";
import { day } from "../pki/judge.ts";
import { CLUSTER_CA_SOURCE } from "../pki/lost-keys.ts";
import type { Target } from "./memory/search-process.ts";

/** One public key, and who names it. */
export interface Generation extends Target {
  /** The certificate, or the public key in PEM; unset where only a token's `kid` is known. */
  text?: string | undefined;
  /** All that the CA's own file held. */
  whole?: string | undefined;
  from: string[];
  /** Tokens that name it by their `kid`: a private key belongs to it only if it verifies one of them. */
  tokens: string[];
}

export interface Generations {
  /** First the candidates for the one in use. None: nothing tells which key it was. */
  generations: Generation[];
  /**
   * So many of the first generations can be the one that the cluster uses: evidence of the same weight names
   * them.
   */
  candidates: number;
}

/**
 * Of a certificate or of a public key. Errors: Fail where it cannot be read, or is of a kind that kubeadm
 * does not make.
 */
export function generation(text: string, from: string[]): Generation {
  const publicKey = publicKeyOf(text);
  const kind = keyKind(publicKey);
  if (kind === undefined)
    throw new Fail("A public key is neither RSA nor of P-256 or P-384", {
      hint: "kubeadm makes no such keys",
    });
  return { hash: publicKeyHash(publicKey), kind, publicKey, text, from, tokens: [] };
}

/** Each public key once, with all that is known of it. */
class Known {
  readonly found = new Map<string, Generation>();

  add(one: Generation) {
    const known = this.found.get(one.hash);
    if (!known) return void this.found.set(one.hash, one);
    known.text ??= one.text;
    known.whole ??= one.whole;
    known.publicKey ??= one.publicKey;
    known.from = [...new Set([...known.from, ...one.from])];
    known.tokens = [...new Set([...known.tokens, ...one.tokens])];
  }

  addReadable(pem: string, from: string, whole?: string) {
    const one = attempt(() => generation(pem, [from]), undefined);
    if (one) this.add({ ...one, whole });
  }
}

/** `ca`: a row's name in CERTS. */
export function caGenerations(ca: string, { texts }: ClusterEvidence): Generations {
  const known = new Known();
  for (const { from, text, whole } of texts.filter((one) => one.ca === ca))
    for (const pem of certificatesIn(text)) known.addReadable(pem, from, whole ? text : undefined);
  const generations = [...known.found.values()].sort(
    (a, b) => weightOf(b) - weightOf(a) || b.from.length - a.from.length,
  );
  // files of this node may be copies of each other, so their number says nothing
  const isEqual = (one: Generation, [first]: readonly Generation[]) =>
    weightOf(one) === weightOf(first!) && (weightOf(one) === 0 || one.from.length === first!.from.length);
  return { generations, candidates: generations.filter((one) => isEqual(one, generations)).length };
}

/**
 * First what the cluster itself uses, then what its pods have mounted; all others an attempt at a repair may
 * have changed.
 */
function weightOf({ from }: Generation): number {
  return from.includes(CLUSTER_CA_SOURCE) ? 2 : from.includes(IN_PODS) ? 1 : 0;
}

/** RFC 7518 §3.1. */
const KINDS: Record<string, Target["kind"]> = { RS256: "RSA", ES256: "P-256", ES384: "P-384" };

export function saGenerations({ tokens }: ClusterEvidence, certificatesDir: string): Generations {
  const known = new Known();
  // what pods hold is in use, a Secret may hold a forgotten token; the key that signed last is the one that signs
  const byUse = (a: KnownToken, b: KnownToken) =>
    Number(b.from === IN_PODS) - Number(a.from === IN_PODS) || b.issuedAt - a.issuedAt;
  const sorted = tokens.filter(({ kid, alg }) => kid !== "" && Object.hasOwn(KINDS, alg)).sort(byUse);
  for (const { kid, alg, from, text } of sorted)
    known.add({ hash: hashOf(kid), kind: KINDS[alg]!, from: [from], tokens: [text] });
  const newest = new Set(sorted.filter((token) => byUse(token, sorted[0]!) === 0).map(({ kid }) => kid));
  const pub = attempt(() => readText(`${certificatesDir}/sa.pub`), "") ?? "";
  for (const pem of publicKeysIn(pub)) known.addReadable(pem, "pki/sa.pub");
  const generations = [...known.found.values()];
  return { generations, candidates: sorted.length > 0 ? newest.size : generations.length };
}

/**
 * For the operator: what tells a generation from the others. A service-account key is also known by its kid.
 */
export function labelOf({ hash, from, text, tokens }: Generation): string {
  const cert = text && certificatesIn(text).length > 0 ? `, made on ${day(madeAt(text))}` : "";
  const kid = tokens.length > 0 ? `kid ${kidOf(hash)}` : hash;
  return `${kid}${cert}, named by ${from.join(", ")}`;
}

export function hashOf(kid: string): string {
  return `sha256:${Buffer.from(kid, "base64url").toString("hex")}`;
}

export function kidOf(hash: string): string {
  return Buffer.from(hash.slice("sha256:".length), "hex").toString("base64url");
}
