/** Keys and tokens from before a disaster; smaller than kubeadm's where this saves time. */
import { generateKeyPairSync, sign } from "node:crypto";
import type { KeyPair } from "../../shared/pki/keys.ts";
import { serviceAccountKeyId } from "../../shared/pki/sa-keys.ts";

const SPKI = { type: "spki", format: "pem" } as const;

/** `algorithm` as the kit and kubeadm name them: RSA-1024, ECDSA-P256. */
export function newKeyOf(algorithm: string, publicExponent = 65537): KeyPair {
  const [family, size = ""] = algorithm.split("-");
  const privateKeyEncoding = { type: "pkcs8", format: "pem" } as const;
  const { privateKey, publicKey } =
    family === "RSA"
      ? generateKeyPairSync("rsa", {
          modulusLength: Number(size),
          publicExponent,
          publicKeyEncoding: SPKI,
          privateKeyEncoding,
        })
      : generateKeyPairSync("ec", {
          namedCurve: `P-${size.slice(1)}`,
          publicKeyEncoding: SPKI,
          privateKeyEncoding,
        });
  return { key: privateKey, pub: publicKey };
}

export interface TokenOf {
  alg: string;
  /** ServiceAccount, `namespace:name`. */
  of: string;
  /** Default: the key's own. */
  kid?: string;
  issuedAt?: number;
}

const HASHES: Record<string, string> = { RS256: "sha256", ES256: "sha256", ES384: "sha384", ES512: "sha512" };

/** A token as Kubernetes signs it, with the few claims that matter here. */
export function tokenBy(
  { key, pub }: KeyPair,
  { alg, of, kid = serviceAccountKeyId(pub), issuedAt }: TokenOf,
): string {
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = {
    iss: "kubernetes/serviceaccount",
    ...(issuedAt ? { iat: issuedAt } : {}),
    sub: `system:serviceaccount:${of}`,
  };
  const signed = `${encode({ alg, kid })}.${encode(claims)}`;
  const signature = sign(HASHES[alg], Buffer.from(signed), { key, dsaEncoding: "ieee-p1363" });
  return `${signed}.${signature.toString("base64url")}`;
}
