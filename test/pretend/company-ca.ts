/** A CA of the cluster that is no root: the root of its company, which is on no node, has signed it. */
import "reflect-metadata";
import { readFileSync } from "node:fs";
import * as x509 from "@peculiar/x509";
import { privateKeyOf } from "../../shared/pki/certificate.ts";
import { certRow } from "../../shared/pki/certs.ts";
import { issueCa } from "../../shared/pki/issue.ts";
import { signingKey } from "../../shared/pki/keys.ts";
import { FACTS, write } from "./cluster.ts";

const DAY_MS = 86_400_000;
const root = await issueCa({ ...certRow("ca"), cn: "company" }, FACTS);

/** The root that is on no node, unless somebody has put it beside the CA. */
export const companyRoot = root.cert;

/** The same CA, its subject and its key, signed by the company's root. `until`: when it expires. */
export async function ofCompany(caPem: string, until = new Date(Date.now() + 100 * DAY_MS)): Promise<string> {
  const [own, issuer] = [new x509.X509Certificate(caPem), new x509.X509Certificate(root.cert)];
  const { key, name, hash } = await signingKey(privateKeyOf(root.key));
  const cert = await x509.X509CertificateGenerator.create({
    serialNumber: "05",
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

/** Gives all three CAs of a node to the company. Returns the cluster's. */
export async function giveToCompany(nodeRoot: string): Promise<string> {
  const path = (file: string) => `${nodeRoot}/etc/kubernetes/pki/${file}.crt`;
  const cas = new Map<string, string>();
  for (const file of ["ca", "etcd/ca", "front-proxy-ca"]) {
    cas.set(file, await ofCompany(readFileSync(path(file), "utf8")));
    write(path(file), cas.get(file)!, 0o644);
  }
  return cas.get("ca")!;
}
