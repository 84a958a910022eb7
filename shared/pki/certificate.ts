/** Reads certificates and keys in PEM, compares them, and tells which keys a text trusts. Takes text only. */
import "reflect-metadata";
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  type KeyObject,
  X509Certificate as NodeCertificate,
} from "node:crypto";
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  SubjectAlternativeNameExtension,
  X509Certificate,
} from "@peculiar/x509";
import { attempt, Fail } from "../fail.ts";
import { memo } from "../memo.ts";
import { canonicalIp, type Names } from "./addresses.ts";
import { algorithmLike, type KeyAlgorithm } from "./certs.ts";
import { curveOf, insideOf } from "./keys.ts";

export interface CertInfo {
  /** RFC 4514-like text, in the order of the encoding: "O=system:nodes, CN=system:node:m1". */
  subject: string;
  issuer: string;
  cn: string;
  o: string[];
  notBefore: Date;
  notAfter: Date;
  isCa: boolean;
  sans: Names;
  usages: ("server" | "client")[];
  /** "sha256:<hex of the SPKI's DER>", as kubeadm's --discovery-token-ca-cert-hash. */
  publicKeyHash: string;
  /** A KeyAlgorithm, or another such name ("RSA-1024", "ECDSA-P521", "ed25519"). */
  algorithm: string;
  /** This certificate alone, if the text held several. */
  pem: string;
}

const USAGES: Record<string, "server" | "client"> = {
  "1.3.6.1.5.5.7.3.1": "server",
  "1.3.6.1.5.5.7.3.2": "client",
};

/** All certificates of a text. Unreadable ones are left out. */
export function infosIn(text = ""): Readonly<CertInfo>[] {
  return certificatesIn(text).flatMap((pem) => infoOf(pem) ?? []);
}

/** The first certificate of a text. Fails if there is none, or only a part. */
export function certInfo(text: string): Readonly<CertInfo> {
  return infoOfPem(certificatesIn(text)[0] ?? "");
}

const infoOfPem = memo((pem): Readonly<CertInfo> => parse("certificate", () => readInfo(pem)));

/** Errors: any of the library's, also for an extension that nobody can read. */
function readInfo(pem: string): CertInfo {
  const cert = new X509Certificate(pem);
  const eku = cert.getExtension(ExtendedKeyUsageExtension)?.usages ?? [];
  const key = publicKeyOf(pem);
  return {
    subject: cert.subject,
    issuer: cert.issuer,
    cn: cert.subjectName.getField("CN")[0] ?? "",
    o: cert.subjectName.getField("O"),
    notBefore: cert.notBefore,
    notAfter: cert.notAfter,
    isCa: cert.getExtension(BasicConstraintsExtension)?.ca ?? false,
    sans: sansOf(cert),
    usages: eku.flatMap((usage) => USAGES[String(usage)] ?? []),
    publicKeyHash: publicKeyHash(key),
    algorithm: algorithmName(key),
    pem,
  };
}

/** The same; undefined if there is none that can be read. */
export function infoOf(text = ""): Readonly<CertInfo> | undefined {
  return attempt(() => certInfo(text), undefined);
}

/** A certificate's expiry date: certInfo's notAfter, a hundred times as fast. */
export function endOf(certPem: string): Date {
  return nodeCertificate(certPem).validToDate;
}

export function isValidNow({ notBefore, notAfter }: CertInfo): boolean {
  const now = new Date();
  return notBefore <= now && now < notAfter;
}

/**
 * Its algorithm for new keys beside it, or the nearest that kubeadm makes; undefined if it makes none of this kind.
 */
export function algorithmOf(certPem: string): KeyAlgorithm | undefined {
  return algorithmLike(algorithmName(publicKeyOf(certPem)));
}

/** The public key, or certificate, may be the first of several. */
export function keyMatches(certPem: string, keyPem: string): boolean {
  return spki(publicKeyOf(certPem)).equals(spki(createPublicKey(privateKeyOf(keyPem))));
}

/**
 * Whether a certificate of `caPem` signed the first one of `certPem`: by the bytes of the names, by which Go finds a
 * CA, by the key ids, by which OpenSSL does, and by the signature.
 */
