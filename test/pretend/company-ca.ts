/** A CA of the cluster that is no root: the root of its company, which is on no node, has signed it. */
import "reflect-metadata";
import { readFileSync } from "node:fs";
import * as x509 from "@peculiar/x509";
import { privateKeyOf } from "../../shared/pki/certificate.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa } from "../../shared/pki/issue.ts";
import { signingKey } from "../../shared/pki/keys.ts";
import { FACTS, write } from "./cluster.ts";
import { ASIDE } from "./renewed.ts";

const DAY_MS = 86_400_000;
const root = await issueCa({ ...certRow("ca"), cn: "company" }, FACTS);

const later = () => new Date(Date.now() + 100 * DAY_MS);

/** The root that is on no node, unless somebody has put it beside the CA. */
export const companyRoot = root.cert;

/** What the company makes of a CSR for a CA of which it has the certificate from before. */
export async function answerTo(csrPem: string, caPem: string): Promise<string> {
  const [csr, own] = [new x509.Pkcs10CertificateRequest(csrPem), new x509.X509Certificate(caPem)];
  const isOwn =
    csr.publicKey.toString() === own.publicKey.toString() &&
    csr.subject === own.subject &&
    (await csr.verify());
  if (!isOwn) throw new Error("the CSR is not of this CA's key and name");
  return await ofCompany(caPem);
}

/** The same CA, its subject and its key, signed by the company's root. `until`: when it expires. */
export async function ofCompany(caPem: string, until = later()): Promise<string> {
  const [own, issuer] = [new x509.X509Certificate(caPem), new x509.X509Certificate(root.cert)];
  const { key, name, hash } = await signingKey(privateKeyOf(root.key));
  const cert = await x509.X509CertificateGenerator.create({
    serialNumber: `05${Math.round(until.getTime() / 1000).toString(16)}`,
    subject: own.subjectName,
    issuer: issuer.subjectName,
    notBefore: own.notBefore,
    notAfter: until,
    publicKey: own.publicKey,
    signingKey: key,
    signingAlgorithm: { name, hash },
    extensions: own.extensions,
  });
  return `${cert.toString("pem")}\n`;
}

/** Gives all three CAs of a node to the company, in its kubeconfigs, too. Returns the cluster's. `until`: when they expire. */
export async function giveToCompany(nodeRoot: string, until = later()): Promise<string> {
  const path = (file: string) => `${nodeRoot}/etc/kubernetes/pki/${file}.crt`;
  const cas = new Map<string, string>();
  for (const file of ["ca", "etcd/ca", "front-proxy-ca"]) {
    cas.set(file, await ofCompany(readFileSync(path(file), "utf8"), until));
    write(path(file), cas.get(file)!, 0o644);
  }
  for (const name of ["admin", "controller-manager", "scheduler", "kubelet"]) {
    const config = `${nodeRoot}/etc/kubernetes/${name}.conf`;
    const data = /(certificate-authority-data: ).*/;
    write(config, readFileSync(config, "utf8").replace(data, `$1${btoa(cas.get("ca")!)}`));
  }
  return cas.get("ca")!;
}

/** The company's CAs have expired, and what it has signed since is in place: nothing else has happened. */
export async function renewedByCompany(nodeRoot: string, expired: Date) {
  await giveToCompany(nodeRoot, expired);
  for (const file of ["ca", "etcd/ca", "front-proxy-ca"]) {
    const path = `/etc/kubernetes/pki/${file}.crt`;
    write(`${nodeRoot}${ASIDE}${path}`, readFileSync(nodeRoot + path, "utf8"), 0o644);
  }
  await giveToCompany(nodeRoot);
}
