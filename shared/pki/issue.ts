/**
 * Issues certificates as kubeadm does (app/util/pkiutil/pki_helpers.go, Go's crypto/x509), without kubeadm:
 * it works where kubeadm is missing, and offline. The lab compares the two field by field.
 */
import "reflect-metadata";
import { randomBytes } from "node:crypto";
import * as x509 from "@peculiar/x509";
import { memo } from "../memo.ts";
import { type Names, names } from "./addresses.ts";
import { BACKDATE_MS, certificatesIn, privateKeyOf, publicKeyOf, signingFirst } from "./certificate.ts";
import { type Cert, type ClusterFacts, subjectOf } from "./certs.ts";
import { type KeyPair, keyPair, signingKey } from "./keys.ts";

/** A certificate and its key in PEM: the key as PKCS#1 or SEC1, as kubeadm writes it. */
export interface Pair {
  cert: string;
  key: string;
}

interface IssueOptions {
  /** A key made beforehand; without it one is made with the facts' algorithm. */
  key?: KeyPair | undefined;
  /** The validity counts from here. Default: now. */
  now?: Date | undefined;
  /** Names and addresses beside those of the row. */
  more?: readonly string[];
  /**
   * Set for a CA that is made again from its key: a PEM certificate that this key has signed. The new CA gets the issuer name and key ID of this certificate.
   */
  signed?: string | undefined;
}

/**
 * The name byte for byte, and the key id and serial number if the certificate has them (RFC 5280 §4.1.2.4, §4.2.1.1).
 * OpenSSL, Java, Python and Node refuse an issuer with another key id or serial number, Go one with another name.
 */
interface Issuer {
  subject: x509.Name;
  keyId?: string | undefined;
  serial?: string | undefined;
}

interface Template {
  cn: string;
  o?: string;
  usages: readonly ("server" | "client")[];
  names?: Names | undefined;
  hours: number;
}

/** A CA's signing key and fields, read once from its pair. */
interface Signer {
  subject: x509.Name;
  keyId: string | undefined;
  key: CryptoKey;
  /** WebCrypto's algorithm. The hash follows the CA's curve, as in Go. */
  name: string;
  hash: string;
}

const HOUR_MS = 60 * 60 * 1000;

const EXTENDED_USAGES = {
  server: x509.ExtendedKeyUsage.serverAuth,
  client: x509.ExtendedKeyUsage.clientAuth,
} as const;

const signers = new WeakMap<Pair, Promise<Signer>>();

/** A root: signed by itself, its own CN as its DNS name. */
export async function issueCa(row: Cert, facts: ClusterFacts, options: IssueOptions = {}): Promise<Pair> {
  const pair = options.key ?? (await keyPair(facts.keyAlgorithm));
  const { cn } = subjectOf(row, facts);
  const root: Issuer = options.signed ? issuerIn(options.signed) : { subject: nameOf({ cn }) };
  const signer = { subject: root.subject, keyId: undefined, ...(await signingKey(privateKeyOf(pair.key))) };
  const template = { cn, usages: [], names: { dns: [cn], ips: [] }, hours: facts.caValidityHours };
  return { cert: await sign(template, signer, pair.pub, options.now, root), key: pair.key };
}

function issuerIn(certPem: string): Issuer {
  const cert = new x509.X509Certificate(certPem);
  const authority = cert.getExtension(x509.AuthorityKeyIdentifierExtension);
  return { subject: cert.issuerName, keyId: authority?.keyId, serial: authority?.certId?.serialNumber };
}

/** It may expire after its CA, as in kubeadm. */
export async function issueLeaf(
  row: Cert,
  ca: Pair,
  facts: ClusterFacts,
  options: IssueOptions = {},
): Promise<Pair> {
  const own = row.names?.(facts);
  const all = own && names([...own.dns, ...own.ips, ...(options.more ?? [])]);
  return issue({ ...subjectOf(row, facts), usages: row.usages, names: all }, ca, facts, options);
}

/** A user's certificate for a kubeconfig: `cn` is the user, `o` the group. */
export async function issueClient(
  user: { cn: string; o?: string },
  ca: Pair,
  facts: ClusterFacts,
  options: IssueOptions = {},
): Promise<Pair> {
  return issue({ ...user, usages: ["client"] }, ca, facts, options);
}

