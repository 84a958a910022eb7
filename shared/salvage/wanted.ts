/**
 * Which private keys are lost on this master, and how each will be proved: by the public key it must belong to. A key that belongs to none that
 * the cluster is known by is none of ours, however it looks.
 *
 * Several generations may be known, where a key was changed before. The one the cluster uses is told by what goes by it, never by its age:
 * an authority by kube-root-ca.crt and by how many places name it, the service-account key by the newest token that it signed.
 */
import type { KeyObject } from "node:crypto";
import { Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { SHARED_KEYS, type SharedKey } from "../hand-over/bundle.ts";
import { remedyOf } from "../pki/authority-key.ts";
import { certificatesIn, keyKind, privateKeyOf, publicKeyHash, publicKeyOf, publicKeysIn } from "../pki/certificate.ts";
import { CERTS } from "../pki/certs.ts";
import { examine, examineServiceAccountKey, type Finding } from "../pki/pki.ts";
import { attempt } from "../pki/verdicts.ts";
import { IN_PODS, type Known, type KnownToken } from "./known.ts";
import type { Target } from "./memory/memory.ts";

/** One public key, and who names it. */
export interface Generation extends Target {
  /** The certificate, or the public key in PEM; unset where only a token's `kid` is known. */
  text?: string | undefined;
  from: string[];
}

/** A lost private key; `generations` begin with the one that the cluster uses. None: nothing tells which key it was. */
export interface Wanted extends SharedKey {
  /** It is the same on every master. */
  shared: boolean;
  generations: Generation[];
}

export interface WantedOptions {
  certificatesDir: string;
  /** Keys that are in their places and sound are wanted as well, where the cluster uses others. */
  others?: boolean | undefined;
}

/** The keys that are not in their places: first those that all masters share, then those of certificates that are here without their key. */
export function wantedKeys(known: Known, options: WantedOptions): Wanted[] {
  return [...SHARED_KEYS.flatMap((key) => wantedShared(key, known, options)), ...wantedLeaves(options.certificatesDir)];
}

function wantedShared(key: SharedKey, known: Known, { certificatesDir, others }: WantedOptions): Wanted[] {
  const row = CERTS.find(({ file }) => file === key.name);
  const finding = row ? examine(row, undefined, { certificatesDir }) : examineServiceAccountKey(certificatesDir);
  const generations = row ? authorityGenerations(row.name, known) : serviceAccountGenerations(known, certificatesDir);
  const here = keyInPlace(key, certificatesDir);
  const isInUse = !generations[0] || (here && publicKeyHash(here) === generations[0].hash);
  if (finding.state === "ok" && (!others || isInUse)) return [];
  if (finding.state === "expired" && isInUse) return [];
  // the right key is here: part 1 makes its public half again, or finds the certificate that is known
  if (finding.state !== "ok" && remedyOf(finding, known).do !== "lost") return [];
  return [{ ...key, shared: true, generations }];
}

/** Authorities that are here, key and all, and have ended: no search brings them back. */
export function endedAuthorities(certificatesDir: string): Finding[] {
  const shared = CERTS.filter((row) => row.shared).map((row) => examine(row, undefined, { certificatesDir }));
  return shared.filter(({ state }) => state === "expired");
}

/** A leaf's key is worth finding only where its certificate is still here; else both are issued anew. */
function wantedLeaves(certificatesDir: string): Wanted[] {
  return CERTS.filter((row) => !row.shared).flatMap((row) => {
    const finding = examine(row, undefined, { certificatesDir });
    const text = finding.cert?.pem;
    if (!text || readText(finding.paths[1]!) !== undefined) return [];
    const generations = [generation(text, [`pki/${row.file}.crt`])];
    return [{ name: row.file, publicFile: `${row.file}.crt`, keyFile: `${row.file}.key`, shared: false, generations }];
  });
}

function authorityGenerations(authority: string, { texts }: Known): Generation[] {
  const found = new Map<string, Generation>();
  for (const { from, text } of texts.filter((known) => known.authority === authority))
    for (const pem of certificatesIn(text))
      add(
        found,
        attempt(() => generation(pem, [from])),
      );
  const rank = ({ from }: Generation) => from.length + (from.includes("kube-root-ca.crt") ? 100 : 0);
  return [...found.values()].sort((a, b) => rank(b) - rank(a));
}

function serviceAccountGenerations({ tokens }: Known, certificatesDir: string): Generation[] {
  const found = new Map<string, Generation>();
  for (const { kid, algorithm, from } of [...tokens].sort(byUse)) {
    const kind = KINDS[algorithm];
    const hash = `sha256:${Buffer.from(kid, "base64url").toString("hex")}`;
    if (kind) add(found, { hash, kind, from: [from] });
  }
  const pub = attempt(() => readText(`${certificatesDir}/sa.pub`) ?? "");
  for (const pem of pub instanceof Fail ? [] : publicKeysIn(pub))
    add(
      found,
      attempt(() => generation(pem, ["pki/sa.pub"])),
    );
  return [...found.values()];
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
    Object.assign(known, { text: known.text ?? one.text, publicKey: known.publicKey ?? one.publicKey, from: union(known.from, one.from) });
}

function union(one: string[], other: string[]): string[] {
  return [...new Set([...one, ...other])];
}

/** Of a certificate or of a public key. Errors: Fail where it cannot be read, or is of a kind that kubeadm does not make. */
export function generation(text: string, from: string[]): Generation {
  const publicKey = publicKeyOf(text);
  const kind = keyKind(publicKey);
  if (kind === undefined) throw new Fail("A public key is neither RSA nor of P-256 or P-384", { hint: "kubeadm makes no such keys" });
  return { hash: publicKeyHash(publicKey), kind, publicKey, text, from };
}

/** The private key that is in its place already, though its public half is not: nothing has to be searched for then. */
export function keyInPlace({ keyFile }: SharedKey, certificatesDir: string): KeyObject | undefined {
  const key = attempt(() => privateKeyOf(readText(`${certificatesDir}/${keyFile}`) ?? ""));
  return key instanceof Fail ? undefined : key;
}

/** The others are made new without anybody outside the masters noticing. */
export function isDear({ name }: Pick<Wanted, "name">): boolean {
  return name === "ca" || name === "sa";
}