export function signedBy(certPem: string, caPem: string): boolean {
  const cert = nodeCertificate(certPem);
  const isIssuer = (ca: NodeCertificate) =>
    ca.ca &&
    cert.checkIssued(ca) &&
    cert.verify(ca.publicKey) &&
    partsOf(cert.toString()).issuer.equals(partsOf(ca.toString()).subject);
  return certificatesIn(caPem).map(nodeCertificate).some(isIssuer);
}

/** Whether two texts have a certificate in common: two bundles that trust the same CA. */
export function shareCertificate(one: string, other: string): boolean {
  const fingerprints = new Set(certificatesIn(one).map((pem) => nodeCertificate(pem).fingerprint256));
  return certificatesIn(other).some((pem) => fingerprints.has(nodeCertificate(pem).fingerprint256));
}

/** Certificates are backdated for clocks that are late (kubernetes/kubernetes#118922). */
export const BACKDATE_MS = 5 * 60 * 1000;

export function madeAt(certPem: string): Date {
  return new Date(certInfo(certPem).notBefore.getTime() + BACKDATE_MS);
}

/** "sha256:<hex of the SPKI's DER>" of a public key, or of a private key's public half. */
export function publicKeyHash(key: KeyObject): string {
  return spkiHash(spki(key.type === "private" ? createPublicKey(key) : key));
}

export function spkiHash(der: Uint8Array): string {
  return `sha256:${createHash("sha256").update(der).digest("hex")}`;
}

/** The same of the first public key in a certificate or in sa.pub. */
export function hashIn(publicText: string): string {
  return publicKeyHash(publicKeyOf(publicText));
}

/** The family of a key; undefined if kubeadm makes none such. */
export function keyKind(key: KeyObject): "RSA" | "P-256" | "P-384" | undefined {
  if (key.asymmetricKeyType === "rsa") return "RSA";
  const crv = curveOf(key)?.crv;
  return crv === "P-521" ? undefined : crv;
}

export function certificatesIn(text: string): string[] {
  return blocks(text, "CERTIFICATE");
}

/**
 * As client-go's keyutil.ParsePublicKeysPEM: sa.pub may hold several while keys are changed, a certificate is one,
 * and what cannot be read is left out.
 */
export function publicKeysIn(text: string): string[] {
  return blocks(text, "(?:CERTIFICATE|(?:RSA )?PUBLIC KEY)").filter((pem) =>
    orUndefined(() => createPublicKey(pem)),
  );
}

/**
 * The first private key of a text: PKCS#1, SEC1 or PKCS#8, even if other blocks stand before it (EC
 * PARAMETERS, a certificate).
 */
export function privateKeyOf(text: string): KeyObject {
  const [pem = ""] = blocks(text, PRIVATE_KEY);
  return parse("private key", () => createPrivateKey(pem));
}

/** Unreadable ones are left out. */
export function privateKeysIn(text: string): KeyObject[] {
  return blocks(text, PRIVATE_KEY).flatMap((pem) => orUndefined(() => createPrivateKey(pem)) ?? []);
}

const PRIVATE_KEY = "(?:RSA |EC )?PRIVATE KEY";

export function publicKeyOf(text: string): KeyObject {
  const [pem = ""] = publicKeysIn(text);
  return parse("public key", () => createPublicKey(pem));
}

/** The public half of a private key, as `sa.pub` holds it. */
export function publicPem(keyPem: string): string {
  return String(createPublicKey(privateKeyOf(keyPem)).export({ type: "spki", format: "pem" }));
}

function blocks(text: string, label: string): string[] {
  const found = text.matchAll(
    new RegExp(`^-----BEGIN (${label})-----\\s[^-]*(?:-(?!----)[^-]*){0,99}^-----END \\1-----`, "gm"),
  );
  return [...found].map(([block]) => `${block.replaceAll("\r", "")}\n`);
}

function nodeCertificate(text: string): NodeCertificate {
  return parse("certificate", () => new NodeCertificate(certificatesIn(text)[0] ?? ""));
}

function spki(key: KeyObject): Buffer {
  return key.export({ type: "spki", format: "der" });
}

function algorithmName(key: KeyObject): string {
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === "rsa") return `RSA-${modulusLength}`;
  const curve = curveOf(key);
  return curve ? `ECDSA-${curve.crv.replace("-", "")}` : (namedCurve ?? String(key.asymmetricKeyType));
}