async function issue(
  template: Omit<Template, "hours">,
  ca: Pair,
  facts: ClusterFacts,
  options: IssueOptions,
): Promise<Pair> {
  const pair = options.key ?? (await keyPair(facts.keyAlgorithm));
  const cert = await sign(
    { ...template, hours: facts.certificateValidityHours },
    await signerOf(ca),
    pair.pub,
    options.now,
  );
  return { cert, key: pair.key };
}

/** `root`: it is signed by itself. */
async function sign(
  template: Template,
  signer: Signer,
  pub: string,
  now = new Date(),
  root?: Issuer,
): Promise<string> {
  const publicKey = new x509.PublicKey(publicKeyOf(pub).export({ type: "spki", format: "der" }));
  const cert = await x509.X509CertificateGenerator.create({
    serialNumber: root?.serial ?? serial(),
    issuer: signer.subject,
    subject: root?.subject ?? nameOf(template),
    notBefore: new Date(now.getTime() - BACKDATE_MS),
    notAfter: new Date(now.getTime() + template.hours * HOUR_MS),
    publicKey,
    signingKey: signer.key,
    signingAlgorithm: { name: signer.name, hash: signer.hash },
    extensions: extensions(template, signer, root && { keyId: root.keyId ?? (await sha1KeyId(publicKey)) }),
  });
  return `${cert.toString("pem")}\n`;
}

/**
 * Go's order: key usage, extended usage, constraints, key ids (the own one on roots, the CA's on leaves),
 * names.
 */
function extensions(
  template: Template,
  signer: Signer,
  root: { keyId: string } | undefined,
): x509.Extension[] {
  const { digitalSignature, keyEncipherment, keyCertSign } = x509.KeyUsageFlags;
  const { usages, names } = template;
  return [
    new x509.KeyUsagesExtension(digitalSignature | keyEncipherment | (root ? keyCertSign : 0), true),
    ...(usages.length > 0
      ? [new x509.ExtendedKeyUsageExtension(usages.map((usage) => EXTENDED_USAGES[usage]))]
      : []),
    new x509.BasicConstraintsExtension(root !== undefined, undefined, true),
    ...(root ? [new x509.SubjectKeyIdentifierExtension(root.keyId)] : []),
    ...(signer.keyId ? [new x509.AuthorityKeyIdentifierExtension(signer.keyId)] : []),
    ...(names ? [new x509.SubjectAlternativeNameExtension(generalNames(names))] : []),
  ];
}

/** The key id of a CA that is otherwise unknown: as kubeadm until 1.34 (RFC 5280 §4.2.1.2, method 1). */
async function sha1KeyId(publicKey: x509.PublicKey): Promise<string> {
  return (await x509.SubjectKeyIdentifierExtension.create(publicKey)).keyId;
}

function generalNames({ dns, ips }: Names): x509.JsonGeneralNames {
  return [
    ...dns.map((value) => ({ type: "dns" as const, value })),
    ...ips.map((value) => ({ type: "ip" as const, value })),
  ];
}

/** O before CN, each a PrintableString if its letters allow it, else a UTF8String, as Go writes them. */
function nameOf({ cn, o }: { cn: string; o?: string }): x509.Name {
  const text = (value: string): x509.JsonAttributeObject =>
    /^[A-Za-z0-9 '()+,\-./:=?]*$/.test(value) ? { printableString: value } : { utf8String: value };
  return new x509.Name([...(o ? [{ O: [text(o)] }] : []), { CN: [text(cn)] }]);
}

/** Random in [1, 2^63 − 1), as kubeadm: positive, and 8 bytes at most. */
function serial(): string {
  const number = BigInt.asUintN(63, randomBytes(8).readBigUInt64BE());
  return number === 0n || number === (1n << 63n) - 1n ? serial() : number.toString(16).padStart(16, "0");
}

function signerOf(ca: Pair): Promise<Signer> {
  const signer = signers.get(ca) ?? readSigner(ca);
  signers.set(ca, signer);
  return signer;
}

async function readSigner(ca: Pair): Promise<Signer> {
  const cert = certificatesIn(signingFirst(ca.cert, ca.key))[0] ?? "";
  return { ...issuedBy(cert), ...(await signingKey(privateKeyOf(ca.key))) };
}

const issuedBy = memo((pem): Pick<Signer, "subject" | "keyId"> => {
  const cert = new x509.X509Certificate(pem);
  return { subject: cert.subjectName, keyId: cert.getExtension(x509.SubjectKeyIdentifierExtension)?.keyId };
});
