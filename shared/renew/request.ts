/** A CSR for a CA's certificate, for the CA that signs it: with the same key and name. */
import { sign } from "node:crypto";
import { Fail, Refused } from "../fail.ts";
import { readText } from "../files/files.ts";
import { keyKind, keyMatches, privateKeyOf } from "../pki/certificate.ts";
import { type ClusterFacts, certRow, keyPath } from "../pki/certs.ts";
import { caText } from "../pki/examine.ts";
import { der, pemOf } from "../pki/keys.ts";
import { bitString, digestIn, partsOf } from "../pki/renew.ts";
import type { CaName } from "./renewal.ts";

/** AlgorithmIdentifier by the key's kind (RFC 4055 §5, RFC 5758 §3.2). */
const ALGORITHMS = {
  RSA: "300d06092a864886f70d01010b0500",
  "P-256": "300a06082a8648ce3d040302",
  "P-384": "300a06082a8648ce3d040303",
};

/**
 * A request for a CA on this node, which does not change. Errors: Refused if its key is not here; as
 * `requestFor`.
 */
export function requestOf(name: CaName, { certificatesDir }: Pick<ClusterFacts, "certificatesDir">): string {
  const row = certRow(name);
  const key = readText(keyPath(row, certificatesDir));
  if (key !== undefined) return requestFor(caText(row, certificatesDir) ?? "", key);
  throw new Refused(`"${keyPath(row, certificatesDir)}" is not here`, {
    unchanged: true,
    hint: "run this where the key is",
  });
}

/**
 * PEM (RFC 2986 §4), with the name byte for byte. Errors: Fail if the key is not that certificate's, or of a
 * kind that Kubernetes does not use.
 */
export function requestFor(caPem: string, keyPem: string): string {
  const key = privateKeyOf(keyPem);
  const kind = keyKind(key);
  if (!keyMatches(caPem, keyPem) || !kind)
    throw new Fail("The key is not that of the CA, or of a kind for which this kit makes no CSR", {
      hint: "openssl x509 -x509toreq -in ca.crt -signkey ca.key makes one, too",
    });
  const { subject, publicKey } = partsOf(caPem);
  const request = der(0x30, der(0x02, Buffer.from([0])), subject, publicKey, der(0xa0));
  const algorithm = Buffer.from(ALGORITHMS[kind], "hex");
  const signature = bitString(sign(digestIn(algorithm), request, key));
  return pemOf("CERTIFICATE REQUEST", der(0x30, request, algorithm, signature));
}
