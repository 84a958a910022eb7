/**
 * Renews a CA's certificate with its own key: all bytes stay but the expiry date and the serial number (RFC 5280 §4.1), so
 * what it signed stays valid. The bytes are copied, not encoded again: Go finds a CA by the bytes of its name, OpenSSL,
 * Java, Python and Node by its key id.
 */
import "reflect-metadata";
import { createHash, type KeyObject, sign, X509Certificate } from "node:crypto";
import { p256, p384, p521 } from "@noble/curves/nist.js";
import * as x509 from "@peculiar/x509";
import { Fail } from "../fail.ts";
import {
  BACKDATE_MS,
  certInfo,
  certificatesIn,
  isSelfSigned,
  keyMatches,
  type Parts,
  partsOf,
  privateKeyOf,
} from "./certificate.ts";
import { contentOf, der, insideOf, pemOf } from "./keys.ts";

interface RenewOptions {
  /** Lifetime of this cluster's CAs. */
  hours: number;
  now?: Date;
  /**
   * PEM certificates of this CA that stay valid. If one names the CA's serial number, that stays: OpenSSL and
   * Java would refuse another.
   */
  signed: readonly string[];
}

/**
 * Each control plane node that has the key makes the same bytes: nothing is random, and the new end is counted from
 * the old one. Errors: Fail if the text is no single self-signed CA certificate of this key, if nobody signs CAs with
 * its algorithm, and if one of `signed` would become invalid.
 */
export function renewCa(
  caPem: string,
  keyPem: string,
  { hours, now = new Date(), signed }: RenewOptions,
): string {
  refuseOther(caPem, keyPem);
  const old = partsOf(caPem);
  const end = timeOf(nextEnd(certInfo(caPem).notAfter, hours, now));
  const serial = signed.some((leaf) => authorityOf(leaf)?.certId) ? old.serial : serialOf(old, end);
  const renewed = signedAgain({ ...old, serial }, der(0x30, old.notBefore, end), keyPem);
  for (const leaf of signed) refuseLost(leaf, renewed, now);
  return renewed;
}

/**
 * All of it stays, but the dates and the serial number: from now on for as long as before. Errors: Fail if this CA
 * has not signed it, or is not valid now.
 */
export function renewLeaf(leafPem: string, ca: { cert: string; key: string }, now = new Date()): string {
  const old = partsOf(leafPem);
  const { notBefore, notAfter } = certInfo(leafPem);
  refuseLost(leafPem, ca.cert, now);
  const begin = now.getTime() - BACKDATE_MS;
  const end = timeOf(new Date(begin + notAfter.getTime() - notBefore.getTime()));
  return signedAgain({ ...old, serial: serialOf(old, end) }, der(0x30, timeOf(new Date(begin)), end), ca.key);
}

function signedAgain(parts: Parts, validity: Buffer, keyPem: string): string {
  const { version, serial, algorithm, issuer, subject, publicKey, rest } = parts;
  const tbs = der(0x30, version, serial, algorithm, issuer, validity, subject, publicKey, rest);
  const signature = signatureOf(privateKeyOf(keyPem), digestIn(algorithm), tbs);
  const bitString = der(0x03, Buffer.from([0]), signature);
  return pemOf("CERTIFICATE", der(0x30, tbs, algorithm, bitString));
}

function refuseLost(leaf: string, renewed: string, now: Date) {
  const why = notIssuedBy(leaf, renewed, now);
  if (why)
    throw new Fail(`"${certInfo(leaf).subject}" would not fit the renewed CA: ${why}`, {
      hint: "renew the CA by the tool that made it; openssl x509 -noout -text shows both. Nothing was written",
    });
}

/** The old end plus whole lifetimes, at least half a lifetime from now. */
function nextEnd(end: Date, hours: number, now: Date): Date {
  const life = hours * 3_600_000;
  const lives = Math.max(1, Math.ceil((now.getTime() + life / 2 - end.getTime()) / life));
  return new Date(end.getTime() + lives * life);
}

/** Positive, 63 bits, as kubeadm's. */
function serialOf({ serial, publicKey }: Parts, until: Buffer): Buffer {
  const bytes = createHash("sha256").update(serial).update(publicKey).update(until).digest().subarray(0, 8);
  bytes[0] = (bytes[0]! & 0x3f) | 0x40;
  return der(0x02, bytes);
}

