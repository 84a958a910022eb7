/** Who signed a certificate: by the rules of Go and OpenSSL, which check it. */
import "reflect-metadata";
import { expect, test } from "bun:test";
import * as x509 from "@peculiar/x509";
import { Fail } from "../../../shared/fail.ts";
import {
  certInfo,
  infoOf,
  infosIn,
  partsOf,
  privateKeyOf,
  publicKeyOf,
  signedBy,
  trustedKeys,
  trustsCa,
} from "../../../shared/pki/certificate.ts";
import { certRow } from "../../../shared/pki/certs.ts";
import { issueCa, issueLeaf } from "../../../shared/pki/issue.ts";
import { signingKey } from "../../../shared/pki/keys.ts";
import { testFacts } from "../../pretend/facts.ts";

const FACTS = testFacts();
const ca = await issueCa(certRow("ca"), FACTS);
const leaf = await issueLeaf(certRow("apiserver"), ca, FACTS);

/** Another certificate of the CA's key: with its name and key id unless these are given. */
async function ofItsKey({ cn = "kubernetes", isCa = true, keyId = "" } = {}): Promise<string> {
  const { key, ...signingAlgorithm } = await signingKey(privateKeyOf(ca.key));
  const own = new x509.X509Certificate(ca.cert).getExtension(x509.SubjectKeyIdentifierExtension)!;
  const name = new x509.Name([{ CN: [{ printableString: cn }] }]);
  const cert = await x509.X509CertificateGenerator.create({
    subject: name,
    issuer: name,
    publicKey: new x509.PublicKey(publicKeyOf(ca.cert).export({ type: "spki", format: "der" })),
    ...{ signingKey: key, signingAlgorithm },
    extensions: [
      new x509.BasicConstraintsExtension(isCa, undefined, true),
      new x509.SubjectKeyIdentifierExtension(keyId || own.keyId),
    ],
  });
  return `${cert.toString("pem")}\n`;
}

test.each<[string, boolean, Parameters<typeof ofItsKey>[0]]>([
  ["the same CA, made again", true, {}],
  ["no CA: such a certificate signs nothing, whoever has its key", false, { isCa: false }],
  ["one with another name, by which Go finds no CA", false, { cn: "etcd-ca" }],
  ["one with another key id, by which OpenSSL finds no CA", false, { keyId: "0102030405" }],
])("where the signature verifies with the issuer's key, and the issuer is %s: %p", async (_, is, how) => {
  const issuer = await ofItsKey(how);
  expect(signedBy(leaf.cert, issuer)).toBe(is);
  expect(signedBy(leaf.cert, issuer + ca.cert)).toBe(true);
});

/** A certificate of the CA's key, with an extension whose content is no DER. */
async function withMalformed(oid: string): Promise<string> {
  const { key, ...signingAlgorithm } = await signingKey(privateKeyOf(ca.key));
  const cert = await x509.X509CertificateGenerator.create({
    subject: "CN=kubernetes",
    issuer: "CN=kubernetes",
    publicKey: new x509.PublicKey(publicKeyOf(ca.cert).export({ type: "spki", format: "der" })),
    ...{ signingKey: key, signingAlgorithm },
    extensions: [new x509.Extension(oid, false, new Uint8Array([0x30, 0x7f, 0x01]))],
  });
  return `${cert.toString("pem")}\n`;
}

test.each([
  ["SAN", "2.5.29.17"],
  ["extended key usage", "2.5.29.37"],
  ["basic constraints", "2.5.29.19"],
  ["key usage", "2.5.29.15"],
])(
  "a certificate with a malformed %s is unreadable: as a bundle's, as the CA's file, as a pod's",
  async (_, oid) => {
    const bad = await withMalformed(oid);
    expect(infoOf(bad)).toBeUndefined();
    expect(infosIn(`${bad}${ca.cert}`).map(({ cn }) => cn)).toEqual(["kubernetes"]);
    expect(() => certInfo(bad)).toThrow(Fail);
    expect(signedBy(leaf.cert, `${bad}${ca.cert}`)).toBe(true);
    expect(trustsCa(`${bad}${ca.cert}`, ca.cert)).toBe(true);
    expect(trustedKeys(bad)).toBeInstanceOf(Set);
  },
);

test("parts of what is no certificate are a Fail", () => {
  expect(() => partsOf("no certificate")).toThrow(Fail);
});
