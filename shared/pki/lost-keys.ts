/**
 * A shared key that is here, though its public half is not, or is another's: whether it is the cluster's, and what brings the public half back.
 * A stale ca.crt, or one that cannot be read, is no reason for a new authority; nor is a key of unknown origin one to sign with. A key is made
 * anew only where it is lost and that was asked for.
 */
import { X509Certificate } from "node:crypto";
import { attempt, Fail } from "../fail.ts";
import { readText } from "../files/files.ts";
import {
  type CertInfo,
  certInfo,
  certificatesIn,
  isValidNow,
  keyMatches,
  madeAt,
  privateKeyOf,
  publicKeyOf,
  publicPem,
} from "./certificate.ts";
import { CERTS, type Cert } from "./certs.ts";
import type { Finding } from "./examine.ts";
import { serviceAccountKeyId } from "./sa-keys.ts";

/** A text with certificates of an authority, and where it stands. */
export interface AuthorityText {
  authority: "ca" | "front-proxy-ca" | "etcd-ca";
  /** For the operator: "kube-root-ca.crt", "pki/ca.crt". */
  from: string;
  text: string;
}

/** What the cluster's public keys are known by: certificates, and the `kid` of tokens. */
export interface Evidence {
  texts: readonly AuthorityText[];
  tokens: readonly { kid: string }[];
}

/**
 * What a finding that is not ok comes to. `certificate`: a known one of this very key; `again`: the key is here, its public half is made of it;
 * `lost`: the key is not here, or is none of this cluster's (then `why` says so).
 */
export type Remedy = { do: "certificate"; pem: string; from: string } | { do: "again" } | { do: "lost"; why?: string };

const STRANGE: Remedy = { do: "lost", why: "the key here is none that the cluster is known by" };

/** Where the cluster itself says which authority it goes by. */
export const CLUSTERS_WORD = "kube-root-ca.crt";

/** Errors: none; what cannot be read counts as not there. */
export function remedyOf(finding: Finding, evidence: Evidence): Remedy {
  const [first, second] = finding.paths.map(textOf);
  const row = CERTS.find(({ name }) => name === finding.name);
  const key = row ? second : first;
  if (!key || attempt(() => privateKeyOf(key)) instanceof Fail) return { do: "lost" };
  return row ? authorityRemedy(row, finding, { key, cert: first }, evidence) : serviceAccountRemedy(key, second, evidence);
}

function authorityRemedy(row: Cert, finding: Finding, here: { key: string; cert: string | undefined }, { texts }: Evidence): Remedy {
  const known = knownCertificates(row, here.cert, texts);
  const fit = known.find(({ info }) => isUsable(info) && keyMatches(info.pem, here.key));
  const [inUse] = known;
  if (fit && (fit.info.publicKeyHash === inUse!.info.publicKeyHash || madeAt(fit.info.pem) > madeAt(inUse!.info.pem)))
    return { do: "certificate", pem: fit.info.pem, from: fit.from };
  if (!["certificate missing", "unreadable", "does not match its key"].includes(finding.state)) return { do: "lost" };
  if (known.length > 0) return STRANGE;
  const signed = signedLeaves(row, finding, here.key);
  if (signed.length > 0 && !signed.includes(true)) return STRANGE;
  return finding.state === "does not match its key" && signed.length === 0 ? { do: "lost" } : { do: "again" };
}

/** What else than the file itself names this authority's certificates: what the cluster goes by first, then those that end last. */
function knownCertificates(row: Cert, cert: string | undefined, texts: readonly AuthorityText[]) {
  const others = texts.filter(
    ({ authority, from, text }) => authority === row.name && from !== `pki/${row.file}.crt` && !isCopy(from, text, cert),
  );
  const found = others.flatMap(({ from, text }) => infosIn(text).map((info) => ({ from, info })));
  return found.sort(
    (a, b) => Number(b.from === CLUSTERS_WORD) - Number(a.from === CLUSTERS_WORD) || b.info.notAfter.getTime() - a.info.notAfter.getTime(),
  );
}

/** The kubelet's clientCAFile mostly is pki/ca.crt itself: no other witness. */
function isCopy(from: string, text: string, cert: string | undefined): boolean {
  return from === KUBELETS_CA && text === cert;
}

/** A witness of the cluster CA. */
export const KUBELETS_CA = "the kubelet's client CA";

function isUsable(info: CertInfo): boolean {
  return info.isCa && isValidNow(info);
}

/** Of each certificate that the authority should have signed and that is here: whether it was signed with this key. */
function signedLeaves(row: Cert, finding: Finding, key: string): boolean[] {
  const pki = finding.paths[0]!.slice(0, -`/${row.file}.crt`.length);
  const leaves = CERTS.filter(({ ca }) => ca === row.name).flatMap(({ file }) =>
    certificatesIn(textOf(`${pki}/${file}.crt`) ?? "").slice(0, 1),
  );
  return leaves.flatMap((pem) => {
    const leaf = attempt(() => new X509Certificate(certInfo(pem).pem));
    return leaf instanceof Fail ? [] : [leaf.verify(publicKeyOf(publicPem(key)))];
  });
}

/** sa.pub that tokens were checked by counts more than a key that signed none of them. */
function serviceAccountRemedy(key: string, pub: string | undefined, { tokens }: Evidence): Remedy {
  const kids = new Set(tokens.map(({ kid }) => kid));
  if (kids.size === 0 || kids.has(serviceAccountKeyId(publicPem(key)))) return { do: "again" };
  const kept = attempt(() => serviceAccountKeyId(pub ?? ""));
  return pub === undefined || kept instanceof Fail || kids.has(kept) ? STRANGE : { do: "again" };
}

/** What cannot be read counts as not there. */
function infosIn(text: string): CertInfo[] {
  return certificatesIn(text).flatMap((pem) => {
    const info = attempt(() => certInfo(pem));
    return info instanceof Fail ? [] : [info];
  });
}

function textOf(path: string): string | undefined {
  const text = attempt(() => readText(path));
  return text instanceof Fail ? undefined : text;
}

/**
 * A sound pair that is not the cluster's: its CA is none that etcd's data names, and was made before those. One made later is a new one, as
 * part 1 makes it. Returns its fingerprint, or undefined.
 */
export function foreignCa(certPem: string | undefined, clustersPem: string): string | undefined {
  const own = attempt(() => certInfo(certPem ?? ""));
  const known = infosIn(clustersPem);
  if (own instanceof Fail || known.length === 0 || known.some(({ publicKeyHash }) => publicKeyHash === own.publicKeyHash)) return undefined;
  return known.every(({ pem }) => madeAt(pem) > madeAt(own.pem)) ? own.publicKeyHash : undefined;
}