const CURVES = { prime256v1: p256, secp384r1: p384, secp521r1: p521 };

/** Deterministic: RSA's and Ed25519's signatures are, and for ECDSA this form is (RFC 6979). */
function signatureOf(key: KeyObject, digest: string | null, bytes: Buffer): Buffer {
  const curve = CURVES[key.asymmetricKeyDetails?.namedCurve as keyof typeof CURVES];
  if (!curve || !digest) return sign(digest, bytes, key);
  const secret = Buffer.from(key.export({ format: "jwk" }).d!, "base64url");
  const hash = createHash(digest).update(bytes).digest();
  return Buffer.from(curve.sign(hash, secret, { prehash: false, lowS: false, format: "der" }));
}

function refuseOther(caPem: string, keyPem: string) {
  const count = certificatesIn(caPem).length;
  if (count !== 1)
    throw new Fail(`${count} certificates in one file: which one is to be renewed?`, {
      hint: "put the certificate whose key is here into a file of its own",
    });
  const { isCa, subject, issuer } = certInfo(caPem);
  if (!isCa)
    throw new Fail(`"${subject}" is no CA`, { hint: "kubeadm certs renew renews the other certificates" });
  if (!keyMatches(caPem, keyPem))
    throw new Fail(`The key is not that of "${subject}"`, {
      hint: "find the key of this CA (00-salvage): with another key it is a new CA, which nobody trusts",
    });
  if (!isSelfSigned(caPem))
    throw new Fail(`"${subject}" is signed by "${issuer}", not by itself`, {
      hint: "send a CSR with the CA's key and name to those who signed the CA: only they can renew it",
    });
}

/**
 * Why a strict reader would refuse `caPem` as its issuer at that time. Go is strict about the name, OpenSSL, Java,
 * Python and Node about key id and serial number.
 */
export function notIssuedBy(leafPem: string, caPem: string, at: Date): string | undefined {
  const [leaf, ca] = [new X509Certificate(leafPem), new X509Certificate(caPem)];
  const authority = authorityOf(leafPem);
  const keyId = keyIdOf(caPem);
  if (!partsOf(leafPem).issuer.equals(partsOf(caPem).subject)) return "it names another issuer";
  if (!leaf.verify(ca.publicKey)) return "another key signed it";
  if (authority?.keyId && keyId && authority.keyId !== keyId) return "it names another key id";
  if (authority?.certId && !sameSerial(authority.certId.serialNumber, ca.serialNumber))
    return "it names another serial number";
  return ca.validFromDate <= at && at < ca.validToDate ? undefined : "the CA is not valid then";
}

/** Digest by the OID of the signature's algorithm, in hex. */
const DIGESTS: Record<string, string | null> = {
  "2a864886f70d010105": "sha1",
  "2a864886f70d01010b": "sha256",
  "2a864886f70d01010c": "sha384",
  "2a864886f70d01010d": "sha512",
  "2a8648ce3d040302": "sha256",
  "2a8648ce3d040303": "sha384",
  "2a8648ce3d040304": "sha512",
  "2b6570": null,
};

function digestIn(algorithm: Buffer): string | null {
  const oid = contentOf(insideOf(algorithm)[0]!).toString("hex");
  const digest = DIGESTS[oid];
  if (digest !== undefined) return digest;
  throw new Fail(`The CA is signed by an algorithm that is not known here (OID ${oid} in hex)`, {
    hint: "openssl x509 -noout -text -in ca.crt shows it; renew it by the tool that made it",
  });
}

function authorityOf(certPem: string) {
  return new x509.X509Certificate(certPem).getExtension(x509.AuthorityKeyIdentifierExtension) ?? undefined;
}

export function keyIdOf(caPem: string): string | undefined {
  return new x509.X509Certificate(caPem).getExtension(x509.SubjectKeyIdentifierExtension)?.keyId;
}

/** Hex, whose leading zeros differ. */
function sameSerial(one: string, other: string): boolean {
  return BigInt(`0x${one}`) === BigInt(`0x${other}`);
}

/** UTCTime until 2049, GeneralizedTime from 2050 on (RFC 5280 §4.1.2.5). */
function timeOf(date: Date): Buffer {
  const text = date.toISOString().replace(/\.\d+|[-:T]/g, "");
  return date.getUTCFullYear() < 2050 ? der(0x17, Buffer.from(text.slice(2))) : der(0x18, Buffer.from(text));
}