function sansOf(cert: X509Certificate): Names {
  const entries = cert.getExtension(SubjectAlternativeNameExtension)?.names.toJSON() ?? [];
  const valuesOf = (type: string) => entries.flatMap((one) => (one.type === type ? one.value : []));
  return { dns: valuesOf("dns"), ips: valuesOf("ip").map(canonicalIp) };
}

/** Undefined instead of an error if OpenSSL or a parser cannot read a stranger's input. */
export function orUndefined<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (err) {
    if (err instanceof Error) return undefined;
    throw err;
  }
}

function parse<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (err) {
    throw new Fail(`Not a readable ${what} in PEM`, {
      hint: "see what it is with: openssl asn1parse -in FILE",
      cause: err,
    });
  }
}

/** Compares its names, byte for byte, and checks its signature. */
export function isSelfSigned(caPem: string): boolean {
  const cert = new NodeCertificate(caPem);
  const { subject, issuer } = partsOf(caPem);
  return subject.equals(issuer) && cert.verify(cert.publicKey);
}

/** RFC 5280 §4.1, each with its head. `rest`: the extensions, after the obsolete unique ids. */
export type Parts = Record<
  "version" | "serial" | "algorithm" | "issuer" | "notBefore" | "subject" | "publicKey" | "rest",
  Buffer
>;

/** Errors: Fail where it is no certificate. */
export function partsOf(certPem: string): Parts {
  return parse("certificate", () => readParts(certPem));
}

function readParts(certPem: string): Parts {
  const [tbs] = insideOf(new NodeCertificate(certPem).raw);
  const pieces = insideOf(tbs!);
  const next = () => pieces.shift()!;
  return {
    version: pieces[0]![0] === 0xa0 ? next() : Buffer.alloc(0),
    serial: next(),
    algorithm: next(),
    issuer: next(),
    notBefore: insideOf(next())[0]!,
    subject: next(),
    publicKey: next(),
    rest: Buffer.concat(pieces),
  };
}

/*
 * The public keys that a text trusts. A CA's file may hold several certificates in any order: the old CA beside the
 * current one (kubernetes.io, "Manual Rotation of CA Certificates"), or an intermediate CA beside its root. sa.pub and
 * the files of --service-account-key-file may hold several keys. So texts are compared by their keys, never by their
 * letters: one right key among them lets a server or a token through.
 */

/** Hashes: "sha256:<hex of the SPKI's DER>". */
export type TrustedKeys = ReadonlySet<string>;

/** The keys of all certificates and public keys in these texts. Unreadable ones are left out. */
export function trustedKeys(...texts: readonly (string | undefined)[]): TrustedKeys {
  return new Set(texts.flatMap((text) => (text ? keysOfText(text) : [])));
}

const keysOfText = memo((text): readonly string[] => {
  return publicKeysIn(text).map(hashIn);
});

/**
 * A CA's text with the certificate first whose key is `keyPem`: of several, that one signs, and `certInfo`, `hashIn`
 * and `issueLeaf` take the first. As it is if there is no such key.
 */
export function signingFirst(caPem: string, keyPem: string | undefined): string {
  const all = certificatesIn(caPem);
  const own =
    all.length > 1 && keyPem ? all.find((pem) => attempt(() => keyMatches(pem, keyPem)) === true) : undefined;
  return own === undefined || own === all[0] ? caPem : [own, ...all.filter((pem) => pem !== own)].join("");
}

/**
 * Whether a text has the key of the CA that signs, the first of `caPem`, in a certificate of any time. Errors: Fail
 * if that CA cannot be read.
 */
export function knowsCa(text: string | undefined, caPem: string): boolean {
  return trustedKeys(text).has(certInfo(caPem).publicKeyHash);
}

/**
 * Whether those who have the text trust what that CA signs: it has the very certificate, or another of its
 * key that is valid now.
 */
export function trustsCa(text: string | undefined, caPem: string): boolean {
  const ca = certInfo(caPem);
  const infos = infosIn(text);
  return infos.some(
    (one) => one.publicKeyHash === ca.publicKeyHash && (one.pem === ca.pem || isValidNow(one)),
  );
}

/** Whether a certificate with its key can be read, is signed by this CA and is valid now. */
export function trustedText(pem: string, caPem: string): boolean {
  return attempt(() => keyMatches(pem, pem) && signedBy(pem, caPem) && isValidNow(certInfo(pem)), false);
}

/** "2027-11-24" */
export function day(date: Date): string {
  return date.toISOString().slice(0, 10);
}
