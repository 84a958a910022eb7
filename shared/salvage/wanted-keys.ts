/**
 * Which private keys are lost on this node, and how each will be proved: by the public key it must belong to. A key that belongs to none that
 * the cluster is known by is none of ours, however it looks.
 *
 * Several generations may be known, where a key was changed before. The one the cluster uses is told by who names it (facts/evidence.ts), never by its age:
 * a CA by kube-root-ca.crt, then by what kube-system's pods have mounted; the service-account key by the newest of kube-system's tokens. Where
 * evidence of equal weight names several, each is a candidate, and if more than one is found a person decides.
 */
import type { KeyObject } from "node:crypto";
import { type ClusterEvidence, IN_PODS, type KnownToken } from "../facts/evidence.ts";
import { attempt, Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { certificatesIn, keyKind, madeAt, privateKeyOf, publicKeyHash, publicKeyOf, publicKeysIn } from "../pki/certificate.ts";
import { CERTS, SHARED_KEYS, type SharedKey } from "../pki/certs.ts";
import { examine, type Finding } from "../pki/examine.ts";
import { day } from "../pki/judge.ts";
import { CLUSTERS_WORD, remedyOf } from "../pki/lost-keys.ts";
import { examineServiceAccountKey } from "../pki/sa-keys.ts";
import type { Target } from "./memory/memory.ts";

/** One public key, and who names it. */
export interface Generation extends Target {
  /** The certificate, or the public key in PEM; unset where only a token's `kid` is known. */
  text?: string | undefined;
  from: string[];
  /** Tokens that name it by their `kid`: a key is only theirs if it verifies one of them. */
  tokens: string[];
}

/** A lost private key; `generations` begin with the candidates for the one in use. None: nothing tells which key it was. */
export interface WantedKey extends SharedKey {
  /** It is the same on every control plane node. */
  shared: boolean;
  generations: Generation[];
  /** So many of the first generations can be the one that the cluster uses: evidence of the same weight names them. */
  candidates: number;
}

interface WantedOptions {
  certificatesDir: string;
  /** Keys that are in their places and sound are wanted as well, where the cluster uses others. */
  others?: boolean | undefined;
  /** The operator's word for one of several candidates: the `kid` of the service-account key. */
  kid?: string | undefined;
  /** The same of a CA: its fingerprint, "sha256:…", or what names it, "kubelet.conf". */
  from?: string | undefined;
}

/** The keys that are not in their places: first those that all control plane nodes share, then those of certificates that are here without their key. */
export function wantedKeys(known: ClusterEvidence, options: WantedOptions): WantedKey[] {
  return [...SHARED_KEYS.flatMap((key) => wantedShared(key, known, options)), ...wantedLeaves(options.certificatesDir)];
}

function wantedShared(key: SharedKey, known: ClusterEvidence, options: WantedOptions): WantedKey[] {
  const { certificatesDir, others } = options;
  const row = CERTS.find(({ file }) => file === key.name);
  const finding = row ? examine(row, undefined, { certificatesDir }) : examineServiceAccountKey(certificatesDir);
  const { generations, candidates } = chosen(
    key,
    row ? authorityGenerations(row.name, known) : saGenerations(known, certificatesDir),
    options,
  );
  const here = keyInPlace(key, certificatesDir);
  const isInUse = !generations[0] || (here && generations.slice(0, candidates).some(({ hash }) => hash === publicKeyHash(here)));
  if (finding.state === "ok" && (!others || isInUse)) return [];
  if (finding.state === "expired" && isInUse) return [];
  // the right key is here: part 1 makes its public half again, or finds the certificate that is known
  if (finding.state !== "ok" && remedyOf(finding, known).do !== "lost") return [];
  return [{ ...key, shared: true, generations, candidates }];
}

type Generations = Pick<WantedKey, "generations" | "candidates">;

/** By the operator's word, where there is one. Errors: Fail where it is none of the known ones. */
function chosen({ name }: SharedKey, known: Generations, { kid, from }: WantedOptions): Generations {
  const isMeant =
    name === "sa" && kid !== undefined
      ? (one: Generation) => one.hash === hashOf(kid)
      : name === "ca" && from !== undefined
        ? (one: Generation) => one.hash === from || one.from.includes(from)
        : undefined;
  if (!isMeant) return known;
  const meant = known.generations.filter(isMeant);
  if (meant.length === 1) return { generations: [...meant, ...known.generations.filter((one) => !isMeant(one))], candidates: 1 };
  throw new Fail(`"${name === "sa" ? kid : from}" names ${meant.length === 0 ? "none" : meant.length} of the known ${name} keys`, {
    hint: `known are: ${known.generations.map(labelOf).join("; ") || "none"}`,
  });
}

/** For the operator: what tells a generation from the others. A service-account key is also called by its kid. */
export function labelOf({ hash, from, text, tokens }: Generation): string {
  const cert = text && certificatesIn(text).length > 0 ? `, made on ${day(madeAt(text))}` : "";
  const kid = tokens.length > 0 ? `kid ${kidOf(hash)}` : hash;
  return `${kid}${cert}, by ${from.join(", ")}`;
}

function hashOf(kid: string): string {
  return `sha256:${Buffer.from(kid, "base64url").toString("hex")}`;
}

export function kidOf(hash: string): string {
  return Buffer.from(hash.slice("sha256:".length), "hex").toString("base64url");
}

/** Authorities that are here, key and all, and have ended: no search brings them back. */
export function endedAuthorities(certificatesDir: string): Finding[] {
  const shared = CERTS.filter((row) => row.shared).map((row) => examine(row, undefined, { certificatesDir }));
  return shared.filter(({ state }) => state === "expired");
}

/** A leaf's key is worth finding only where its certificate is still here; else both are issued anew. */
function wantedLeaves(certificatesDir: string): WantedKey[] {
  return CERTS.filter((row) => !row.shared).flatMap((row) => {
    const finding = examine(row, undefined, { certificatesDir });
    const text = finding.cert?.pem;
    if (!text || readText(finding.paths[1]!) !== undefined) return [];
    const generations = [generation(text, [`pki/${row.file}.crt`])];
    return [{ name: row.file, publicFile: `${row.file}.crt`, keyFile: `${row.file}.key`, shared: false, generations, candidates: 1 }];
  });
}

function authorityGenerations(authority: string, { texts }: ClusterEvidence): Generations {
  const found = new Map<string, Generation>();
  for (const { from, text } of texts.filter((known) => known.ca === authority))
    for (const pem of certificatesIn(text))
      add(
        found,
        attempt(() => generation(pem, [from])),
      );
  const generations = [...found.values()].sort((a, b) => weightOf(b) - weightOf(a) || b.from.length - a.from.length);
  return { generations, candidates: generations.filter((one) => isEqual(one, generations[0]!)).length };
}

/** What the cluster itself goes by; what its pods have mounted; all others, which an attempt at a repair may have changed. */
function weightOf({ from }: Generation): number {
  return from.includes(CLUSTERS_WORD) ? 2 : from.includes(IN_PODS) ? 1 : 0;
}

/** Files of this node may be copies of each other, so their number says nothing. */
function isEqual(one: Generation, first: Generation): boolean {
  const weight = weightOf(one);
  return weight === weightOf(first) && (weight === 0 || one.from.length === first.from.length);
}

function saGenerations({ tokens }: ClusterEvidence, certificatesDir: string): Generations {
  const found = new Map<string, Generation>();
  const sorted = tokens.filter(({ kid, alg }) => kid !== "" && Object.hasOwn(KINDS, alg)).sort(byUse);
  for (const { kid, alg, from, text } of sorted) add(found, { hash: hashOf(kid), kind: KINDS[alg]!, from: [from], tokens: [text] });
  const newest = new Set(sorted.filter((token) => byUse(token, sorted[0]!) === 0).map(({ kid }) => kid));
  const pub = attempt(() => readText(`${certificatesDir}/sa.pub`) ?? "");
  for (const pem of pub instanceof Fail ? [] : publicKeysIn(pub))
    add(
      found,
      attempt(() => generation(pem, ["pki/sa.pub"])),
    );
  return { generations: [...found.values()], candidates: sorted.length > 0 ? newest.size : found.size };
}

/** What pods hold is in use; Secrets may hold what somebody forgot. The key that signed last is the one that signs. */
function byUse(a: KnownToken, b: KnownToken): number {
  return Number(b.from === IN_PODS) - Number(a.from === IN_PODS) || b.issuedAt - a.issuedAt;
}

/** RFC 7518 §3.1. */
const KINDS: Record<string, Target["kind"]> = { RS256: "RSA", ES256: "P-256", ES384: "P-384" };

function add(found: Map<string, Generation>, one: Generation | Fail) {
  if (one instanceof Fail) return;
  const known = found.get(one.hash);
  if (!known) found.set(one.hash, one);
  else
    Object.assign(known, {
      text: known.text ?? one.text,
      publicKey: known.publicKey ?? one.publicKey,
      from: union(known.from, one.from),
      tokens: union(known.tokens, one.tokens),
    });
}

function union(one: string[], other: string[]): string[] {
  return [...new Set([...one, ...other])];
}

/** Of a certificate or of a public key. Errors: Fail where it cannot be read, or is of a kind that kubeadm does not make. */
export function generation(text: string, from: string[]): Generation {
  const publicKey = publicKeyOf(text);
  const kind = keyKind(publicKey);
  if (kind === undefined) throw new Fail("A public key is neither RSA nor of P-256 or P-384", { hint: "kubeadm makes no such keys" });
  return { hash: publicKeyHash(publicKey), kind, publicKey, text, from, tokens: [] };
}

/** The private key that is in its place already, though its public half is not: nothing has to be searched for then. */
export function keyInPlace({ keyFile }: SharedKey, certificatesDir: string): KeyObject | undefined {
  const key = attempt(() => privateKeyOf(readText(`${certificatesDir}/${keyFile}`) ?? ""));
  return key instanceof Fail ? undefined : key;
}

/** The others are made new without anybody outside the control plane noticing. */
export function isDear({ name }: Pick<WantedKey, "name">): boolean {
  return name === "ca" || name === "sa";
}
