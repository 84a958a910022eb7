/**
 * Which private keys are lost on this node, and by which public key each will be proved. A key that belongs
 * to no public key that the cluster knows is not ours, whatever it looks like.
 *
 * The generations of a key: the public keys by which the cluster knows it, the one in use first. There are
 * several if the key was changed before. The source that names a generation (facts/evidence.ts) decides which one is
 * in use, never its age: for a CA kube-root-ca.crt, then what kube-system's pods have mounted; for the
 * service-account key the newest of kube-system's tokens. If evidence of equal weight names several, each
 * is a candidate, and if more than one is found, a person decides.
 */

import type { KeyObject } from "node:crypto";
import { type ClusterEvidence, IN_PODS, type KnownToken } from "../facts/evidence.ts";
import { attempt, Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { CLUSTER_CA_SOURCE, remedyOf } from "../pki/actions.ts";
import {
  certificatesIn,
  day,
  keyKind,
  madeAt,
  privateKeyOf,
  publicKeyHash,
  publicKeyOf,
  publicKeysIn,
} from "../pki/certificate.ts";
import { CERTS, type PkiPlace, SHARED_KEYS, type SharedKey, sharedPath } from "../pki/certs.ts";
import { type Finding, pkiFindings } from "../pki/examine.ts";
import { say } from "../run.ts";
import type { Curve } from "./memory/keys-in-memory.ts";

/** A public key whose private half is searched. At first only the hash of a service-account key is known. */
export interface Target {
  /** "sha256:…" of the SubjectPublicKeyInfo, as kubeadm's --discovery-token-ca-cert-hash. */
  hash: string;
  kind: "RSA" | Curve;
  publicKey?: KeyObject | undefined;
}

export interface Generation extends Target {
  /** The certificate, or the public key in PEM; unset where only a token's `kid` is known. */
  text?: string | undefined;
  /** All that the CA's own file held. */
  whole?: string | undefined;
  from: string[];
  /** Tokens that name it by their `kid`: a private key belongs to it only if it verifies one of them. */
  tokens: string[];
}

interface Generations {
  /** First the candidates for the one in use. None: nothing tells which key it was. */
  generations: Generation[];
  /**
   * So many of the first generations can be the one that the cluster uses: evidence of the same weight names
   * them.
   */
  candidates: number;
}

/** Errors: Fail if it cannot be read, or is of a kind that kubeadm does not make. */
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
class GenerationSet {
  readonly found = new Map<string, Generation>();

  add(one: Generation) {
    const generation = this.found.get(one.hash);
    if (!generation) return void this.found.set(one.hash, one);
    generation.text ??= one.text;
    generation.whole ??= one.whole;
    generation.publicKey ??= one.publicKey;
    generation.from = [...new Set([...generation.from, ...one.from])];
    generation.tokens = [...new Set([...generation.tokens, ...one.tokens])];
  }

  addReadable(pem: string, from: string, whole?: string) {
    const one = attempt(() => generation(pem, [from]), undefined);
    if (one) this.add({ ...one, whole });
  }
}

/** `ca`: a row's name in CERTS. */
function caGenerations(ca: string, { texts }: ClusterEvidence): Generations {
  const state = new GenerationSet();
  for (const { from, text, whole } of texts.filter((one) => one.ca === ca))
    for (const pem of certificatesIn(text)) state.addReadable(pem, from, whole ? text : undefined);
  const generations = [...state.found.values()].sort(
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

function saGenerations({ tokens }: ClusterEvidence, certificatesDir: string): Generations {
  const state = new GenerationSet();
  // what pods hold is in use, a Secret may hold a forgotten token; the key that signed last is the one that signs
  const byUse = (a: KnownToken, b: KnownToken) =>
    Number(b.from === IN_PODS) - Number(a.from === IN_PODS) || b.issuedAt - a.issuedAt;
  const sorted = tokens.filter(({ kid, alg }) => kid !== "" && Object.hasOwn(KINDS, alg)).sort(byUse);
  for (const { kid, alg, from, text } of sorted)
    state.add({ hash: hashOf(kid), kind: KINDS[alg]!, from: [from], tokens: [text] });
  const newest = new Set(sorted.filter((token) => byUse(token, sorted[0]!) === 0).map(({ kid }) => kid));
  const pub = attempt(() => readText(`${certificatesDir}/sa.pub`), "") ?? "";
  for (const pem of publicKeysIn(pub)) state.addReadable(pem, "pki/sa.pub");
  const generations = [...state.found.values()];
  return { generations, candidates: sorted.length > 0 ? newest.size : generations.length };
}

/** Words that tell a generation from the others. A service-account key is also known by its kid. */
export function labelOf({ hash, from, text, tokens }: Generation): string {
  const cert = text && certificatesIn(text).length > 0 ? `, made on ${day(madeAt(text))}` : "";
  const kid = tokens.length > 0 ? `kid ${kidOf(hash)}` : hash;
  return `${kid}${cert}, named by ${from.join(", ")}`;
}

function hashOf(kid: string): string {
  return `sha256:${Buffer.from(kid, "base64url").toString("hex")}`;
}

export function kidOf(hash: string): string {
  return Buffer.from(hash.slice("sha256:".length), "hex").toString("base64url");
}

export interface WantedKey extends SharedKey, Generations {
  /** It is the same on every control plane node. */
  shared: boolean;
}

export interface WantedOptions extends PkiPlace {
  /** Keys that are in their places and sound are wanted as well, where the cluster uses others. */
  others?: boolean | undefined;
  /** The operator's choice among several candidates: the `kid` of the service-account key. */
  kid?: string | undefined;
  /** The same for a CA: its fingerprint, "sha256:…", or a file that names it, "kubelet.conf". */
  from?: string | undefined;
}

/** First those that all control plane nodes share, then those of certificates without their key. */
export function wantedKeys(evidence: ClusterEvidence, options: WantedOptions): WantedKey[] {
  const findings = pkiFindings({ certs: CERTS, serviceAccountKey: true }, undefined, options);
  return [
    ...SHARED_KEYS.flatMap((key) => wantedShared(key, evidence, { ...options, findings })),
    ...findings.flatMap(wantedLeaf),
  ];
}

function wantedShared(
  key: SharedKey,
  evidence: ClusterEvidence,
  options: WantedOptions & { findings: readonly Finding[] },
): WantedKey[] {
  const { certificatesDir, others, findings } = options;
  const row = CERTS.find(({ file }) => file === key.name);
  const finding = findings.find(({ name }) => name === (row?.name ?? key.name))!;
  const all = row ? caGenerations(row.name, evidence) : saGenerations(evidence, certificatesDir);
  const { generations, candidates } = chosen(key, all, options);
  const inPlace = keyInPlace(key, options);
  const isInUse =
    !generations[0] ||
    (inPlace && generations.slice(0, candidates).some(({ hash }) => hash === publicKeyHash(inPlace)));
  if (finding.state === "ok" && (!others || isInUse)) return [];
  if (finding.state === "expired" && isInUse) return [];
  // the right key is here: part 1 makes its public half again, or finds the certificate that is known
  if (finding.state !== "ok" && remedyOf(finding, evidence).do !== "lost") return [];
  return [{ ...key, shared: true, generations, candidates }];
}

/** Errors: Fail where it is none of the known ones. */
function chosen({ name }: SharedKey, generations: Generations, { kid, from }: WantedOptions): Generations {
  const choice = name === "sa" ? kid : name === "ca" ? from : undefined;
  if (choice === undefined) return generations;
  const isChosen = (one: Generation) =>
    name === "sa" ? one.hash === hashOf(choice) : one.hash === choice || one.from.includes(choice);
  const meant = generations.generations.filter(isChosen);
  const others = generations.generations.filter((one) => !isChosen(one));
  if (meant.length === 1) return { generations: [...meant, ...others], candidates: 1 };
  throw new Fail(
    `"${choice}" names ${meant.length === 0 ? "none" : meant.length} of the known ${name} keys`,
    {
      hint: `choose a known one: ${generations.generations.map(labelOf).join("; ") || "none"}`,
    },
  );
}

/** A leaf's key is worth finding only if its certificate is still here, and of a kind that is searched; else both are issued again. */
function wantedLeaf({ row, cert, paths }: Finding): WantedKey[] {
  if (!row || "path" in row || row.shared || !cert || readText(paths[1]!) !== undefined) return [];
  const [name, publicFile, keyFile] = [row.file, `${row.file}.crt`, `${row.file}.key`];
  const own = attempt(() => generation(cert.pem, [`pki/${publicFile}`]), undefined);
  return own ? [{ name, publicFile, keyFile, shared: false, generations: [own], candidates: 1 }] : [];
}

/**
 * CAs that are here with their keys, have expired, and are not ours to renew: a company's. A search cannot
 * help there.
 */
export function expiredCas(evidence: ClusterEvidence, place: PkiPlace): Finding[] {
  const shared = pkiFindings({ certs: CERTS.filter((row) => row.shared) }, undefined, place);
  return shared.filter((finding) => finding.state !== "ok" && remedyOf(finding, evidence).do === "elsewhere");
}

/** The private key that is in its place already, though its public half is not: no search is needed then. */
export function keyInPlace({ keyFile }: SharedKey, place: PkiPlace): KeyObject | undefined {
  return attempt(() => privateKeyOf(readText(sharedPath(keyFile, place)) ?? ""), undefined);
}

/**
 * A new one would be noticed outside the control plane: every node rejoins, or pods need new tokens. The
 * other keys can be made new.
 */
export function isIrreplaceable({ name }: Pick<WantedKey, "name">): boolean {
  return name === "ca" || name === "sa";
}

export function sayLost({ keyFile, generations, candidates }: WantedKey) {
  const lines = generations.map(({ hash, kind, from }) => `${hash}, ${kind}, named by ${from.join(", ")}`);
  say(`${keyFile}: lost; ${lines[0] ?? "nothing here shows which key it was"}`);
  for (const [i, line] of lines.slice(1).entries())
    say(`  or ${i + 1 < candidates ? "" : "an earlier one, "}${line}`);
}
