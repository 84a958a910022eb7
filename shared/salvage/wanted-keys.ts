/**
 * Which private keys are lost on this node, and by which public key each will be proved. A key that belongs
 * to no public key that the cluster knows is not ours, whatever it looks like.
 */
import type { KeyObject } from "node:crypto";
import type { ClusterEvidence } from "../facts/evidence.ts";
import { attempt, Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import { privateKeyOf, publicKeyHash } from "../pki/certificate.ts";
import { CERTS, SHARED_KEYS, type SharedKey } from "../pki/certs.ts";
import { type Finding, pkiFindings } from "../pki/examine.ts";
import { remedyOf } from "../pki/lost-keys.ts";
import { say } from "../run.ts";
import {
  caGenerations,
  type Generation,
  type Generations,
  generation,
  hashOf,
  labelOf,
  saGenerations,
} from "./generations.ts";

/** A lost private key, and the public keys that can prove it. */
export interface WantedKey extends SharedKey, Generations {
  /** It is the same on every control plane node. */
  shared: boolean;
}

export interface WantedOptions {
  certificatesDir: string;
  /** Keys that are in their places and sound are wanted as well, where the cluster uses others. */
  others?: boolean | undefined;
  /** The operator's choice among several candidates: the `kid` of the service-account key. */
  kid?: string | undefined;
  /** The same of a CA: its fingerprint, "sha256:…", or what names it, "kubelet.conf". */
  from?: string | undefined;
}

/**
 * The keys that are not in their places: first those that all control plane nodes share, then those of
 * certificates without their key.
 */
export function wantedKeys(known: ClusterEvidence, options: WantedOptions): WantedKey[] {
  const findings = pkiFindings({ certs: CERTS, serviceAccountKey: true }, undefined, options);
  return [
    ...SHARED_KEYS.flatMap((key) => wantedShared(key, known, { ...options, findings })),
    ...findings.flatMap(wantedLeaf),
  ];
}

function wantedShared(
  key: SharedKey,
  known: ClusterEvidence,
  options: WantedOptions & { findings: readonly Finding[] },
): WantedKey[] {
  const { certificatesDir, others, findings } = options;
  const row = CERTS.find(({ file }) => file === key.name);
  const finding = findings.find(({ name }) => name === (row?.name ?? key.name))!;
  const all = row ? caGenerations(row.name, known) : saGenerations(known, certificatesDir);
  const { generations, candidates } = chosen(key, all, options);
  const here = keyInPlace(key, certificatesDir);
  const isInUse =
    !generations[0] ||
    (here && generations.slice(0, candidates).some(({ hash }) => hash === publicKeyHash(here)));
  if (finding.state === "ok" && (!others || isInUse)) return [];
  if (finding.state === "expired" && isInUse) return [];
  // the right key is here: part 1 makes its public half again, or finds the certificate that is known
  if (finding.state !== "ok" && remedyOf(finding, known).do !== "lost") return [];
  return [{ ...key, shared: true, generations, candidates }];
}

/**
 * The generation that the operator names is the only candidate. Errors: Fail where it is none of the known
 * ones.
 */
function chosen({ name }: SharedKey, known: Generations, { kid, from }: WantedOptions): Generations {
  const said = name === "sa" ? kid : name === "ca" ? from : undefined;
  if (said === undefined) return known;
  const isMeant = (one: Generation) =>
    name === "sa" ? one.hash === hashOf(said) : one.hash === said || one.from.includes(said);
  const meant = known.generations.filter(isMeant);
  const others = known.generations.filter((one) => !isMeant(one));
  if (meant.length === 1) return { generations: [...meant, ...others], candidates: 1 };
  throw new Fail(`"${said}" names ${meant.length === 0 ? "none" : meant.length} of the known ${name} keys`, {
    hint: `choose a known one: ${known.generations.map(labelOf).join("; ") || "none"}`,
  });
}

/** A leaf's key is worth finding only where its certificate is still here; else both are issued anew. */
function wantedLeaf({ row, cert, paths }: Finding): WantedKey[] {
  if (!row || "path" in row || row.shared || !cert || readText(paths[1]!) !== undefined) return [];
  const [name, publicFile, keyFile] = [row.file, `${row.file}.crt`, `${row.file}.key`];
  const generations = [generation(cert.pem, [`pki/${publicFile}`])];
  return [{ name, publicFile, keyFile, shared: false, generations, candidates: 1 }];
}

/**
 * CAs that are here with their keys, have expired, and are not ours to renew: a company's. A search cannot
 * help there.
 */
export function expiredCas(known: ClusterEvidence, certificatesDir: string): Finding[] {
  const shared = pkiFindings({ certs: CERTS.filter((row) => row.shared) }, undefined, { certificatesDir });
  return shared.filter((finding) => finding.state !== "ok" && remedyOf(finding, known).do === "elsewhere");
}

/** The private key that is in its place already, though its public half is not: no search is needed then. */
export function keyInPlace({ keyFile }: SharedKey, certificatesDir: string): KeyObject | undefined {
  return attempt(() => privateKeyOf(readText(`${certificatesDir}/${keyFile}`) ?? ""), undefined);
}

/**
 * A new one would be noticed outside the control plane: every node rejoins, or pods need new tokens. The
 * other keys can be made new.
 */
export function isIrreplaceable({ name }: Pick<WantedKey, "name">): boolean {
  return name === "ca" || name === "sa";
}

/** For the operator: a line for the key in use, and for each other one that is known. */
export function sayLost({ keyFile, generations, candidates }: WantedKey) {
  const lines = generations.map(({ hash, kind, from }) => `${hash}, ${kind}, named by ${from.join(", ")}`);
  say(`${keyFile}: lost; ${lines[0] ?? "nothing here shows which key it was"}`);
  for (const [i, line] of lines.slice(1).entries())
    say(`  or ${i + 1 < candidates ? "" : "an earlier one, "}${line}`);
}
