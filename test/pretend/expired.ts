/**
 * Certificates as they will be some time later, such as a year and a day: of the same key, signed by the same
 * CA.
 */
import "reflect-metadata";
import { readFileSync, writeFileSync } from "node:fs";
import * as x509 from "@peculiar/x509";
import { parse, stringify } from "yaml";
import { certificatesIn, privateKeyOf } from "../../shared/pki/certificate.ts";
import { CERTS, type Cert } from "../../shared/pki/certs.ts";
import { issueLeaf } from "../../shared/pki/issue.ts";
import { FACTS } from "./cluster.ts";

/** Gives a node new certificates, with new keys, that expired a year ago. */
export async function expireCertificates(
  root: string,
  rows: readonly Cert[] = CERTS.filter((row) => row.ca),
) {
  const path = (file: string) => `${root}/etc/kubernetes/pki/${file}`;
  for (const row of rows) {
    const issuer = CERTS.find(({ name }) => name === row.ca)!.file;
    const pair = {
      cert: readFileSync(path(`${issuer}.crt`), "utf8"),
      key: readFileSync(path(`${issuer}.key`), "utf8"),
    };
    const { cert, key } = await issueLeaf(row, pair, FACTS, { now: new Date(Date.now() - 2 * YEAR_MS) });
    writeFileSync(path(`${row.file}.crt`), cert);
    writeFileSync(path(`${row.file}.key`), key);
  }
}

export const YEAR_MS = 366 * 24 * 3600_000;

/**
 * A certificate, a bundle with its key, or a kubeconfig with an embedded certificate, made `ageMs` earlier;
 * undefined where the text holds none of these.
 */
export async function agedText(file: string, caKey: string, ageMs = YEAR_MS): Promise<string | undefined> {
  const text = file.replaceAll("\r\n", "\n");
  const [cert] = certificatesIn(text);
  if (cert) return text.replace(cert.trim(), await aged(cert, caKey, ageMs));
  return text.includes("client-certificate-data") ? agedKubeconfig(text, caKey, ageMs) : undefined;
}

/** Makes such a file older where it is; one that holds no certificate stays. */
export async function ageFile(path: string, caKey: string, ageMs = YEAR_MS) {
  const text = await agedText(readFileSync(path, "utf8"), caKey, ageMs);
  if (text) writeFileSync(path, text);
}

async function agedKubeconfig(text: string, caKey: string, ageMs: number): Promise<string> {
  const kubeconfig = parse(text);
  for (const { user } of kubeconfig.users) {
    if (!user["client-certificate-data"]) continue;
    const pem = Buffer.from(user["client-certificate-data"], "base64").toString();
    user["client-certificate-data"] = Buffer.from(`${await aged(pem, caKey, ageMs)}\n`).toString("base64");
  }
  return stringify(kubeconfig);
}

async function aged(pem: string, caKey: string, ageMs: number): Promise<string> {
  const old = new x509.X509Certificate(pem);
  const signingKey = await signingKeyOf(caKey);
  const cert = await x509.X509CertificateGenerator.create({
    serialNumber: old.serialNumber,
    subject: old.subjectName,
    issuer: old.issuerName,
    notBefore: new Date(old.notBefore.getTime() - ageMs),
    notAfter: new Date(old.notAfter.getTime() - ageMs),
    publicKey: old.publicKey,
    signingKey,
    signingAlgorithm: { name: signingKey.algorithm.name, hash: "SHA-256" },
    extensions: old.extensions,
  });
  return cert.toString("pem");
}

/** RSA, P-256 or P-384, as kubeadm and the tests make them. */
async function signingKeyOf(pem: string): Promise<CryptoKey> {
  const key = privateKeyOf(pem);
  const rsa = { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
  const namedCurve = key.asymmetricKeyDetails?.namedCurve === "secp384r1" ? "P-384" : "P-256";
  const algorithm = key.asymmetricKeyType === "rsa" ? rsa : { name: "ECDSA", namedCurve };
  return await crypto.subtle.importKey(
    "pkcs8",
    key.export({ type: "pkcs8", format: "der" }),
    algorithm,
    false,
    ["sign"],
  );
}
